"""A custodian's shares: sealed parcels by compartment and epoch, in a key-value store of their own.

The parcels are ciphertext to everybody but the institution, this store included.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

from consilium.storage import schema
from consilium.storage.kv import KeyValue
from consilium.storage.scrubbing import scrub

SHARES_FORMAT: Final = 1
COMPARTMENT_BYTES: Final = 16


class ShareVault:
    """See the module."""

    def __init__(self, store: KeyValue, *, create: bool = False) -> None:
        """Raises Refused `store.newer_format`, `store.older_format`, `store.corrupt`."""
        self._store = store
        self._lock = threading.Lock()
        if create:
            store.write([(schema.FORMAT, schema.format_bytes(SHARES_FORMAT))], sync=True)
        schema.check_format(store, SHARES_FORMAT)
        self._count = sum(1 for _ in store.iterate(schema.SHARE))

    def put_share(self, compartment: bytes, epoch: int, parcel: bytes) -> None:
        """Keep a parcel in place of an earlier one; durable on return."""
        key = schema.share_key(compartment, epoch)
        with self._lock:
            fresh = self._store.get(key) is None
            self._store.write([(key, parcel)], sync=True)
            self._count += fresh

    def share(self, compartment: bytes, epoch: int) -> bytes | None:
        """The parcel of a compartment's epoch."""
        return self._store.get(schema.share_key(compartment, epoch))

    def places(self, compartment: bytes) -> list[int]:
        """The epochs of a compartment of which a parcel is kept."""
        prefix = schema.SHARE + compartment
        return [int.from_bytes(key[len(prefix) :], "big") for key, _ in self._store.iterate(prefix)]

    def kept(self) -> Iterator[tuple[bytes, int]]:
        """The compartment and epoch of every parcel that is kept, in order."""
        for key, _ in self._store.iterate(schema.SHARE):
            yield key[1 : 1 + COMPARTMENT_BYTES], int.from_bytes(key[1 + COMPARTMENT_BYTES :], "big")

    def erase(self, compartment: bytes, epoch: int) -> bool:
        """Delete a parcel for good, durable on return. Whether there was one."""
        key = schema.share_key(compartment, epoch)
        with self._lock:
            known = self._store.get(key) is not None
            self._store.write([(key, None), (schema.DELETED + key, b"")], sync=True)
            self._count -= known
        return known

    def scrub(self) -> bool:
        """See that the bytes of erased parcels are on no disk any more. Takes long. False: not yet, call again."""
        return scrub(self._store, (schema.SHARE,))

    def share_count(self) -> int:
        """How many are kept."""
        return self._count

    def close(self) -> None:
        """Close the store."""
        self._store.close()
