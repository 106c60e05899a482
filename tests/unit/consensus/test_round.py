"""Opening a height: afresh, or exactly where the promise left it."""

from __future__ import annotations

import pytest

from consilium.consensus.limits import FAILURES_MAX
from consilium.consensus.messages import sign_pre_prepare
from consilium.consensus.promise import (
    Promise,
    Votes,
    no_promise,
    promise_commit,
    promise_prepare,
    promise_view_change,
)
from consilium.consensus.round import Phase, Proposal, open_round
from consilium.ledger.errors import InvariantBroken
from tests.unit.consensus.parts import BLOCK, CHAIN, CONTEXT, KEYS, OTHER, context_of, prepared_certificate

H = CONTEXT.height
VOTED = promise_prepare(no_promise(H), 0, BLOCK)
LOCKED = promise_commit(VOTED, prepared_certificate(BLOCK, 0, [0, 1, 2]))


@pytest.mark.parametrize(
    ("promise", "view", "phase"),
    [
        (None, 0, Phase.AWAITING),
        (no_promise(H), 0, Phase.AWAITING),
        (VOTED, 0, Phase.PREPARING),
        (LOCKED, 0, Phase.COMMITTING),
        (promise_view_change(LOCKED, 3), 3, Phase.CHANGING),
        (promise_prepare(promise_view_change(LOCKED, 3), 3, BLOCK), 3, Phase.PREPARING),
    ],
)
def test_the_promise_leads_back_to_its_view_and_phase(
    promise: Promise | None, view: int, phase: Phase
) -> None:
    here = open_round(CONTEXT, promise, KEYS[1].public, 0, 0)
    assert (here.view, here.phase) == (view, phase)
    if promise is not None:
        assert all(here.holds(block) for block in promise.proposals)


def test_the_promise_of_another_height_is_not_this_ones() -> None:
    here = open_round(context_of(height=H + 1), LOCKED, KEYS[1].public, 0, 0)
    assert (here.view, here.phase, here.proposal) == (0, Phase.AWAITING, None)
    assert here.promise == no_promise(H + 1)


def test_a_primary_knows_its_own_proposal_again() -> None:
    mine = open_round(CONTEXT, VOTED, KEYS[0].public, 0, 0).proposal
    theirs = open_round(CONTEXT, VOTED, KEYS[1].public, 0, 0).proposal
    assert mine is not None
    assert theirs is not None
    assert (mine.own, theirs.own) == (True, False)


def test_a_promise_without_its_proposal_is_broken() -> None:
    with pytest.raises(InvariantBroken):
        open_round(CONTEXT, Promise(Votes(H, 0, False, BLOCK.hash, None, None), []), None, 0, 0)


def test_entering_a_view_counts_the_failed_ones_up_to_a_limit() -> None:
    here = open_round(CONTEXT, VOTED, None, 1, 0)
    here.enter(3, Phase.CHANGING)
    assert (here.view, here.failures, here.proposal) == (3, 4, None)
    here.enter(2**62, Phase.CHANGING)
    assert here.failures == FAILURES_MAX


def test_blocks_are_found_in_the_promise_too() -> None:
    here = open_round(CONTEXT, promise_view_change(LOCKED, 1), None, 0, 0)
    assert here.find_block(BLOCK.hash) == BLOCK
    assert here.find_block(OTHER.hash) is None


def test_a_block_is_found_by_its_hash_wherever_it_is_known() -> None:
    here = open_round(CONTEXT, None, None, 0, 0)
    assert here.find_block(BLOCK.hash) is None
    here.proposal = Proposal(BLOCK, own=False)
    assert here.find_block(BLOCK.hash) == BLOCK
    assert here.find_block(OTHER.hash) is None
    here.book.add(sign_pre_prepare(KEYS[0], CHAIN, 0, OTHER, None))
    assert here.find_block(OTHER.hash) == OTHER
    promised = open_round(CONTEXT, promise_prepare(no_promise(CONTEXT.height), 0, OTHER), None, 0, 0)
    promised.proposal = None
    assert promised.find_block(OTHER.hash) == OTHER
    assert promised.find_block(BLOCK.hash) is None
