"""What executing costs: the weight of operations, and how much of it a transaction, a batch and a block may have.

A unit of weight is about a microsecond of one core, for all that a node does with an operation once its signature was
checked: contract, state tree and store. It was measured once and is a rule of the protocol since: all nodes count the
same, whatever their machines. The contracts give each operation a weight that follows from its name and the length of
its body, so that it is known before anything is executed, and proposals can be held to it. What only state can tell
(how many consents a reader has) is charged while the operation runs (`OperationContext.charge`).

docs/consensus.md, "The weight of a block", has the rules; docs/contracts.md says how a contract gives weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

from consilium.ledger.errors import Refused
from consilium.ledger.transaction import Operation, Transaction, Verified

TRANSACTION_WEIGHT_MAX: Final = 100_000
"""Of its operations together, and with what state adds. A transaction beyond is refused."""
BATCH_WEIGHT_MAX: Final = 250_000
"""A batch beyond is no batch: it is neither sealed nor kept, so it can spoil no proposal that names others."""
BLOCK_WEIGHT_MAX: Final = 1_000_000
"""A block whose batches pass it is never prepared by an honest replica; what state makes it pass is postponed."""
NAME_BYTES: Final = 16
"""Bodies are weighed by so many bytes: about one id that they name."""

Weigh: TypeAlias = Callable[[Operation], int]
"""The weight of an operation, from its name and its size."""


class Weight(NamedTuple):
    """Of one kind of operation: a fixed part, and one for each NAME_BYTES of its body."""

    fixed: int
    each: int


def require_light(weight: int) -> None:
    """Raises Refused `transaction.too_heavy` where a transaction has more than it may have."""
    if weight > TRANSACTION_WEIGHT_MAX:
        raise Refused("transaction.too_heavy", f"{weight}; the limit is {TRANSACTION_WEIGHT_MAX}")


def transaction_weight(transaction: Transaction, weigh: Weigh) -> int:
    """Of all its operations, before state adds anything."""
    return sum(map(weigh, transaction.operations))


def batch_weight(transactions: Iterable[Verified[Transaction]], weigh: Weigh) -> int:
    """Of all transactions of a batch, before state adds anything."""
    return sum(transaction_weight(one.value, weigh) for one in transactions)
