"""Transactions on their way into a block: admitted, sealed into batches, held until decided.

The pool has two halves. *Pending*: transactions that this node admitted and has not sealed yet. *Batches*: sealed
batches, our own and our peers', by digest, each fully verified. Everything is bounded, and bounded per author, so that
one peer cannot fill the pool: what it adds beyond its share is refused, what others sealed stays. A batch beyond its
author's share that a proposal names is a *guest*: kept while the height is open, and gone with it unless decided.

A class with a life, and the only writer of that life is the event loop: nothing here blocks, and what costs
(verifying signatures) was done before, off the event loop.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from consilium.ledger.batch import BATCH_BYTES_MAX, BATCH_TRANSACTIONS_MAX, VerifiedBatch, seal_batch
from consilium.ledger.block import BLOCK_TRANSACTIONS_MAX
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import Transaction, Verified, check_time
from consilium.ledger.weight import BATCH_WEIGHT_MAX, Weigh, batch_weight, require_light
from consilium.ledger.weight import transaction_weight as weight_of
from consilium.node.room import Room, filled_block

BATCH_ENVELOPE_BYTES: Final = 512
"""Room for a batch's own fields and the lengths of its transactions' encodings."""
TRANSACTION_PREFIX_BYTES: Final = 5
WANTED_MAX: Final = 1_024
"""So many digests are asked for at a time; beyond it the oldest wish is given up."""
WANTED_BEFORE_MAX: Final = 4_096
"""So many digests are remembered as asked for at an earlier height: an answer that comes late is nobody's fault."""
LEADERS_MAX: Final = 1_024
"""Of so many authors it is remembered when they led a full block: more than a set of validators has."""
OVERDUE_MAX: Final = 16
OVERDUE_TICKS: Final = 4
SEALED_AHEAD_MAX: Final = 2_048
"""So many transactions of our own, sealed and undecided, are enough for the next blocks. What is sealed every validator
checks at once: without this bound a flood is checked everywhere before any of it is decided. The rest stays pending,
where it is bounded, and refused beyond."""


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

    def __init__(
        self, key: SigningKey, chain_id: bytes, limits: MempoolLimits, first_sequence: int, weigh: Weigh
    ) -> None:
        self._weigh = weigh
        self._key = key
        self._chain_id = chain_id
        self._limits = limits
        self._sequence = first_sequence
        self._pending: OrderedDict[bytes, Verified[Transaction]] = OrderedDict()
        self._pending_bytes = 0
        self._batches: OrderedDict[bytes, VerifiedBatch] = OrderedDict()
        self._weights: dict[bytes, int] = {}
        self._arrived_at: dict[bytes, int] = {}
        self._known: dict[bytes, int] = {}
        """Of each transaction that is held: its valid_until, by id."""
        self._holders: dict[bytes, int] = {}
        """How many of pending and batches hold it, where it is more than one."""
        self._author_count: dict[bytes, int] = {}
        self._author_bytes: dict[bytes, int] = {}
        self._wanted: OrderedDict[bytes, int] = OrderedDict()
        self._wanted_before: OrderedDict[bytes, None] = OrderedDict()
        self._guests: dict[bytes, None] = {}
        self._pinned: dict[bytes, VerifiedBatch] = {}
        self._pinned_height = 0
        self._offered: dict[bytes, int] = {}
        """Of our own oldest batches: how many ticks each has been held."""
        self._served_at: dict[bytes, int] = {}
        """Of each author with batches here: the height at which its oldest one last went."""
        self._led_at: dict[bytes, int] = {}
        """Of the last authors who led a block whose weight was spent: its block time, ms."""

    # Admission

    def admit(self, transaction: Verified[Transaction], tip_time_ms: int, *, again: bool = False) -> None:
        """Take a verified transaction in; `again` though a batch has it: others may let theirs rest. Raises Refused:
        expired, too_far_ahead, duplicate, too_heavy, mempool.full."""
        check_time(transaction.value, tip_time_ms)
        require_light(weight_of(transaction.value, self._weigh))
        if transaction.id in (self._pending if again else self._known):
            raise Refused("transaction.duplicate", "it is already on its way into a block")
        if (
            len(self._pending) >= self._limits.pending_transactions_max
            or self._pending_bytes + len(transaction.raw) > self._limits.pending_bytes_max
        ):
            raise Refused("mempool.full", f"{len(self._pending)} transactions are waiting")
        self._pending[transaction.id] = transaction
        self._pending_bytes += len(transaction.raw)
        self._hold(transaction)

    def seal(self, height: int) -> VerifiedBatch | None:
        """Seal the oldest pending transactions into a batch of our own, or None where there are none, our share of the
        pool is full, or enough of our own wait for blocks already."""
        if not self._pending or not self._has_room(self._key.public, 0):
            return None
        if self._sealed_ahead() >= SEALED_AHEAD_MAX:
            return None
        chosen: list[Verified[Transaction]] = []
        total = 0
        room = Room(BATCH_BYTES_MAX - BATCH_ENVELOPE_BYTES, BATCH_TRANSACTIONS_MAX, BATCH_WEIGHT_MAX)
        for transaction in self._pending.values():
            weight = weight_of(transaction.value, self._weigh)
            if not room.take(len(transaction.raw) + TRANSACTION_PREFIX_BYTES, 1, weight):
                break
            chosen.append(transaction)
            total += weight
        self._sequence += 1
        batch = seal_batch(self._key, self._chain_id, self._sequence, chosen)
        for transaction in chosen:
            self._drop_pending(transaction.id)
        self._add(batch, height, total)
        return batch

    # Batches

    def add_batch(self, batch: VerifiedBatch, height: int, *, first: bool = False) -> bool:
        """Keep a peer's batch, `first` before all others. False where it is known already. Raises Refused
        `batch.too_heavy`, `mempool.author_full`.

        A batch that a proposal names is kept whatever its author's share: the proposal is bounded itself.
        """
        if batch.digest in self._batches:
            return False
        if (weight := batch_weight(batch.transactions, self._weigh)) > BATCH_WEIGHT_MAX:
            raise Refused("batch.too_heavy", f"{weight}; the limit is {BATCH_WEIGHT_MAX}")
        if not self._has_room(batch.author, len(batch.raw)):
            if batch.digest not in self._wanted:
                count = self._author_count.get(batch.author, 0)
                raise Refused("mempool.author_full", f"{count} batches are waiting")
            self._guests[batch.digest] = None
        self._add(batch, height, weight)
        if first:
            self._batches.move_to_end(batch.digest, last=False)
        return True

    def make_room(self, author: bytes, batch_bytes: int, parts: int = 1) -> None:
        """Drop the newest batches of a peer, until another fits that waited elsewhere for longer."""
        own = [d for d, b in self._batches.items() if b.author == author and d not in self._wanted]
        while own and author != self.key and not self._has_room(author, batch_bytes, parts):
            self._drop_batch(own.pop())

    def may_add(self, author: bytes, batch_bytes: int, parts: int = 1) -> bool:
        """Whether a batch of this author would fit: asked before its signatures are verified. The author's share is
        one of so many `parts` of a full one."""
        return self._has_room(author, batch_bytes, parts)

    def pin(self, batches: Iterable[VerifiedBatch], height: int) -> None:
        """Keep the batches of a promised proposal at hand until `height` is committed, whatever becomes of the pool.

        They are not offered to a block: the proposal is.
        """
        self._pinned = {batch.digest: batch for batch in batches}
        self._pinned_height = height

    def batch(self, digest: bytes) -> VerifiedBatch | None:
        """A batch that is held, or None."""
        return self._batches.get(digest) or self._pinned.get(digest)

    def weight(self, batch: VerifiedBatch) -> int:
        """What executing a batch costs, before state adds anything; remembered of what is in the pool."""
        known = self._weights.get(batch.digest)
        return known if known is not None else batch_weight(batch.transactions, self._weigh)

    def holds(self, raw: bytes) -> bool:
        """Whether a batch with these very bytes is held. Compares, and hashes nothing."""
        return any(batch.raw == raw for batch in self._batches.values())

    def missing(self, digests: Iterable[bytes]) -> list[bytes]:
        """Those of the digests that are not held."""
        return [digest for digest in digests if digest not in self._batches and digest not in self._pinned]

    def want(self, digests: Iterable[bytes]) -> None:
        """These are named by a proposal: their bytes are welcome from anybody."""
        for digest in digests:
            self._wanted[digest] = self._wanted.pop(digest, -1) + 1
            if len(self._wanted) > WANTED_MAX:
                self._unwant(next(iter(self._wanted)))

    def unwant(self, digests: Iterable[bytes]) -> None:
        """The proposal that named these is given up."""
        for digest in digests:
            self._unwant(digest)

    def asked(self, digest: bytes) -> int:
        """How often the digest was wanted before."""
        return self._wanted.get(digest, 0)

    def is_wanted(self, digest: bytes) -> bool:
        """Whether a proposal waits for it."""
        return digest in self._wanted

    def was_wanted(self, digest: bytes) -> bool:
        """Whether a proposal waited for it not long ago: whoever answers now is late, and no more."""
        return digest in self._wanted_before

    def overdue(self) -> list[VerifiedBatch]:
        """Our own batches that peers may have missed: held for four ticks, then eight, sixteen, … Asked once a tick.
        Under load a batch waits for a second or two, and is no sooner decided for being sent again."""
        own = [b for b in self._batches.values() if b.author == self._key.public][:OVERDUE_MAX]
        ticks: dict[bytes, int] = {b.digest: self._offered.get(b.digest, -1) + 1 for b in own}
        self._offered = ticks
        return [b for b in own if (held := ticks[b.digest]) >= OVERDUE_TICKS and held & (held - 1) == 0]

    def choose(self, transactions_max: int = BLOCK_TRANSACTIONS_MAX) -> list[bytes]:
        """Digests for the next block (`room.filled_block`)."""
        return filled_block(self._batches.values(), self._weights, self._led_at, transactions_max)

    def committed(
        self,
        batches: Sequence[bytes],
        transactions: Iterable[bytes],
        height: int,
        tip_time_ms: int,
        seen: Container[bytes],
    ) -> None:
        """The block of `height` was committed: forget its batches, what is pending of its transactions, guests, what
        proposals waited for, and every other batch that can do nothing any more, because all it holds was included
        (`seen`) or has expired."""
        oldest = self._oldest()
        for digest in batches:
            self._drop_batch(digest)
        for identifier in transactions:
            self._drop_pending(identifier)
        for digest, batch in list(self._batches.items()):
            if digest in self._guests or is_spent(batch, tip_time_ms, seen):
                self._drop_batch(digest)
        for author, digest in oldest.items():
            if digest not in self._batches and author in self._author_count:
                self._served_at[author] = height
        for digest in list(self._wanted):
            self._unwant(digest)
        if height >= self._pinned_height:
            self._pinned = {}

    def take_back(
        self, batches: Sequence[VerifiedBatch], postponed: Collection[bytes], tip_time_ms: int
    ) -> None:
        """Of what was sealed here and decided, take these transactions in again, before what came since: their block
        had no weight left. Who led it has had its turn."""
        if batches and postponed:
            self._led_at.pop(batches[0].author, None)
            self._led_at[batches[0].author] = tip_time_ms
            if len(self._led_at) > LEADERS_MAX:
                del self._led_at[next(iter(self._led_at))]
        for batch in reversed(batches):
            for transaction in reversed(batch.transactions) if batch.author == self._key.public else ():
                if transaction.id in postponed:
                    with contextlib.suppress(Refused):  # expired, or as any other that finds the pool full
                        self.admit(transaction, tip_time_ms, again=True)
                        self._pending.move_to_end(transaction.id, last=False)

    def forget_expired(self, tip_time_ms: int) -> list[bytes]:
        """Drop pending transactions that can no longer be included. Returns their ids."""
        expired = [i for i, t in self._pending.items() if t.value.valid_until <= tip_time_ms]
        for identifier in expired:
            self._drop_pending(identifier)
        return expired

    def waiting_since(self, height: int, heights: int) -> bytes | None:
        """The digest of a batch that primaries pass over, if there is one: the oldest of its author here, and for so
        many heights neither decided itself nor waiting behind another that was. A long queue is no censorship."""
        for author, digest in self._oldest().items():
            if height - max(self._arrived_at[digest], self._served_at.get(author, 0)) >= heights:
                return digest
        return None

    # Figures

    @property
    def key(self) -> bytes:
        """Whose batches are sealed here."""
        return self._key.public

    @property
    def has_work(self) -> bool:
        """Whether something waits to be decided."""
        return bool(self._batches)

    @property
    def room(self) -> int:
        """How many more transactions may be admitted."""
        return max(0, self._limits.pending_transactions_max - len(self._pending))

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

    def _oldest(self) -> dict[bytes, bytes]:
        """Of each author, the batch that was here first."""
        oldest: dict[bytes, bytes] = {}
        for digest, batch in self._batches.items():
            oldest.setdefault(batch.author, digest)
        return oldest

    def _unwant(self, digest: bytes) -> None:
        if self._wanted.pop(digest, None) is None:
            return
        self._wanted_before[digest] = None
        if len(self._wanted_before) > WANTED_BEFORE_MAX:
            self._wanted_before.popitem(last=False)

    def _sealed_ahead(self) -> int:
        return sum(len(batch.transactions) for batch in self._batches.values() if batch.author == self.key)

    def _has_room(self, author: bytes, more_bytes: int, parts: int = 1) -> bool:
        count_max = max(1, self._limits.batches_per_author_max // parts)
        bytes_max = self._limits.batch_bytes_per_author_max // parts
        known_bytes = self._author_bytes.get(author, 0)
        return self._author_count.get(author, 0) < count_max and known_bytes + more_bytes <= bytes_max

    def _add(self, batch: VerifiedBatch, height: int, weight: int) -> None:
        self._batches[batch.digest] = batch
        self._weights[batch.digest] = weight
        self._arrived_at[batch.digest] = height
        self._author_count[batch.author] = self._author_count.get(batch.author, 0) + 1
        self._author_bytes[batch.author] = self._author_bytes.get(batch.author, 0) + len(batch.raw)
        for transaction in batch.transactions:
            self._hold(transaction)

    def _drop_batch(self, digest: bytes) -> None:
        batch = self._batches.pop(digest, None)
        if batch is None:
            return
        del self._arrived_at[digest], self._weights[digest]
        self._guests.pop(digest, None)
        self._author_count[batch.author] -= 1
        self._author_bytes[batch.author] -= len(batch.raw)
        if not self._author_count[batch.author]:
            del self._author_count[batch.author], self._author_bytes[batch.author]
            self._served_at.pop(batch.author, None)
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
