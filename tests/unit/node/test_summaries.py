"""The desk for summaries: what it keeps, what it hands out to whom, and that the log comes first."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from consilium.contracts import credentials, preferences, summaries
from consilium.ledger.errors import Refused
from consilium.node import files
from tests.unit.contracts import care, summarising
from tests.unit.contracts import world as w
from tests.unit.contracts.golden_erasure_cases import erasing
from tests.unit.contracts.world import DAN, DORA, PETRA, SOUTH, some
from tests.unit.node.summarised import Ward


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    made = Ward(tmp_path)
    made.desk.deposit(PETRA.id, made.sealed.envelope)
    return made


def refused(code: str) -> pytest.RaisesExc[Refused]:
    return pytest.raises(Refused, match=rf"^{code.replace('.', '[.]')}")


def test_it_keeps_what_the_chain_says_is_placed_here(ward: Ward, tmp_path: Path) -> None:
    with refused("summary.unknown"):
        ward.desk.deposit(PETRA.id, ward.seal(b"another").envelope)
    with refused("summary.unknown"):
        ward.desk.deposit(w.PAUL.id, ward.sealed.envelope)
    with refused("codec.oversized"):
        ward.desk.deposit(PETRA.id, bytes(2 * 1024 * 1024))
    (kept,) = (tmp_path / "summaries").iterdir()
    written = kept.stat().st_ino
    ward.desk.deposit(PETRA.id, ward.sealed.envelope)  # anybody may: it costs no write
    assert kept.stat().st_ino == written
    assert (kept.read_bytes(), kept.stat().st_mode & 0o077) == (ward.sealed.envelope, 0)


def test_two_holders_open_it_and_the_log_has_it_first(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    handed = ward.open()
    assert handed.envelope == ward.sealed.envelope
    assert summaries.is_sound(ward.world.state, handed.entry, ward.world.chain_id)
    assert (handed.entry.sequence, handed.entry.previous) == (1, summaries.FIRST)
    again = ward.open()
    assert (again.entry.sequence, again.entry.previous) == (2, handed.entry.hash)
    # What cannot be logged is not handed out.
    with monkeypatch.context() as broken:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        broken.setattr(files, "write_atomically", full)
        with pytest.raises(OSError, match="space"):
            ward.open()
    assert ward.desk.log.count == 2


def test_the_log_goes_on_after_a_restart_and_reaches_the_chain_in_order(ward: Ward) -> None:
    entries = [ward.open().entry for _ in range(3)]
    ward.desk = ward.opened()
    assert (ward.desk.log.count, ward.desk.unreported(ward.world.state)) == (3, 3)
    for entry in entries:
        logged = ward.desk.next_report(ward.world.state)
        assert logged is not None
        assert logged.entry == entry
        ward.world.time_ms = max(ward.world.time_ms, entry.opened_ms)
        body = summaries.ReportOpening(
            logged.entry, logged.institution_key, logged.signature, entry.opened_ms
        )
        ward.world.ok(SOUTH, body)
    assert ward.desk.next_report(ward.world.state) is None


def test_while_a_quorum_answers_nothing_is_opened(ward: Ward) -> None:
    with refused("summary.quorum_present"):
        ward.open(in_reach=True)
    ward.silence_ms = 1_000
    with refused("summary.quorum_present"):
        ward.open()
    # A chain that stands still for minutes has no quorum, whoever is in reach.
    ward.silence_ms = 200_000
    ward.open(in_reach=True)
    assert ward.desk.log.count == 1


def test_only_two_different_holders_with_bound_keys(ward: Ward) -> None:
    for signers in (ward.signers(DORA, DORA), ward.signers(DORA), ward.signers(DORA, DAN)):
        with refused("summary.not_a_holder"):
            ward.open(signers)
    shift = w.actor("dora's shift")
    ward.world.ok(SOUTH, care.beginning_session(ward.world, shift))
    signers = [ward.signers(key=shift)[0], ward.signers()[1]]
    with refused("credential.key_not_bound"):
        ward.open(signers)
    forged = [dataclasses.replace(ward.signers()[0], signature=bytes(64)), ward.signers()[1]]
    with refused("attestation.bad_signature"):
        ward.open(forged)
    ward.world.ok(w.WEST, credentials.RevokeCredential(some("credential/sam")))
    with refused("credential.revoked"):
        ward.open()
    assert ward.desk.log.count == 0


def test_the_patient_who_opts_out_is_left_alone_and_forgotten(ward: Ward, tmp_path: Path) -> None:
    chosen = preferences.Preferences(emergency_deny=False, opt_out=False, summary_opt_out=True)
    ward.world.ok(PETRA, chosen)
    with refused("summary.opted_out"):
        ward.open()
    assert ward.desk.forget(ward.world.state) == 1
    assert list((tmp_path / "summaries").iterdir()) == []


def test_the_summary_of_an_erased_patient_is_removed(ward: Ward, tmp_path: Path) -> None:
    ward.world.ok(PETRA, erasing())
    with refused("erasure.erased"):
        ward.open()
    assert ward.desk.forget(ward.world.state) == 1
    assert list((tmp_path / "summaries").iterdir()) == []
    assert ward.desk.forget(ward.world.state) == 0


def test_what_was_withdrawn_is_removed_and_the_rest_stays(ward: Ward) -> None:
    assert ward.desk.forget(ward.world.state) == 0
    ward.world.ok(PETRA, summarising.WITHDRAWAL)
    with refused("summary.unknown"):
        ward.open()
    assert ward.desk.forget(ward.world.state) == 1


def test_a_newer_summary_that_did_not_arrive_is_not_replaced_by_the_old_one(ward: Ward) -> None:
    ward.place(ward.seal(b"newer"))
    with refused("vault.unknown"):
        ward.open()


def test_clocks_that_differ_widely_open_nothing(ward: Ward) -> None:
    signers = ward.signers()
    with refused("summary.bad_times"):
        ward.desk.open(PETRA.id, "danger-to-life", ward.now_ms - 600_000, signers, in_reach=False)
