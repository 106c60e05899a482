"""Reading state, and writing to it on an overlay that can be dropped.

State is a map from short byte keys to byte values. Contracts read and write it one key at a time: there is no
iteration, so no result can depend on the order of a store, and every answer has a proof of presence or absence.
"""

from __future__ import annotations

from typing import Final, Protocol

from consilium.ledger.errors import InvariantBroken

STATE_KEY_BYTES_MAX: Final = 128
STATE_VALUE_BYTES_MAX: Final = 64 * 1024

_UNREAD: Final = b"unread"
"""Told from any value by what it is, not by what it says."""

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


class Overlay:
    """Copy on write over a reader that does not change meanwhile: what is read or written is kept here, in one dict.

    For the time of one block, or of one question. Writes since the last `keep` are taken back by `drop`, which is what
    makes a transaction atomic; reads stay, whoever asked.
    """

    __slots__ = ("_base", "_before", "_undo", "_values")

    def __init__(self, base: StateReader) -> None:
        self._base = base
        self._values: dict[bytes, bytes | None] = {}
        self._before: dict[bytes, bytes | None] = {}
        """What the base has under each key that was ever written."""
        self._undo: dict[bytes, bytes | None] = {}
        """What stood under each key that was written since the last `keep`."""

    def get(self, key: bytes) -> bytes | None:
        """The value under `key` as written here, else the base's."""
        value = self._values.get(key, _UNREAD)
        if value is _UNREAD:
            value = self._values[key] = self._base.get(key)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Write a value. Contracts bound what they write: a value beyond the limit is this code's fault."""
        if not 0 < len(key) <= STATE_KEY_BYTES_MAX or len(value) > STATE_VALUE_BYTES_MAX:
            raise InvariantBroken(f"a state entry of {len(key)} + {len(value)} bytes passes the limits")
        self._write(key, value)

    def delete(self, key: bytes) -> None:
        """Remove a value; removing what is not there changes nothing."""
        self._write(key, None)

    def keep(self) -> None:
        """What was written stays: the next `drop` takes back only what is written from now on."""
        if self._undo:
            self._undo = {}

    def drop(self) -> None:
        """Take back what was written since the last `keep`."""
        self._values.update(self._undo)
        self._undo = {}

    def growth(self) -> int:
        """By how many bytes of keys and values state is longer than at the last `keep`; negative where shorter."""
        values, grown = self._values, 0
        for key, old in self._undo.items():
            value = values[key]
            if old is None:
                grown += 0 if value is None else len(key) + len(value)
            else:
                grown += -len(key) - len(old) if value is None else len(value) - len(old)
        return grown

    def changes(self) -> list[Change]:
        """What differs from the base, sorted by key: the same on every node, however it was written."""
        values, before = self._values, self._before
        return [(key, value) for key in sorted(before) if (value := values[key]) != before[key]]

    def _write(self, key: bytes, value: bytes | None) -> None:
        old = self._values.get(key, _UNREAD)
        if old is _UNREAD:
            old = self._base.get(key)
        self._before.setdefault(key, old)
        self._undo.setdefault(key, old)
        self._values[key] = value
