"""Execution once more, written as slowly and plainly as it can be: what every block must do to the state.

Deterministic faults are the same on every host, so comparing hosts finds none of them. This twin keeps all of the state
in a dict, copies it for each transaction, and knows nothing of overlays, tries or windows; the contracts' handlers are
the product's own, and `tests/unit/contracts` judges these. What weighs too much, and what members added to state, is
left to the units' tests: here nobody comes near a quota.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from consilium.contracts import keys
from consilium.ledger import codec
from consilium.ledger.batch import verify_batch
from consilium.ledger.errors import Refused
from consilium.ledger.execution import (
    LEAF_BYTES_MAX,
    Event,
    OperationContext,
    ReceiptLeaf,
    execute_genesis,
)
from consilium.ledger.state import Change, MemoryState, Overlay
from consilium.ledger.transaction import VALIDITY_MAX_MS, Transaction, Verified
from consilium.node.executor import Commit
from consilium.storage.chain import ChainStore
from tests.simulation.founding import Founding, contracts

TOO_HEAVY = "transaction.too_heavy"
POSTPONED = "transaction.postponed"


@dataclass
class Model:
    """State after `height`, and every transaction that was ever executed."""

    founding: Founding
    height: int = 0
    values: dict[bytes, bytes] = field(default_factory=dict)
    executed: dict[bytes, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        outcome = execute_genesis(self.founding.genesis, MemoryState(), contracts())
        self.values = {key: value for key, value in outcome.changes if value is not None}

    def follow(self, chain: ChainStore, commit: Commit) -> str | None:
        """Execute what the chain has above this height, up to the commit, which is its tip. What differs, or None."""
        while self.height < commit.block.height:
            before = dict(self.values)
            self.height += 1
            last = commit.outcome if self.height == commit.block.height else None
            postponed = [i for i, code in last.skipped if code == POSTPONED] if last is not None else []
            leaves, events = self._execute(chain, postponed)
            if leaves != chain.leaves(self.height):
                return f"other receipts at height {self.height}"
            if last is not None and events != list(last.events):
                return f"other events at height {self.height}"
            told = [] if last is None else [one for one in last.changes if not one[0].startswith(keys.ADDED)]
            if last is not None and _difference(before, self.values) != told:
                return f"another state after height {self.height}"
        return None

    def _execute(self, chain: ChainStore, postponed: Sequence[bytes]) -> tuple[list[bytes], list[Event]]:
        header = chain.header(self.height)
        batches = [verify_batch(raw, self.founding.chain_id) for raw in chain.batches(self.height)]
        waiting = [transaction for batch in batches for transaction in batch.transactions]
        waiting.sort(key=lambda one: max(contracts().rank(said) for said in one.value.operations))
        heavy = [_id_of(leaf) for leaf in chain.leaves(self.height) if _code_of(leaf) == TOO_HEAVY]
        leaves: list[bytes] = []
        events: list[Event] = []
        for transaction in waiting:
            until_ms = transaction.value.valid_until
            if not header.time_ms < until_ms <= header.time_ms + VALIDITY_MAX_MS:
                continue
            if transaction.id in self.executed or transaction.id in postponed:
                continue
            self.executed[transaction.id] = None
            if transaction.id in heavy:
                leaves.append(
                    next(leaf for leaf in chain.leaves(self.height) if _id_of(leaf) == transaction.id)
                )
                continue
            leaf, told = self._run(transaction, chain, header.time_ms)
            leaves.append(leaf)
            events += told
        return leaves, events

    def _run(
        self, transaction: Verified[Transaction], chain: ChainStore, time_ms: int
    ) -> tuple[bytes, list[Event]]:
        value, state = transaction.value, Overlay(MemoryState(dict(self.values)))
        following = chain.header(self.height).next_validators_hash
        context = OperationContext(
            state,
            self.height,
            time_ms,
            self.founding.chain_id,
            value.sender,
            value.key,
            transaction.id,
            validators=chain.validators(following),
            ancestor=lambda height: chain.header(height).hash if 0 <= height < self.height else None,
        )
        results: list[bytes] = []
        place = 0
        try:
            contracts().authorise(context)
            for place, said in enumerate(value.operations):
                context.operation = place
                results.append(contracts().run(said, context))
        except Refused as refusal:
            return codec.encode(ReceiptLeaf(transaction.id, refusal.code, place, [])), []
        for key, new in state.changes():
            if new is None:
                del self.values[key]
            else:
                self.values[key] = new
        return codec.encode(ReceiptLeaf(transaction.id, "ok", None, results)), context.events


def _id_of(leaf: bytes) -> bytes:
    return codec.decode(leaf, ReceiptLeaf, LEAF_BYTES_MAX).transaction


def _code_of(leaf: bytes) -> str:
    return codec.decode(leaf, ReceiptLeaf, LEAF_BYTES_MAX).code


def _difference(before: dict[bytes, bytes], after: dict[bytes, bytes]) -> list[Change]:
    keys = sorted({**before, **after})
    return [(key, after.get(key)) for key in keys if before.get(key) != after.get(key)]
