"""Envelopes (sealed records) by digest: durable before `put_many` returns, checked on the way in and on the way out.

An erased envelope leaves a tombstone, and its digest is refused for ever: an old backup or a returning holder cannot
bring it back. What an envelope is, and how its digest is made, is the client's affair; the vault is given the
function. `EnvelopeStore` is the port, for institutions whose envelopes outgrow one disk.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from consilium.ledger.errors import Refused
from consilium.storage import schema
from consilium.storage.kv import KeyValue, Write

ENVELOPE_BYTES_MAX: Final = 64 * 1024 * 1024
PUT_BYTES_MAX: Final = 256 * 1024 * 1024
"""Of all envelopes of one call: they are written as one batch, in memory until then."""
LIST_DIGESTS_MAX: Final = 10_000

_TOTALS: Final = struct.Struct(">QQ")


class Totals(NamedTuple):
    """How many envelopes there are, and how many bytes they have together."""

    envelopes: int
    bytes: int


class EnvelopeStore(Protocol):
    """Where a custodian keeps envelopes. Calls may block for a disk: make them from a thread."""

    def put_many(self, envelopes: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep envelopes, given as (digest, envelope): all or none, and durable on return. Repeating is harmless.

        Raises Refused, with nothing kept: `vault.damaged` where a digest does not match, `vault.deleted` where it
        was erased, `vault.oversized`.
        """
        ...

    def get(self, digest: bytes) -> bytes | None:
        """The envelope, or None where it is not here, or erased. Raises Refused `vault.damaged`."""
        ...

    def has(self, digest: bytes) -> bool:
        """Whether the envelope is here."""
        ...

    def erase(self, digests: Sequence[bytes]) -> int:
        """Delete envelopes for good, here or not, durable on return. Returns how many were here."""
        ...

    def erased(self, digest: bytes) -> bool:
        """Whether the digest was erased here."""
        ...

    def digests(self, after: bytes = b"", limit: int = LIST_DIGESTS_MAX) -> list[tuple[bytes, int]]:
        """Digests above `after`, in order, each with its envelope's length in bytes."""
        ...

    def totals(self) -> Totals:
        """Number and bytes of all envelopes here."""
        ...


class Vault:
    """Envelopes in a key-value store of their own."""

    def __init__(self, store: KeyValue, digest_of: Callable[[bytes], bytes], *, create: bool = False) -> None:
        """Raises Refused `store.newer_format`, `store.older_format`, `store.corrupt`."""
        self._store = store
        self._digest_of = digest_of
        self._lock = threading.Lock()
        if create:
            store.write([(schema.FORMAT, schema.format_bytes(schema.VAULT_FORMAT))], sync=True)
        schema.check_format(store, schema.VAULT_FORMAT)
        raw = store.get(schema.VAULT_TOTALS)
        self._totals = Totals(*_TOTALS.unpack(raw)) if raw is not None else Totals(0, 0)

    def put_many(self, envelopes: Sequence[tuple[bytes, bytes]]) -> None:
        given = dict(envelopes)
        if sum(map(len, given.values())) > PUT_BYTES_MAX:
            raise Refused("vault.oversized", f"one call keeps at most {PUT_BYTES_MAX} bytes")
        for digest, envelope in envelopes:
            if len(envelope) > ENVELOPE_BYTES_MAX:
                raise Refused("vault.oversized", f"an envelope of {len(envelope)} bytes")
            if self._digest_of(envelope) != digest:
                raise Refused("vault.damaged", f"the bytes given for {digest.hex()[:16]} have another digest")
        with self._lock:
            if any(self.erased(digest) for digest in given):
                raise Refused("vault.deleted")
            fresh = {digest: envelope for digest, envelope in given.items() if not self.has(digest)}
            # What is here already may be damaged: whoever puts it again repairs it.
            writes: list[Write] = [(schema.ENVELOPE + digest, envelope) for digest, envelope in given.items()]
            writes += [
                (schema.ENVELOPE_SIZE + digest, len(envelope).to_bytes(8, "big"))
                for digest, envelope in fresh.items()
            ]
            self._write(writes, len(fresh), sum(map(len, fresh.values())))

    def get(self, digest: bytes) -> bytes | None:
        envelope = self._store.get(schema.ENVELOPE + digest)
        if envelope is not None and self._digest_of(envelope) != digest:
            raise Refused("vault.damaged", f"the envelope {digest.hex()[:16]} was altered on this disk")
        return envelope

    def has(self, digest: bytes) -> bool:
        return self._store.get(schema.ENVELOPE_SIZE + digest) is not None

    def erase(self, digests: Sequence[bytes]) -> int:
        with self._lock:
            sizes = {digest: self._store.get(schema.ENVELOPE_SIZE + digest) for digest in digests}
            present = [int.from_bytes(size, "big") for size in sizes.values() if size is not None]
            writes: list[Write] = []
            for digest in sizes:
                writes.append((schema.ENVELOPE + digest, None))
                writes.append((schema.ENVELOPE_SIZE + digest, None))
                writes.append((schema.TOMBSTONE + digest, b""))
            self._write(writes, -len(present), -sum(present))
        return len(present)

    def scrub(self) -> None:
        """See that the bytes of erased envelopes leave the disk. Takes long: from a thread, after an erasure."""
        self._store.compact(schema.ENVELOPE)

    def check(self, progress: Callable[[int], None] = lambda done: None) -> list[bytes]:
        """Read every envelope. Returns the digests of those that are damaged or missing. Takes long."""
        bad: list[bytes] = []
        after, done = b"", 0
        while page := self.digests(after):
            after = page[-1][0]
            for digest, _ in page:
                try:
                    whole = self.get(digest) is not None
                except Refused:
                    whole = False
                if not whole:
                    bad.append(digest)
            done += len(page)
            progress(done)
        return bad

    def erased(self, digest: bytes) -> bool:
        return self._store.get(schema.TOMBSTONE + digest) is not None

    def digests(self, after: bytes = b"", limit: int = LIST_DIGESTS_MAX) -> list[tuple[bytes, int]]:
        start = schema.ENVELOPE_SIZE + after + (b"\x00" if after else b"")
        rows = self._store.iterate(schema.ENVELOPE_SIZE, start=start, limit=min(limit, LIST_DIGESTS_MAX))
        return [(key[1:], int.from_bytes(size, "big")) for key, size in rows]

    def totals(self) -> Totals:
        return self._totals

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _write(self, writes: list[Write], envelopes: int, size: int) -> None:
        """Write, with totals that change by so many envelopes and bytes. They are known without the disk."""
        totals = Totals(self._totals.envelopes + envelopes, self._totals.bytes + size)
        self._store.write([*writes, (schema.VAULT_TOTALS, _TOTALS.pack(*totals))], sync=True)
        self._totals = totals
