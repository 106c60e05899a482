"""Requests, verdicts, the log, and what a custodian asks before it releases."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import access, accounting, identity, records
from consilium.contracts.classes import HIV, PSYCHIATRY
from consilium.ledger import codec
from consilium.ledger.execution import RESULT_BYTES_MAX, ReceiptLeaf
from tests.unit.contracts import world as w
from tests.unit.contracts.world import APP, DAN, DORA, NORTH, PAUL, PETRA, SOUTH, WEST, World

PETRAS, PAULS = w.compartment_of(PETRA), w.compartment_of(PAUL)
R0, R1, OTHER = w.record_id("r0"), w.record_id("r1"), w.record_id("other")


@pytest.fixture
def world() -> World:
    """Petra has two records, Paul one; nobody may read yet."""
    world = World().populate()
    world.ok(NORTH, *(w.anchoring(f"r{i}", PETRA, position=i, count=2) for i in range(2)))
    world.ok(SOUTH, w.anchoring("other", PAUL))
    return world


def test_without_consent_the_verdict_is_deny_and_stands(world: World) -> None:
    decision = world.ask(SOUTH, records_=[R0, R1])
    (verdict,) = decision.verdicts
    assert verdict == access.Verdict(PETRA.id, PETRAS, [], 0, [R0, R1], False, "no-basis", None, [], 0)
    assert decision.time_ms == world.time_ms
    (event,) = world.events
    assert (event.kind, event.subjects) == ("access.decided", [PETRA.id, SOUTH.id])


def test_the_journey_of_the_issue(world: World) -> None:
    assert not world.ask(SOUTH, records_=[R0]).verdicts[0].allow
    world.ok(PETRA, w.granting("c", SOUTH))
    (verdict,) = world.ask(SOUTH, records_=[R0]).verdicts
    assert (verdict.allow, verdict.basis, verdict.ground) == (True, "consent", w.some("consent/c"))
    assert verdict.valid_until == world.time_ms + access.RELEASE_WINDOW_MS
    world.ok(PETRA, w.revoking("c"))
    assert not world.ask(SOUTH, records_=[R0]).verdicts[0].allow


def test_the_decision_is_in_state_and_is_the_result(world: World) -> None:
    transaction = world.sign(SOUTH, w.asking(records_=[R0]), w.asking(compartments=[PAULS]))
    outcome = world.block([transaction])
    leaf = codec.decode(outcome.leaves[0], ReceiptLeaf, 1 << 20)
    for index in range(2):
        raw = world.state.get(access.decision_key(transaction.id, index))
        assert raw == leaf.results[index]
    decision = access.DECISIONS.decode(leaf.results[0])
    assert (decision.reader, decision.institution, decision.key) == (SOUTH.id, None, SOUTH.key.public)
    assert decision.ephemeral == w.some("ephemeral", 32)


def test_a_denial_fails_nobody_elses_verdict(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    decision = world.ask(SOUTH, records_=[OTHER, R0, w.record_id("none"), R1, R0])
    assert [(v.patient, v.compartment, v.records, v.allow, v.basis) for v in decision.verdicts] == [
        (PAUL.id, PAULS, [OTHER], False, "no-basis"),
        (PETRA.id, PETRAS, [R0, R1], True, "consent"),
        (None, None, [w.record_id("none")], False, "unknown"),
    ]
    assert [event.subjects for event in world.events] == [
        [PAUL.id, SOUTH.id],
        [PETRA.id, SOUTH.id],
        [SOUTH.id],
    ]
    data = codec.decode(world.events[1].data, accounting.AccessDecided, 1 << 14)
    (line,) = data.lines
    assert (data.patient, data.reader, data.institution, data.purpose) == (PETRA.id, SOUTH.id, None, "TREAT")
    assert (line.compartment, line.records, line.allow, line.basis) == (PETRAS, 2, True, "consent")


def test_whole_compartments(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    decision = world.ask(SOUTH, compartments=[PETRAS, w.some("none"), PETRAS])
    assert [(v.compartment, v.records, v.allow, v.basis) for v in decision.verdicts] == [
        (PETRAS, None, True, "consent"),
        (w.some("none"), None, False, "unknown"),
    ]


def test_records_of_an_unfinished_bundle_are_unknown(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    world.ok(NORTH, w.anchoring("early", PETRA, bundle="b2", position=0, count=2))
    assert world.ask(SOUTH, records_=[w.record_id("early")]).verdicts[0].basis == "unknown"
    world.ok(NORTH, w.anchoring("late", PETRA, bundle="b2", position=1, count=2))
    assert world.ask(SOUTH, records_=[w.record_id("early")]).verdicts[0].allow


def test_a_practitioner_reads_with_the_employers_consent_and_not_the_reverse(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    decision = world.ask(DORA, records_=[R0])
    assert decision.verdicts[0].allow
    assert decision.institution == SOUTH.id
    assert world.events[0].subjects == [PETRA.id, DORA.id, SOUTH.id]
    assert not world.ask(DAN, records_=[R0]).verdicts[0].allow
    world.ok(PAUL, w.granting("d", DORA, patient=PAUL))
    assert world.ask(DORA, records_=[OTHER]).verdicts[0].allow
    assert not world.ask(SOUTH, records_=[OTHER]).verdicts[0].allow


@pytest.mark.parametrize(
    ("granted", "asked", "allow"),
    [("TREAT", "ETREAT", True), ("ETREAT", "TREAT", False), ("TREAT", "HRESCH", False)],
)
def test_purposes(world: World, granted: str, asked: str, allow: bool) -> None:
    world.ok(PETRA, w.granting("c", SOUTH, purposes=[granted]))
    assert world.ask(SOUTH, records_=[R0], purpose=asked).verdicts[0].allow is allow


def test_a_denial_by_the_patient_wins(world: World) -> None:
    world.ok(PETRA, w.granting("all", SOUTH), w.granting("not her", DORA, effect="deny"))
    (verdict,) = world.ask(DORA, records_=[R0]).verdicts
    assert (verdict.allow, verdict.basis, verdict.ground) == (False, "denied", w.some("consent/not her"))
    assert world.ask(SOUTH, records_=[R0]).verdicts[0].allow


def test_the_consents_end_closes_the_window(world: World) -> None:
    end = world.time_ms + 60_000
    world.ok(PETRA, w.granting("c", SOUTH, not_after=end))
    assert world.ask(SOUTH, records_=[R0]).verdicts[0].valid_until == end
    world.time_ms = end - w.STEP_MS
    assert not world.ask(SOUTH, records_=[R0]).verdicts[0].allow


def test_what_is_refused(world: World) -> None:
    assert world.refused(SOUTH, w.asking(records_=[R0], purpose="treat")) == "consent.unknown_purpose"
    assert world.refused(SOUTH, w.asking()) == "access.nothing_named"
    assert world.refused(SOUTH, w.asking(records_=[R0], compartments=[PETRAS])) == "access.nothing_named"
    assert world.refused(APP, w.asking(records_=[R0])) == "access.not_a_reader"
    many = [w.some(str(i)) for i in range(access.RECORDS_PER_REQUEST_MAX + 1)]
    assert world.refused(SOUTH, w.asking(records_=many)) == "codec.malformed"
    body = msgspec.structs.replace(w.asking(records_=[R0]), records=[])
    assert world.refused(SOUTH, body) == "codec.malformed"


def test_a_suspended_patient_is_read_by_nobody(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    decision = world.ask(SOUTH, records_=[R0])
    petra = identity.IDENTITIES.get(world.state, PETRA.id)
    assert petra is not None
    suspended = codec.encode(msgspec.structs.replace(petra, status="suspended"))
    world.state.values[identity.IDENTITIES.key(PETRA.id)] = suspended
    assert world.ask(SOUTH, records_=[R0]).verdicts[0].basis == "suspended"
    verdict = decision.verdicts[0]
    assert access.still_stands(world.state, decision, verdict, world.time_ms) == "access.not_allowed"


def test_revocations_run_before_requests_of_the_same_block(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    request = world.sign(SOUTH, w.asking(records_=[R0]))
    revocation = world.sign(PETRA, w.revoking("c"))
    outcome = world.block([request, revocation])
    assert [t.id for t in outcome.transactions] == [revocation.id, request.id]
    leaf = codec.decode(outcome.leaves[1], ReceiptLeaf, 1 << 20)
    assert not access.DECISIONS.decode(leaf.results[0]).verdicts[0].allow


def test_a_denial_of_the_same_block_counts_too(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    request = world.sign(SOUTH, w.asking(records_=[R0]))
    outcome = world.block([request, world.sign(PETRA, w.granting("d", SOUTH, effect="deny"))])
    leaf = codec.decode(outcome.leaves[1], ReceiptLeaf, 1 << 20)
    assert access.DECISIONS.decode(leaf.results[0]).verdicts[0].basis == "denied"


def test_a_record_of_several_classes_takes_a_permit_for_each(world: World) -> None:
    psychiatry, hiv = w.compartment_of(PETRA, PSYCHIATRY), w.compartment_of(PETRA, HIV)
    both = w.record_id("both")
    world.ok(NORTH, w.anchoring("both", PETRA, bundle="s", classes=(PSYCHIATRY, HIV)))
    world.ok(PETRA, w.granting("p", SOUTH, compartments=[psychiatry]))
    (verdict,) = world.ask(SOUTH, records_=[both]).verdicts
    assert (verdict.compartment, verdict.also, verdict.allow) == (psychiatry, [hiv], False)
    world.ok(PETRA, w.granting("h", SOUTH, compartments=[hiv], not_after=world.time_ms + 60_000))
    decision = world.ask(SOUTH, records_=[both])
    (verdict,) = decision.verdicts
    assert verdict.allow
    # The permit that ends first ends it.
    assert verdict.valid_until == world.time_ms + 58_000
    record = records.visible_record(world.state, both)
    assert record is not None
    assert access.opens(verdict, record, both)
    # The compartment that it is sealed to opens it not, allowed though it is.
    (whole,) = world.ask(SOUTH, compartments=[psychiatry]).verdicts
    assert whole.allow
    assert not access.opens(whole, record, both)
    world.ok(PETRA, w.revoking("h"))
    assert access.still_stands(world.state, decision, verdict, world.time_ms) == "access.not_allowed"


def test_a_decision_that_no_result_holds_is_refused_and_not_a_fault(world: World) -> None:
    patients = _many_patients(world, access.COMPARTMENTS_PER_REQUEST_MAX)
    further = [w.some(f"further/{i}") for i in range(32)]
    for patient in patients:
        key = records.RECORDS.key(w.record_id(f"{patient.name}/0"))
        known = records.RECORDS.decode(world.state.values[key])
        world.state.values[key] = codec.encode(msgspec.structs.replace(known, also=further))
    named = [w.record_id(f"{patient.name}/0") for patient in patients]
    assert world.refused(SOUTH, w.asking(records_=named)) == "access.too_many_compartments"


def _many_patients(world: World, count: int) -> list[w.Actor]:
    """Patients with a compartment and two records each, written to state as their operations would."""
    patients = [w.actor(f"many/{i}") for i in range(count)]
    template = identity.IDENTITIES.get(world.state, PETRA.id)
    assert template is not None
    for patient in patients:
        values = world.state.values
        values[identity.IDENTITIES.key(patient.id)] = codec.encode(template)
        compartment = records.Compartment(patient.id, True, bytes(32), records.EPOCH_MAX)
        values[records.COMPARTMENTS.key(w.compartment_of(patient))] = codec.encode(compartment)
        for i in range(2):
            record = records.Record(
                w.compartment_of(patient), [], 0, NORTH.id, w.some("bundle/b"), i, bytes(32), bytes(32), 1
            )
            values[records.RECORDS.key(w.record_id(f"{patient.name}/{i}"))] = codec.encode(record)
    return patients


def test_the_largest_decision_fits_a_result_and_its_events(world: World) -> None:
    patients = _many_patients(world, access.COMPARTMENTS_PER_REQUEST_MAX)
    named = [w.record_id(f"{patient.name}/{i}") for i in range(2) for patient in patients]
    decision = world.ask(SOUTH, records_=named, purpose="PRECLINTRCH")
    assert len(decision.verdicts) == access.COMPARTMENTS_PER_REQUEST_MAX
    assert sum(len(v.records or []) for v in decision.verdicts) == len(named)
    # The worst that any verdict can carry, beyond what this world allows.
    worst = msgspec.structs.replace(
        decision,
        institution=SOUTH.id,
        purpose="P" * 16,
        time_ms=codec.UINT_MAX,
        verdicts=[
            msgspec.structs.replace(
                v,
                allow=True,
                basis="b" * 16,
                ground=bytes(16),
                valid_until=codec.UINT_MAX,
                records=[*(v.records or []), bytes(16)] if place < 16 else v.records,
            )
            for place, v in enumerate(decision.verdicts)
        ],
    )
    assert access.DECISIONS.decode(codec.encode(worst)) == worst
    assert len(codec.encode(worst)) <= RESULT_BYTES_MAX


def test_records_of_too_many_compartments(world: World) -> None:
    patients = _many_patients(world, access.COMPARTMENTS_PER_REQUEST_MAX + 1)
    named = [w.record_id(f"{patient.name}/0") for patient in patients]
    assert world.refused(SOUTH, w.asking(records_=named)) == "access.too_many_compartments"
    world.ask(SOUTH, records_=named[1:])


# --- what a custodian asks --------------------------------------------------------------------------------------------


@pytest.fixture
def allowed(world: World) -> tuple[World, access.Decision, access.Verdict]:
    world.ok(PETRA, w.granting("c", SOUTH), w.granting("also", SOUTH, not_after=world.time_ms + w.DAY_MS))
    decision = world.ask(DORA, records_=[R0])
    return world, decision, decision.verdicts[0]


Allowed = tuple[World, access.Decision, access.Verdict]


def test_an_allow_stands_within_its_window(allowed: Allowed) -> None:
    world, decision, verdict = allowed

    def at(time_ms: int) -> str | None:
        return access.still_stands(world.state, decision, verdict, time_ms)

    assert at(decision.time_ms) is None
    assert at(verdict.valid_until - 1) is None
    assert at(verdict.valid_until) == "access.window_closed"
    assert at(decision.time_ms - 1) == "access.window_closed"


def test_a_denial_and_a_strange_verdict_open_nothing(allowed: Allowed) -> None:
    world, decision, verdict = allowed
    wider = msgspec.structs.replace(verdict, records=None)
    assert access.still_stands(world.state, decision, wider, world.time_ms) == "access.not_allowed"
    denied = world.ask(DORA, records_=[OTHER])
    assert access.still_stands(world.state, denied, denied.verdicts[0], world.time_ms) == "access.not_allowed"


def test_a_revocation_after_the_decision_stops_it_though_another_consent_remains(allowed: Allowed) -> None:
    world, decision, verdict = allowed
    world.ok(PETRA, w.revoking("c"))
    assert access.still_stands(world.state, decision, verdict, world.time_ms) == "access.consent_ended"
    again = world.ask(DORA, records_=[R0])
    assert access.still_stands(world.state, again, again.verdicts[0], world.time_ms) is None


def test_a_later_denial_stops_it(allowed: Allowed) -> None:
    world, decision, verdict = allowed
    world.ok(PETRA, w.granting("d", DORA, effect="deny"))
    assert access.still_stands(world.state, decision, verdict, world.time_ms) == "access.not_allowed"


def test_a_suspension_a_rotated_key_and_an_ended_epoch_stop_it(allowed: Allowed) -> None:
    world, decision, verdict = allowed
    second = w.actor("dora's second")
    digest = identity.addition_digest(chain_id=world.chain_id, identity=DORA.id, key=second.key.public)
    world.ok(DORA, identity.AddKey(second.key.public, second.key.sign(digest)))

    def now() -> str | None:
        return access.still_stands(world.state, decision, verdict, world.time_ms)

    assert now() is None
    world.ok(SOUTH, identity.Suspend(DORA.id))
    assert now() == "identity.suspended"
    world.ok(SOUTH, identity.Reinstate(DORA.id))
    assert now() is None
    world.ok(PETRA, records.BeginEpoch(PETRAS, [w.some_point("new")], [NORTH.id]))
    assert now() == "access.epoch_ended"
    world.ok(DORA, identity.RevokeKey(DORA.key.public))
    assert now() == "identity.key_not_authorised"


def test_a_verdict_opens_the_records_it_names(allowed: Allowed) -> None:
    world, _, verdict = allowed
    first, second, other = (records.visible_record(world.state, r) for r in (R0, R1, OTHER))
    assert first is not None
    assert second is not None
    assert other is not None
    assert access.opens(verdict, first, R0)
    assert not access.opens(verdict, second, R1)
    assert not access.opens(verdict, other, OTHER)
    whole = world.ask(WEST, compartments=[PETRAS]).verdicts[0]
    assert not access.opens(whole, first, R0)
    whole = world.ask(SOUTH, compartments=[PETRAS]).verdicts[0]
    assert access.opens(whole, first, R0)
    assert access.opens(whole, second, R1)
    assert not access.opens(whole, other, OTHER)
