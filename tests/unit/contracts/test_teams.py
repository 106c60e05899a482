"""Teams: who forms them, who gets in, and that a consent to one is to whoever is a member now."""

from __future__ import annotations

import pytest

from consilium.contracts import teams
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.care import TEAM
from tests.unit.contracts.world import DAN, DORA, NORTH, PETRA, SOUTH, World

PLACE = [w.compartment_of(PETRA)]


@pytest.fixture
def world() -> World:
    world = World().populate()
    world.ok(SOUTH, care.forming())
    return world


def admit(who: w.Actor) -> teams.AdmitMember:
    return teams.AdmitMember(TEAM, who.id)


def remove(who: w.Actor) -> teams.RemoveMember:
    return teams.RemoveMember(TEAM, who.id)


def test_members_read_on_a_consent_to_the_team_while_they_are_members(world: World) -> None:
    world.ok(PETRA, w.granting("c", TEAM))
    assert not world.ask(DORA, compartments=PLACE).verdicts[0].allow
    world.ok(SOUTH, admit(DORA))
    verdict = world.ask(DORA, compartments=PLACE).verdicts[0]
    assert (verdict.allow, verdict.ground) == (True, w.some("consent/c"))
    assert not world.ask(SOUTH, compartments=PLACE).verdicts[0].allow
    world.ok(SOUTH, remove(DORA))
    assert not world.ask(DORA, compartments=PLACE).verdicts[0].allow


def test_a_denial_to_a_team_is_one_to_its_members(world: World) -> None:
    world.ok(SOUTH, admit(DORA))
    world.ok(PETRA, w.granting("yes", SOUTH), w.granting("no", TEAM, effect="deny"))
    assert world.ask(DORA, compartments=PLACE).verdicts[0].basis == "denied"
    assert world.ask(SOUTH, compartments=PLACE).verdicts[0].basis == "consent"


def test_guests_join_and_are_not_put_into_teams(world: World) -> None:
    world.ok(PETRA, w.granting("c", TEAM))
    world.ok(SOUTH, admit(DAN))
    assert [event.kind for event in world.events] == ["teams.invited"]
    assert not world.ask(DAN, compartments=PLACE).verdicts[0].allow
    assert world.refused(DORA, teams.JoinTeam(TEAM)) == "teams.not_invited"
    world.ok(DAN, teams.JoinTeam(TEAM))
    assert world.ask(DAN, compartments=PLACE).verdicts[0].allow
    assert world.refused(SOUTH, admit(DAN)) == "teams.member_already"
    assert world.refused(DAN, teams.JoinTeam(TEAM)) == "teams.not_invited"


def test_an_invitation_is_taken_back(world: World) -> None:
    world.ok(SOUTH, admit(DAN), remove(DAN))
    assert world.refused(DAN, teams.JoinTeam(TEAM)) == "teams.not_invited"


def test_a_member_leaves_and_nobody_elses_institution_removes(world: World) -> None:
    world.ok(SOUTH, admit(DORA))
    for who in (NORTH, DAN):
        assert world.refused(who, remove(DORA)) == "teams.not_yours"
    world.ok(DORA, remove(DORA))
    assert teams.teams_of(world.state, DORA.id) == []
    assert world.refused(SOUTH, remove(DORA)) == "teams.no_member"


def test_members_are_practitioners(world: World) -> None:
    for who in (NORTH, PETRA):
        assert world.refused(SOUTH, admit(who)) == "teams.not_a_practitioner"


def test_memberships_are_bounded(world: World) -> None:
    for number in range(teams.TEAMS_PER_MEMBER_MAX):
        team = w.some(f"team/{number}")
        world.ok(SOUTH, care.forming("role", team), teams.AdmitMember(team, DORA.id))
    assert world.refused(SOUTH, admit(DORA)) == "teams.too_many"


def test_a_teams_id_is_nobodys_and_never_everybodys(world: World) -> None:
    for taken in (TEAM, DORA.id, bytes(16)):
        assert world.refused(SOUTH, care.forming("role", taken)) == "teams.id_taken"
