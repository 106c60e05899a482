"""What a contract is made of: operations, the state that it keeps, the events that it tells.

A contract is one module that declares a `CONTRACT`. An operation is a name, a bounded body, a rank and a handler; a
slot is a family of state entries with one key layout and one type; an event kind has the type of its data. Nothing
else of a contract reaches the chain, so these declarations are also what the allow-list of fields is held against.

A handler reads and writes one key at a time, and says no by raising `Refused`. It may trust its body's bounds and the
sender's key (both were checked), and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Generic, TypeVar

from consilium.ledger import codec
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.execution import EVENT_BYTES_MAX, EVENT_SUBJECTS_MAX, OperationContext
from consilium.ledger.state import Overlay, StateReader

DECODED_KEPT_MAX: Final = 2_048

_W = TypeVar("_W", bound=codec.Wire)


class Rank(IntEnum):
    """The place of an operation in its block: what takes rights away runs before what uses them."""

    TAKES_RIGHTS = 0
    ORDINARY = 1
    USES_RIGHTS = 2


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """One operation. `handler(body, context)` returns a value of type `result`, or None where there is no result type.

    `founding` operations are accepted in the genesis document, and nowhere else.
    """

    name: str
    body: type[codec.Wire]
    handler: Callable[[Any, OperationContext], codec.Wire | None]
    result: type[codec.Wire] | None = None
    rank: Rank = Rank.ORDINARY
    founding: bool = False


@dataclass(frozen=True, slots=True)
class EventKind:
    """What applications are told: the kind's name and the type of its data."""

    name: str
    data: type[codec.Wire]

    def emit(self, context: OperationContext, subjects: Sequence[bytes], data: codec.Wire) -> None:
        """Tell it. Raises TypeError or ValueError where the contract passes what the kind does not allow."""
        if not isinstance(data, self.data):
            raise TypeError(f"{self.name} carries {self.data.__name__}")
        raw = codec.encode(data)
        if len(raw) > EVENT_BYTES_MAX or not 0 < len(subjects) <= EVENT_SUBJECTS_MAX:
            raise ValueError(f"{self.name} passes the limits of an event")
        context.emit(self.name, subjects, raw)


@dataclass(frozen=True, slots=True)
class Slot(Generic[_W]):
    """State entries under `prefix` followed by parts of the widths `parts` (bytes), each a value of type `kind`."""

    prefix: bytes
    parts: tuple[int, ...]
    kind: type[_W]
    bytes_max: int
    memory: dict[bytes, _W] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Decoded values by their bytes, some thousand of them: what is asked for in every transaction is decoded once."""
    width: int = field(init=False, repr=False, compare=False)
    """Of the only part, or -1 where there is not just one. A transaction asks for ten keys, mostly of one part."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", self.parts[0] if len(self.parts) == 1 else -1)

    def key(self, *parts: bytes) -> bytes:
        """The state key. Raises ValueError where a part has another width."""
        if len(parts) == 2:
            first, second = parts
            if (len(first), len(second)) == self.parts:
                return self.prefix + first + second
        if (*map(len, parts),) != self.parts:
            raise ValueError(f"a key of {self.kind.__name__} has parts of {self.parts} bytes")
        return b"".join((self.prefix, *parts))

    def decode(self, raw: bytes) -> _W:
        """A value as state holds it. Raises Refused `codec.*`."""
        return codec.decode(raw, self.kind, self.bytes_max)

    def get(self, state: StateReader, *parts: bytes) -> _W | None:
        """The value, or None. Raises InvariantBroken where state holds what `put` never wrote."""
        if len(parts) == 1 and len(parts[0]) == self.width:
            raw = state.get(self.prefix + parts[0])
        else:
            raw = state.get(self.key(*parts))
        if raw is None:
            return None
        value = self.memory.get(raw)
        if value is None:
            try:
                value = self.decode(raw)
            except Refused:
                raise InvariantBroken(f"state holds no {self.kind.__name__} under {self.prefix!r}") from None
            if len(self.memory) >= DECODED_KEPT_MAX:
                self.memory.clear()
            self.memory[raw] = value
        return value

    def put(self, state: Overlay, value: _W, *parts: bytes) -> None:
        """Write the value. Raises ValueError where it passes its own bounds.

        The check is a decoding: a Struct's bounds are not looked at when it is made, and a value that passed them would
        stop every node that reads it. Here it stops the one transaction that wrote it.
        """
        raw = codec.encode(value)
        if len(raw) > self.bytes_max or not codec.fits(raw, self.kind):
            raise ValueError(f"a {self.kind.__name__} passes its bounds")
        one = len(parts) == 1 and len(parts[0]) == self.width
        state.put(self.prefix + parts[0] if one else self.key(*parts), raw)


@dataclass(frozen=True, slots=True)
class Contract:
    """One health application: everything of it that reaches the chain."""

    name: str
    operations: tuple[OperationSpec, ...]
    slots: tuple[Slot[Any], ...] = ()
    events: tuple[EventKind, ...] = ()


ID_BYTES: Final = 16
KEY_BYTES: Final = 32
