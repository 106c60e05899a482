"""A bounded cache in two generations, cheap enough to stand before every read of the state.

What is used stays in the young generation. When that is full it becomes the old one, and what was in the old one and
was not used since is forgotten. A hit costs one look-up in a dict and no bookkeeping, unlike a list of recent use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

ENTRY_OVERHEAD_BYTES: Final = 160
"""About what Python adds to a key and a value."""


MEASURED_TOGETHER_MIN: Final = 64
"""So many nodes that come at once say what one has on average."""
MEASURED_MEMORY: Final = 8
"""The last so many measurements weigh most."""


class GenerationCache:
    """Bytes by bytes; a value may be None, which says that the store has none. `bytes_max` is approximate.

    A caller in haste may look into `young` itself before it asks `get`.
    """

    __slots__ = ("_half_bytes", "_old", "_young_bytes", "young")

    def __init__(self, bytes_max: int) -> None:
        self._half_bytes = max(1, bytes_max // 2)
        self.young: dict[bytes, bytes | None] = {}
        self._old: dict[bytes, bytes | None] = {}
        self._young_bytes = 0

    def get(self, key: bytes, missing: bytes) -> bytes | None:
        """The cached value, or `missing` itself."""
        value = self.young.get(key, missing)
        if value is not missing:
            return value
        value = self._old.pop(key, missing)
        if value is not missing:
            self.put(key, value)
        return value

    def put(self, key: bytes, value: bytes | None) -> None:
        """Remember a value, in place of an earlier one."""
        replaced = self.young.get(key, key)
        if replaced is key:
            self._young_bytes += len(key) + ENTRY_OVERHEAD_BYTES
        elif replaced is not None:
            self._young_bytes -= len(replaced)
        self.young[key] = value
        if value is not None:
            self._young_bytes += len(value)
        if self._young_bytes > self._half_bytes:
            self._old, self.young, self._young_bytes = self.young, {}, 0

    def put_all(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """As `put`, of a block's worth at once: the bound is kept to within that. Keys differ."""
        young = self.young
        before = len(young)
        sizes = sum(map(len, filter(None, values))) - sum(map(len, filter(None, map(young.get, keys))))
        young.update(zip(keys, values, strict=True))
        added = len(young) - before
        self._young_bytes += sizes + added * (ENTRY_OVERHEAD_BYTES + (len(keys[0]) if added else 0))
        if self._young_bytes > self._half_bytes:
            self._old, self.young, self._young_bytes = self.young, {}, 0

    def drop_all(self, keys: Sequence[bytes]) -> None:
        """Forget what nobody will ask for again."""
        pop = self.young.pop
        gone = [value for key in keys if (value := pop(key, None)) is not None]
        self._young_bytes -= sum(map(len, gone)) + sum(map(len, keys[: len(gone)]))
        self._young_bytes -= len(gone) * ENTRY_OVERHEAD_BYTES
        if len(gone) < len(keys) and self._old:
            for key in keys:
                self._old.pop(key, None)

    def __len__(self) -> int:
        return len(self.young) + len(self._old)


class NodeCache:
    """As GenerationCache, of values of one kind: what one has on average is seen from those that come many at once, so
    that nobody measures each."""

    __slots__ = ("_each_bytes", "_half_bytes", "_old", "has_forgotten", "young")

    def __init__(self, bytes_max: int, value_bytes: int) -> None:
        """`value_bytes` is what a value has on average, as long as nothing is known of them."""
        self._half_bytes = max(1, bytes_max // 2)
        self._each_bytes = value_bytes
        self.young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self.has_forgotten = False
        """Whether there ever was more than it may hold."""

    def get(self, key: bytes) -> bytes | None:
        """The cached value, or None."""
        value = self.young.get(key)
        if value is None:
            value = self._old.pop(key, None)
            if value is not None:
                self.put_all({key: value})
        return value

    def put_all(self, values: dict[bytes, bytes]) -> None:
        """Remember values, in place of earlier ones: the bound is kept to within one call."""
        self.young.update(values)
        if len(values) >= MEASURED_TOGETHER_MIN:
            mean = sum(map(len, values.values())) // len(values)
            self._each_bytes += (mean - self._each_bytes) // MEASURED_MEMORY
        if len(self.young) * (self._each_bytes + ENTRY_OVERHEAD_BYTES) > self._half_bytes:
            self.has_forgotten = self.has_forgotten or bool(self._old)
            self._old, self.young = self.young, {}

    def drop(self, key: bytes) -> None:
        """Forget what does not stand any more."""
        self.young.pop(key, None)
        self._old.pop(key, None)

    def __len__(self) -> int:
        return len(self.young) + len(self._old)
