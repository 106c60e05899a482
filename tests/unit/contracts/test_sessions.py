"""Session keys: a shift and no longer, by the employer, and never more than the practitioner's own voice."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import access, identity, sessions
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DAN, DORA, NORTH, PETRA, SOUTH, World

KEY = w.actor("a shift")
PLACE = [w.compartment_of(PETRA)]


@pytest.fixture
def world() -> World:
    return World().populate()


def ending(key: w.Actor = KEY) -> sessions.EndSession:
    return sessions.EndSession(DORA.id, key.key.public)


def test_a_session_speaks_until_its_end_and_not_a_moment_longer(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    world.ok(SOUTH, care.beginning_session(world, KEY, lasts_ms=5 * w.STEP_MS))
    request = w.asking(compartments=PLACE)
    world.ok(KEY, request, sender=DORA.id)
    world.ok(KEY, request, sender=DORA.id)
    world.ok(KEY, request, sender=DORA.id)
    assert world.refused(KEY, request, sender=DORA.id) == "identity.session_over"
    world.ok(DORA, request)


def test_at_most_twelve_hours(world: World) -> None:
    longest = sessions.SESSION_MS_MAX + w.STEP_MS
    too_long = care.beginning_session(world, KEY, lasts_ms=longest + 1)
    assert world.refused(SOUTH, too_long) == "session.bad_period"
    over = care.beginning_session(world, KEY, lasts_ms=0)
    assert world.refused(SOUTH, over) == "session.bad_period"
    world.ok(SOUTH, care.beginning_session(world, KEY, lasts_ms=longest - 1_000))


def test_only_the_employer_logs_in(world: World) -> None:
    for who in (NORTH, DORA, PETRA):
        body = care.beginning_session(world, KEY, employer=who)
        assert world.refused(who, body) == "identity.not_the_sponsor"
    for other in (PETRA, SOUTH, DAN):
        body = care.beginning_session(world, KEY, practitioner=other)
        assert world.refused(SOUTH, body) == "identity.not_the_sponsor"


def test_the_key_wants_this_session(world: World) -> None:
    body = care.beginning_session(world, KEY)
    longer = msgspec.structs.replace(body, not_after=body.not_after + 1)
    assert world.refused(SOUTH, longer) == "identity.bad_proof"
    taken = care.beginning_session(world, DAN)
    assert world.refused(SOUTH, taken) == "identity.key_taken"
    world.ok(SOUTH, body)
    assert world.refused(SOUTH, body) == "identity.key_taken"


def test_a_session_changes_no_keys(world: World) -> None:
    world.ok(SOUTH, care.beginning_session(world, KEY))
    second = w.actor("second")
    digest = identity.addition_digest(chain_id=world.chain_id, identity=DORA.id, key=second.key.public)
    adding = identity.AddKey(second.key.public, second.key.sign(digest))
    assert world.refused(KEY, adding, sender=DORA.id) == "identity.session_key"
    for key in (DORA, KEY):
        body = identity.RevokeKey(key.key.public)
        assert world.refused(KEY, body, sender=DORA.id) == "identity.session_key"
    assert world.refused(DORA, identity.RevokeKey(KEY.key.public)) == "identity.not_own_key"


@pytest.mark.parametrize("by", [SOUTH, DORA])
def test_logout_stops_what_was_decided(world: World, by: w.Actor) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    world.ok(SOUTH, care.beginning_session(world, KEY))
    leaf = world.ok(KEY, w.asking(compartments=PLACE), sender=DORA.id)
    decision = access.DECISIONS.decode(leaf.results[0])
    assert access.still_stands(world.state, decision, decision.verdicts[0], world.time_ms) is None
    world.ok(by, ending())
    code = access.still_stands(world.state, decision, decision.verdicts[0], world.time_ms)
    assert code == "identity.key_not_authorised"
    assert world.refused(by, ending()) == "session.unknown"


def test_the_end_of_a_session_stops_a_release(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    world.ok(SOUTH, care.beginning_session(world, KEY, lasts_ms=60_000))
    end = world.time_ms + 59_000
    leaf = world.ok(KEY, w.asking(compartments=PLACE), sender=DORA.id)
    decision = access.DECISIONS.decode(leaf.results[0])
    assert access.still_stands(world.state, decision, decision.verdicts[0], end - 1) is None
    assert access.still_stands(world.state, decision, decision.verdicts[0], end) == "identity.session_over"


def test_a_suspended_practitioner_has_no_session(world: World) -> None:
    world.ok(SOUTH, care.beginning_session(world, KEY))
    world.ok(SOUTH, identity.Suspend(DORA.id))
    assert world.refused(KEY, w.asking(compartments=PLACE), sender=DORA.id) == "identity.suspended"


def test_sessions_are_few_and_old_ones_make_room(world: World) -> None:
    for number in range(sessions.SESSIONS_PER_PRACTITIONER_MAX):
        body = care.beginning_session(world, w.actor(f"shift {number}"), lasts_ms=care.HOUR_MS)
        world.ok(SOUTH, body)
    assert world.refused(SOUTH, care.beginning_session(world, KEY)) == "session.too_many"
    world.time_ms += care.HOUR_MS
    world.ok(SOUTH, care.beginning_session(world, KEY))
    kept = sessions.SESSIONS.get(world.state, DORA.id)
    assert kept == sessions.Sessions([KEY.key.public])


def test_nobody_ends_anothers_session(world: World) -> None:
    world.ok(SOUTH, care.beginning_session(world, KEY))
    for who in (NORTH, DAN, PETRA):
        assert world.refused(who, ending()) == "identity.not_the_sponsor"
