"""Which envelopes the chain anchors: a local index over the chain's events, with how far they were followed.

Kept beside the envelopes, and written with the cursor in one batch: after a crash, following goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from consilium.storage import schema
from consilium.storage.events import Place
from consilium.storage.height import place_in
from consilium.storage.kv import KeyValue, Write

BEFORE_ALL = Place(-1, -1)


class AnchoredInState(NamedTuple):
    """A record as the state has it: the digest of its envelope, its id, its compartment, and when it was anchored."""

    digest: bytes
    record: bytes
    compartment: bytes
    anchored_ms: int


class AnchorIndex:
    """See the module. One writer."""

    def __init__(self, store: KeyValue) -> None:
        self._store = store

    def followed(self) -> Place:
        """The last event that was looked at; `Place(-1, -1)` where none was."""
        raw = self._store.get(schema.ANCHORS_SEEN)
        return BEFORE_ALL if raw is None else place_in(raw)

    def follow(self, anchored: Sequence[tuple[bytes, bytes]], upto: Place) -> None:
        """Note (digest of the envelope, record that anchors it), seen in events up to `upto`."""
        writes: list[Write] = [(schema.ANCHORED + digest, record) for digest, record in anchored]
        place = upto.height.to_bytes(8, "big") + upto.index.to_bytes(4, "big")
        self._store.write([*writes, (schema.ANCHORS_SEEN, place)], sync=False)

    def follow_state(self, anchored: Sequence[AnchoredInState]) -> None:
        """Note records that a state holds whose events are not known here: the chain began with a snapshot."""
        writes: list[Write] = []
        for one in anchored:
            key = one.compartment + one.anchored_ms.to_bytes(8, "big") + one.record
            writes += [(schema.ANCHORED + one.digest, one.record), (schema.ANCHORED_IN + key, b"")]
        self._store.write(writes, sync=False)

    def in_compartment(self, compartment: bytes) -> Iterator[bytes]:
        """The records of a compartment (16 bytes) that `follow_state` noted, oldest first."""
        for key, _ in self._store.iterate(schema.ANCHORED_IN + compartment):
            yield key[-16:]

    def record_of(self, digest: bytes) -> bytes | None:
        """The record that anchors an envelope."""
        return self._store.get(schema.ANCHORED + digest)

    def anchored(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """(digest, record) above the digest `after`, in order."""
        start = schema.ANCHORED + after + (b"\x00" if after else b"")
        return [
            (key[1:], record)
            for key, record in self._store.iterate(schema.ANCHORED, start=start, limit=limit)
        ]
