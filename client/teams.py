"""What institutions and their staff do about teams: form one, admit, join, leave."""

from __future__ import annotations

from consilium.client.rpc import Committed
from consilium.client.session import Session, new_id
from consilium.contracts import teams


async def form(session: Session, kind: teams.TeamKind) -> tuple[bytes, Committed]:
    """Form a team of this institution's: a `role` of its own staff, or a `care-team`. Returns its id (16 bytes)."""
    team = new_id()
    return team, await session.act("teams.form", teams.FormTeam(team, kind))


async def admit(session: Session, team: bytes, member: bytes) -> Committed:
    """Admit a practitioner: own staff is a member at once, others' staff must join."""
    return await session.act("teams.admit", teams.AdmitMember(team, member))


async def join(session: Session, team: bytes) -> Committed:
    """Join a team that admitted this practitioner."""
    return await session.act("teams.join", teams.JoinTeam(team))


async def remove(session: Session, team: bytes, member: bytes) -> Committed:
    """Remove a member, or leave: from that block on no consent to the team counts for it."""
    return await session.act("teams.remove", teams.RemoveMember(team, member))


async def members_teams(session: Session, practitioner: bytes) -> list[bytes]:
    """The teams that somebody is a member of."""
    known = await session.state(teams.MEMBERSHIPS, practitioner)
    return list(known.teams) if known is not None else []
