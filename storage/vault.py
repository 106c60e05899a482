"""Envelopes (sealed records) by digest: durable when a call returns, checked on the way in and on the way out.

Small ones are kept as one row. Large ones, an imaging study of hundreds of megabytes, come and go as streams: their
pieces are written under an id of their own, and become an envelope with the one synced row that names them, once the
digest of all of them is right. So a stream that breaks leaves nothing that is ever served, and a bad copy cannot
damage a good one.

An erased envelope leaves a tombstone, and its digest is refused for ever: an old backup or a returning holder cannot
bring it back. What an envelope is, and how its digest is made, is the client's affair; the vault is given the
function.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from consilium.ledger.crypto import Hasher
from consilium.ledger.errors import Refused
from consilium.storage import schema
from consilium.storage.envelopes import (
    ENVELOPE_BYTES_MAX,
    LIST_DIGESTS_MAX,
    PIECE_BYTES,
    STREAM_BYTES_MAX,
    EnvelopeStore,
    Incoming,
    Totals,
    checked_envelopes,
)
from consilium.storage.kv import KeyValue, KeyValueReader, Write
from consilium.storage.scrubbing import scrub

__all__ = ["EnvelopeStore", "Incoming", "Totals", "Vault"]

_TOTALS: Final = struct.Struct(">QQ")
_SIZE: Final = struct.Struct(">QQ")
_STREAM_ID_BYTES: Final = 8


class Row(NamedTuple):
    """What ENVELOPE_SIZE says. `stream` is empty for an envelope in one row."""

    size: int
    came_ms: int
    stream: bytes

    def encode(self) -> bytes:
        return _SIZE.pack(self.size, self.came_ms) + self.stream


def row_in(raw: bytes) -> Row:
    """Read back what `Row.encode` made."""
    size, came_ms = _SIZE.unpack_from(raw)
    return Row(size, came_ms, raw[_SIZE.size :])


def totals_row(store: KeyValueReader) -> Totals:
    """Number and bytes of the envelopes that a store's rows tell of."""
    raw = store.get(schema.VAULT_TOTALS)
    return Totals(*_TOTALS.unpack(raw)) if raw is not None else Totals(0, 0)


def totals_write(totals: Totals) -> Write:
    """The row of them."""
    return schema.VAULT_TOTALS, _TOTALS.pack(*totals)


class _Whole:
    """A digest function that wants everything at once, as a Hasher: for small things only."""

    def __init__(self, digest_of: Callable[[bytes], bytes]) -> None:
        self._digest_of = digest_of
        self._pieces: list[bytes] = []

    def update(self, piece: bytes, /) -> None:
        self._pieces.append(piece)

    def digest(self) -> bytes:
        return self._digest_of(b"".join(self._pieces))


