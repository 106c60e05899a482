"""Transactions on their way into a block: admitted, sealed into batches, held until decided.

The pool has two halves. *Pending*: transactions that this node admitted and has not sealed yet. *Batches*: sealed
batches, our own and our peers', by digest, each fully verified. Everything is bounded, and bounded per author, so that
one peer cannot fill the pool: what it adds beyond its share is refused, what others sealed stays.

A class with a life, and the only writer of that life is the event loop: nothing here blocks, and what costs
(verifying signatures) was done by the caller in a thread.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from consilium.ledger.batch import BATCH_BYTES_MAX, BATCH_TRANSACTIONS_MAX, VerifiedBatch, seal_batch
from consilium.ledger.block import BLOCK_BATCHES_MAX, BLOCK_PAYLOAD_BYTES_MAX, BLOCK_TRANSACTIONS_MAX
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import Transaction, Verified, check_time

BATCH_ENVELOPE_BYTES: Final = 512
"""Room for a batch's own fields and the lengths of its transactions' encodings."""
TRANSACTION_PREFIX_BYTES: Final = 5
WANTED_MAX: Final = 1_024
OVERDUE_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class MempoolLimits:
    """Bounds of the pool. `retry_after_ms` is the hint that goes with a refusal."""

    pending_transactions_max: int = 20_000
    pending_bytes_max: int = 32 * 1024 * 1024
    batches_per_author_max: int = 256
    batch_bytes_per_author_max: int = 32 * 1024 * 1024
    retry_after_ms: int = 250


def is_spent(batch: VerifiedBatch, tip_time_ms: int, seen: Container[bytes]) -> bool:
    """Whether executing the batch after the tip would do nothing: all of it was included before, or has expired."""
    return all(t.value.valid_until <= tip_time_ms or t.id in seen for t in batch.transactions)


class Mempool:
    """See the module. Times are block times in milliseconds; `height` is the tip's."""

    def __init__(self, key: SigningKey, chain_id: bytes, limits: MempoolLimits, first_sequence: int) -> None:
        self._key = key
        self._chain_id = chain_id
        self._limits = limits
        self._sequence = first_sequence
        self._pending: OrderedDict[bytes, Verified[Transaction]] = OrderedDict()
        self._pending_bytes = 0
        self._batches: OrderedDict[bytes, VerifiedBatch] = OrderedDict()
        self._arrived_at: dict[bytes, int] = {}
        self._known: dict[bytes, int] = {}
        """Of each transaction that is held: its valid_until, by id."""
        self._holders: dict[bytes, int] = {}
        """How many of pending and batches hold it, where it is more than one."""
        self._author_count: dict[bytes, int] = {}
        self._author_bytes: dict[bytes, int] = {}
        self._wanted: dict[bytes, int] = {}
        self._offered: dict[bytes, None] = {}

    # Admission

    def admit(self, transaction: Verified[Transaction], tip_time_ms: int) -> None:
        """Take a verified transaction in. Raises Refused: expired, too_far_ahead, duplicate, mempool.full."""
        check_time(transaction.value, tip_time_ms)
        if transaction.id in self._known:
            raise Refused("transaction.duplicate", "it is already on its way into a block")
        if (
            len(self._pending) >= self._limits.pending_transactions_max
            or self._pending_bytes + len(transaction.raw) > self._limits.pending_bytes_max
        ):
            raise Refused("mempool.full", f"{len(self._pending)} transactions are waiting")
        self._pending[transaction.id] = transaction
        self._pending_bytes += len(transaction.raw)
        self._hold(transaction)

    def seal(self, height: int, key_share_bytes: int = BATCH_BYTES_MAX) -> VerifiedBatch | None:
        """Seal the oldest pending transactions into a batch of our own, or None where there are none or our share of
        the pool is full."""
        if not self._pending or not self._has_room(self._key.public, 0):
            return None
        chosen: list[Verified[Transaction]] = []
        room = key_share_bytes - BATCH_ENVELOPE_BYTES
        for transaction in self._pending.values():
            room -= len(transaction.raw) + TRANSACTION_PREFIX_BYTES
            if room < 0 or len(chosen) == BATCH_TRANSACTIONS_MAX:
                break
            chosen.append(transaction)
        self._sequence += 1
        batch = seal_batch(self._key, self._chain_id, self._sequence, chosen)
        for transaction in chosen:
            self._drop_pending(transaction.id)
        self._add(batch, height)
        return batch

    # Batches

    def add_batch(self, batch: VerifiedBatch, height: int) -> bool:
        """Keep a peer's batch. False where it is known already. Raises Refused `mempool.author_full`.

        A batch that a proposal names is kept whatever its author's share: the proposal is bounded itself.
        """
        if batch.digest in self._batches:
            return False
        if batch.digest not in self._wanted and not self._has_room(batch.author, len(batch.raw)):
            raise Refused("mempool.author_full", f"{self._author_count[batch.author]} batches are waiting")
        self._add(batch, height)
        return True

    def may_add(self, author: bytes, batch_bytes: int) -> bool:
        """Whether a batch of this author would fit: asked before its signatures are verified."""
        return self._has_room(author, batch_bytes)

    def batch(self, digest: bytes) -> VerifiedBatch | None:
        """A batch that is held, or None."""
        return self._batches.get(digest)

    def missing(self, digests: Iterable[bytes]) -> list[bytes]:
        """Those of the digests that are not held."""
        return [digest for digest in digests if digest not in self._batches]

    def want(self, digests: Iterable[bytes]) -> None:
        """These are named by a proposal: their bytes are welcome from anybody."""
        for digest in digests:
            if digest in self._wanted or len(self._wanted) < WANTED_MAX:
                self._wanted[digest] = self._wanted.get(digest, -1) + 1

    def asked(self, digest: bytes) -> int:
        """How often the digest was wanted before."""
        return self._wanted.get(digest, 0)

    def is_wanted(self, digest: bytes) -> bool:
        """Whether a proposal waits for it."""
        return digest in self._wanted

    def nothing_wanted(self) -> None:
        """The height was decided: its proposals wait for nothing any more."""
        self._wanted.clear()

    def overdue(self) -> list[VerifiedBatch]:
        """Our own batches that were held for a tick or more: peers may have missed them. Each is given once a tick."""
        own = [b for b in self._batches.values() if b.author == self._key.public][:OVERDUE_MAX]
        due = [b for b in own if b.digest in self._offered]
        self._offered = {b.digest: None for b in own}
        return due

    def choose(self) -> list[bytes]:
        """Digests for the next block: oldest first, authors in turn, within the limits of a block."""
        by_author: dict[bytes, deque[VerifiedBatch]] = {}
        for batch in self._batches.values():
            by_author.setdefault(batch.author, deque()).append(batch)
        chosen: list[bytes] = []
        room_bytes, room_transactions = BLOCK_PAYLOAD_BYTES_MAX, BLOCK_TRANSACTIONS_MAX
        turns = deque(by_author.values())
        while turns and len(chosen) < BLOCK_BATCHES_MAX:
            queue = turns.popleft()
            batch = queue.popleft()
            if len(batch.raw) > room_bytes or len(batch.transactions) > room_transactions:
                continue  # this author's turn is over: its later batches must not overtake
            chosen.append(batch.digest)
            room_bytes -= len(batch.raw)
            room_transactions -= len(batch.transactions)
            if queue:
                turns.append(queue)
        return chosen

    def committed(
        self,
        batches: Sequence[bytes],
        transactions: Iterable[bytes],
        tip_time_ms: int,
        seen: Container[bytes],
    ) -> None:
        """A block was committed: forget its batches, what is pending of its transactions, and every other batch that
        can do nothing any more, because all it holds was included (`seen`) or has expired."""
        for digest in batches:
            self._drop_batch(digest)
        for identifier in transactions:
            self._drop_pending(identifier)
        for digest, batch in list(self._batches.items()):
            if is_spent(batch, tip_time_ms, seen):
                self._drop_batch(digest)

    def forget_expired(self, tip_time_ms: int) -> list[bytes]:
        """Drop pending transactions that can no longer be included. Returns their ids."""
        expired = [i for i, t in self._pending.items() if t.value.valid_until <= tip_time_ms]
        for identifier in expired:
            self._drop_pending(identifier)
        return expired

    def waiting_since(self, height: int, heights: int) -> bytes | None:
        """The digest of a batch that was held for so many heights without being decided, if there is one."""
        for digest, arrived in self._arrived_at.items():
            if height - arrived >= heights:
                return digest
        return None

    # Figures

    @property
    def has_work(self) -> bool:
        """Whether something waits to be decided."""
        return bool(self._batches)

    @property
    def pending_count(self) -> int:
        """Admitted and not sealed yet."""
        return len(self._pending)

    @property
    def batch_count(self) -> int:
        """Batches held, of all authors."""
        return len(self._batches)

    @property
    def transaction_count(self) -> int:
        """Distinct transactions held."""
        return len(self._known)

    @property
    def bytes_held(self) -> int:
        """Bytes of everything that waits."""
        return self._pending_bytes + sum(self._author_bytes.values())

    def knows(self, identifier: bytes) -> bool:
        """Whether a transaction with this id is pending or in a batch."""
        return identifier in self._known

    def valid_until(self, identifier: bytes) -> int | None:
        """The end of validity (block time, ms) of a transaction that is held, or None."""
        return self._known.get(identifier)

    # Inner book-keeping

    def _has_room(self, author: bytes, more_bytes: int) -> bool:
        return (
            self._author_count.get(author, 0) < self._limits.batches_per_author_max
            and self._author_bytes.get(author, 0) + more_bytes <= self._limits.batch_bytes_per_author_max
        )

    def _add(self, batch: VerifiedBatch, height: int) -> None:
        self._batches[batch.digest] = batch
        self._arrived_at[batch.digest] = height
        self._author_count[batch.author] = self._author_count.get(batch.author, 0) + 1
        self._author_bytes[batch.author] = self._author_bytes.get(batch.author, 0) + len(batch.raw)
        for transaction in batch.transactions:
            self._hold(transaction)

    def _drop_batch(self, digest: bytes) -> None:
        batch = self._batches.pop(digest, None)
        if batch is None:
            return
        del self._arrived_at[digest]
        self._author_count[batch.author] -= 1
        self._author_bytes[batch.author] -= len(batch.raw)
        for transaction in batch.transactions:
            self._release(transaction.id)

    def _drop_pending(self, identifier: bytes) -> None:
        transaction = self._pending.pop(identifier, None)
        if transaction is not None:
            self._pending_bytes -= len(transaction.raw)
            self._release(identifier)

    def _hold(self, transaction: Verified[Transaction]) -> None:
        if transaction.id in self._known:
            self._holders[transaction.id] = self._holders.get(transaction.id, 1) + 1
        else:
            self._known[transaction.id] = transaction.value.valid_until

    def _release(self, identifier: bytes) -> None:
        holders = self._holders.pop(identifier, 1)
        if holders == 1:
            self._known.pop(identifier, None)
        elif holders > 2:
            self._holders[identifier] = holders - 1
