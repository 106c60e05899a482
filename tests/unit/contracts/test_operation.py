"""Slots hold what their type allows and nothing else; events are what their kind declares."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from consilium.contracts.operation import EventKind, Slot
from consilium.ledger import codec
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.execution import EVENT_BYTES_MAX, EVENT_SUBJECTS_MAX, OperationContext
from consilium.ledger.state import MemoryState, Overlay


class Value(codec.Wire, frozen=True):
    name: Annotated[str, msgspec.Meta(max_length=4)]


class Data(codec.Wire, frozen=True):
    raw: bytes


SLOT = Slot(b"T", (16, 2), Value, 6)
KEY = (bytes(16), b"\x00\x01")


def test_a_value_comes_back() -> None:
    state = Overlay(MemoryState())
    assert SLOT.get(state, *KEY) is None
    SLOT.put(state, Value("abcd"), *KEY)
    assert SLOT.get(state, *KEY) == Value("abcd")
    assert state.get(b"T" + bytes(16) + b"\x00\x01") == codec.encode(Value("abcd"))


@pytest.mark.parametrize("parts", [(), (bytes(16),), (bytes(15), bytes(3)), (bytes(16), b"", b"ab")])
def test_keys_have_their_widths(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="has parts of"):
        SLOT.key(*parts)


def test_a_value_beyond_its_bounds_is_not_written() -> None:
    state = Overlay(MemoryState())
    with pytest.raises(ValueError, match="passes its bounds"):
        SLOT.put(state, Value("abcde"), *KEY)
    with pytest.raises(ValueError, match="passes its bounds"):
        Slot(b"T", (16, 2), Value, 3).put(state, Value("abcd"), *KEY)
    assert state.changes() == []


def test_state_that_nobody_wrote_halts() -> None:
    state = MemoryState({SLOT.key(*KEY): b"\xc0"})
    with pytest.raises(InvariantBroken):
        SLOT.get(state, *KEY)
    with pytest.raises(Refused):
        SLOT.decode(b"\xc0")


def context() -> OperationContext:
    return OperationContext(Overlay(MemoryState()), 3, 1_000, bytes(32), bytes(16), bytes(32), b"t" * 32, 5)


def test_an_event_says_what_caused_it() -> None:
    at = context()
    EventKind("test.done", Data).emit(at, [bytes(16)], Data(b"x"))
    (event,) = at.events
    assert (event.kind, event.transaction, event.operation) == ("test.done", b"t" * 32, 5)
    assert (event.time_ms, event.data) == (1_000, codec.encode(Data(b"x")))


@pytest.mark.parametrize(
    ("subjects", "data", "error"),
    [
        ([bytes(16)], Value("x"), TypeError),
        ([bytes(16)], Data(bytes(EVENT_BYTES_MAX)), ValueError),
        ([bytes(16)] * (EVENT_SUBJECTS_MAX + 1), Data(b""), ValueError),
        ([], Data(b""), ValueError),
    ],
)
def test_an_event_beyond_its_kind_is_not_told(
    subjects: list[bytes], data: codec.Wire, error: type[Exception]
) -> None:
    at = context()
    with pytest.raises(error):
        EventKind("test.done", Data).emit(at, subjects, data)
    assert at.events == []
