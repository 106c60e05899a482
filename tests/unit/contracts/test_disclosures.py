"""Release attestations, consultations of the accounting, and the chain of lines that all of it makes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.contracts import access, accounting, credentials, disclosures, identity, records
from consilium.contracts.accounting import Consulted, Decided, Line, Opened, Released
from consilium.contracts.classes import PSYCHIATRY
from consilium.contracts.disclosures import AttestedRelease, AttestReleases, ConsultAccounting, Consultation
from consilium.ledger import codec
from consilium.ledger.execution import Event
from consilium.ledger.state import MemoryState
from consilium.ledger.transaction import OPERATION_BODY_BYTES_MAX
from tests.unit.contracts import care, summarising
from tests.unit.contracts import world as w
from tests.unit.contracts.test_records import beginning
from tests.unit.contracts.world import APP, DAN, DORA, NORTH, PAUL, PETRA, SOUTH, WEST, World

PLACE = w.compartment_of(PETRA)
R0, R1 = w.record_id("r0"), w.record_id("r1")


def _with_consent() -> World:
    """Petra has two records, which South may read."""
    world = World().populate()
    world.ok(NORTH, *(w.anchoring(f"r{i}", PETRA, position=i, count=2) for i in range(2)))
    world.ok(PETRA, w.granting("c", SOUTH))
    return world


WITH_CONSENT = _with_consent()


def copied(world: World) -> World:
    made = World()
    made.state = MemoryState(dict(world.state.values))
    made.time_ms, made.height, made.counter = world.time_ms, world.height, world.counter
    return made


PLACES = st.sampled_from(
    [PLACE, w.compartment_of(PETRA, PSYCHIATRY), w.compartment_of(PAUL), w.some("no compartment")]
)


@pytest.fixture
def world() -> World:
    """Petra has two records, which South may read."""
    return copied(WITH_CONSENT)


class Told:
    """Follows a world, and keeps the events of the accounting."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lines: list[Line] = []

    def ok(self, who: w.Actor, *bodies: codec.Wire) -> list[Event]:
        self.world.ok(who, *bodies)
        return self.follow()

    def ask(self, who: w.Actor, *bodies: codec.Wire) -> tuple[bytes, access.Decision]:
        transaction = self.world.sign(who, *bodies)
        self.world.block([transaction])
        self.follow()
        raw = self.world.state.get(access.decision_key(transaction.id, 0))
        assert raw is not None
        return transaction.id, access.DECISIONS.decode(raw)

    def follow(self) -> list[Event]:
        told = [event for event in self.world.events if event.kind in accounting.KINDS]
        self.lines += [line for event in told for line in accounting.lines_of(event)]
        return told

    def of(self, patient: w.Actor) -> list[Line]:
        return [line for line in self.lines if line.patient == patient.id]

    def head(self, patient: w.Actor) -> tuple[int, bytes]:
        """What the lines lead to, computed anew."""
        head = accounting.EMPTY_HEAD
        for line in self.of(patient):
            head = accounting.link(head, accounting.line_digest(line))
        return len(self.of(patient)), head

    def committed(self, patient: w.Actor) -> tuple[int, bytes]:
        known = accounting.head_of(self.world.state, patient.id)
        return known.lines, known.head


def releasing(
    transaction: bytes, decision: access.Decision, records_: int = 2, **changes: int
) -> AttestedRelease:
    value = AttestedRelease(transaction, 0, 0, 0, records_, decision.time_ms + 5)
    return msgspec.structs.replace(value, **changes)


def attest(*releases: AttestedRelease) -> AttestReleases:
    return AttestReleases(list(releases))


# --- the chain of lines ---------------------------------------------------------------------------------------------


