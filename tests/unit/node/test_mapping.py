"""Destroying who is who: the journal's notes, the wallet's file, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from consilium.client.wallet import Cost
from consilium.gateway.bundle import PatientKey
from consilium.ledger.errors import Refused
from consilium.node.intake import FolderAccounts
from consilium.node.intake_journal import JOURNAL_FILE, IntakeJournal
from consilium.node.mapping import Destroyed, destroy_mapping

ADA, BOB = PatientKey("ab" * 32), PatientKey("cd" * 32)
CHEAP = Cost(passes=1, memory_bytes=8 * 1024)


@pytest.fixture
def kept(tmp_path: Path) -> dict[PatientKey, bytes]:
    """Two patients whose wallets and imports an institution keeps: by person, the account."""
    accounts = FolderAccounts(tmp_path, "a sentence of several words", CHEAP)
    journal = IntakeJournal(tmp_path / JOURNAL_FILE)
    found = {}
    for person in (ADA, BOB):
        found[person] = accounts.patient(person).identity
        journal.note_person(found[person], person)
        journal.begin(b"f" * 32, found[person], found[person])
    return found


def everything(folder: Path) -> bytes:
    return b"".join(path.name.encode() + path.read_bytes() for path in folder.iterdir())


def test_nothing_tells_whose_it_was(tmp_path: Path, kept: dict[PatientKey, bytes]) -> None:
    assert ADA.encode() in everything(tmp_path)
    done = destroy_mapping(tmp_path, kept[ADA], tmp_path)
    assert done == Destroyed(person=True, imports=1, wallet=tmp_path / f"{ADA}.wallet")
    left = everything(tmp_path)
    assert ADA.encode() not in left
    assert kept[ADA] not in left
    assert BOB.encode() in left
    assert IntakeJournal(tmp_path / JOURNAL_FILE).person(kept[BOB]) == BOB
    assert destroy_mapping(tmp_path, kept[ADA], tmp_path) == Destroyed(person=False, imports=0, wallet=None)


def test_a_wallet_of_another_folder_stays(tmp_path: Path, kept: dict[PatientKey, bytes]) -> None:
    assert destroy_mapping(tmp_path, kept[ADA]).wallet is None
    assert (tmp_path / f"{ADA}.wallet").exists()


def test_what_cannot_be_removed_is_still_known(tmp_path: Path, kept: dict[PatientKey, bytes]) -> None:
    """Else nobody would know which file it was."""
    wallet = tmp_path / f"{ADA}.wallet"
    wallet.unlink()
    wallet.mkdir()
    with pytest.raises(Refused, match=r"wallet\.unwritable"):
        destroy_mapping(tmp_path, kept[ADA], tmp_path)
    assert IntakeJournal(tmp_path / JOURNAL_FILE).person(kept[ADA]) == ADA


def test_where_nothing_was_imported_nothing_is_made(tmp_path: Path) -> None:
    assert destroy_mapping(tmp_path, bytes(16), tmp_path) == Destroyed(person=False, imports=0, wallet=None)
    assert list(tmp_path.iterdir()) == []
