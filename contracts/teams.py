"""Teams: the people of one institution in a role, or those who care for a patient together, under one random id.

A consent names a team as its grantee: whoever is a member when the question is asked counts. The institution that
formed a team admits and removes. Its own staff are members at once; somebody else's employee must join, so that
nobody is put into teams against their will. What a team is for is known off the chain.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from consilium.contracts import identity, keys
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

TEAMS_PER_MEMBER_MAX: Final = 16
"""A request looks at the consents to all of them."""

TeamKind = Literal["care-team", "role"]


class FormTeam(codec.Wire, frozen=True):
    """`teams.form`, and the data of `teams.formed`. `team` is drawn at random."""

    team: codec.Bytes16
    kind: TeamKind


class AdmitMember(codec.Wire, frozen=True):
    """`teams.admit`: a practitioner; of a role, one that the institution employs."""

    team: codec.Bytes16
    member: codec.Bytes16


class JoinTeam(codec.Wire, frozen=True):
    """`teams.join`: by a practitioner whom another institution's care team admitted."""

    team: codec.Bytes16


class RemoveMember(codec.Wire, frozen=True):
    """`teams.remove`: by the institution that formed the team, or by the member."""

    team: codec.Bytes16
    member: codec.Bytes16


class Team(codec.Wire, frozen=True):
    """Who formed it, of which kind, since when."""

    owner: codec.Bytes16
    kind: TeamKind
    formed_ms: codec.Uint


class Invitation(codec.Wire, frozen=True):
    """Somebody else's employee may join since then."""

    since_ms: codec.Uint


class Memberships(codec.Wire, frozen=True):
    """The teams that a practitioner is a member of."""

    teams: Annotated[list[codec.Bytes16], msgspec.Meta(max_length=TEAMS_PER_MEMBER_MAX)]


class MemberChanged(codec.Wire, frozen=True):
    """The data of the events about members."""

    team: codec.Bytes16
    member: codec.Bytes16


TEAMS: Final = Slot(keys.TEAM, (ID_BYTES,), Team, 64)
INVITATIONS: Final = Slot(keys.INVITATION, (ID_BYTES, ID_BYTES), Invitation, 16)
MEMBERSHIPS: Final = Slot(keys.MEMBERSHIPS, (ID_BYTES,), Memberships, 512)

FORMED: Final = EventKind("teams.formed", FormTeam)
INVITED: Final = EventKind("teams.invited", MemberChanged)
JOINED: Final = EventKind("teams.joined", MemberChanged)
LEFT: Final = EventKind("teams.left", MemberChanged)


def teams_of(state: StateReader, practitioner: bytes) -> list[bytes]:
    """The teams that somebody is a member of now."""
    found = MEMBERSHIPS.get(state, practitioner)
    return list(found.teams) if found is not None else []


def _form(body: FormTeam, context: OperationContext) -> None:
    if identity.require(context.state, context.sender).kind != identity.INSTITUTION:
        raise Refused("identity.not_an_institution", context.sender.hex())
    taken = TEAMS.get(context.state, body.team) or identity.IDENTITIES.get(context.state, body.team)
    if taken is not None or body.team == bytes(ID_BYTES):
        raise Refused("teams.id_taken", body.team.hex())
    TEAMS.put(context.state, Team(context.sender, body.kind, context.time_ms), body.team)
    FORMED.emit(context, [context.sender], body)


def _admit(body: AdmitMember, context: OperationContext) -> None:
    state = context.state
    team = _owned(body.team, context)
    member = identity.require(state, body.member)
    if member.kind != identity.PRACTITIONER:
        raise Refused("teams.not_a_practitioner", body.member.hex())
    if body.team in teams_of(state, body.member):
        raise Refused("teams.member_already", body.member.hex())
    if member.sponsor == context.sender:
        _enter(body.team, body.member, context)
        return
    if team.kind == "role":
        raise Refused("teams.not_employed", body.member.hex())
    INVITATIONS.put(state, Invitation(context.time_ms), body.team, body.member)
    INVITED.emit(context, [body.member, context.sender], MemberChanged(body.team, body.member))


def _join(body: JoinTeam, context: OperationContext) -> None:
    if INVITATIONS.get(context.state, body.team, context.sender) is None:
        raise Refused("teams.not_invited", body.team.hex())
    context.state.delete(INVITATIONS.key(body.team, context.sender))
    _enter(body.team, context.sender, context)


def _enter(team: bytes, member: bytes, context: OperationContext) -> None:
    joined = teams_of(context.state, member)
    if len(joined) >= TEAMS_PER_MEMBER_MAX:
        raise Refused("teams.too_many", f"the limit is {TEAMS_PER_MEMBER_MAX}")
    MEMBERSHIPS.put(context.state, Memberships([*joined, team]), member)
    JOINED.emit(context, [member, context.sender], MemberChanged(team, member))


def _remove(body: RemoveMember, context: OperationContext) -> None:
    state = context.state
    if context.sender != body.member:
        _owned(body.team, context)
    joined = teams_of(state, body.member)
    invited = INVITATIONS.get(state, body.team, body.member) is not None
    if body.team not in joined and not invited:
        raise Refused("teams.no_member", body.member.hex())
    if invited:
        state.delete(INVITATIONS.key(body.team, body.member))
    left = Memberships([team for team in joined if team != body.team])
    MEMBERSHIPS.put(state, left, body.member)
    LEFT.emit(context, [body.member, context.sender], MemberChanged(body.team, body.member))


def _owned(identifier: bytes, context: OperationContext) -> Team:
    team = TEAMS.get(context.state, identifier)
    if team is None:
        raise Refused("teams.unknown", identifier.hex())
    if team.owner != context.sender:
        raise Refused("teams.not_yours", identifier.hex())
    return team


CONTRACT: Final = Contract(
    name="teams",
    operations=(
        OperationSpec("teams.form", FormTeam, _form),
        OperationSpec("teams.admit", AdmitMember, _admit),
        OperationSpec("teams.join", JoinTeam, _join),
        OperationSpec("teams.remove", RemoveMember, _remove, rank=Rank.TAKES_RIGHTS),
    ),
    slots=(TEAMS, INVITATIONS, MEMBERSHIPS),
    events=(FORMED, INVITED, JOINED, LEFT),
)
