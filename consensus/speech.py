"""What a replica says in its view, made from its promise: so that it can say it again, in the same words.

Signatures are deterministic (RFC 8032), and a vote is made of the promise alone; a repeated or restarted replica says
byte for byte what it said. docs/consensus.md, "Durable before sent".
"""

from __future__ import annotations

from consilium.consensus.messages import (
    Commit,
    Prepare,
    PrePrepare,
    Signed,
    ViewChange,
    sign_commit,
    sign_pre_prepare,
    sign_prepare,
    sign_view_change,
)
from consilium.consensus.round import Proposal, Round
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import InvariantBroken


def view_change(here: Round, key: SigningKey) -> ViewChange:
    """The view change to the current view."""
    return sign_view_change(key, here.context.chain_id, here.context.height, here.view, here.promise.prepared)


def prepare(here: Round, key: SigningKey) -> PrePrepare | Prepare:
    """The vote for the proposal: a primary's is its pre-prepare.

    A restarted primary can say its pre-prepare again in view 0 only: the justification of another is not kept. Its
    prepare carries the same signature.
    """
    proposal = _proposal(here)
    if proposal.own and (here.view == 0 or proposal.justification is not None):
        return sign_pre_prepare(key, here.context.chain_id, here.view, proposal.block, proposal.justification)
    return sign_prepare(key, here.context.chain_id, here.context.height, here.view, proposal.block.hash)


def commit(here: Round, key: SigningKey) -> Commit:
    """The seal of the proposal."""
    block_hash = _proposal(here).block.hash
    return sign_commit(key, here.context.chain_id, here.context.height, here.view, block_hash)


def everything(here: Round, key: SigningKey) -> list[Signed]:
    """All that was said in the current view, as the promise has it.

    Once sealed, the view change is not said again: it claimed what was prepared *before* this view, which the promise
    has forgotten for something higher; and whoever still waits for this view is led by the proposal.
    """
    votes = here.promise.votes
    if votes.view != here.view:
        return []
    said: list[Signed] = []
    if votes.changed and votes.commit is None:
        said.append(view_change(here, key))
    if votes.prepare is not None:
        said.append(prepare(here, key))
    if votes.commit is not None:
        said.append(commit(here, key))
    return said


def _proposal(here: Round) -> Proposal:
    if here.proposal is None:
        raise InvariantBroken("a vote without a proposal")
    return here.proposal
