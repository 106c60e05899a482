"""Censorship is complained of once the primary was shown what it does not propose, and never before."""

from __future__ import annotations

import pytest

from consilium.consensus.context import HeightContext
from consilium.ledger.batch import VerifiedBatch
from consilium.node.complaints import PASS_ON_EVERY_HEIGHTS, PASS_ON_HEIGHTS, Complaints
from tests.unit.node.harness import Harness, HostedNode


class Waiting:
    """A node that holds batches which nobody proposes, and what it passes on."""

    def __init__(self, harness: Harness, index: int = 1) -> None:
        self.harness = harness
        self.node = HostedNode(harness, index)
        self.sent: list[tuple[bytes, bytes]] = []
        self.deaf: frozenset[bytes] = frozenset()
        self.complaints = Complaints(self.node.key.public, self.node.mempool, self._pass_on)

    def _pass_on(self, peer: bytes, raw: bytes) -> bool:
        if peer in self.deaf:
            return False
        self.sent.append((peer, raw))
        return True

    @property
    def context(self) -> HeightContext:
        return self.node.executor.context

    @property
    def primary(self) -> bytes:
        return self.context.primary(0)

    def hold(self, author: bytes | None = None) -> VerifiedBatch:
        """A batch of somebody who is neither this node nor, unless said so, the primary."""
        keys = [key.public for key in self.harness.keys]
        chosen = author or next(k for k in keys if k not in (self.node.key.public, self.primary))
        batch = self.harness.batch(
            [self.harness.transaction(self.harness.wallets[0])], author=keys.index(chosen)
        )
        self.node.mempool.add_batch(batch, self.context.height)
        return batch

    def decide(self, heights: int) -> None:
        """So many heights are decided without it."""
        for _ in range(heights):
            time_ms = self.node.executor.store.tip.time_ms + 1
            self.harness.commit(self.node.executor, time_ms=time_ms)

    def look(self) -> bytes | None:
        return self.complaints.look(self.context)


@pytest.fixture
def waiting(four: Harness) -> Waiting:
    """Seen from a node that is not the first primary."""
    found = Waiting(four)
    assert found.primary != found.node.key.public
    return found


def test_a_primary_is_shown_what_waits_before_it_is_complained_of(waiting: Waiting) -> None:
    """The author gave it to some, and not to the primary: an honest primary proposes it now."""
    batch = waiting.hold()
    waiting.decide(PASS_ON_HEIGHTS - 1)
    assert waiting.look() is None
    assert waiting.sent == []
    waiting.decide(1)
    assert waiting.look() is None
    assert waiting.sent == [(waiting.primary, batch.raw)]
    waiting.decide(PASS_ON_HEIGHTS - 1)
    assert waiting.look() is None


def test_a_primary_that_had_it_for_long_is_complained_of(
    waiting: Waiting,
) -> None:
    batch = waiting.hold()
    for _ in range(2):
        waiting.decide(PASS_ON_HEIGHTS)
        complaint = waiting.look()
    assert complaint == batch.digest
    assert waiting.sent == [(waiting.primary, batch.raw)]  # the next one is this node itself
    assert waiting.look() == batch.digest
    waiting.node.mempool.committed([batch.digest], [], waiting.context.height, 0, frozenset())
    assert waiting.look() is None


def test_with_a_complaint_the_successor_is_shown_what_waits(four: Harness) -> None:
    waiting = Waiting(four, 2)
    batch = waiting.hold(author=four.keys[3].public)
    for _ in range(2):
        waiting.decide(PASS_ON_HEIGHTS)
        waiting.look()
    successor = waiting.context.primary(1)
    assert successor not in (waiting.node.key.public, batch.author)
    assert waiting.sent == [(waiting.primary, batch.raw), (successor, batch.raw)]


def test_a_primary_that_could_not_be_shown_it_is_not_complained_of(waiting: Waiting) -> None:
    waiting.hold()
    waiting.deaf = frozenset({waiting.primary})
    for _ in range(3):
        waiting.decide(PASS_ON_HEIGHTS)
        assert waiting.look() is None


def test_the_primarys_own_batch_need_not_be_shown_to_it(waiting: Waiting) -> None:
    batch = waiting.hold(author=waiting.primary)
    waiting.decide(PASS_ON_HEIGHTS)
    assert waiting.look() is None
    waiting.decide(PASS_ON_HEIGHTS)
    assert waiting.look() == batch.digest
    assert waiting.primary not in [peer for peer, _ in waiting.sent]


def test_a_primary_is_shown_one_batch_at_a_time(waiting: Waiting) -> None:
    first = waiting.hold()
    second = waiting.hold()
    waiting.decide(PASS_ON_HEIGHTS)
    waiting.look()
    waiting.node.mempool.committed([first.digest], [], 0, 0, frozenset())
    waiting.look()
    assert [raw for _, raw in waiting.sent] == [first.raw]
    waiting.decide(max(PASS_ON_EVERY_HEIGHTS, PASS_ON_HEIGHTS))
    waiting.look()
    assert [raw for _, raw in waiting.sent] == [first.raw, second.raw]
