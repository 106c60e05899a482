"""The small key-value port that everything kept on disk goes through, and a store in memory behind it.

Keys and values are bytes, keys are ordered as bytes, a write is a batch that happens whole or not at all. A batch
that is written with `sync` is durable when the call returns, and so is every batch before it. One process, and in it
one writer at a time; readers are free.

`MemoryKV` keeps apart what is synced from what is not, so that a simulator can crash it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from typing import Protocol

from consilium.ledger.errors import InvariantBroken

Write = tuple[bytes, bytes | None]
"""A key and its value; None deletes."""


class KeyValueReader(Protocol):
    """What can be read of a store, now or as of a snapshot. A store that cannot answer raises InvariantBroken."""

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`, or None."""
        ...

    def iterate(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys under `prefix` and their values, in order of keys, at most `limit` of them.

        `start` is a whole key, inclusive: the least one wanted, or with `reverse` the greatest.
        """
        ...


class Snapshot(KeyValueReader, Protocol):
    """The store as it was when the snapshot was taken, until it is closed. A context manager."""

    def close(self) -> None:
        """Let the store forget what only this snapshot needs."""
        ...

    def __enter__(self) -> Snapshot: ...

    def __exit__(self, *exception: object) -> None: ...


class KeyValue(KeyValueReader, Protocol):
    """A store."""

    def write(self, writes: Sequence[Write], *, sync: bool) -> None:
        """Write a batch, whole or not at all; durable on return where `sync`, with all batches before it.

        Raises InvariantBroken when the disk fails. It is never tried again: what a failed sync left on the disk is
        unknown, and stays so. The store refuses every later write.
        """
        ...

    def snapshot(self) -> Snapshot:
        """The store as it is now."""
        ...

    def size_bytes(self, prefix: bytes) -> int:
        """About how much of the disk the keys under `prefix` take; what was written last may not count yet."""
        ...

    def compact(self, prefix: bytes) -> None:
        """Write what is under `prefix` anew, without what was deleted. Takes long."""
        ...

    def purge(self, prefixes: Sequence[bytes]) -> bool:
        """See that what was deleted under these prefixes is in none of the store's files any more. Takes long.

        False where somebody who read meanwhile may have kept it alive: then it takes another call.
        """
        ...

    def close(self) -> None:
        """Close the store. Closing twice is allowed."""
        ...


def prefix_end(prefix: bytes) -> bytes | None:
    """The least key above all keys with this prefix; None when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None


class _MemoryReader:
    """Sorted keys over a dict."""

    __slots__ = ("_keys", "_values")

    def __init__(self, values: dict[bytes, bytes], keys: list[bytes]) -> None:
        self._values = values
        self._keys = keys

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def iterate(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        end = prefix_end(prefix)
        low = bisect_left(self._keys, prefix)
        high = len(self._keys) if end is None else bisect_left(self._keys, end)
        if start is not None and not reverse:
            low = max(low, bisect_left(self._keys, start))
        if start is not None and reverse:
            high = min(high, bisect_right(self._keys, start))
        keys = self._keys[low:high]  # a copy: the store may change under a slow reader
        if reverse:
            keys.reverse()
        for key in keys if limit is None else keys[:limit]:
            value = self._values.get(key)
            if value is not None:
                yield key, value


class MemorySnapshot(_MemoryReader):
    """A copy of a MemoryKV."""

    __slots__ = ()

    def close(self) -> None:
        """Nothing to let go of."""

    def __enter__(self) -> MemorySnapshot:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class MemoryKV(_MemoryReader):
    """A store in memory, for tests and the simulator. `fail_next_write` makes the disk fail once, and so for ever."""

    __slots__ = ("_durable", "_failed", "_unsynced", "fail_next_write")

    def __init__(self, values: dict[bytes, bytes] | None = None) -> None:
        start = dict(values or {})
        super().__init__(start, sorted(start))
        self._durable = dict(start)
        self._unsynced: list[list[Write]] = []
        self._failed = False
        self.fail_next_write = False

    def write(self, writes: Sequence[Write], *, sync: bool) -> None:
        if self.fail_next_write or self._failed:
            self._failed = True
            raise InvariantBroken("the store in memory was told to fail")
        batch = list(writes)
        self._unsynced.append(batch)
        for key, value in batch:
            if value is None:
                if self._values.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
            else:
                if key not in self._values:
                    insort(self._keys, key)
                self._values[key] = value
        if sync:
            _replay(self._durable, self._unsynced)
            self._unsynced.clear()

    def snapshot(self) -> MemorySnapshot:
        return MemorySnapshot(dict(self._values), list(self._keys))

    def size_bytes(self, prefix: bytes) -> int:
        """All of it counts."""
        return sum(len(key) + len(value) for key, value in self.iterate(prefix))

    def compact(self, prefix: bytes) -> None:
        """Nothing deleted is left."""

    def purge(self, prefixes: Sequence[bytes]) -> bool:
        """Nothing deleted is left."""
        return True

    def crash(self, surviving_writes: int = 0) -> MemoryKV:
        """The store after a crash: what was synced, and the first `surviving_writes` batches of what was not."""
        values = dict(self._durable)
        _replay(values, self._unsynced[:surviving_writes])
        return MemoryKV(values)

    @property
    def unsynced_writes(self) -> int:
        """How many batches a crash may lose."""
        return len(self._unsynced)

    def close(self) -> None:
        """Nothing to let go of."""


def _replay(values: dict[bytes, bytes], batches: Sequence[Sequence[Write]]) -> None:
    for batch in batches:
        for key, value in batch:
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value
