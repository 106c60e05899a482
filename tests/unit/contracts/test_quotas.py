"""Quotas of state: who fills every node's disk is stopped by name, and care and revocations are not."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import identity, quotas, registry
from consilium.contracts.ballot import ChangeQuotas
from consilium.contracts.disclosures import AttestedRelease, AttestReleases
from consilium.contracts.quotas import Added, Quotas
from consilium.ledger.execution import ReceiptLeaf
from consilium.ledger.state import Overlay
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DAY_MS, DORA, NORTH, PAUL, PETRA, SOUTH, WEST, World, some

SMALL = Quotas(member_bytes=16 * 1024, patient_bytes=4 * 1024)


@pytest.fixture
def world() -> World:
    world = World().populate()
    world.ok(NORTH, w.proposing("small", ChangeQuotas(SMALL)))
    world.time_ms += 60 * DAY_MS
    return world


def used(world: World, who: w.Actor) -> int:
    quota, period = (
        (SMALL.patient_bytes, quotas.PATIENT_MS)
        if who in (PETRA, PAUL)
        else (SMALL.member_bytes, quotas.MEMBER_MS)
    )
    return quotas.added_by(world.state, who.id, quota, period, world.time_ms)


def size(world: World) -> int:
    """Of everything but the counts themselves."""
    return sum(
        len(key) + len(value) for key, value in world.state.values.items() if key[:1] != quotas.ADDED.prefix
    )


def fill(world: World, who: w.Actor = SOUTH, at_most: int = 1_000) -> str:
    """Anchor until it is refused."""
    for number in range(at_most):
        leaf: ReceiptLeaf = world.leaf(
            who, w.anchoring(f"{who.name} {number}", PETRA, bundle=f"{who.name} {number}")
        )
        if leaf.code != "ok":
            return leaf.code
    raise AssertionError("nothing stops it")


def test_what_is_added_is_counted_to_the_byte(world: World) -> None:
    before = size(world)
    world.ok(SOUTH, w.anchoring("r", PETRA))
    assert used(world, SOUTH) == size(world) - before > 100
    assert used(world, NORTH) == 0
    # What is refused counts nothing, and neither does what writes nothing new.
    counted = used(world, SOUTH)
    assert world.refused(SOUTH, w.anchoring("r", PETRA)) == "records.id_taken"
    assert quotas.ADDED.get(world.state, SOUTH.id) == Added(counted, world.time_ms - w.STEP_MS)


def test_a_member_that_fills_every_disk_is_stopped_by_name(world: World) -> None:
    assert fill(world) == "quota.member_full"
    assert used(world, SOUTH) <= SMALL.member_bytes
    # Another member is not concerned, and neither is this one tomorrow.
    world.ok(NORTH, w.anchoring("north's", PETRA))
    world.time_ms += DAY_MS // 2
    assert used(world, SOUTH) < SMALL.member_bytes * 6 // 10
    world.ok(SOUTH, w.anchoring("in the evening", PETRA, bundle="evening"))


def test_staff_count_with_their_employer(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH, not_after=2**50))
    for who in (SOUTH, DORA):
        before = used(world, SOUTH)
        world.ask(who, compartments=[w.compartment_of(PETRA)])
        assert used(world, SOUTH) > before
    assert quotas.ADDED.get(world.state, DORA.id) is None


def test_a_day_of_imports_stops_no_ward_and_no_revocation(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH, not_after=2**50))
    world.ok(SOUTH, care.attesting(world))
    care.with_licence(world)
    assert fill(world) == "quota.member_full"
    assert world.ask(DORA, compartments=[w.compartment_of(PETRA)]).verdicts[0].allow
    world.ok(SOUTH, care.beginning_session(world, w.actor("shift")))
    code = "ok"
    while code == "ok":
        code = world.leaf(
            SOUTH, w.asking(compartments=[w.compartment_of(PETRA)] + [some(f"{n}") for n in range(50)])
        ).code
    assert code == "quota.member_full"
    assert used(world, SOUTH) > SMALL.member_bytes * 19 // 10
    # Nothing more than that, but for what is never refused.
    world.ok(DORA, care.declaring(world))
    world.ok(SOUTH, care.ending())
    world.ok(SOUTH, identity.Suspend(DORA.id))


def releasing(world: World, who: w.Actor, purpose: str = "TREAT") -> AttestReleases:
    """What a custodian has to say of a release that somebody has asked for just now."""
    transaction = world.sign(who, w.asking(compartments=[w.compartment_of(PETRA)], purpose=purpose))
    world.block([transaction])
    return AttestReleases([AttestedRelease(transaction.id, 0, 0, 0, 1, world.time_ms)])


def test_what_a_custodian_must_say_counts_with_who_asked(world: World) -> None:
    """Else a reader who asks again and again uses up the custodian's quota, and its wards ask for nothing any more."""
    world.ok(PETRA, w.granting("c", SOUTH, not_after=2**50))
    owed = releasing(world, SOUTH)
    asked, said, before = used(world, SOUTH), used(world, NORTH), size(world)
    world.ok(NORTH, owed)
    assert used(world, NORTH) == said
    # All but what a patient's accounting grows by: its head has one line more.
    assert 0 <= size(world) - before - (used(world, SOUTH) - asked) <= 8
    assert used(world, SOUTH) - asked > 64
    # And it is never refused: whoever asked has paid for it.
    owed = releasing(world, SOUTH)
    quotas.ADDED.put(overlay := Overlay(world.state), Added(10**6, world.time_ms), NORTH.id)
    quotas.ADDED.put(overlay, Added(10**6, world.time_ms), SOUTH.id)
    world.state.apply(overlay.changes())
    assert world.refused(SOUTH, w.asking(compartments=[w.compartment_of(PETRA)])) == "quota.member_full"
    world.ok(NORTH, owed)


