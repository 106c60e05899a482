"""The journal of imports: one account is one person, a file is known again, a run that was cut off is no import."""

from __future__ import annotations

from pathlib import Path

import pytest

from consilium.gateway.bundle import PatientKey
from consilium.ledger.errors import Refused
from consilium.node.intake_journal import IntakeJournal, Noted

ADA, BOB = PatientKey("ab" * 32), PatientKey("cd" * 32)
ACCOUNT, OTHER = b"a" * 16, b"b" * 16
FILE, BUNDLE = b"f" * 32, b"u" * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "intake.sqlite"


def test_an_account_is_one_persons_for_ever(path: Path) -> None:
    IntakeJournal(path).require_same_person(ACCOUNT, ADA)
    IntakeJournal(path).require_same_person(ACCOUNT, BOB)
    IntakeJournal(path).note_person(ACCOUNT, ADA)
    journal = IntakeJournal(path)
    journal.note_person(ACCOUNT, ADA)
    journal.note_person(OTHER, BOB)
    for ask in (journal.require_same_person, journal.note_person):
        with pytest.raises(Refused, match=r"bundle\.another_patient"):
            ask(ACCOUNT, BOB)
    journal.require_same_person(ACCOUNT, ADA)


def test_a_file_is_known_again_and_whether_its_import_was_done(path: Path) -> None:
    assert IntakeJournal(path).imports(FILE) == []
    IntakeJournal(path).begin(FILE, ACCOUNT, BUNDLE)
    assert IntakeJournal(path).imports(FILE) == [Noted(BUNDLE, ACCOUNT, done=False)]
    IntakeJournal(path).finish(BUNDLE)
    IntakeJournal(path).begin(FILE, ACCOUNT, OTHER)
    assert sorted(IntakeJournal(path).imports(FILE)) == sorted(
        [Noted(OTHER, ACCOUNT, done=False), Noted(BUNDLE, ACCOUNT, done=True)]
    )
    assert IntakeJournal(path).imports(b"g" * 32) == []


def test_what_closes_a_bundle_is_kept_until_the_import_is_done(path: Path) -> None:
    IntakeJournal(path).begin(FILE, ACCOUNT, BUNDLE)
    IntakeJournal(path).close(BUNDLE, b"signed")
    IntakeJournal(path).begin(FILE, ACCOUNT, OTHER)
    assert {one.bundle: one.closing for one in IntakeJournal(path).imports(FILE)} == {
        BUNDLE: b"signed",
        OTHER: None,
    }
    IntakeJournal(path).finish(BUNDLE)
    assert [one.closing for one in IntakeJournal(path).imports(FILE)] == [None, None]


def test_what_is_forgotten_leaves_the_file(path: Path) -> None:
    journal = IntakeJournal(path)
    for account, person, file in ((ACCOUNT, ADA, FILE), (OTHER, BOB, b"g" * 32)):
        journal.note_person(account, person)
        for number in range(40):  # many pages
            journal.begin(file, account, account[:1] + bytes(14) + bytes((number,)))
    journal.close(b"a" + bytes(15), b"what Ada signed" * 300)
    needles = [ADA.encode(), ACCOUNT, FILE, b"what Ada signed"]
    assert all(needle in path.read_bytes() for needle in needles)
    assert (journal.person(ACCOUNT), journal.person(OTHER)) == (ADA, BOB)

    assert journal.forget(ACCOUNT) == 40
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    raw = path.read_bytes()
    assert not [needle for needle in needles if needle in raw]
    assert journal.person(ACCOUNT) is None
    assert journal.imports(FILE) == []
    assert (journal.person(OTHER), len(journal.imports(b"g" * 32))) == (BOB, 40)
    assert journal.forget(ACCOUNT) == 0
    journal.note_person(ACCOUNT, BOB)  # the same id for another one: nobody remembers


def test_only_its_owner_may_read_it(path: Path) -> None:
    IntakeJournal(path).note_person(ACCOUNT, ADA)
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_journal_is_refused(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(Refused, match=r"records\.journal_unusable"):
        IntakeJournal(path).imports(FILE)
    with pytest.raises(Refused, match=r"records\.journal_unusable"):
        IntakeJournal(path.parent / "nowhere" / "j").imports(FILE)
