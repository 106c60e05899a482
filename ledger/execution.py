"""Executing a block: the same block on the same state gives the same bytes on every node.

Transactions run one after the other on an overlay. A transaction is atomic: if one of its operations is refused, none
of it takes effect, and its receipt says which and why. Within a block, transactions run in the order of their rank
(contracts give it): what takes rights away runs before what uses them, so a revocation is never late by its place in
a block. A transaction has the rank of its latest operation, so that nothing is smuggled forward beside a revocation.

A transaction that is out of its validity window, or whose id was included before, is skipped without a receipt: an id
has at most one receipt for ever. So is one for which the block has no weight left (`ledger.weight`), because state made
the transactions before it dearer than their bodies told: it goes into a later block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Protocol, TypeAlias

import msgspec

from consilium.ledger import codec
from consilium.ledger.crypto import Digest
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.genesis import FOUNDER, Genesis
from consilium.ledger.merkle import merkle_root
from consilium.ledger.state import Change, Overlay, StateReader
from consilium.ledger.transaction import OPERATIONS_MAX, Operation, Transaction, Verified, check_time
from consilium.ledger.validators import ValidatorSet
from consilium.ledger.weight import BLOCK_WEIGHT_MAX, TRANSACTION_WEIGHT_MAX, transaction_weight

OK: Final = "ok"
POSTPONED: Final = "transaction.postponed"
"""Skipped because the block has no weight left: whoever sealed it seals it again."""
RESULT_BYTES_MAX: Final = 16 * 1024
EVENT_SUBJECTS_MAX: Final = 8
EVENT_BYTES_MAX: Final = 16 * 1024
LEAF_BYTES_MAX: Final = 8 * 1024 * 1024
ANCESTORS_MAX: Final = 256
"""Contracts may ask for the hash of a block that is at most so many heights old."""

Ancestor: TypeAlias = Callable[[int], bytes | None]
"""The hash of this chain's block at a height, from ANCESTORS_MAX below the executed one to its parent; else None."""


def no_ancestor(height: int) -> bytes | None:
    """Where no chain is at hand."""
    return None


ResultData = Annotated[bytes, msgspec.Meta(max_length=RESULT_BYTES_MAX)]


class ReceiptLeaf(codec.Wire, frozen=True):
    """What became of a transaction: a leaf of the receipts root.

    `code` is "ok", or the catalogue code of the refusal, and then `failed` is the index of the refused operation.
    `results` has the contract's answer to each operation, in order; it is empty where the transaction was refused.
    """

    transaction: codec.Bytes32
    code: Annotated[str, msgspec.Meta(max_length=64)]
    failed: Annotated[int, msgspec.Meta(ge=0, lt=OPERATIONS_MAX)] | None
    results: Annotated[list[ResultData], msgspec.Meta(max_length=OPERATIONS_MAX)]


class Event(codec.Wire, frozen=True):
    """What applications are told. `subjects` are the 16-byte ids (patient, reader, …) that an index finds it by.

    `transaction` and `operation` say what caused it. Its place in the chain (height, index) is its cursor.
    """

    kind: Annotated[str, msgspec.Meta(max_length=64)]
    subjects: Annotated[list[codec.Bytes16], msgspec.Meta(max_length=EVENT_SUBJECTS_MAX)]
    transaction: codec.Bytes32
    operation: codec.Uint
    time_ms: codec.Uint
    data: Annotated[bytes, msgspec.Meta(max_length=EVENT_BYTES_MAX)]


