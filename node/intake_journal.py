"""What an institution imported already: of which person under which account, and which files.

It stands beside the node's keys, for its institution only: the keys of persons can be guessed back to medical record
numbers, so they never leave the institution. The chain cannot know any of it. An import is noted before its first
anchor with the id of its bundle, and once more when it is done: after a crash or a lost answer the chain itself says
whether that bundle became whole. The transaction that makes it whole is kept before it leaves and until it is done: it
may still wait somewhere for its block, and only who sends it again learns what became of it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from consilium.gateway.bundle import PatientKey
from consilium.ledger.errors import Refused

JOURNAL_FILE: Final = "intake.sqlite"
JOURNAL_MODE: Final = 0o600
LOCK_TIMEOUT_S: Final = 10.0

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS account (identity BLOB PRIMARY KEY, person TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS import (
    bundle BLOB PRIMARY KEY, file BLOB NOT NULL, identity BLOB NOT NULL, done INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS closing (bundle BLOB PRIMARY KEY, raw BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS import_file ON import (file);
"""


class Noted(NamedTuple):
    """An import of a file that was begun: the ids of bundle and patient (16 bytes each), and whether it was done.

    `closing` is the signed transaction that makes the bundle whole; None where none left, or the import is done."""

    bundle: bytes
    patient: bytes
    done: bool
    closing: bytes | None = None


class IntakeJournal:
    """See the module. Methods block for the disk. They raise Refused `records.journal_unusable`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def require_same_person(self, identity: bytes, person: PatientKey) -> None:
        """Raises Refused `bundle.another_patient` where the account is another person's."""
        with self._open() as journal:
            found = journal.execute("SELECT person FROM account WHERE identity = ?", (identity,)).fetchone()
        if found is not None and found[0] != person:
            raise Refused("bundle.another_patient", f"the account {identity.hex()} is another person's")

    def note_person(self, identity: bytes, person: PatientKey) -> None:
        """From now on the account is this person's. Raises as `require_same_person`."""
        with self._open() as journal:
            journal.execute("INSERT OR IGNORE INTO account VALUES (?, ?)", (identity, person))
        self.require_same_person(identity, person)

    def person(self, identity: bytes) -> PatientKey | None:
        """Whose an account is; None where it is not known here."""
        with self._open() as journal:
            found = journal.execute("SELECT person FROM account WHERE identity = ?", (identity,)).fetchone()
        return None if found is None else PatientKey(found[0])

    def forget(self, identity: bytes) -> int:
        """Destroy all that says whose an account is, and which files were imported for it. Returns how many imports.

        What is deleted is overwritten, and the file is written anew without it. Durable on return.
        """
        with self._open() as journal:
            theirs = "SELECT bundle FROM import WHERE identity = ?"
            journal.execute(f"DELETE FROM closing WHERE bundle IN ({theirs})", (identity,))
            count = journal.execute("DELETE FROM import WHERE identity = ?", (identity,)).rowcount
            journal.execute("DELETE FROM account WHERE identity = ?", (identity,))
        with self._open() as journal:
            journal.execute("VACUUM")
        return count

    def imports(self, file: bytes) -> list[Noted]:
        """The imports of a file (its SHA-256) that were begun."""
        with self._open() as journal:
            rows = journal.execute(
                "SELECT bundle, identity, done, raw FROM import LEFT JOIN closing USING (bundle) WHERE file = ?",
                (file,),
            )
            return [Noted(bundle, identity, bool(done), raw) for bundle, identity, done, raw in rows]

    def begin(self, file: bytes, patient: bytes, bundle: bytes) -> None:
        """An import begins. Durable on return."""
        with self._open() as journal:
            journal.execute("INSERT INTO import VALUES (?, ?, ?, 0)", (bundle, file, patient))

    def close(self, bundle: bytes, raw: bytes) -> None:
        """The signed transaction that makes the bundle whole is about to leave. Durable on return."""
        with self._open() as journal:
            journal.execute("INSERT INTO closing VALUES (?, ?)", (bundle, raw))

    def finish(self, bundle: bytes) -> None:
        """An import is done. Durable on return."""
        with self._open() as journal:
            journal.execute("DELETE FROM closing WHERE bundle = ?", (bundle,))
            journal.execute("UPDATE import SET done = 1 WHERE bundle = ?", (bundle,))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.touch(JOURNAL_MODE)
            with contextlib.closing(sqlite3.connect(self._path, timeout=LOCK_TIMEOUT_S)) as journal:
                journal.execute("PRAGMA synchronous = FULL")
                journal.execute("PRAGMA secure_delete = ON")
                journal.executescript(_TABLES)
                with journal:
                    yield journal
        except (OSError, sqlite3.Error) as error:
            raise Refused("records.journal_unusable", f"{self._path}: {error}") from None