class Vault:
    """Envelopes in a key-value store of their own.

    `digest_of` makes the digest of a whole envelope, `hasher` begins the same digest of one that comes in pieces.
    """

    def __init__(
        self,
        store: KeyValue,
        digest_of: Callable[[bytes], bytes],
        *,
        create: bool = False,
        hasher: Callable[[], Hasher] | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Raises Refused `store.newer_format`, `store.older_format`, `store.corrupt`."""
        self._store = store
        self._digest_of = digest_of
        self.hasher: Callable[[], Hasher] = hasher or (lambda: _Whole(digest_of))
        self._clock_ms = clock_ms
        self._lock = threading.Lock()
        if create:
            store.write([(schema.FORMAT, schema.format_bytes(schema.VAULT_FORMAT))], sync=True)
        schema.check_format(store, schema.VAULT_FORMAT)
        self._totals = totals_row(store)
        for key, _ in list(store.iterate(schema.RECEIVING)):  # what a crash interrupted
            self.abandon(key[1:])

    @property
    def remote(self) -> bool:
        return False

    def put_many(self, envelopes: Sequence[tuple[bytes, bytes]]) -> None:
        given = checked_envelopes(envelopes, self._digest_of)
        with self._lock:
            if any(self.erased(digest) for digest in given):
                raise Refused("vault.deleted")
            writes: list[Write] = []
            count = size = 0
            for digest, envelope in given.items():
                # What is here already may be damaged: whoever puts it again repairs it.
                writes.append((schema.ENVELOPE + digest, envelope))
                before = self._row(digest)
                if before is None:
                    count, size = count + 1, size + len(envelope)
                if before is None or before.stream:
                    row = Row(len(envelope), self._clock_ms(), b"")
                    writes.append((schema.ENVELOPE_SIZE + digest, row.encode()))
                    writes += self._without_pieces(before)
            self._write(writes, count, size)

    def receive(self, digest: bytes) -> Incoming:
        if self.erased(digest):
            raise Refused("vault.deleted")
        stream = os.urandom(_STREAM_ID_BYTES)
        self._store.write([(schema.RECEIVING + stream, b"")], sync=False)
        return _Receiving(self, self._store, digest, stream)

    def get(self, digest: bytes) -> bytes | None:
        row = self._row(digest)
        if row is not None and row.stream:
            if row.size > ENVELOPE_BYTES_MAX:
                raise Refused("vault.oversized", f"{row.size} bytes: read it as a stream")
            return b"".join(self._pieces(digest, row))
        envelope = self._store.get(schema.ENVELOPE + digest)
        if envelope is not None and self._digest_of(envelope) != digest:
            raise Refused("vault.damaged", f"the envelope {digest.hex()[:16]} was altered on this disk")
        return envelope

    def read(self, digest: bytes) -> Iterator[bytes] | None:
        row = self._row(digest)
        if row is None:
            return None
        if row.stream:
            return self._pieces(digest, row)
        envelope = self.get(digest)
        return None if envelope is None else iter((envelope,))

    def piece(self, digest: bytes, number: int) -> bytes | None:
        row = self._row(digest)
        if row is None or number * PIECE_BYTES >= row.size:
            return None
        if row.stream:
            return self._store.get(schema.piece_key(row.stream, number))
        envelope = self._store.get(schema.ENVELOPE + digest) or b""
        return envelope[number * PIECE_BYTES : (number + 1) * PIECE_BYTES] or None

    def size(self, digest: bytes) -> int | None:
        row = self._row(digest)
        return None if row is None else row.size

    def has(self, digest: bytes) -> bool:
        return self._store.get(schema.ENVELOPE_SIZE + digest) is not None

    def came_ms(self, digest: bytes) -> int | None:
        row = self._row(digest)
        return None if row is None else row.came_ms

    def erase(self, digests: Sequence[bytes]) -> int:
        return self._delete(digests, tombstones=True)

    def forget(self, digests: Sequence[bytes]) -> int:
        return self._delete(digests, tombstones=False)

    def scrub(self) -> bool:
        return scrub(self._store, (schema.ENVELOPE, schema.PIECE))

    def erased(self, digest: bytes) -> bool:
        return self._store.get(schema.TOMBSTONE + digest) is not None

    def digests(self, after: bytes = b"", limit: int = LIST_DIGESTS_MAX) -> list[tuple[bytes, int]]:
        start = schema.ENVELOPE_SIZE + after + (b"\x00" if after else b"")
        rows = self._store.iterate(schema.ENVELOPE_SIZE, start=start, limit=min(limit, LIST_DIGESTS_MAX))
        return [(key[1:], int.from_bytes(row[:8], "big")) for key, row in rows]

    def totals(self) -> Totals:
        return self._totals

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    # ---- streams

    def adopt(self, digest: bytes, stream: bytes, size: int) -> None:
        """Make the pieces of a stream an envelope, in place of an earlier copy. `_Receiving` has checked them."""
        with self._lock:
            if self.erased(digest):
                raise Refused("vault.deleted")
            before = self._row(digest)
            writes: list[Write] = [
                (schema.RECEIVING + stream, None),
                (schema.ENVELOPE + digest, None),
                (schema.ENVELOPE_SIZE + digest, Row(size, self._clock_ms(), stream).encode()),
                *self._without_pieces(before),
                *([(schema.DELETED + schema.ENVELOPE + digest, b"")] if before is not None else []),
            ]
            self._write(writes, before is None, size - (before.size if before is not None else 0))

    def abandon(self, stream: bytes) -> None:
        """Delete the pieces of a stream that became no envelope."""
        keys = [key for key, _ in self._store.iterate(schema.PIECE + stream)]
        writes: list[Write] = [(key, None) for key in keys]
        writes.append((schema.RECEIVING + stream, None))
        if keys:
            writes.append((schema.DELETED + schema.PIECE + stream, b""))
        self._store.write(writes, sync=False)

    def _pieces(self, digest: bytes, row: Row) -> Iterator[bytes]:
        hasher = self.hasher()
        for number in range(-(-row.size // PIECE_BYTES)):
            piece = self._store.get(schema.piece_key(row.stream, number))
            if piece is None:
                raise self._gone(digest)
            hasher.update(piece)
            if (number + 1) * PIECE_BYTES >= row.size and hasher.digest() != digest:
                raise Refused("vault.damaged", f"the envelope {digest.hex()[:16]} was altered on this disk")
            yield piece

    def _gone(self, digest: bytes) -> Refused:
        """A piece is not there: the envelope was replaced or deleted while it was read, or the disk lost it."""
        code = "vault.deleted" if self.erased(digest) else "vault.damaged"
        return Refused(code, f"a piece of {digest.hex()[:16]} is not there (any more)")

    # ---- inside

    def _delete(self, digests: Sequence[bytes], *, tombstones: bool) -> int:
        with self._lock:
            rows = {digest: self._row(digest) for digest in digests}
            present = [row for row in rows.values() if row is not None]
            writes: list[Write] = []
            for digest, row in rows.items():
                writes.append((schema.ENVELOPE + digest, None))
                writes.append((schema.ENVELOPE_SIZE + digest, None))
                writes.append((schema.DELETED + schema.ENVELOPE + digest, b""))
                writes += self._without_pieces(row)
                if tombstones:
                    writes.append((schema.TOMBSTONE + digest, b""))
            self._write(writes, -len(present), -sum(row.size for row in present))
        return len(present)

    def _without_pieces(self, row: Row | None) -> list[Write]:
        if row is None or not row.stream:
            return []
        numbers = range(-(-row.size // PIECE_BYTES))
        writes: list[Write] = [(schema.piece_key(row.stream, number), None) for number in numbers]
        return [*writes, (schema.DELETED + schema.PIECE + row.stream, b"")]

    def _row(self, digest: bytes) -> Row | None:
        raw = self._store.get(schema.ENVELOPE_SIZE + digest)
        return None if raw is None else row_in(raw)

    def _write(self, writes: list[Write], envelopes: int, size: int) -> None:
        """Write, synced, and count."""
        totals = Totals(self._totals.envelopes + envelopes, self._totals.bytes + size)
        self._store.write([*writes, totals_write(totals)], sync=True)
        self._totals = totals


class _Receiving:
    """Writes pieces as they come, unsynced; the row that names them is synced, and everything before it with it."""

    def __init__(self, vault: Vault, store: KeyValue, digest: bytes, stream: bytes) -> None:
        self._vault = vault
        self._store = store
        self._digest = digest
        self._stream = stream
        self._hasher = vault.hasher()
        self._buffer = bytearray()
        self._number = 0
        self._size = 0
        self._open = True

    def write(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > STREAM_BYTES_MAX:
            raise Refused("vault.oversized", f"more than {STREAM_BYTES_MAX} bytes")
        self._hasher.update(piece)
        self._buffer += piece
        while len(self._buffer) >= PIECE_BYTES:
            self._put(bytes(memoryview(self._buffer)[:PIECE_BYTES]))
            del self._buffer[:PIECE_BYTES]

    def finish(self) -> int:
        if self._hasher.digest() != self._digest:
            raise Refused(
                "vault.damaged", f"the bytes given for {self._digest.hex()[:16]} have another digest"
            )
        if self._buffer:
            self._put(bytes(self._buffer))
            self._buffer.clear()
        self._vault.adopt(self._digest, self._stream, self._size)
        self._open = False
        return self._size

    def _put(self, piece: bytes) -> None:
        self._store.write([(schema.piece_key(self._stream, self._number), piece)], sync=False)
        self._number += 1

    def __enter__(self) -> _Receiving:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._open = False
            self._vault.abandon(self._stream)