def test_every_verdict_release_and_consultation_is_a_numbered_line(world: World) -> None:
    told = Told(world)
    transaction, decision = told.ask(SOUTH, w.asking(records_=[R0, R1]))
    told.ok(NORTH, attest(releasing(transaction, decision)))
    told.ask(DAN, w.asking(compartments=[PLACE, w.compartment_of(PETRA, PSYCHIATRY)]))
    told.ok(PETRA, ConsultAccounting(PETRA.id, None))
    lines = told.of(PETRA)
    assert [line.number for line in lines] == [1, 2, 3, 4, 5]
    first, second, third, fourth, fifth = (line.content for line in lines)
    assert first == Decided(
        SOUTH.id, None, None, False, "TREAT", 0, PLACE, [], 2, True, "consent", w.some("consent/c")
    )
    assert second == Released(NORTH.id, SOUTH.id, None, transaction, 0, 0, PLACE, [], 2, decision.time_ms + 5)
    assert isinstance(third, Decided)
    assert isinstance(fourth, Decided)
    assert [(one.allow, one.records, one.verdict) for one in (third, fourth)] == [
        (False, None, 0),
        (False, None, 1),
    ]
    assert (third.reader, third.institution) == (DAN.id, NORTH.id)
    assert fifth == Consulted(PETRA.id, None, True, "patient", None)
    assert told.head(PETRA) == told.committed(PETRA)
    assert told.committed(PAUL) == (0, accounting.EMPTY_HEAD)


def test_patients_have_chains_of_their_own(world: World) -> None:
    told = Told(world)
    told.ask(SOUTH, w.asking(compartments=[PLACE, w.compartment_of(PAUL), w.some("none")]))
    told.ask(SOUTH, w.asking(compartments=[w.compartment_of(PAUL)]))
    assert [len(told.of(one)) for one in (PETRA, PAUL)] == [1, 2]
    for one in (PETRA, PAUL):
        assert told.head(one) == told.committed(one)


def test_several_requests_in_one_transaction_and_in_one_block(world: World) -> None:
    told = Told(world)
    one = world.sign(SOUTH, w.asking(compartments=[PLACE]), w.asking(records_=[R0]))
    other = world.sign(DAN, w.asking(records_=[R1]))
    world.block([one, other])
    told.follow()
    assert [line.number for line in told.of(PETRA)] == [1, 2, 3]
    assert told.head(PETRA) == told.committed(PETRA)


def test_a_refused_transaction_leaves_no_line(world: World) -> None:
    before = accounting.head_of(world.state, PETRA.id)
    assert world.refused(SOUTH, w.asking(records_=[R0]), w.asking()) == "access.nothing_named"
    assert accounting.head_of(world.state, PETRA.id) == before


@pytest.mark.parametrize("change", ["drop", "swap", "edit", "add", "renumber"])
def test_what_is_missing_changed_or_exchanged_leads_elsewhere(world: World, change: str) -> None:
    told = Told(world)
    for _ in range(3):
        told.ask(SOUTH, w.asking(records_=[R0]))
    lines = told.of(PETRA)
    if change == "drop":
        del lines[1]
    elif change == "swap":
        lines[0], lines[1] = lines[1], lines[0]
    elif change == "add":
        lines.append(lines[2])
    elif change == "renumber":
        lines[1] = msgspec.structs.replace(lines[1], number=7)
    else:
        content = msgspec.structs.replace(lines[1].content, allow=False)
        lines[1] = msgspec.structs.replace(lines[1], content=content)
    head = accounting.EMPTY_HEAD
    for line in lines:
        head = accounting.link(head, accounting.line_digest(line))
    assert head != told.committed(PETRA)[1]


