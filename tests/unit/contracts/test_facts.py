"""What is gathered for a decision: everything that may matter, and nothing that somebody took back."""

from __future__ import annotations

import pytest

from consilium.contracts import credentials, identity, preferences, teams
from consilium.contracts.consent import EVERYBODY
from consilium.contracts.facts import Facts, gather
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DORA, NOBODY, PAUL, PETRA, SOUTH, WEST, World


@pytest.fixture
def world() -> World:
    return care.with_licence(World().populate())


def facts(world: World, who: w.Actor = DORA) -> Facts:
    return gather(world.state, who.id, PETRA.id, world.time_ms)


def test_a_reader_is_known_under_several_names(world: World) -> None:
    world.ok(SOUTH, care.forming(), teams.AdmitMember(care.TEAM, DORA.id))
    assert facts(world).parties == (DORA.id, SOUTH.id, care.TEAM, EVERYBODY)
    assert facts(world, SOUTH).parties == (SOUTH.id, EVERYBODY)
    # To a patient nothing is granted; what is denied to everybody is denied to whoever represents another.
    assert facts(world, PAUL).parties == (EVERYBODY,)
    assert facts(world, PETRA).parties == ()


def test_consents_are_gathered_once_each_and_only_while_they_stand(world: World) -> None:
    world.ok(PETRA, w.granting("a", DORA), w.granting("b", SOUTH, transferable=True), w.granting("c", None))
    world.ok(SOUTH, care.passing_on("b", DORA))
    names = [w.some(f"consent/{name}") for name in ("a", "passed", "b", "c")]
    assert [identifier for identifier, _ in facts(world).consents] == names
    world.ok(PETRA, w.revoking("b"))
    assert [identifier for identifier, _ in facts(world).consents] == [names[0], names[3]]


def test_the_rest_that_may_matter(world: World) -> None:
    world.ok(SOUTH, care.attesting(world))
    world.ok(WEST, care.mandating(world))
    world.ok(DORA, care.declaring(world))
    world.ok(PETRA, preferences.Preferences(emergency_deny=True, opt_out=True))
    found = facts(world)
    assert [len(one) for one in (found.mandates, found.glasses, found.relationships)] == [1, 1, 1]
    assert (found.emergency_deny, found.opt_out, found.policy_purposes) == (True, True, ("TREAT",))
    assert facts(world, SOUTH).glasses == ()
    world.ok(WEST, credentials.RevokeCredential(w.some("credential/licence")))
    assert facts(world).glasses == ()


def test_who_does_not_stand(world: World) -> None:
    assert facts(world).standing
    assert not gather(world.state, DORA.id, NOBODY.id, 0).standing
    assert gather(world.state, NOBODY.id, PETRA.id, 0) == Facts(PETRA.id, NOBODY.id, False)
    world.ok(SOUTH, identity.Suspend(DORA.id))
    assert not facts(world).standing


def test_patients_and_guardians(world: World) -> None:
    assert facts(world, PETRA).is_patient
    assert facts(world, PAUL).lease_ms is None
    care.with_guardians(world, PAUL)
    assert facts(world, PAUL).lease_ms == care.QUARTER_DAY
    world.time_ms = care.QUARTER_DAY
    assert facts(world, PAUL).lease_ms is None
