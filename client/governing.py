"""Deciding who validates: what the institutions that run validators propose and vote on.

The proposal's id is drawn here; whoever else is to vote gets it from the event `governance.proposed`, or is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from consilium.client.rpc import BEFORE_ALL, RpcClient
from consilium.client.session import Session, new_id
from consilium.client.wallet import Wallet
from consilium.contracts import ballot, identity
from consilium.contracts.ballot import AdmitInstitution, Change, Proposal, Propose, Vote, VoteCounted
from consilium.contracts.registry import operation
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import EVENT_BYTES_MAX, RESULT_BYTES_MAX
from consilium.ledger.transaction import identity_of

EVENTS_PER_CALL: Final = 1_000


@dataclass(frozen=True, slots=True)
class ProposalLine:
    """A proposal and its id, as certified state has it."""

    proposal: bytes
    value: Proposal

    def standing(self, time_ms: int) -> str:
        """`accepted`, `rejected`, `open` or `lapsed` at a block time."""
        lapsed = self.value.outcome == "open" and time_ms >= self.value.expires_ms
        return "lapsed" if lapsed else self.value.outcome


async def propose(session: Session, change: Change) -> tuple[bytes, VoteCounted]:
    """Propose a change, and approve it by that. Returns its id (16 bytes) and where it stands. Raises Refused, as the
    ledger does, and `governance.already_member`."""
    if isinstance(change, AdmitInstitution):
        known = await session.state(identity.IDENTITIES, admitted(change))
        if known is not None:
            raise Refused("governance.already_member", admitted(change).hex())
    proposal = new_id()
    done = await session.submit([operation("governance.propose", Propose(proposal, change))])
    return proposal, codec.decode(done.leaf.results[0], VoteCounted, RESULT_BYTES_MAX)


async def vote(session: Session, proposal: bytes, *, approve: bool = True) -> VoteCounted:
    """Approve or reject a proposal. Returns where it stands. Raises Refused."""
    done = await session.submit([operation("governance.vote", Vote(proposal, approve))])
    return codec.decode(done.leaf.results[0], VoteCounted, RESULT_BYTES_MAX)


async def proposals(rpc: RpcClient) -> list[ProposalLine]:
    """All proposals that were made, oldest first: the node's word, of what a header has certified."""
    lines: list[ProposalLine] = []
    after = BEFORE_ALL
    while True:
        found = await rpc.events(after, EVENTS_PER_CALL, [ballot.PROPOSED.name])
        for item in found:
            identifier = codec.decode(item.event.data, VoteCounted, EVENT_BYTES_MAX).proposal
            raw, _ = await rpc.state(ballot.PROPOSALS.key(identifier))
            if raw is not None:
                lines.append(ProposalLine(identifier, ballot.PROPOSALS.decode(raw)))
        if len(found) < EVENTS_PER_CALL:
            return lines
        after = found[-1].cursor


def admitted(change: AdmitInstitution) -> bytes:
    """The identity (16 bytes) that an institution gets by its admission."""
    return identity_of(change.key)


def admission(chain_id: bytes, newcomer: Wallet, roles: Sequence[identity.Role]) -> AdmitInstitution:
    """The change by which the institution of a wallet is admitted, with its own signature. Roles are sorted."""
    named: list[identity.Role] = sorted(roles)
    point = newcomer.point
    digest = ballot.admission_digest(
        chain_id=chain_id,
        key=newcomer.signing.public,
        encryption_key=newcomer.encryption_public,
        author_point=point,
        roles=named,
    )
    return AdmitInstitution(
        newcomer.signing.public, newcomer.encryption_public, point, named, newcomer.signing.sign(digest)
    )
