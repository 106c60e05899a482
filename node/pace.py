"""How much a block should hold here: as much as is committed in good time.

Blocks follow one another: while one is executed and written, nothing is decided, and whoever is done first starts the
timer of the next height. A block that takes this machine longer than that patience makes the others change the view,
however honest everybody is. So a primary proposes what it can itself commit within `TARGET_S`, from how long its last
blocks took. Large blocks save little beyond that: votes and syncs are a few milliseconds for each.

It counts transactions, and so rules blocks of light ones: of heavy ones their weight leaves room for few (`room`).
After a block of heavy ones the next are smaller than they need be, until some dozen have said what light ones cost.
"""

from __future__ import annotations

from typing import Final

from consilium.ledger.block import BLOCK_TRANSACTIONS_MAX

TARGET_S: Final = 0.2
"""A third of the default patience with a primary."""
TRANSACTIONS_MIN: Final = 128
COUNTS_FROM: Final = 32
"""Blocks with fewer transactions say little about what one costs."""
MEMORY: Final = 4
"""The last so many blocks weigh most."""


class Pace:
    """See the module."""

    def __init__(self) -> None:
        self._each_s: float | None = None

    def committed(self, transactions: int, seconds: float) -> None:
        """A block with so many transactions took so long to execute and write."""
        if transactions < COUNTS_FROM:
            return
        each_s = seconds / transactions
        known_s = self._each_s if self._each_s is not None else each_s
        self._each_s = known_s + (each_s - known_s) / MEMORY

    @property
    def transactions_max(self) -> int:
        """How many transactions the next block should have at most."""
        if not self._each_s:
            return BLOCK_TRANSACTIONS_MAX
        return max(TRANSACTIONS_MIN, min(BLOCK_TRANSACTIONS_MAX, int(TARGET_S / self._each_s)))
