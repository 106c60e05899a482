"""What is said again is what was said, byte for byte, and contradicts nothing."""

from __future__ import annotations

import pytest

from consilium.consensus import speech
from consilium.consensus.messages import PrePrepare, ViewChange, encode_message, verify_message
from consilium.consensus.promise import (
    no_promise,
    promise_commit,
    promise_prepare,
    promise_view_change,
)
from consilium.consensus.round import open_round
from consilium.ledger.errors import InvariantBroken
from tests.unit.consensus.parts import BLOCK, CHAIN, CONTEXT, KEYS, VALIDATORS, prepared_certificate

H = CONTEXT.height
VOTED = promise_prepare(no_promise(H), 0, BLOCK)
LOCKED = promise_commit(VOTED, prepared_certificate(BLOCK, 0, [0, 1, 2]))


def kinds(promise: object, who: int = 1) -> list[str]:
    here = open_round(CONTEXT, promise, KEYS[who].public, 0, 0)  # type: ignore[arg-type]
    said = speech.everything(here, KEYS[who])
    for message in said:
        verify_message(message, CHAIN, VALIDATORS)
    return [type(message).__name__ for message in said]


def test_everything_that_was_promised_is_said() -> None:
    assert kinds(no_promise(H)) == []
    assert kinds(VOTED) == ["Prepare"]
    assert kinds(VOTED, who=0) == ["PrePrepare"]
    assert kinds(LOCKED) == ["Prepare", "Commit"]
    assert kinds(promise_view_change(LOCKED, 2)) == ["ViewChange"]
    assert kinds(promise_prepare(promise_view_change(LOCKED, 2), 2, BLOCK)) == ["ViewChange", "Prepare"]


def test_a_restarted_primary_of_a_later_view_says_a_prepare() -> None:
    assert kinds(promise_prepare(promise_view_change(VOTED, 1), 1, BLOCK), who=1) == ["ViewChange", "Prepare"]


def test_a_view_change_is_not_said_again_once_its_claim_is_outdated() -> None:
    """It would claim what was prepared in the view itself, and contradict the first one: found by the simulator's
    checker of evidence."""
    changed = promise_prepare(promise_view_change(LOCKED, 2), 2, BLOCK)
    sealed = promise_commit(changed, prepared_certificate(BLOCK, 2, [0, 1, 2]))
    assert kinds(sealed) == ["Prepare", "Commit"]


def test_the_claim_of_a_view_change_is_the_promises() -> None:
    here = open_round(CONTEXT, promise_view_change(LOCKED, 2), KEYS[1].public, 0, 0)
    (message,) = speech.everything(here, KEYS[1])
    assert isinstance(message, ViewChange)
    assert message.prepared is not None
    assert message.prepared.certificate == LOCKED.votes.prepared


def test_words_do_not_change() -> None:
    one = open_round(CONTEXT, LOCKED, KEYS[0].public, 0, 0)
    other = open_round(CONTEXT, LOCKED, KEYS[0].public, 3, 99)
    first = [encode_message(message) for message in speech.everything(one, KEYS[0])]
    assert first == [encode_message(message) for message in speech.everything(other, KEYS[0])]
    assert isinstance(speech.prepare(one, KEYS[0]), PrePrepare)


def test_nothing_is_said_of_a_view_that_was_entered_without_a_word() -> None:
    here = open_round(CONTEXT, VOTED, KEYS[1].public, 0, 0)
    here.view = 5
    assert speech.everything(here, KEYS[1]) == []


def test_a_vote_without_a_proposal_is_impossible() -> None:
    here = open_round(CONTEXT, None, KEYS[1].public, 0, 0)
    with pytest.raises(InvariantBroken):
        speech.prepare(here, KEYS[1])
