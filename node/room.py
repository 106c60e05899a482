"""The room of a batch or a block, and how a block is filled: bytes, transactions and weight, each bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from consilium.ledger.batch import BATCH_TRANSACTIONS_MAX, VerifiedBatch
from consilium.ledger.block import BLOCK_BATCHES_MAX, BLOCK_PAYLOAD_BYTES_MAX
from consilium.ledger.weight import BLOCK_WEIGHT_MAX

PROPOSED_WEIGHT_MAX: Final = BLOCK_WEIGHT_MAX // 2
"""So much an honest primary proposes: what it costs fits into the patience of view 0, and state may still add to it."""


class Room:
    """What is left of each."""

    __slots__ = ("_bytes", "_transactions", "_weight")

    def __init__(self, bytes_max: int, transactions_max: int, weight_max: int) -> None:
        self._bytes = bytes_max
        self._transactions = transactions_max
        self._weight = weight_max

    def take(self, size: int, transactions: int, weight: int) -> bool:
        """Take so much of it. False, and nothing taken, where one of them is not left."""
        if size > self._bytes or transactions > self._transactions or weight > self._weight:
            return False
        self._bytes -= size
        self._transactions -= transactions
        self._weight -= weight
        return True


def filled_block(
    batches: Iterable[VerifiedBatch],
    weights: Mapping[bytes, int],
    led_at: Mapping[bytes, int],
    transactions_max: int,
) -> list[bytes]:
    """Digests for a block out of what waits, oldest first: each author's in order, authors in turn, within the limits
    of a block. At most so many transactions; a single batch may have more.

    The turns begin with the author that led a block whose weight was spent the longest ago, or never (`led_at`): what
    comes first is executed first, and the rest of such a block is postponed.
    """
    by_author: dict[bytes, deque[VerifiedBatch]] = {}
    for batch in batches:
        by_author.setdefault(batch.author, deque()).append(batch)
    if by_author:
        leader = min(by_author, key=lambda author: led_at.get(author, -1))
        by_author = {leader: by_author.pop(leader), **by_author}
    chosen: list[bytes] = []
    room = Room(BLOCK_PAYLOAD_BYTES_MAX, max(transactions_max, BATCH_TRANSACTIONS_MAX), PROPOSED_WEIGHT_MAX)
    turns = deque(by_author.values())
    while turns and len(chosen) < BLOCK_BATCHES_MAX:
        queue = turns.popleft()
        batch = queue.popleft()
        if not room.take(len(batch.raw), len(batch.transactions), weights[batch.digest]):
            continue  # this author's turn is over: its later batches must not overtake
        chosen.append(batch.digest)
        if queue:
            turns.append(queue)
    return chosen