STEPS = st.one_of(
    st.tuples(
        st.just("ask"), st.sampled_from([SOUTH, DORA, DAN, PETRA]), st.lists(PLACES, min_size=1, max_size=4)
    ),
    st.tuples(st.just("attest"), st.integers(0, 5), st.integers(0, 3)),
    st.tuples(st.just("consult"), st.sampled_from([PETRA, PAUL, DAN]), st.sampled_from([PETRA, PAUL])),
    st.tuples(st.just("fail"), st.sampled_from([SOUTH, DAN]), st.lists(PLACES, min_size=1, max_size=2)),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_whatever_happens_the_events_lead_to_the_head(steps: list[tuple[Any, ...]]) -> None:
    """The twin is the list of events: each line once, numbered without a gap, for each patient on its own."""
    told = Told(copied(WITH_CONSENT))
    asked: list[tuple[bytes, access.Decision]] = []
    for step in steps:
        if step[0] == "ask":
            purpose = "PATRQT" if step[1] is PETRA else "TREAT"
            asked.append(told.ask(step[1], w.asking(compartments=step[2], purpose=purpose)))
        elif step[0] == "attest" and asked:
            transaction, decision = asked[step[1] % len(asked)]
            one = releasing(transaction, decision, 1, verdict=step[2] % len(decision.verdicts))
            told.world.leaf(NORTH, attest(one))
            told.follow()
        elif step[0] == "consult":
            told.ok(step[1], ConsultAccounting(step[2].id, None))
        elif step[0] == "fail":
            told.world.refused(step[1], w.asking(compartments=step[2]), w.asking())
    for patient in (PETRA, PAUL):
        assert [line.number for line in told.of(patient)] == list(range(1, len(told.of(patient)) + 1))
        assert told.head(patient) == told.committed(patient)


def test_other_events_make_no_lines(world: World) -> None:
    world.ok(PETRA, w.granting("d", DORA))
    (event,) = world.events
    with pytest.raises(Exception, match=r"codec\.malformed"):
        accounting.lines_of(event)


def test_who_asked_through_what_and_by_hand_or_not(world: World) -> None:
    told = Told(world)
    body = msgspec.structs.replace(w.asking(records_=[R0]), application=APP.id, automated=True)
    _, decision = told.ask(DORA, body)
    assert (decision.application, decision.automated) == (APP.id, True)
    (line,) = told.of(PETRA)
    assert isinstance(line.content, Decided)
    assert (line.content.application, line.content.automated) == (APP.id, True)
    assert (line.content.reader, line.content.institution) == (DORA.id, SOUTH.id)


def test_an_application_that_is_not_the_readers_institutions_is_refused(world: World) -> None:
    body = msgspec.structs.replace(w.asking(records_=[R0]), application=APP.id)
    assert world.refused(DAN, body) == "access.bad_application"
    for other in (DORA.id, SOUTH.id, w.some("nobody")):
        assert world.refused(SOUTH, msgspec.structs.replace(body, application=other)) == (
            "access.bad_application"
        )
    patients = msgspec.structs.replace(body, purpose="PATRQT")
    world.ok(PETRA, patients)
    world.ok(SOUTH, identity.Suspend(APP.id))
    assert world.refused(SOUTH, body) == "access.bad_application"
    assert world.refused(PETRA, patients) == "access.bad_application"


def test_an_emergency_summary_that_was_opened_without_a_quorum_is_a_line_too(world: World) -> None:
    summarising.switch_on(world)
    world.ok(SOUTH, summarising.setting_key(world))
    world.ok(PETRA, summarising.placing(world))
    told = Told(world)
    body = summarising.reporting(world)
    told.ok(SOUTH, body)
    (line,) = told.of(PETRA)
    entry = body.entry
    assert line.content == Opened(
        entry.opener, entry.second, entry.institution, entry.glass, entry.reason, entry.opened_ms
    )
    assert line.number == 1
    assert accounting.compartments_of(line) == ()
    assert told.head(PETRA) == told.committed(PETRA)


# --- attesting ------------------------------------------------------------------------------------------------------


def test_a_custodian_attests_and_says_it_again_without_effect(world: World) -> None:
    told = Told(world)
    transaction, decision = told.ask(SOUTH, w.asking(records_=[R0, R1]))
    told.ok(NORTH, attest(releasing(transaction, decision, 1)))
    assert told.ok(NORTH, attest(releasing(transaction, decision, 1, released_ms=decision.time_ms + 9))) == []
    told.ok(NORTH, attest(releasing(transaction, decision, 2)))
    assert told.ok(NORTH, attest(releasing(transaction, decision, 1))) == []
    counts = [line.content.records for line in told.of(PETRA) if isinstance(line.content, Released)]
    assert counts == [1, 2]
    place = disclosures.release_place(transaction, 0, 0, NORTH.id)
    entry = disclosures.RELEASES.get(world.state, *place)
    assert entry is not None
    assert (entry.records, entry.released_ms) == (2, decision.time_ms + 5)
    assert told.head(PETRA) == told.committed(PETRA)


def test_each_custodian_of_a_sensitive_compartment_attests_its_own(world: World) -> None:
    secret = w.compartment_of(PETRA, PSYCHIATRY)
    told = Told(world)
    transaction, decision = told.ask(SOUTH, w.asking(compartments=[secret]))
    assert decision.verdicts[0].allow
    for custodian in (NORTH, SOUTH):
        events = told.ok(custodian, attest(releasing(transaction, decision, 300)))
        assert events[0].subjects[:2] == [PETRA.id, custodian.id]
    assert world.refused(WEST, attest(releasing(transaction, decision))) == "disclosure.not_the_custodian"


def test_what_may_not_be_attested(world: World) -> None:
    told = Told(world)
    transaction, decision = told.ask(SOUTH, w.asking(records_=[R0, R1]))
    end = decision.verdicts[0].valid_until
    good = releasing(transaction, decision)
    for change, code in (
        ({"transaction": bytes(32)}, "disclosure.no_decision"),
        ({"operation": 1}, "disclosure.no_decision"),
        ({"verdict": 1}, "disclosure.no_decision"),
        ({"epoch": 1}, "disclosure.not_the_custodian"),
        ({"records": 3}, "disclosure.too_many"),
        ({"released_ms": decision.time_ms - 1}, "disclosure.outside_window"),
        ({"released_ms": end}, "disclosure.outside_window"),
    ):
        bad = msgspec.structs.replace(good, **change)
        assert world.refused(NORTH, attest(bad)) == code
        assert world.refused(NORTH, attest(good, bad)) == code  # whole or not at all
    assert world.refused(SOUTH, attest(good)) == "disclosure.not_the_custodian"
    world.ok(NORTH, attest(msgspec.structs.replace(good, released_ms=decision.time_ms)))
    denied, verdicts = told.ask(DAN, w.asking(records_=[R0]))
    assert world.refused(NORTH, attest(releasing(denied, verdicts, 1))) == "disclosure.not_allowed"
    unknown, nothing = told.ask(SOUTH, w.asking(records_=[w.record_id("none")]))
    assert world.refused(NORTH, attest(releasing(unknown, nothing, 1))) == "disclosure.not_allowed"


def test_a_custodian_of_an_earlier_epoch_attests_what_it_still_releases(world: World) -> None:
    body = beginning(PETRA)
    world.ok(PETRA, msgspec.structs.replace(body, custodians=[SOUTH.id]))
    told = Told(world)
    transaction, decision = told.ask(SOUTH, w.asking(records_=[R0]))
    assert decision.verdicts[0].epoch == 1
    told.ok(NORTH, attest(releasing(transaction, decision, 1)))
    told.ok(SOUTH, attest(releasing(transaction, decision, 1, epoch=1)))
    assert world.refused(NORTH, attest(releasing(transaction, decision, 1, epoch=1))) == (
        "disclosure.not_the_custodian"
    )


def test_a_full_attestation_is_one_small_operation(world: World) -> None:
    one = AttestedRelease(bytes(32), 255, 119, 65_535, 65_536, 2**62)
    full = attest(*[one] * disclosures.ATTESTATIONS_MAX)
    raw = codec.encode(full)
    assert len(raw) <= OPERATION_BODY_BYTES_MAX
    assert codec.decode(raw, AttestReleases, OPERATION_BODY_BYTES_MAX) == full


# --- consulting -----------------------------------------------------------------------------------------------------


def consult(told: Told, who: w.Actor, credential: bytes | None = None) -> tuple[bytes, Consultation]:
    transaction = told.world.sign(who, ConsultAccounting(PETRA.id, credential))
    told.world.block([transaction])
    told.follow()
    found = disclosures.CONSULTATIONS.get(told.world.state, transaction.id, bytes(2))
    assert found is not None
    return transaction.id, found


def problem(told: Told, found: Consultation, after_ms: int = 0) -> str | None:
    return disclosures.consultation_problem(told.world.state, found, told.world.time_ms + after_ms)


def test_only_the_patient_a_representative_or_an_auditor_sees_it(world: World) -> None:
    told = Told(world)
    for stranger in (NORTH, SOUTH, WEST, DORA, DAN, PAUL):
        _, found = consult(told, stranger)
        assert (found.allow, found.basis, found.valid_until) == (False, "no-basis", 0)
        assert problem(told, found) == "accounting.denied"
    assert world.refused(APP, ConsultAccounting(PETRA.id, None)) == "access.not_a_reader"
    assert world.refused(PETRA, ConsultAccounting(SOUTH.id, None)) == "records.not_a_patient"
    assert world.refused(PETRA, ConsultAccounting(w.some("nobody"), None)) == "records.not_a_patient"
    _, own = consult(told, PETRA)
    assert (own.allow, own.basis) == (True, "patient")
    assert problem(told, own) is None
    denied = [line.content.allow for line in told.of(PETRA) if isinstance(line.content, Consulted)]
    assert denied == [False] * 6 + [True]
    assert told.head(PETRA) == told.committed(PETRA)


def test_a_representative_while_the_lease_runs(world: World) -> None:
    told = Told(world)
    care.with_guardians(world, PAUL)
    _, found = consult(told, PAUL)
    assert (found.allow, found.basis) == (True, "representative")
    assert problem(told, found) is None
    from consilium.contracts import representation

    world.ok(PETRA, representation.Dismiss(PETRA.id, PAUL.id))
    assert problem(told, found) == "accounting.denied"
    assert not consult(told, PAUL)[1].allow


def test_an_auditor_with_a_credential_that_stands(world: World) -> None:
    told = Told(world)
    world.ok(WEST, care.licensing(world, DAN, "audit", "auditor"), care.licensing(world, DAN))
    audit, licence = w.some("credential/audit"), w.some("credential/licence")
    assert not consult(told, DAN)[1].allow
    assert not consult(told, DAN, licence)[1].allow
    assert not consult(told, DORA, audit)[1].allow
    _, found = consult(told, DAN, audit)
    assert (found.allow, found.basis, found.credential) == (True, "auditor", audit)
    assert problem(told, found) is None
    world.ok(WEST, credentials.RevokeCredential(audit))
    assert problem(told, found) == "accounting.denied"
    assert not consult(told, DAN, audit)[1].allow


def test_a_consultation_is_answered_for_minutes_and_to_a_key_that_stands(world: World) -> None:
    told = Told(world)
    _, found = consult(told, PETRA)
    last = disclosures.CONSULTATION_WINDOW_MS
    assert problem(told, found, last - 1) is None
    assert problem(told, found, last) == "access.window_closed"
    assert problem(told, found, -1) == "access.window_closed"
    known = identity.KEYS.get(world.state, PETRA.key.public)
    assert known is not None
    ended = codec.encode(msgspec.structs.replace(known, revoked_ms=1))
    world.state.values[identity.KEYS.key(PETRA.key.public)] = ended
    assert problem(told, found) == "identity.key_not_authorised"


def test_the_places_in_a_key_keep_their_widths() -> None:
    place = disclosures.release_place(bytes(32), 258, 3, bytes(16))
    assert disclosures.RELEASES.key(*place)[33:37] == bytes((1, 2, 0, 3))
    assert records.epoch_bytes(1) == bytes((0, 1))
