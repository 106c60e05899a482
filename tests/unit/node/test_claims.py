"""Whom a node asks that catches up: in turn, patiently, and nobody who has just failed."""

from __future__ import annotations

import pytest

from consilium.node import claims
from consilium.node.claims import Claims
from tests.unit.node.harness import Harness


def of(harness: Harness, *tips: int, observer: bytes | None = None) -> Claims:
    """Claims of the validators, in their order, all connected."""
    executor = harness.executor()
    made = Claims(lambda: frozenset(made.peers), lambda: executor.context, observer)
    for key, tip in zip(harness.keys, tips, strict=False):
        made.hear(key.public, tip)
    return made


async def test_peers_are_asked_in_turn(four: Harness) -> None:
    made = of(four, 5, 5, 5)
    keys = [key.public for key in four.keys]
    assert [made.next_peer(5) for _ in range(6)] == keys[:3] * 2


async def test_nobody_is_asked_for_what_he_does_not_claim_or_is_asked_for_already(four: Harness) -> None:
    made = of(four, 5, 7, 7)
    keys = [key.public for key in four.keys]
    assert made.next_peer(6) == keys[1]
    assert made.next_peer(6, but={keys[1]: None}) == keys[2]
    assert made.next_peer(6, but=keys) is None
    assert made.next_peer(8) is None


async def test_who_fails_is_left_alone_and_loses_its_claim(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "FAILURE_PAUSE_S", 600.0)
    monkeypatch.setattr(claims, "FAILURE_PAUSE_MAX_S", 600.0)
    made = of(four, 2**60)
    liar = four.keys[0].public
    made.failed(liar, 3)
    assert made.best == 2
    made.hear(liar, 2**60)
    assert made.next_peer(3) is None
    monkeypatch.setattr(claims, "FAILURE_PAUSE_MAX_S", 0.0)
    made.failed(liar, 3)
    made.hear(liar, 2**60)
    assert made.next_peer(3) == liar


async def test_pauses_grow_and_end_with_success(four: Harness) -> None:
    made = of(four, 5)
    peer = four.keys[0].public
    for _ in range(2 * claims.FAILURES_MAX):
        made.failed(peer, 3)
    assert made.peers[peer].failures == claims.FAILURES_MAX
    made.succeeded(peer)
    assert made.peers[peer].failures == 0
    for unknown in (made.succeeded, lambda key: made.failed(key, 3)):
        unknown(b"u" * 32)


@pytest.mark.parametrize(
    ("tips", "corroborated"),
    [((), 0), ((9,), 0), ((2**60, 0, 0, 0), 0), ((2**60, 4), 4), ((2**60, 4, 5, 3), 5), ((7, 7, 7, 7), 7)],
)
def test_a_height_is_corroborated_that_one_more_validator_claims_than_may_lie(
    four: Harness, tips: tuple[int, ...], corroborated: int
) -> None:
    made = of(four, *tips)
    made.hear(b"no validator" + bytes(20), 2**60)
    assert made.corroborated == corroborated
