"""Peers at other heights: answers and questions are few, memory is bounded."""

from __future__ import annotations

from consilium.consensus.io import CatchUp, Now, SendDecided
from consilium.consensus.limits import (
    ANSWER_EVERY_MS,
    CATCH_UP_EVERY_MS,
    FUTURE_PER_VALIDATOR_MAX,
    PEERS_MAX,
)
from consilium.consensus.messages import VerifiedMessage, sign_prepare, verify_message
from consilium.consensus.neighbours import Neighbours
from tests.unit.consensus.parts import BLOCK, CHAIN, KEYS, VALIDATORS

H = BLOCK.height


def at(ms: int) -> Now:
    return Now(ms, 0)


def prepare(key: int, view: int) -> VerifiedMessage:
    return verify_message(sign_prepare(KEYS[key], CHAIN, H, view, BLOCK.hash), CHAIN, VALIDATORS)


def test_a_lagging_peer_is_answered_now_and_then() -> None:
    neighbours = Neighbours()
    assert neighbours.behind(b"a", 3, at(0)) == [SendDecided(b"a", 3)]
    assert neighbours.behind(b"a", 3, at(ANSWER_EVERY_MS - 1)) == []
    assert neighbours.behind(b"b", 3, at(1)) == [SendDecided(b"b", 3)]
    assert neighbours.behind(b"a", 4, at(ANSWER_EVERY_MS)) == [SendDecided(b"a", 4)]


def test_peers_ahead_are_asked_in_turn_whatever_they_boast() -> None:
    neighbours = Neighbours()
    neighbours.ahead(b"liar", 10**9)
    neighbours.ahead(b"honest", 5)
    asked = []
    for turn in range(4):
        asked += neighbours.catch_up(3, 3, at(turn * CATCH_UP_EVERY_MS))
        neighbours.ahead(b"liar", 10**9)
        neighbours.ahead(b"honest", 5)
    assert asked == [CatchUp(3, peer) for peer in (b"liar", b"honest", b"liar", b"honest")]


def test_catching_up_is_asked_for_seldom_and_only_beyond() -> None:
    neighbours = Neighbours()
    neighbours.ahead(b"a", 4)
    assert neighbours.catch_up(3, 4, at(0)) == []
    assert neighbours.catch_up(3, 3, at(0)) == [CatchUp(3, b"a")]
    neighbours.ahead(b"a", 9)
    assert neighbours.catch_up(3, 3, at(CATCH_UP_EVERY_MS - 1)) == []
    assert neighbours.any_ahead()
    neighbours.advance(9, VALIDATORS.hash)
    assert not neighbours.any_ahead()


def test_peers_are_bounded() -> None:
    neighbours = Neighbours()
    for number in range(3 * PEERS_MAX):
        peer = number.to_bytes(4, "big")
        neighbours.ahead(peer, 9)
        neighbours.behind(peer, 1, at(number))
    assert len(neighbours._ahead) == PEERS_MAX
    assert len(neighbours._answered) == PEERS_MAX


def test_the_near_future_is_kept_within_limits_and_given_back() -> None:
    neighbours = Neighbours()
    for view in range(100):
        neighbours.keep(KEYS[0].public, prepare(0, view))
    neighbours.keep(KEYS[1].public, prepare(1, 0))
    kept = neighbours.advance(H, VALIDATORS.hash)
    assert len(kept) == FUTURE_PER_VALIDATOR_MAX + 1
    assert neighbours.advance(H, VALIDATORS.hash) == []


def test_what_was_verified_with_another_set_or_is_of_another_height_is_forgotten() -> None:
    neighbours = Neighbours()
    neighbours.keep(KEYS[0].public, prepare(0, 0))
    assert neighbours.advance(H, bytes(32)) == []
    neighbours.keep(KEYS[0].public, prepare(0, 0))
    assert neighbours.advance(H + 1, VALIDATORS.hash) == []
