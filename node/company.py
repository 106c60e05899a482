"""How long a small block waits for company, from the end of the block before.

Blocks follow one another, and a transaction that comes while one is decided waits for the next. Whoever a block answers
often has something to submit at once, which would just miss the next block, and take part in every second one only. So
where little waits, a primary gives them a moment before it proposes: a quarter of what its last block took, within
bounds. Where much waits there is nothing to gain, and when nothing was decided just now, nobody was answered. A class
with a life on one event loop; times are seconds of its clock.
"""

from __future__ import annotations

from typing import Final

SHARE: Final = 0.25
WAIT_S_MIN: Final = 0.004
WAIT_S_MAX: Final = 0.02
"""The patience with a primary is thirty times as long."""
ENOUGH_TRANSACTIONS: Final = 64
"""A block with so many waits for nobody."""


class Company:
    """See the module."""

    def __init__(self) -> None:
        self._committed_s: float | None = None
        self._begun_s: float | None = None
        self._took_s = 0.0

    def begun(self, now_s: float) -> None:
        """A proposal of ours leaves."""
        self._begun_s = now_s

    def committed(self, now_s: float) -> None:
        """A block is durable, and its clients are answered."""
        if self._begun_s is not None:
            self._took_s = now_s - self._begun_s
        self._begun_s, self._committed_s = None, now_s

    def wait_s(self, now_s: float, transactions: int) -> float:
        """How long a proposal should wait from now on, with so many transactions at hand; 0 where it should not."""
        if self._committed_s is None or transactions >= ENOUGH_TRANSACTIONS:
            return 0.0
        due_s = self._committed_s + min(WAIT_S_MAX, max(WAIT_S_MIN, self._took_s * SHARE))
        return max(0.0, due_s - now_s)
