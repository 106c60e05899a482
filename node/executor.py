"""From a decided block to a committed one, and to the context of the next height. The only caller of `store.commit`.

Execution, the trie and the synced write run one after the other in the caller's thread. The window of recent
transaction ids lives here: the same ids on every node, because it follows from block times alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from consilium.consensus.context import HeightContext
from consilium.consensus.messages import Decided
from consilium.ledger import codec
from consilium.ledger.batch import VerifiedBatch
from consilium.ledger.block import Block, CommitCertificate
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.execution import ANCESTORS_MAX, Contracts, OperationContext, Outcome, execute
from consilium.ledger.state import Overlay
from consilium.ledger.transaction import VALIDITY_MAX_MS, Transaction, Verified
from consilium.ledger.validators import ValidatorSet
from consilium.ledger.weight import Weigh
from consilium.node import peer_messages
from consilium.node.decided import VerifiedDecision
from consilium.node.pace import Pace
from consilium.node.peer_messages import (
    BLOCKS_PER_RESPONSE_MAX,
    BLOCKS_RESPONSE_BYTES,
    Blocks,
    DecidedBlock,
    decided_bytes,
)
from consilium.storage.chain import ChainStore, Tip


@dataclass(frozen=True, slots=True)
class Commit:
    """What was just committed, on what, and how long its steps took."""

    before: HeightContext
    block: Block
    outcome: Outcome
    tip: Tip
    execute_s: float
    store_s: float


class SeenWindow:
    """Ids of the transactions that blocks included within the validity window, oldest forgotten first."""

    __slots__ = ("_blocks", "_ids")

    def __init__(self) -> None:
        self._ids: dict[bytes, None] = {}
        self._blocks: deque[tuple[int, tuple[bytes, ...]]] = deque()

    def add(self, time_ms: int, ids: Sequence[bytes]) -> None:
        """A block at this time included these; forget what no block after it could include again."""
        self._ids.update(dict.fromkeys(ids))
        self._blocks.append((time_ms, tuple(ids)))
        while self._blocks and self._blocks[0][0] + VALIDITY_MAX_MS <= time_ms:
            for identifier in self._blocks.popleft()[1]:
                self._ids.pop(identifier, None)

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._ids

    def __len__(self) -> int:
        return len(self._ids)


class Executor:
    """See the module. `commit` is called by one thread at a time; everything else may be read from any."""

    def __init__(self, store: ChainStore, contracts: Contracts) -> None:
        self.store = store
        self._contracts = contracts
        self.weigh: Weigh = contracts.weight
        self.seen = SeenWindow()
        self.pace = Pace()
        window = list(store.seen_since(store.tip.time_ms - VALIDITY_MAX_MS))
        for seen in reversed(window):
            self.seen.add(seen.time_ms, seen.ids)
        self._heights = self._follow(store.tip)

    @property
    def context(self) -> HeightContext:
        """The height that is being decided."""
        return self._heights[0]

    def commit_all(self, decisions: Sequence[VerifiedDecision]) -> list[Commit]:
        """Execute decided blocks that follow each other, and write each; all are durable on return, by one sync.

        A crash on the way leaves the first of them, whole. Raises InvariantBroken as `commit`.
        """
        last = len(decisions) - 1
        return [
            self.commit(one.block, one.certificate, one.batches, sync=number == last)
            for number, one in enumerate(decisions)
        ]

    def commit(
        self,
        block: Block,
        certificate: CommitCertificate,
        batches: Sequence[VerifiedBatch],
        *,
        sync: bool = True,
    ) -> Commit:
        """Execute a decided block on the tip and write all of it in one batch, durable on return where `sync`.

        Raises InvariantBroken where the block contradicts this node's chain or state, or the disk fails.
        """
        context, following = self._heights
        if [batch.digest for batch in batches] != block.batches:
            raise InvariantBroken(f"block {block.height} is to be committed without its batches")
        started = time.perf_counter()
        outcome = execute(
            chain_id=context.chain_id,
            height=block.height,
            time_ms=block.header.time_ms,
            transactions=[transaction for batch in batches for transaction in batch.transactions],
            state=self.store.state,
            seen=self.seen,
            contracts=self._contracts,
            validators=following,
            ancestor=self._ancestor,
        )
        update = self.store.prepare(outcome)
        executed = time.perf_counter()
        raws = [batch.raw for batch in batches]
        tip = self.store.commit(block, certificate, raws, outcome, update, sync)
        stored = time.perf_counter()
        self.seen.add(block.header.time_ms, [transaction.id for transaction in outcome.transactions])
        self._heights = self._follow(tip)
        self.pace.committed(len(outcome.transactions), stored - started)
        return Commit(context, block, outcome, tip, executed - started, stored - executed)

    def refuse_unauthorised(self, transaction: Verified[Transaction]) -> None:
        """Raises Refused `identity.*` where the key may not speak for the sender on the present tip.

        Asked at admission, so that a stranger's transactions are turned away instead of filling blocks with refusals.
        Execution asks again: what counts is the state that the block finds.
        """
        value = transaction.value
        context = OperationContext(
            state=Overlay(self.store.state),
            height=self.context.height,
            time_ms=self.store.tip.time_ms,
            chain_id=self.context.chain_id,
            sender=value.sender,
            key=value.key,
            transaction=transaction.id,
        )
        self._contracts.authorise(context)

    def validators_at(self, height: int) -> ValidatorSet | None:
        """Who votes at the height that is being decided, or at the next; None for any other height."""
        context, following = self._heights
        if height == context.height:
            return context.validators
        return following if height == context.height + 1 else None

    def encoded_tip(self) -> bytes:
        """The `Tip` message of the newest committed block."""
        tip = self.store.tip
        return codec.encode(peer_messages.Tip(tip.height, tip.block_hash))

    def encoded_blocks(self, first: int, count: int) -> bytes | None:
        """An encoded `Blocks` message from height `first` on, or None where there is none to send.

        Without blocks where the height was decided and is no longer kept: whoever asks goes to somebody else at once.
        """
        if max(1, first) < self.store.lowest_whole:
            return codec.encode(Blocks([]))
        blocks: list[DecidedBlock] = []
        size = 0
        last = min(self.store.tip.height, first + min(count, BLOCKS_PER_RESPONSE_MAX) - 1)
        for height in range(max(self.store.lowest_whole, first), last + 1):
            try:
                certificate = self.store.certificate(height)
                batches = self.store.batches(height)
            except Refused:  # pruned since the range was made
                break
            if certificate is None:
                break
            decided = DecidedBlock(self.store.block(height), certificate, batches)
            size += decided_bytes(decided)
            if blocks and size > BLOCKS_RESPONSE_BYTES:
                break  # one block alone may be larger; it always fits the limit of the message
            blocks.append(decided)
        return codec.encode(Blocks(blocks)) if blocks else None

    def decided(self, height: int) -> Decided | None:
        """A committed block with its certificate, and without its batches, or None where there is none to show."""
        certificate = self.store.certificate(height) if 1 <= height <= self.store.tip.height else None
        return None if certificate is None else Decided(self.store.block(height), certificate)

    def _ancestor(self, height: int) -> bytes | None:
        tip = self.store.tip.height
        if not max(0, tip + 1 - ANCESTORS_MAX) <= height <= tip:
            return None
        return self.store.header(height).hash

    def _follow(self, tip: Tip) -> tuple[HeightContext, ValidatorSet]:
        parent = self.store.header(tip.height)
        context = HeightContext(
            height=tip.height + 1,
            chain_id=self.store.chain_id,
            parent=parent,
            validators=self.store.validators(parent.next_validators_hash),
            next_validators_hash=tip.next_validators_hash,
            state_root=tip.state_root,
            receipts_root=tip.receipts_root,
            history_root=tip.history.root(),
        )
        return context, self.store.validators(tip.next_validators_hash)
