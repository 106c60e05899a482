"""Who waits for which transaction: told by commits, from memory, in the moment in which the block is durable.

A taker is told once: where the transaction is and what became of it, or the code that says why it can no longer get a
place. Bounded; what nobody waits for costs a commit nothing. Lives on one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from consilium.client.rpc_answers import Committed
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import LEAF_BYTES_MAX, POSTPONED, ReceiptLeaf
from consilium.node.dispatch import BUSY_RETRY_MS, Busy
from consilium.node.executor import Commit

WAITING_MAX: Final = 40_000
"""Transactions that clients wait for at a time."""
SAID_MAX: Final = 1_024
"""Refusals whose words are known still: a client asks for them at once, or never."""
EXPIRY_LOOK_MS: Final = 1_000
"""So often, in block time, those that wait are looked through for what can no longer be included."""

Taker = Callable[[bytes, Committed | str], None]


class _Entry:
    """`until` is the end of the transaction's validity, None where it is not known here."""

    __slots__ = ("takers", "until")

    def __init__(self, until: int | None) -> None:
        self.until = until
        self.takers: list[Taker] = []


class Waiting:
    """See the module."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._looked_ms = 0
        self._closed: str | None = None
        self._said: dict[bytes, str] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, transaction: bytes, until: int | None, take: Taker) -> None:
        """Have `take` told. Raises Refused `rpc.busy`, and the code of `close`."""
        if self._closed is not None:
            raise Refused(self._closed)
        entry = self._entries.get(transaction)
        if entry is None:
            if len(self._entries) >= WAITING_MAX:
                raise Busy("rpc.busy", "too many clients wait for transactions", BUSY_RETRY_MS)
            entry = self._entries[transaction] = _Entry(until)
        entry.takers.append(take)

    def drop(self, transaction: bytes, take: Taker) -> None:
        """The taker waits no longer; nothing where it was told already."""
        entry = self._entries.get(transaction)
        if entry is not None and take in entry.takers:
            entry.takers.remove(take)
            if not entry.takers:
                del self._entries[transaction]

    def said(self, transaction: bytes) -> str:
        """What a contract said when it refused the transaction, if that was of late."""
        return self._said.get(transaction, "")

    def committed(self, commit: Commit) -> None:
        """Tell whoever waits for something that the block decided, or that expired with its time."""
        self._said.update((refused, refusal.detail) for refused, refusal in commit.outcome.refusals)
        while len(self._said) > SAID_MAX:
            del self._said[next(iter(self._said))]
        entries = self._entries
        if not entries:
            return
        height, time_ms, outcome = commit.block.height, commit.block.header.time_ms, commit.outcome
        for index, (transaction, raw) in enumerate(zip(outcome.transactions, outcome.leaves, strict=True)):
            if transaction.id in entries:
                leaf = codec.decode(raw, ReceiptLeaf, LEAF_BYTES_MAX)
                found = Committed(
                    transaction.id, height, index, time_ms, leaf, False, self.said(transaction.id)
                )
                self._tell(transaction.id, found)
        for skipped, code in outcome.skipped:
            if code not in ("transaction.duplicate", POSTPONED):
                self._tell(skipped, code)
        if time_ms >= self._looked_ms + EXPIRY_LOOK_MS:
            self._looked_ms = time_ms
            for identifier, entry in list(entries.items()):
                if entry.until is not None and entry.until <= time_ms:
                    self._tell(identifier, "transaction.expired")

    def close(self, code: str) -> None:
        """Nothing will be decided here any more: tell everybody this code, and whoever still comes."""
        self._closed = code
        for identifier in list(self._entries):
            self._tell(identifier, code)

    def _tell(self, transaction: bytes, became: Committed | str) -> None:
        entry = self._entries.pop(transaction, None)
        if entry is not None:
            for take in entry.takers:
                take(transaction, became)


class Gathering:
    """A taker for many transactions: `done` once none of them is `missing`; `found` are those that got a place."""

    __slots__ = ("done", "found", "missing")

    def __init__(self) -> None:
        self.missing: dict[bytes, None] = {}
        self.found: dict[bytes, Committed] = {}
        self.done = asyncio.Event()

    def take(self, transaction: bytes, became: Committed | str) -> None:
        """One of them was decided, or never will be."""
        self.missing.pop(transaction, None)
        if isinstance(became, Committed):
            self.found[transaction] = became
        if not self.missing:
            self.done.set()
