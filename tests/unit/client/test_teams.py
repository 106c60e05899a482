"""Teams: own staff is a member at once, others' joins, and leaving ends it."""

from __future__ import annotations

from consilium.client import teams
from tests.unit.client.acting import code_of, network, staff


async def test_own_staff_is_admitted_others_join_and_leave() -> None:
    async with network() as care:
        nurse, guest = await staff(care.north, "nora"), await staff(care.south, "gus")
        team, _ = await teams.form(care.north, "care-team")
        for member in (nurse, guest):
            await teams.admit(care.north, team, member.identity)
        await care.tick()
        assert await teams.members_teams(care.south, nurse.identity) == [team]
        assert await teams.members_teams(care.south, guest.identity) == []
        await teams.join(care.session(guest), team)
        await care.tick()
        assert await teams.members_teams(care.south, guest.identity) == [team]
        await teams.remove(care.session(guest), team, guest.identity)
        await care.tick()
        assert await teams.members_teams(care.south, guest.identity) == []


async def test_who_was_not_admitted_does_not_join_and_a_stranger_admits_nobody() -> None:
    async with network() as care:
        guest = await staff(care.south, "gus")
        team, _ = await teams.form(care.north, "care-team")
        assert await code_of(teams.join(care.session(guest), team)) != "ok"
        assert await code_of(teams.admit(care.south, team, guest.identity)) != "ok"
