"""From an operation's name to the contract that carries it out: what `ledger.execution` asks of the contracts.

To add a contract, write one module with a `CONTRACT` and name it in `CONTRACTS`, once; docs/contracts.md has all steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from consilium.contracts import (
    access,
    consent,
    credentials,
    delegation,
    disclosures,
    emergency,
    erasure,
    governance,
    identity,
    mandates,
    preferences,
    quotas,
    records,
    recovery,
    representation,
    retention,
    sessions,
    settings,
    summaries,
    takeover,
    teams,
    treatment,
    weights,
)
from consilium.contracts.operation import Contract, EventKind, OperationSpec, Rank, Slot
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import RESULT_BYTES_MAX, OperationContext
from consilium.ledger.state import Overlay, StateReader
from consilium.ledger.transaction import OPERATION_BODY_BYTES_MAX, Operation
from consilium.ledger.validators import ValidatorSet
from consilium.ledger.weight import NAME_BYTES

CONTRACTS: Final = (
    identity.CONTRACT,
    records.CONTRACT,
    consent.CONTRACT,
    access.CONTRACT,
    disclosures.CONTRACT,
    governance.CONTRACT,
    settings.CONTRACT,
    quotas.CONTRACT,
    sessions.CONTRACT,
    credentials.CONTRACT,
    representation.CONTRACT,
    teams.CONTRACT,
    treatment.CONTRACT,
    mandates.CONTRACT,
    emergency.CONTRACT,
    preferences.CONTRACT,
    delegation.CONTRACT,
    takeover.CONTRACT,
    recovery.CONTRACT,
    retention.CONTRACT,
    erasure.CONTRACT,
    summaries.CONTRACT,
)

# A mistake in a contract must refuse the transaction that meets it, on every node alike, and not stop every node on
# the same poisoned block for ever. These follow from the bytes and the state alone. RecursionError and MemoryError
# do not: they depend on the machine, so they go through and stop the node that had them.
FAULTS: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class Registry:
    """Implements `ledger.execution.Contracts`."""

    def __init__(self, contracts: Sequence[Contract] = CONTRACTS) -> None:
        """Raises ValueError where two contracts claim one operation, event kind or state prefix."""
        self.contracts: tuple[Contract, ...] = tuple(contracts)
        self.operations: Mapping[str, OperationSpec] = _unique(
            (spec.name, spec) for contract in contracts for spec in contract.operations
        )
        self._weights = {name: weights.WEIGHTS.get(name, weights.ORDINARY) for name in self.operations}
        self._ranks = {name: int(spec.rank) for name, spec in self.operations.items()}
        self.events: Mapping[str, EventKind] = _unique(
            (kind.name, kind) for contract in contracts for kind in contract.events
        )
        self.slots: Mapping[bytes, Slot[Any]] = _unique(
            (slot.prefix, slot) for contract in contracts for slot in contract.slots
        )

    def authorise(self, context: OperationContext) -> None:
        """Whether the context's key may speak for its sender now. Raises Refused `identity.*`."""
        identity.authorise(context)

    def rank(self, operation: Operation) -> int:
        """The place of such operations in a block: lower runs earlier."""
        return self._ranks.get(operation.name, _ORDINARY)

    def weight(self, operation: Operation) -> int:
        """What it costs at most, but for what it charges while it runs."""
        fixed, each = self._weights.get(operation.name, weights.UNKNOWN)
        return fixed + each * (len(operation.body) // NAME_BYTES)

    def meter(self, state: Overlay, time_ms: int) -> quotas.Meter:
        """What counts how much state a block's transactions add."""
        return quotas.Meter(state, time_ms)

    def run(self, operation: Operation, context: OperationContext) -> bytes:
        """Carry out one operation. Returns the encoded result, or nothing where the operation has none.

        Raises Refused: `transaction.unknown_operation`, `codec.*`, `contract.fault`, or the contract's own codes.
        """
        spec = self.operations.get(operation.name)
        if spec is None:
            raise Refused("transaction.unknown_operation", operation.name)
        if spec.founding != context.is_genesis:
            raise Refused("contract.founding_only", operation.name)
        body = codec.decode(operation.body, spec.body, OPERATION_BODY_BYTES_MAX)
        try:
            result = spec.handler(body, context)
            raw = _encoded(spec, result)
        except FAULTS:
            raise Refused("contract.fault", operation.name) from None
        return raw

    def next_validators(self, state: StateReader, current: ValidatorSet) -> ValidatorSet:
        """The validator set from the height after next: what governance decided."""
        return governance.next_validators(state, current)


def default_registry() -> Registry:
    """The network's contracts."""
    return Registry(CONTRACTS)


def operation(name: str, body: codec.Wire) -> Operation:
    """An operation ready to be signed. Raises Refused `transaction.unknown_operation`, `codec.*`, as nodes would."""
    spec = _DEFAULT.operations.get(name)
    if spec is None:
        raise Refused("transaction.unknown_operation", name)
    if not isinstance(body, spec.body):
        raise Refused("codec.malformed", f"{name} takes {spec.body.__name__}, not {type(body).__name__}")
    raw = codec.encode(body)
    codec.decode(raw, spec.body, OPERATION_BODY_BYTES_MAX)
    return Operation(name, raw)


def _encoded(spec: OperationSpec, result: codec.Wire | None) -> bytes:
    if result is None and spec.result is None:
        return b""
    if result is None or spec.result is None or not isinstance(result, spec.result):
        raise TypeError(f"{spec.name} declares another result")
    raw = codec.encode(result)
    if len(raw) > RESULT_BYTES_MAX:
        raise ValueError(f"the result of {spec.name} has {len(raw)} bytes")
    return raw


def _unique(pairs: Any) -> Mapping[Any, Any]:
    found: dict[Any, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"two contracts claim {name!r}")
        found[name] = value
    return found


_ORDINARY: Final = int(Rank.ORDINARY)
_DEFAULT: Final = default_registry()
