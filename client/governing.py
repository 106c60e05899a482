"""Deciding who validates: what the institutions that run validators propose and vote on.

The proposal's id is drawn here; whoever else is to vote gets it from the event `governance.proposed`, or is told.
"""

from __future__ import annotations

from collections.abc import Sequence

from consilium.client.session import Session, new_id
from consilium.client.wallet import Wallet
from consilium.contracts import ballot, identity
from consilium.contracts.ballot import AdmitInstitution, Change, Propose, Vote, VoteCounted
from consilium.contracts.registry import operation
from consilium.ledger import codec
from consilium.ledger.execution import RESULT_BYTES_MAX


async def propose(session: Session, change: Change) -> tuple[bytes, VoteCounted]:
    """Propose a change, and approve it by that. Returns its id (16 bytes) and where it stands. Raises Refused."""
    proposal = new_id()
    done = await session.submit([operation("governance.propose", Propose(proposal, change))])
    return proposal, codec.decode(done.leaf.results[0], VoteCounted, RESULT_BYTES_MAX)


async def vote(session: Session, proposal: bytes, *, approve: bool = True) -> VoteCounted:
    """Approve or reject a proposal. Returns where it stands. Raises Refused."""
    done = await session.submit([operation("governance.vote", Vote(proposal, approve))])
    return codec.decode(done.leaf.results[0], VoteCounted, RESULT_BYTES_MAX)


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
