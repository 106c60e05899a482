"""What a custodian has released and the ledger must be told: written and synced before anything leaves the node.

A row for each verdict that was obeyed, beside the shares. It has a bit for each place of the verdict's order of
records, so that a record that is fetched again counts once, and how many the ledger has been told of. A crash between
the sync and the answer leaves a release that nobody received: the accounting then says too much, never too little.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from consilium.ledger import codec
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.storage import schema
from consilium.storage.kv import KeyValue

PLACES_MAX: Final = 65_536
"""Records that one verdict opens at most."""
ROWS_MAX: Final = 65_536
"""Rows that are kept. Beyond, nothing more is released until the ledger has been told, and windows are over."""
_PLACES_BYTES_MAX: Final = PLACES_MAX // 8
_ROW_BYTES_MAX: Final = _PLACES_BYTES_MAX + 64


@dataclass(frozen=True, slots=True, order=True)
class ReleaseKey:
    """A verdict: the transaction (32 bytes) and operation of its decision, and its index there."""

    transaction: bytes
    operation: int
    verdict: int


@dataclass(frozen=True, slots=True)
class ReleaseNote:
    """Records that are about to be released on one verdict, by their places in its order.

    `epoch` is one in which this custodian keeps the compartment; `valid_until` is the end of the verdict's window.
    """

    key: ReleaseKey
    epoch: int
    places: tuple[int, ...]
    released_ms: int
    valid_until: int


@dataclass(frozen=True, slots=True)
class Untold:
    """What the ledger does not know yet: how many records were released on a verdict, and when the last of them."""

    key: ReleaseKey
    epoch: int
    records: int
    released_ms: int


class _Row(codec.Wire, frozen=True):
    """`places` is a little-endian number with a bit for each place; `told` is how many records the ledger knows of."""

    epoch: codec.Uint
    places: Annotated[bytes, msgspec.Meta(max_length=_PLACES_BYTES_MAX)]
    released_ms: codec.Uint
    valid_until: codec.Uint
    told: codec.Uint

    @property
    def records(self) -> int:
        return int.from_bytes(self.places, "little").bit_count()


class ReleaseJournal:
    """See the module. Methods block for the disk; any thread may call them."""

    def __init__(self, store: KeyValue) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._untold: dict[ReleaseKey, int] = {}
        """Since when each is untold (ms, by this clock); of what a start finds, when its last record left."""
        self._count = 0
        for key, raw in store.iterate(schema.RELEASED):
            self._count += 1
            row = _row(raw)
            if row.told < row.records:
                self._untold[_key_of(key)] = row.released_ms

    def note(self, notes: Sequence[ReleaseNote]) -> None:
        """Remember what is about to leave; durable on return, in one write. Raises Refused `custodian.untold`."""
        if not notes:
            return
        with self._lock:
            rows = {one.key: self._store.get(_key(one.key)) for one in notes}
            fresh = sum(1 for raw in rows.values() if raw is None)
            if self._count + fresh > ROWS_MAX:
                raise Refused("custodian.untold", f"{self._count} releases wait")
            if len(rows) != len(notes):
                raise ValueError("a verdict is noted once in a call")
            changed = {one.key: _merged(rows[one.key], one) for one in notes}
            self._store.write([(_key(key), codec.encode(row)) for key, row in changed.items()], sync=True)
            self._count += fresh
            for key, row in changed.items():
                if row.told < row.records:
                    self._untold.setdefault(key, row.released_ms)

    @property
    def waiting(self) -> int:
        """Of how many verdicts the ledger does not know everything yet."""
        return len(self._untold)

    @property
    def waiting_since_ms(self) -> int | None:
        """When the oldest release left that the ledger does not know, by this clock; None where it knows all."""
        with self._lock:
            return min(self._untold.values(), default=None)

    def untold(self, limit: int) -> list[Untold]:
        """What to tell next, oldest first, at most `limit`."""
        with self._lock:
            found = []
            for key in list(self._untold)[:limit]:
                row = self._get(key)
                found.append(Untold(key, row.epoch, row.records, row.released_ms))
            return found

    def told(self, known: Iterable[Untold]) -> None:
        """The ledger knows these now. Not synced: what is told again has no effect there."""
        with self._lock:
            writes = []
            for one in known:
                row = self._get(one.key)
                row = msgspec.structs.replace(row, told=max(row.told, one.records))
                writes.append((_key(one.key), codec.encode(row)))
                if row.told >= row.records:
                    self._untold.pop(one.key, None)
            self._store.write(writes, sync=False)

    def forget(self, before_ms: int) -> int:
        """Drop the rows that are told whole and whose windows ended before that time. Returns how many."""
        with self._lock:
            ended = [
                key
                for key, raw in self._store.iterate(schema.RELEASED)
                if (row := _row(raw)).told >= row.records and row.valid_until < before_ms
            ]
            self._store.write([(key, None) for key in ended], sync=False)
            self._count -= len(ended)
            return len(ended)

    def _get(self, key: ReleaseKey) -> _Row:
        raw = self._store.get(_key(key))
        if raw is None:
            raise InvariantBroken("a release that waits to be told is not in its store")
        return _row(raw)


def _merged(raw_row: bytes | None, note: ReleaseNote) -> _Row:
    known = None if raw_row is None else _row(raw_row)
    places = 0 if known is None else int.from_bytes(known.places, "little")
    before = places
    for place in note.places:
        if not 0 <= place < PLACES_MAX:
            raise ValueError(f"place {place} of {PLACES_MAX}")
        places |= 1 << place
    raw = places.to_bytes((places.bit_length() + 7) // 8, "little")
    if known is None:
        return _Row(note.epoch, raw, note.released_ms, note.valid_until, 0)
    # The time is that of the last record that was new: what is fetched again is the same disclosure.
    released_ms = known.released_ms if places == before else max(known.released_ms, note.released_ms)
    return msgspec.structs.replace(known, places=raw, released_ms=released_ms)


def _row(raw: bytes) -> _Row:
    try:
        return codec.decode(raw, _Row, _ROW_BYTES_MAX)
    except Refused:
        raise InvariantBroken("the store of shares holds a release that nobody wrote") from None


def _key(key: ReleaseKey) -> bytes:
    return schema.release_key(key.transaction, key.operation, key.verdict)


def _key_of(raw: bytes) -> ReleaseKey:
    return ReleaseKey(raw[1:33], int.from_bytes(raw[33:35], "big"), int.from_bytes(raw[35:37], "big"))
