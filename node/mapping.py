"""Who is who, destroyed: what an institution keeps of which person an account on the ledger is.

The ledger knows pseudonyms. What ties one to a person here is the journal of imports and, while the institution manages
the account, a wallet in its folder, named by the person's key. When both are gone, nothing of the project's on this
machine says whose the pseudonym was; its log on the ledger is then nobody's, as far as this institution goes.

Files are removed and written anew, as everywhere here: what a disk, a snapshot or a backup still has is for whoever
keeps these. docs/erasure.md says what an operator does about them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from consilium.ledger.errors import Refused
from consilium.node.intake import wallet_path
from consilium.node.intake_journal import JOURNAL_FILE, IntakeJournal


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What was there, and is not any more: the note of the person, notes of imports, the wallet's file."""

    person: bool
    imports: int
    wallet: Path | None


def destroy_mapping(folder: Path, identity: bytes, wallets: Path | None = None) -> Destroyed:
    """Destroy what a node's folder, and the folder of patients' wallets, say of whose an account (16 bytes) is.

    Doing it again finds nothing, and after a crash what is left. Raises Refused `records.journal_unusable`,
    `wallet.unwritable`.
    """
    path = folder / JOURNAL_FILE
    if not path.exists():
        return Destroyed(person=False, imports=0, wallet=None)
    journal = IntakeJournal(path)
    person = journal.person(identity)
    # The wallet first: only the journal knows the name of its file.
    wallet = None if person is None or wallets is None else _remove(wallet_path(wallets, person))
    return Destroyed(person is not None, journal.forget(identity), wallet)


def _remove(path: Path) -> Path | None:
    try:
        path.unlink()
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused("wallet.unwritable", f"{path}: {error.strerror}") from None
    return path