@dataclass(slots=True)
class OperationContext:
    """What a contract may know: who speaks, when (block time), and state, on which a refused transaction is taken back.

    `validators` is the set of the next height: the newest one that a header can name already. `weighed` is what the
    transaction's operations have looked at so far, where a contract bounds that for all of them together; `weight` is
    what they cost so far (`charge`). `caused` are bytes of state that the sender had to add on somebody's account.
    """

    state: Overlay
    height: int
    time_ms: int
    chain_id: bytes
    sender: bytes
    key: bytes
    transaction: bytes
    operation: int = 0
    events: list[Event] = field(default_factory=list)
    validators: ValidatorSet | None = None
    ancestor: Ancestor = no_ancestor
    weighed: int = 0
    weight: int = 0
    caused: dict[bytes, int] = field(default_factory=dict)
    refusal: Refused | None = None

    @property
    def is_genesis(self) -> bool:
        """Whether the operation is one of the genesis document."""
        return self.height == 0

    def charge(self, weight: int) -> None:
        """Count what the transaction costs. A contract charges what follows from state, before it does it.

        Raises Refused `transaction.too_heavy`.
        """
        self.weight += weight
        if self.weight > TRANSACTION_WEIGHT_MAX and not self.is_genesis:
            raise Refused("transaction.too_heavy", f"{self.weight}; the limit is {TRANSACTION_WEIGHT_MAX}")

    def emit(self, kind: str, subjects: Sequence[bytes], data: bytes) -> None:
        """Tell applications. Events of a refused transaction are dropped with it.

        Contracts bound what they tell: what passes the limits could be stored and never be read again.
        """
        if len(subjects) > EVENT_SUBJECTS_MAX or len(data) > EVENT_BYTES_MAX:
            raise InvariantBroken(f"an event of {len(data)} bytes on {len(subjects)} passes the limits")
        event = Event(kind, list(subjects), self.transaction, self.operation, self.time_ms, data)
        self.events.append(event)


class Contracts(Protocol):
    """What execution asks of the contracts: `contracts.registry.Registry` is the one that answers."""

    def authorise(self, context: OperationContext) -> None:
        """Whether the context's key may speak for its sender now. Raises Refused."""
        ...

    def rank(self, operation: Operation) -> int:
        """The place of such operations in a block: lower runs earlier."""
        ...

    def weight(self, operation: Operation) -> int:
        """What it costs at most, but for what it charges while it runs (`ledger.weight`)."""
        ...

    def meter(self, state: Overlay, time_ms: int) -> Meter:
        """What counts how much state the transactions of a block add, for one block on its overlay."""
        ...

    def run(self, operation: Operation, context: OperationContext) -> bytes:
        """Carry out one operation on the context's state. Returns its result. Raises Refused."""
        ...

    def next_validators(self, state: StateReader, current: ValidatorSet) -> ValidatorSet:
        """The validator set that state asks for from the height after next."""
        ...


class Meter(Protocol):
    """What state a block's transactions add: `contracts.quotas.Meter`."""

    def charge(self, operations: Sequence[Operation], context: OperationContext) -> None:
        """Count what was written since the last transaction was kept. Raises Refused where it is too much."""
        ...

    def close(self) -> None:
        """The block is at its end."""
        ...


