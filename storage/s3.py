"""Envelopes in an S3-compatible object store, for institutions whose envelopes outgrow one disk.

Only the bytes are there. What is kept, how long it is, when it came and what was erased stays in the node's own small
store: so listing, counting and tombstones cost no call, are in the node's backup, and a bucket that somebody else
changed is found out: an object that is not indexed here is not served, and every byte's digest is checked on its way
out. An object appears in the bucket only once its digest was right (multipart uploads are completed at the end).

Of what is erased, the versions that a bucket keeps are deleted too, and so is what comes back into it, as far as it
lets this node list and delete them; where it does not, nothing is attested. Better that it keeps none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from consilium.ledger.crypto import Hasher
from consilium.ledger.errors import Refused
from consilium.storage import schema
from consilium.storage.envelopes import (
    ENVELOPE_BYTES_MAX,
    LIST_DIGESTS_MAX,
    PIECE_BYTES,
    STREAM_BYTES_MAX,
    Incoming,
    Totals,
    checked_envelopes,
)
from consilium.storage.kv import KeyValue, Write
from consilium.storage.object_store import PART_BYTES, Bucket
from consilium.storage.vault import Row, row_in, totals_row, totals_write

FOLDER: Final = "envelopes/"
RETURNED_EVERY_MS: Final = 3_600_000
"""So often the bucket is listed as a whole, a call for each thousand objects."""
PURGED_AT_ONCE: Final = 1_000


class S3Vault:
    """Implements `EnvelopeStore`. `index` is the node's own store of the vault; `bucket` has the bytes."""

    def __init__(
        self,
        index: KeyValue,
        bucket: Bucket,
        hasher: Callable[[], Hasher],
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Raises Refused `store.newer_format`, `store.older_format`, `store.corrupt`, `vault.unavailable`."""
        self._index = index
        self._bucket = bucket
        self.hasher = hasher
        self._clock_ms = clock_ms
        self._lock = threading.Lock()
        schema.check_format(index, schema.VAULT_FORMAT)
        self._totals = totals_row(index)
        self._looked_ms: int | None = None
        """When the whole bucket was last looked through for what had been erased."""
        bucket.abort_all()
        self._sweep([key[1:] for key, _ in index.iterate(schema.RECEIVING)])

    @property
    def remote(self) -> bool:
        return True

    def put_many(self, envelopes: Sequence[tuple[bytes, bytes]]) -> None:
        given = checked_envelopes(envelopes, self._digest)
        if any(self.erased(digest) for digest in given):
            raise Refused("vault.deleted")
        self._announce(list(given))
        for digest, envelope in given.items():
            self._bucket.put(name_of(digest), envelope)
        self.adopt({digest: len(envelope) for digest, envelope in given.items()})

    def receive(self, digest: bytes) -> Incoming:
        if self.erased(digest):
            raise Refused("vault.deleted")
        return _Uploading(self, self._bucket, digest)

    def get(self, digest: bytes) -> bytes | None:
        size = self.size(digest)
        if size is None:
            return None
        if size > ENVELOPE_BYTES_MAX:
            raise Refused("vault.oversized", f"{size} bytes: read it as a stream")
        pieces = self.read(digest)
        return None if pieces is None else b"".join(pieces)

    def read(self, digest: bytes) -> Iterator[bytes] | None:
        row = self._row(digest)
        return None if row is None else self._pieces(digest, row.size)

    def piece(self, digest: bytes, number: int) -> bytes | None:
        row = self._row(digest)
        if row is None or number * PIECE_BYTES >= row.size:
            return None
        return self._bucket.get(name_of(digest), number * PIECE_BYTES, PIECE_BYTES)

    def size(self, digest: bytes) -> int | None:
        row = self._row(digest)
        return None if row is None else row.size

    def has(self, digest: bytes) -> bool:
        return self._row(digest) is not None

    def came_ms(self, digest: bytes) -> int | None:
        row = self._row(digest)
        return None if row is None else row.came_ms

    def erase(self, digests: Sequence[bytes]) -> int:
        return self._delete(digests, tombstones=True)

    def forget(self, digests: Sequence[bytes]) -> int:
        return self._delete(digests, tombstones=False)

    def scrub(self) -> bool:
        """Delete for good what is erased and may still be in the bucket: what a failure left there, with its versions
        and unfinished uploads, and at the start and now and then what came back, since a bucket has backups too."""
        left = [key[1:] for key, _ in self._index.iterate(schema.RECEIVING)]
        self._purge([digest for digest in left if self.erased(digest)])
        now_ms = self._clock_ms()
        if self._looked_ms is None or now_ms >= self._looked_ms + RETURNED_EVERY_MS:
            found: list[bytes] = []
            for name in self._bucket.names():
                if (digest := digest_in(name)) is not None and self.erased(digest):
                    found.append(digest)
                if len(found) == PURGED_AT_ONCE:
                    self._purge(found)
                    found = []
            self._purge(found)
            self._looked_ms = now_ms
        return True

    def _purge(self, erased: list[bytes]) -> None:
        if erased:
            with self._lock:
                self._bucket.purge([name_of(digest) for digest in erased])
                self._index.write([(schema.RECEIVING + digest, None) for digest in erased], sync=True)

    def erased(self, digest: bytes) -> bool:
        return self._index.get(schema.TOMBSTONE + digest) is not None

    def digests(self, after: bytes = b"", limit: int = LIST_DIGESTS_MAX) -> list[tuple[bytes, int]]:
        start = schema.ENVELOPE_SIZE + after + (b"\x00" if after else b"")
        rows = self._index.iterate(schema.ENVELOPE_SIZE, start=start, limit=min(limit, LIST_DIGESTS_MAX))
        return [(key[1:], row_in(row).size) for key, row in rows]

    def totals(self) -> Totals:
        return self._totals

    def close(self) -> None:
        """Close the index and the connection."""
        self._bucket.close()
        self._index.close()

    def adopt(self, sizes: dict[bytes, int]) -> None:
        """Index what is in the bucket whole and checked."""
        with self._lock:
            erased = [digest for digest in sizes if self.erased(digest)]
            if erased:  # while they came
                self._bucket.delete([name_of(digest) for digest in erased])
                raise Refused("vault.deleted")
            fresh = {digest: size for digest, size in sizes.items() if not self.has(digest)}
            now_ms = self._clock_ms()
            writes: list[Write] = [(schema.RECEIVING + digest, None) for digest in sizes]
            writes += [
                (schema.ENVELOPE_SIZE + digest, Row(size, now_ms, b"").encode())
                for digest, size in fresh.items()
            ]
            self._write(writes, len(fresh), sum(fresh.values()))

    def _announce(self, digests: Sequence[bytes]) -> None:
        """So that objects which a crash leaves without an index entry are found again."""
        self._index.write([(schema.RECEIVING + digest, b"") for digest in digests], sync=True)

    def _sweep(self, announced: Sequence[bytes]) -> None:
        loose = [digest for digest in announced if not self.has(digest)]
        self._bucket.delete([name_of(digest) for digest in loose])
        # Of what is erased, `scrub` must still see to the versions.
        settled = [digest for digest in announced if not self.erased(digest)]
        self._index.write([(schema.RECEIVING + digest, None) for digest in settled], sync=False)

    def _delete(self, digests: Sequence[bytes], *, tombstones: bool) -> int:
        with self._lock:
            rows = {digest: self._row(digest) for digest in digests}
            present = [row for row in rows.values() if row is not None]
            writes: list[Write] = [(schema.ENVELOPE_SIZE + digest, None) for digest in rows]
            # Announced, so that what the bucket keeps because of a crash or a failure now goes at the next start.
            writes += [(schema.RECEIVING + digest, b"") for digest in rows]
            if tombstones:
                writes += [(schema.TOMBSTONE + digest, b"") for digest in rows]
            self._write(writes, -len(present), -sum(row.size for row in present))
            if tombstones:
                self._bucket.delete(
                    [name_of(digest) for digest in rows]
                )  # `scrub` does it once more, and for good
            else:
                self._sweep(list(rows))
        return len(present)

    def _pieces(self, digest: bytes, size: int) -> Iterator[bytes]:
        hasher = self.hasher()
        seen = 0
        for piece in self._bucket.read(name_of(digest), PIECE_BYTES) or ():
            seen += len(piece)
            hasher.update(piece)
            if seen >= size and (seen > size or hasher.digest() != digest):
                raise Refused("vault.damaged", f"the object {digest.hex()[:16]} was altered in the store")
            yield piece
        if seen < size:
            code = "vault.deleted" if self.erased(digest) else "vault.damaged"
            raise Refused(code, f"the object {digest.hex()[:16]} is not there (any more), or not whole")

    def _write(self, writes: list[Write], envelopes: int, size: int) -> None:
        totals = Totals(self._totals.envelopes + envelopes, self._totals.bytes + size)
        self._index.write([*writes, totals_write(totals)], sync=True)
        self._totals = totals

    def _digest(self, envelope: bytes) -> bytes:
        hasher = self.hasher()
        hasher.update(envelope)
        return hasher.digest()

    def _row(self, digest: bytes) -> Row | None:
        raw = self._index.get(schema.ENVELOPE_SIZE + digest)
        return None if raw is None else row_in(raw)


class _Uploading:
    """A multipart upload, completed only where the digest is right."""

    def __init__(self, vault: S3Vault, bucket: Bucket, digest: bytes) -> None:
        self._vault = vault
        self._bucket = bucket
        self._digest = digest
        self._hasher = vault.hasher()
        self._buffer = bytearray()
        self._upload: str | None = None
        self._tags: list[str] = []
        self._size = 0

    def write(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > STREAM_BYTES_MAX:
            raise Refused("vault.oversized", f"more than {STREAM_BYTES_MAX} bytes")
        self._hasher.update(piece)
        self._buffer += piece
        while len(self._buffer) > PART_BYTES:
            self._send(bytes(memoryview(self._buffer)[:PART_BYTES]))
            del self._buffer[:PART_BYTES]

    def finish(self) -> int:
        if self._hasher.digest() != self._digest:
            raise Refused(
                "vault.damaged", f"the bytes given for {self._digest.hex()[:16]} have another digest"
            )
        name = name_of(self._digest)
        if self._upload is None:
            self._vault._announce([self._digest])
            self._bucket.put(name, bytes(self._buffer))
        else:
            self._send(bytes(self._buffer))
            self._vault._announce([self._digest])
            self._bucket.complete(name, self._upload, self._tags)
            self._upload = None
        self._vault.adopt({self._digest: self._size})
        return self._size

    def _send(self, part: bytes) -> None:
        name = name_of(self._digest)
        if self._upload is None:
            self._upload = self._bucket.begin(name)
        self._tags.append(self._bucket.part(name, self._upload, len(self._tags) + 1, part))

    def __enter__(self) -> _Uploading:
        return self

    def __exit__(self, *_: object) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            self._bucket.abort(name_of(self._digest), upload)


def name_of(digest: bytes) -> str:
    """The object of an envelope."""
    return FOLDER + digest.hex()


def digest_in(name: str) -> bytes | None:
    """The digest of the envelope whose object has this name; None for what is no envelope of ours."""
    try:
        digest = bytes.fromhex(name.removeprefix(FOLDER))
    except ValueError:
        return None
    return digest if name_of(digest) == name else None
