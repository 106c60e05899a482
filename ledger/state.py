"""Reading state, and writing to it on an overlay that can be dropped.

State is a map from short byte keys to byte values. Contracts read and write it one key at a time: there is no
iteration, so no result can depend on the order of a store, and every answer has a proof of presence or absence.
"""

from __future__ import annotations

from typing import Final, Protocol

from consilium.ledger.errors import InvariantBroken

STATE_KEY_BYTES_MAX: Final = 128
STATE_VALUE_BYTES_MAX: Final = 64 * 1024

Change = tuple[bytes, bytes | None]
"""A key and its new value, or None where it is deleted."""


class StateReader(Protocol):
    """Committed state, or an overlay on it."""

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`, or None."""
        ...


class MemoryState:
    """State in a dict, for genesis, tests and simulation."""

    __slots__ = ("values",)

    def __init__(self, values: dict[bytes, bytes] | None = None) -> None:
        self.values: dict[bytes, bytes] = values if values is not None else {}

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`, or None."""
        return self.values.get(key)

    def apply(self, changes: list[Change]) -> None:
        """Write the changes of one block."""
        for key, value in changes:
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value


class ReadOnce:
    """A reader before state that does not change while it lives: each key is read once. For the time of one block."""

    __slots__ = ("_base", "_known")

    def __init__(self, base: StateReader) -> None:
        self._base = base
        self._known: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`, or None."""
        if key in self._known:
            return self._known[key]
        value = self._known[key] = self._base.get(key)
        return value


class Overlay:
    """Copy on write over a reader: what is written stays here until `merge_into` or `changes` takes it."""

    __slots__ = ("_base", "_written")

    def __init__(self, base: StateReader) -> None:
        self._base = base
        self._written: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value under `key` as written here, else the base's."""
        if key in self._written:
            return self._written[key]
        return self._base.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Write a value. Contracts bound what they write: a value beyond the limit is this code's fault."""
        if not 0 < len(key) <= STATE_KEY_BYTES_MAX or len(value) > STATE_VALUE_BYTES_MAX:
            raise InvariantBroken(f"a state entry of {len(key)} + {len(value)} bytes passes the limits")
        self._written[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a value; removing what is not there changes nothing."""
        self._written[key] = None

    def merge_into(self, lower: Overlay) -> None:
        """Write everything written here to the overlay below."""
        lower._written.update(self._written)

    def changes(self) -> list[Change]:
        """What differs from the base, sorted by key: the same on every node, however it was written."""
        base = self._base
        return [(key, value) for key, value in sorted(self._written.items()) if base.get(key) != value]
