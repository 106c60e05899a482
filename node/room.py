"""The room of a batch or a block, while it is filled: bytes, transactions and weight, each bounded."""

from __future__ import annotations

from typing import Final

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
