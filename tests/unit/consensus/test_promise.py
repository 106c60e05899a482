"""The promise: it is kept whole, and it cannot be broken by anything that calls it."""

from __future__ import annotations

import pytest

from consilium.consensus.messages import PreparedCertificate
from consilium.consensus.promise import (
    PROMISE_BYTES_MAX,
    VOTES_BYTES_MAX,
    Promise,
    Votes,
    decode_votes,
    no_promise,
    promise_commit,
    promise_prepare,
    promise_view_change,
)
from consilium.ledger import codec
from consilium.ledger.block import Seal
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.validators import VALIDATORS_MAX
from tests.unit.consensus.parts import BLOCK, OTHER, prepared_certificate

H = BLOCK.height
CERTIFICATE = prepared_certificate(BLOCK, 0, [0, 1, 2])


def test_prepare_then_commit() -> None:
    first = promise_prepare(no_promise(H), 0, BLOCK)
    assert first.votes == Votes(H, 0, False, BLOCK.hash, None, None)
    assert first.proposals == [BLOCK]
    second = promise_commit(first, CERTIFICATE)
    assert second.votes == Votes(H, 0, False, BLOCK.hash, BLOCK.hash, CERTIFICATE)
    assert second.proposals == [BLOCK]
    assert second.prepared is not None
    assert second.prepared.block == BLOCK


def test_a_second_prepare_in_a_view_is_refused_even_for_the_same_block() -> None:
    first = promise_prepare(no_promise(H), 0, BLOCK)
    for block in (BLOCK, OTHER):
        with pytest.raises(InvariantBroken):
            promise_prepare(first, 0, block)


def test_a_prepare_in_a_view_that_was_left_is_refused() -> None:
    left = promise_view_change(no_promise(H), 2)
    for view in (0, 1):
        with pytest.raises(InvariantBroken):
            promise_prepare(left, view, BLOCK)
    assert promise_prepare(left, 2, BLOCK).votes.changed


def test_a_commit_must_be_for_the_prepared_block_of_the_same_view() -> None:
    first = promise_prepare(no_promise(H), 0, BLOCK)
    for wrong in (prepared_certificate(OTHER, 0, [0, 1, 2]), prepared_certificate(BLOCK, 1, [0, 1, 2])):
        with pytest.raises(InvariantBroken):
            promise_commit(first, wrong)
    with pytest.raises(InvariantBroken):
        promise_commit(no_promise(H), CERTIFICATE)
    with pytest.raises(InvariantBroken):
        promise_commit(promise_commit(first, CERTIFICATE), CERTIFICATE)


def test_no_commit_after_the_view_was_left() -> None:
    left = promise_view_change(promise_prepare(no_promise(H), 0, BLOCK), 1)
    with pytest.raises(InvariantBroken):
        promise_commit(left, CERTIFICATE)


def test_views_only_rise() -> None:
    left = promise_view_change(no_promise(H), 3)
    for view in (0, 2, 3):
        with pytest.raises(InvariantBroken):
            promise_view_change(left, view)
    assert promise_view_change(left, 4).votes.view == 4


def test_what_was_prepared_survives_everything_until_something_higher_is() -> None:
    locked = promise_commit(promise_prepare(no_promise(H), 0, BLOCK), CERTIFICATE)
    left = promise_view_change(locked, 1)
    assert left.votes.prepared == CERTIFICATE
    assert left.proposals == [BLOCK]
    other = promise_prepare(left, 1, OTHER)
    assert other.votes.prepared == CERTIFICATE
    assert other.proposals == [OTHER, BLOCK]
    again = promise_view_change(other, 2)
    assert again.proposals == [BLOCK]
    higher = prepared_certificate(OTHER, 1, [0, 1, 3])
    moved = promise_commit(other, higher)
    assert moved.votes.prepared == higher
    assert moved.proposals == [OTHER]


def test_a_prepare_in_a_later_view_forgets_the_votes_of_the_earlier() -> None:
    first = promise_commit(promise_prepare(no_promise(H), 0, BLOCK), CERTIFICATE)
    later = promise_prepare(first, 4, OTHER)
    assert later.votes == Votes(H, 4, False, OTHER.hash, None, CERTIFICATE)


def test_a_promise_travels_through_bytes() -> None:
    promise = promise_commit(promise_prepare(no_promise(H), 0, BLOCK), CERTIFICATE)
    assert codec.decode(codec.encode(promise), Promise, PROMISE_BYTES_MAX) == promise
    assert decode_votes(codec.encode(promise.votes)) == promise.votes
    with pytest.raises(Refused):
        decode_votes(codec.encode(promise.votes)[:-1])


def test_the_largest_votes_fit() -> None:
    big = 2**63 - 1
    seals = [Seal(index, bytes(64)) for index in range(VALIDATORS_MAX)]
    votes = Votes(big, big, True, bytes(32), bytes(32), PreparedCertificate(big, bytes(32), seals))
    assert len(codec.encode(votes)) <= VOTES_BYTES_MAX


def test_a_promise_without_its_prepared_block_is_broken() -> None:
    with pytest.raises(InvariantBroken):
        _ = Promise(Votes(H, 0, False, BLOCK.hash, BLOCK.hash, CERTIFICATE), []).prepared
