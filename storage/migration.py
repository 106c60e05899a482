"""From an older format of the chain's store to the present one, in place, and going on where a crash ended it.

A step leads from one format to the next, in batches that each say how far they came. While a store is between two
formats it carries the newer number, so that no older program takes it for its own, and the row MIGRATING, so that this
one does not either (`storage.schema.check_format`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import Event
from consilium.ledger.merkle import MountainRange
from consilium.ledger.trie_nodes import NodeRef, node_key
from consilium.ledger.trie_parts import packed
from consilium.storage import schema
from consilium.storage.events import STORED_EVENT_BYTES_MAX, event_writes
from consilium.storage.height import TIP_BYTES_MAX, Tip
from consilium.storage.kv import KeyValue, KeyValueReader, Write

HEIGHTS_PER_BATCH: Final = 256
DELETED_PER_BATCH: Final = 16_384

Progress = Callable[[int, int], None]
"""How much is done, of how much."""


class Batch(NamedTuple):
    """Writes that belong together, and the height that they reach."""

    writes: list[Write]
    height: int


Step = Callable[[KeyValueReader, int], Iterator[Batch]]
"""What leads from a format to the next, from a height on."""


def migrate(store: KeyValue, progress: Progress = lambda done, total: None) -> list[int]:
    """Bring a store to the present format. Returns the formats that it had on the way, oldest first; none where there
    was nothing to do.

    Raises Refused `store.newer_format`, `store.older_format` where no step leads from there, `store.corrupt`.
    """
    formats: list[int] = []
    tip = _height_of_tip(store)
    while (position := _position(store)) is not None:
        found, reached = position
        step = STEPS.get(found)
        if step is None:
            raise Refused("store.older_format", f"nothing leads from format {found} to {found + 1}")
        formats.append(found)
        store.write(_marks(found, reached), sync=True)
        for batch in step(store, reached):
            store.write([*batch.writes, *_marks(found, batch.height + 1)], sync=False)
            progress(batch.height, tip)
        store.write([(schema.MIGRATING, None)], sync=True)
    return formats


def _position(store: KeyValueReader) -> tuple[int, int] | None:
    """Which step is next, by the format that it leads from, and from which height on; None where there is none."""
    raw = store.get(schema.MIGRATING)
    if raw is not None:
        return int.from_bytes(raw[:4], "big"), int.from_bytes(raw[4:12], "big")
    try:
        schema.check_format(store, schema.STORE_FORMAT)
    except Refused as refusal:
        if refusal.code != "store.older_format":
            raise
        return int.from_bytes(store.get(schema.FORMAT) or b"", "big"), 0
    return None


def _marks(found: int, height: int) -> list[Write]:
    place = found.to_bytes(4, "big") + height.to_bytes(8, "big")
    return [(schema.FORMAT, schema.format_bytes(found + 1)), (schema.MIGRATING, place)]


def _height_of_tip(store: KeyValueReader) -> int:
    for key, _ in store.iterate(schema.BLOCK, reverse=True, limit=1):
        return schema.height_in(key)
    return 0


def _side_by_side(store: KeyValueReader, first: int) -> Iterator[Batch]:
    """Format 1 had a row for each event, and one for each subject of each event.

    e height:u64 index:u32 -> Event        l subject:16 height:u64 index:u32 -> nothing
    """
    writes: list[Write] = []
    events: list[Event] = []
    height, begun = -1, 0
    for key, row in store.iterate(schema.EVENT, start=schema.event_key(first, 0)):
        if schema.height_in(key) != height:
            writes += event_writes(height, events)
            events = []
            if begun == HEIGHTS_PER_BATCH:
                yield Batch(writes, height)
                writes, begun = [], 0
            height, begun = schema.height_in(key), begun + 1
        try:
            event = codec.decode(row, Event, STORED_EVENT_BYTES_MAX)
        except Refused as refusal:
            raise Refused("store.corrupt", f"an event at height {height}: {refusal}") from None
        events.append(event)
        writes.append((key, None))
        for subject in event.subjects:
            writes.append((schema.SUBJECT + subject + key[1:], None))
    writes += event_writes(height, events)
    yield Batch(writes, max(height, first))


class OldTip(codec.Wire, frozen=True):
    """The tip as format 2 had it."""

    height: codec.Uint
    block_hash: codec.Bytes32
    time_ms: codec.Uint
    state_version: codec.Uint | None
    state_root: codec.Bytes32
    receipts_root: codec.Bytes32
    next_validators_hash: codec.Bytes32
    history: MountainRange


def _in_place(store: KeyValueReader, first: int) -> Iterator[Batch]:
    """Format 2 had a row for each node of the trie, under the height that wrote it.

    n version:u64 depth:u8 nibbles -> 0x00 pairs, or 0x01 bitmap:u16 hashes:32 versions:u64 sizes:u8 (0: a branch)
    x height:u64 -> what it replaced        R height:u64 -> version:u64 hash:32        T -> OldTip

    Branches are taken over as they are; what led back to earlier heights is not. Memory: 2.3 bytes for each key.
    """
    raw = store.get(schema.TIP)
    if raw is None:
        raise Refused("store.corrupt", "the store has no tip")
    if first == 0:
        try:
            old = codec.decode(raw, OldTip, TIP_BYTES_MAX)
        except Refused as refusal:
            raise Refused("store.corrupt", f"the tip: {refusal}") from None
        fields = {name: getattr(old, name) for name in Tip.__struct_fields__}
        writes: list[Write] = [(schema.TIP, codec.encode(Tip(**fields)))]
        root = None
        if old.state_version is not None:
            branch = _taken_over(store, b"", old.state_version, writes)
            root = NodeRef(old.state_root, branch)
        writes.append((schema.at_height(schema.ROOT, old.height), schema.root_row(root)))
        yield Batch(writes, 0)
    tip = _height_of_tip(store)
    writes = []
    for kind in (schema.OLD_NODE, schema.OLD_STALE, schema.UNDO, schema.ROOT):
        for key, _ in store.iterate(kind):
            if kind != schema.ROOT or schema.height_in(key) < tip:
                writes.append((key, None))
            if len(writes) == DELETED_PER_BATCH:
                yield Batch(writes, 0)
                writes = []
    yield Batch(writes, tip)


def _taken_over(store: KeyValueReader, prefix: bytes, version: int, writes: list[Write]) -> bool:
    """Write the branches at a prefix and below it anew. Whether a branch stands there."""
    place = node_key(len(prefix), packed(prefix))
    node = store.get(schema.OLD_NODE + version.to_bytes(8, "big") + place)
    count = int.from_bytes(node[1:3], "big").bit_count() if node else 0
    if not node or (node[0] and len(node) != 3 + 41 * count):
        raise Refused("store.corrupt", f"a node of the trie at {place.hex()}, written at height {version}")
    if node[0] == 0:
        return False
    below, at = 0, 3 + 32 * count
    for slot in range(16):
        if int.from_bytes(node[1:3], "big") >> slot & 1:
            child = prefix + bytes((slot,))
            if not node[3 + 40 * count + (at - 3 - 32 * count) // 8]:
                _taken_over(store, child, int.from_bytes(node[at : at + 8], "big"), writes)
                below |= 1 << slot
            at += 8
    writes.append((schema.BRANCH + place, node[1 : 3 + 32 * count] + below.to_bytes(2, "big")))
    return True


STEPS: Final[dict[int, Step]] = {1: _side_by_side, 2: _in_place}
"""By the format that they lead from."""