class SeenTransactions(Protocol):
    """The ids that the chain included within the validity window."""

    def __contains__(self, transaction_id: object) -> bool: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of executing one block. `leaves` are encoded ReceiptLeaf values in order of execution.

    `refusals` are those of the leaves, with what contracts said: for people, in no root, and kept nowhere.
    """

    height: int
    leaves: tuple[bytes, ...]
    transactions: tuple[Verified[Transaction], ...]
    skipped: tuple[tuple[Digest, str], ...]
    receipts_root: Digest
    changes: list[Change]
    events: tuple[Event, ...]
    next_validators: ValidatorSet
    refusals: tuple[tuple[Digest, Refused], ...] = ()

    @property
    def postponed(self) -> frozenset[bytes]:
        """The ids of those for which the block had no weight left."""
        return frozenset(identifier for identifier, code in self.skipped if code == POSTPONED)


def execute(
    *,
    chain_id: bytes,
    height: int,
    time_ms: int,
    transactions: Sequence[Verified[Transaction]],
    state: StateReader,
    seen: SeenTransactions,
    contracts: Contracts,
    validators: ValidatorSet,
    ancestor: Ancestor = no_ancestor,
) -> Outcome:
    """Execute a block's transactions, in the order of its batches, on committed state.

    `validators` is the set of the height after this one.
    """
    block_state = Overlay(state)
    leaves: list[bytes] = []
    executed: list[Verified[Transaction]] = []
    skipped: list[tuple[Digest, str]] = []
    events: list[Event] = []
    refusals: list[tuple[Digest, Refused]] = []
    in_block: set[bytes] = set()
    spent = 0
    meter = contracts.meter(block_state, time_ms)
    for transaction in sorted(transactions, key=lambda t: max(map(contracts.rank, t.value.operations))):
        try:
            check_time(transaction.value, time_ms)
        except Refused as refusal:
            skipped.append((transaction.id, refusal.code))
            continue
        if transaction.id in in_block or transaction.id in seen:
            skipped.append((transaction.id, "transaction.duplicate"))
            continue
        value = transaction.value
        weight = transaction_weight(value, contracts.weight)
        if spent + min(weight, TRANSACTION_WEIGHT_MAX) > BLOCK_WEIGHT_MAX:
            skipped.append((transaction.id, POSTPONED))
            continue
        in_block.add(transaction.id)
        context = OperationContext(
            block_state,
            height,
            time_ms,
            chain_id,
            value.sender,
            value.key,
            transaction.id,
            validators=validators,
            ancestor=ancestor,
        )
        leaf = _run(value.operations, context, contracts, weight=weight, meter=meter)
        spent += min(context.weight, TRANSACTION_WEIGHT_MAX)
        if leaf.code == OK:
            block_state.keep()
            events += context.events
        else:
            block_state.drop()
        if context.refusal is not None:
            refusals.append((transaction.id, context.refusal))
        leaves.append(codec.encode(leaf))
        executed.append(transaction)
    meter.close()
    return Outcome(
        height=height,
        leaves=tuple(leaves),
        transactions=tuple(executed),
        skipped=tuple(skipped),
        receipts_root=merkle_root(leaves),
        changes=block_state.changes(),
        events=tuple(events),
        next_validators=contracts.next_validators(block_state, validators),
        refusals=tuple(refusals),
    )


def execute_genesis(genesis: Genesis, state: StateReader, contracts: Contracts) -> Outcome:
    """Execute the genesis operations, as one transaction of the founder whose id is the chain id.

    Raises Refused where one of them is refused: such a document founds nothing.
    """
    block_state = Overlay(state)
    chain_id = genesis.chain_id
    context = OperationContext(
        block_state,
        0,
        genesis.time_ms,
        chain_id,
        FOUNDER,
        bytes(32),
        chain_id,
        validators=genesis.validator_set,
    )
    leaf = _run(genesis.operations, context, contracts, weight=None)
    if leaf.code != OK:
        raise Refused("genesis.malformed", f"its operation {leaf.failed} is refused: {leaf.code}")
    leaves = (codec.encode(leaf),)
    return Outcome(
        height=0,
        leaves=leaves,
        transactions=(),
        skipped=(),
        receipts_root=merkle_root(leaves),
        changes=block_state.changes(),
        events=tuple(context.events),
        next_validators=genesis.validator_set,
    )


def _run(
    operations: Sequence[Operation],
    context: OperationContext,
    contracts: Contracts,
    *,
    weight: int | None,
    meter: Meter | None = None,
) -> ReceiptLeaf:
    """`weight` is that of the operations, None for those of genesis, which nobody has to authorise or to count."""
    results: list[bytes] = []
    index = 0
    try:
        if weight is not None:
            context.charge(weight)
            contracts.authorise(context)
        for index, operation in enumerate(operations):
            context.operation = index
            result = contracts.run(operation, context)
            if len(result) > RESULT_BYTES_MAX:
                raise InvariantBroken(
                    f"the result of {operation.name!r} has {len(result)} bytes: beyond the limit"
                )
            results.append(result)
        if meter is not None:
            meter.charge(operations, context)
    except Refused as refusal:
        context.refusal = refusal.with_traceback(None)  # which would hold all of the block's state
        return ReceiptLeaf(Digest(context.transaction), refusal.code, index, [])
    return ReceiptLeaf(Digest(context.transaction), OK, None, results)
