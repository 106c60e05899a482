"""Recovery by guardians: a majority, a waiting time, a veto."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import identity, recovery, representation, settings
from consilium.ledger import codec
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.care import FRESH
from tests.unit.contracts.world import DAN, DORA, NORTH, PAUL, PETRA, SOUTH, World

WAIT_MS = settings.DEFAULTS.recovery_wait_ms


@pytest.fixture
def world() -> World:
    return care.with_guardians(World().populate(), PAUL, DAN, DORA)


def started(world: World) -> World:
    world.ok(PAUL, care.proposing_recovery(world))
    world.ok(DAN, care.approving_recovery())
    return world


@pytest.mark.parametrize(("guardians", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (8, 5)])
def test_more_than_half(guardians: int, needed: int) -> None:
    assert recovery.approvals_needed(guardians) == needed


def test_a_new_key_speaks_after_the_waiting_time(world: World) -> None:
    started(world)
    ready = world.time_ms + WAIT_MS
    world.time_ms = ready - 2 * w.STEP_MS
    assert world.refused(PAUL, care.completing_recovery()) == "recovery.not_ready"
    world.time_ms = ready - w.STEP_MS
    world.ok(DORA, care.completing_recovery())
    assert world.refused(PETRA, w.granting("old", SOUTH)) == "identity.key_not_authorised"
    world.ok(FRESH, w.granting("new", SOUTH), sender=PETRA.id)
    assert world.refused(PAUL, care.completing_recovery()) == "recovery.unknown"


def test_one_of_three_is_too_few(world: World) -> None:
    world.ok(PAUL, care.proposing_recovery(world))
    assert world.refused(PAUL, care.approving_recovery()) == "recovery.approved_already"
    world.time_ms += WAIT_MS
    assert world.refused(PAUL, care.completing_recovery()) == "recovery.too_few_approvals"


def test_any_live_key_of_the_patient_vetoes(world: World) -> None:
    second = w.actor("petra's second")
    digest = identity.addition_digest(chain_id=world.chain_id, identity=PETRA.id, key=second.key.public)
    world.ok(PETRA, identity.AddKey(second.key.public, second.key.sign(digest)))
    started(world)
    for who in (NORTH, PAUL, SOUTH):
        assert world.refused(who, recovery.VetoRecovery(FRESH.key.public)) == "recovery.unknown"
    world.ok(second, recovery.VetoRecovery(FRESH.key.public), sender=PETRA.id)
    world.time_ms += WAIT_MS
    assert world.refused(PAUL, care.completing_recovery()) == "recovery.unknown"


def test_a_veto_in_the_last_block_comes_first(world: World) -> None:
    started(world)
    world.time_ms += WAIT_MS
    completing = world.sign(PAUL, care.completing_recovery())
    world.block([completing, world.sign(PETRA, recovery.VetoRecovery(FRESH.key.public))])
    known = identity.IDENTITIES.get(world.state, PETRA.id)
    assert known is not None
    assert known.keys == [PETRA.key.public]


def test_only_guardians_take_part(world: World) -> None:
    for who in (NORTH, SOUTH, PETRA):
        assert world.refused(who, care.proposing_recovery(world)) == "recovery.not_a_guardian"
    world.ok(PETRA, representation.Dismiss(PETRA.id, DORA.id))
    assert world.refused(DORA, care.proposing_recovery(world)) == "recovery.not_a_guardian"
    world.time_ms = care.QUARTER_DAY
    assert world.refused(PAUL, care.proposing_recovery(world)) == "recovery.not_a_guardian"


def test_who_was_dismissed_does_not_count(world: World) -> None:
    started(world)
    world.ok(PETRA, representation.Dismiss(PETRA.id, DAN.id))
    world.time_ms += WAIT_MS
    assert world.refused(PAUL, care.completing_recovery()) == "recovery.too_few_approvals"


def test_one_guardian_cannot_take_away_what_the_others_agreed_on(world: World) -> None:
    started(world)
    ready = world.time_ms + WAIT_MS
    thief = w.actor("thief")
    world.ok(DORA, care.proposing_recovery(world, fresh=thief))
    # Not by proposing again and again, either: hers alone is replaced.
    for number in range(3):
        world.ok(DORA, care.proposing_recovery(world, fresh=w.actor(f"thief {number}")))
    # Nor by the one who proposed it.
    assert world.refused(PAUL, care.proposing_recovery(world, fresh=thief)) == "recovery.pending"
    world.time_ms = ready - w.STEP_MS
    assert world.refused(DORA, care.completing_recovery(fresh=thief)) == "recovery.unknown"
    world.ok(PAUL, care.completing_recovery())


def test_who_proposes_the_same_key_approves_it(world: World) -> None:
    world.ok(PAUL, care.proposing_recovery(world))
    world.ok(DAN, care.proposing_recovery(world))
    (kept,) = recovery.open_proposals(world.state, PETRA.id, world.time_ms)
    assert (kept.proposer, kept.approved_by) == (PAUL.id, [PAUL.id, DAN.id])
    assert kept.ready_ms == world.time_ms + WAIT_MS
    assert world.refused(DAN, care.proposing_recovery(world)) == "recovery.approved_already"


def test_a_proposal_that_is_not_approved_lapses(world: World) -> None:
    world.ok(PAUL, care.proposing_recovery(world))
    world.time_ms += recovery.LIFETIME_MS
    assert world.refused(DAN, care.approving_recovery()) == "recovery.unknown"


def test_a_network_may_wait_longer_than_a_proposal_lasts(world: World) -> None:
    settled = msgspec.structs.replace(settings.DEFAULTS, recovery_wait_ms=recovery.LIFETIME_MS + 1)
    world.state.values[settings.SETTINGS.key()] = codec.encode(settled)
    started(world)
    world.time_ms += recovery.LIFETIME_MS + 1
    world.ok(DORA, care.completing_recovery())


def test_a_proposal_lapses(world: World) -> None:
    started(world)
    world.time_ms += WAIT_MS + recovery.LIFETIME_MS
    assert world.refused(PAUL, care.completing_recovery()) == "recovery.unknown"
    assert world.refused(PETRA, recovery.VetoRecovery(FRESH.key.public)) == "recovery.unknown"
    world.ok(PAUL, care.proposing_recovery(world))


def test_a_key_that_did_not_sign_is_not_proposed(world: World) -> None:
    body = msgspec.structs.replace(care.proposing_recovery(world), encryption_key=bytes(32))
    assert world.refused(PAUL, body) == "identity.bad_proof"


def test_a_take_over_ends_it(world: World) -> None:
    started(world)
    own = w.actor("petra's own")
    world.ok(PETRA, care.taking_over(world, fresh=own))
    world.time_ms += WAIT_MS
    assert world.refused(PAUL, care.completing_recovery()) == "recovery.not_a_guardian"
