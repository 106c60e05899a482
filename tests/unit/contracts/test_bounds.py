"""The largest value of every type that contracts keep, tell or answer with fits where it goes.

So a list that keeps its own bound never makes an entry, an event or a result too long: what fills up is a list, and a
list that is full is met by a refusal with a name. Where the types allow more, the contract asks first; those stand in
`ASKED`.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import inspect

from consilium.contracts import access
from consilium.contracts.decision import TABLE
from consilium.contracts.purposes import PURPOSES
from consilium.contracts.registry import default_registry
from consilium.ledger import codec
from consilium.ledger.execution import EVENT_BYTES_MAX, RESULT_BYTES_MAX

REGISTRY = default_registry()
WORDS = (*PURPOSES, *(row.basis for row in TABLE.rows), access.UNKNOWN, access.ERASED)


def largest(info: Any) -> int:
    """The most bytes that a value of the type is encoded in."""
    of: Any = info
    match info:
        case inspect.StructType():
            tag = len(codec.encode(of.tag)) if of.tag is not None else 0
            parts = [largest(field.type) for field in of.fields]
            return len(msgspec.msgpack.encode([None] * len(parts))) - len(parts) + tag + sum(parts)
        case inspect.UnionType():
            return max(largest(one) for one in of.types)
        case inspect.ListType():
            return _head(of.max_length) + of.max_length * largest(of.item_type)
        case inspect.BytesType():
            return len(codec.encode(bytes(of.max_length)))
        case inspect.StrType():
            # Every text is a purpose that the contracts know, or the basis of a row of the decision table.
            return max(len(codec.encode(word)) for word in WORDS if len(word) <= of.max_length)
        case inspect.LiteralType():
            return max(len(codec.encode(one)) for one in of.values)
        case inspect.IntType():
            return len(codec.encode(of.le if of.le is not None else of.lt - 1))
        case inspect.BoolType() | inspect.NoneType():
            return 1
    raise TypeError(f"no bound of {info}")


def _head(items: int) -> int:
    return len(codec.encode([None] * items)) - items


SLOTS = {slot.kind.__name__: (slot.kind, slot.bytes_max) for slot in REGISTRY.slots.values()}
EVENTS = {name: (kind.data, EVENT_BYTES_MAX) for name, kind in REGISTRY.events.items()}
RESULTS = {
    name: (spec.result, RESULT_BYTES_MAX)
    for name, spec in REGISTRY.operations.items()
    if spec.result is not None
}
ASKED = ("Decision", "access.decided", "access.request")
"""A request with a longer answer is refused; what is told of it says less than the answer."""


@pytest.mark.parametrize("name", sorted({**SLOTS, **EVENTS, **RESULTS}))
def test_the_largest_value_fits(name: str) -> None:
    kind, bytes_max = {**SLOTS, **EVENTS, **RESULTS}[name]
    assert (largest(inspect.type_info(kind)) <= bytes_max) == (name not in ASKED)