def test_what_is_said_to_a_patient_leaves_the_patient_its_quota(world: World) -> None:
    owed = releasing(world, PETRA, "PATRQT")
    asked, said = used(world, PETRA), used(world, NORTH)
    world.ok(NORTH, owed)
    assert (used(world, PETRA), used(world, NORTH)) == (asked, said)


def test_a_patient_has_a_quota_of_its_own(world: World) -> None:
    number, standing, code = 0, list[str](), "ok"
    while code == "ok":
        number += 1
        code = world.leaf(PETRA, w.granting(f"c{number}", SOUTH, not_after=2**50, compartments=None)).code
        if code == "ok":
            standing.append(f"c{number}")
        if code == "consent.too_many":
            world.ok(PETRA, *map(w.revoking, standing))
            standing, code = [], "ok"
    assert code == "quota.patient_full"
    assert number > 8
    assert used(world, NORTH) == 0
    world.ok(PETRA, w.revoking(standing[0]))
    world.ok(PAUL, w.granting("pauls", SOUTH, patient=PAUL, not_after=2**50))


def test_a_patient_who_reads_often_still_decides_who_else_reads(world: World) -> None:
    reading = w.asking(compartments=[w.compartment_of(PETRA)], purpose="PATRQT")
    code = "ok"
    while code == "ok":
        code = world.leaf(PETRA, reading).code
    assert code == "quota.patient_full"
    world.ok(PETRA, w.granting("c", SOUTH, not_after=2**50))
    world.ok(PETRA, w.granting("c2", NORTH, not_after=2**50))
    assert SMALL.patient_bytes < used(world, PETRA) < quotas.CARE_FACTOR * SMALL.patient_bytes
    assert world.refused(PETRA, w.granting("d", NORTH, not_after=2**50), reading) == "quota.patient_full"


def test_nobody_grows_by_making_patients(world: World) -> None:
    made = 0
    while (
        leaf := world.leaf(NORTH, world.enrolment(w.actor(f"puppet {made}"), NORTH, "patient"))
    ).code == "ok":
        made += 1
    assert leaf.code == "quota.member_full"
    assert made == SMALL.member_bytes // (SMALL.patient_bytes + 300)


def test_a_mixed_transaction_is_held_to_the_strictest(world: World) -> None:
    world.ok(SOUTH, care.attesting(world))
    assert fill(world) == "quota.member_full"
    asking = w.asking(compartments=[w.compartment_of(PETRA)])
    assert world.refused(SOUTH, w.anchoring("last", PETRA, bundle="last"), asking) == "quota.member_full"
    assert (
        world.refused(SOUTH, care.ending(), w.anchoring("last", PETRA, bundle="last")) == "quota.member_full"
    )
    world.ok(SOUTH, care.ending(), asking)


def test_the_counts_of_one_block_follow_from_each_other(world: World) -> None:
    transactions = [
        world.sign(SOUTH, w.anchoring(f"b{number}", PETRA, bundle=f"b{number}")) for number in range(100)
    ]
    outcome = world.block(transactions)
    codes = [msgspec.msgpack.decode(leaf)[1] for leaf in outcome.leaves]
    assert {*codes} == {"ok", "quota.member_full"}
    assert codes == sorted(codes)
    assert used(world, SOUTH) <= SMALL.member_bytes


def test_members_vote_on_quotas(world: World) -> None:
    assert fill(world) == "quota.member_full"
    world.ok(NORTH, w.proposing("more", ChangeQuotas(Quotas(1024 * 1024, 64 * 1024))))
    assert [event.kind for event in world.events] == ["quotas.changed", "governance.proposed"]
    world.ok(SOUTH, w.anchoring("more", PETRA, bundle="more"))
    assert world.refused(WEST, w.proposing("no voter", ChangeQuotas(SMALL))) == "governance.no_validator"


def test_what_is_named_exists() -> None:
    known = registry.default_registry().operations
    assert not quotas.CARE & quotas.NEVER_REFUSED
    assert {*known} >= quotas.CARE | quotas.NEVER_REFUSED | {quotas.ENROLMENT}
