"""How long transactions take at this node: from their admission here to the moment in which their block is durable.

Bounded: the oldest are forgotten where many never come to a block, and of one block only so many are observed. A class
with a life on one event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

REMEMBERED_MAX: Final = 65_536
OBSERVED_PER_BLOCK_MAX: Final = 256
"""Observing costs a microsecond or two, on the event loop; so many of a block show how the rest went."""


class Latency:
    """`observe` is given seconds. `clock_s` is monotonic."""

    def __init__(
        self, observe: Callable[[float], None], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._observe = observe
        self._clock_s = clock_s
        self._admitted_s: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._admitted_s)

    def admitted(self, transaction: bytes) -> None:
        """A transaction was taken in here."""
        if len(self._admitted_s) >= REMEMBERED_MAX:
            del self._admitted_s[next(iter(self._admitted_s))]
        self._admitted_s[transaction] = self._clock_s()

    def committed(self, transactions: Iterable[bytes]) -> None:
        """A block with these is durable."""
        now_s = self._clock_s()
        observed = 0
        for transaction in transactions:
            since_s = self._admitted_s.pop(transaction, None)
            if since_s is not None and observed < OBSERVED_PER_BLOCK_MAX:
                observed += 1
                self._observe(now_s - since_s)
