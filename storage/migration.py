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
from consilium.storage import schema
from consilium.storage.events import STORED_EVENT_BYTES_MAX, event_writes
from consilium.storage.kv import KeyValue, KeyValueReader, Write

HEIGHTS_PER_BATCH: Final = 256

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


STEPS: Final[dict[int, Step]] = {1: _side_by_side}
"""By the format that they lead from."""
