"""The log of events: what applications are told, by its place in the chain and by whom it concerns.

A height's events are written side by side, EVENTS_PER_ROW in a row, and each subject has one row for a height with the
indexes of its events in it: rows are what a write costs, and a busy height tells thousands of events about few people.
An event's place (height, index) is its cursor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from consilium.ledger import codec
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.execution import EVENT_BYTES_MAX, Event
from consilium.storage import schema
from consilium.storage.kv import KeyValueReader, Write

EVENTS_PER_ROW: Final = 32
EVENTS_READ_MAX: Final = 10_000
EVENT_INDEX_LAST: Final = 2**31 - 1
"""A cursor with this index is behind every event of its height."""
STORED_EVENT_BYTES_MAX: Final = EVENT_BYTES_MAX + 1024

_INDEX_BYTES: Final = 4
_EVENT_HEAD: Final = bytes((0x90 + len(Event.__struct_fields__),))
"""With what an event's bytes begin: an array of its fields, of which `kind` is the first."""
_row_decoder = msgspec.msgpack.Decoder(list[bytes])


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an executed transaction or an event is: its height, and its index there."""

    height: int
    index: int


def event_writes(height: int, events: Sequence[Event]) -> list[Write]:
    """The rows of a height's events."""
    writes: list[Write] = []
    encoded = [codec.encode(event) for event in events]
    for first in range(0, len(encoded), EVENTS_PER_ROW):
        row = msgspec.msgpack.encode(encoded[first : first + EVENTS_PER_ROW])
        writes.append((schema.event_key(height, first), row))
    about: dict[bytes, list[bytes]] = {}
    for index, event in enumerate(events):
        place = index.to_bytes(_INDEX_BYTES, "big")
        for subject in dict.fromkeys(event.subjects):
            about.setdefault(subject, []).append(place)
    writes += [(schema.subject_key(subject, height), b"".join(found)) for subject, found in about.items()]
    return writes


def read_events(store: KeyValueReader, after: Place, limit: int) -> list[tuple[Place, Event]]:
    """Events after a cursor, in order. `Place(height, -1)` is before every event of that height."""
    following = _following(after)
    start = schema.event_key(following.height, following.index - following.index % EVENTS_PER_ROW)
    found: list[tuple[Place, Event]] = []
    limit = min(limit, EVENTS_READ_MAX)
    for key, row in store.iterate(schema.EVENT, start=start):
        height, first = schema.height_in(key), int.from_bytes(key[9:13], "big")
        for index, raw in enumerate(_row_decoder.decode(row), first):
            if len(found) >= limit:
                return found
            place = Place(height, index)
            if place >= following:
                found.append((place, _event_in(raw)))
    return found


def read_events_of_kinds(
    store: KeyValueReader, after: Place, limit: int, kinds: Iterable[str]
) -> tuple[list[tuple[Place, Event]], Place]:
    """Of the next `limit` events after a cursor those of some kinds, and the place of the last that was looked at: the
    cursor itself at the end. What is of another kind is not decoded."""
    following, upto = _following(after), after
    begins = tuple(_EVENT_HEAD + codec.encode(kind) for kind in kinds)
    start = schema.event_key(following.height, following.index - following.index % EVENTS_PER_ROW)
    found: list[tuple[Place, Event]] = []
    left = min(limit, EVENTS_READ_MAX)
    for key, row in store.iterate(schema.EVENT, start=start):
        height, first = schema.height_in(key), int.from_bytes(key[9:13], "big")
        skipped = following.index - first if height == following.height else 0
        events = _row_decoder.decode(row)[max(0, skipped) :][:left]
        for index, raw in enumerate(events, first + max(0, skipped)):
            upto = Place(height, index)
            if raw.startswith(begins):
                found.append((upto, _event_in(raw)))
        left -= len(events)
        if left <= 0:
            break
    return found, upto


def read_events_of(
    store: KeyValueReader, subject: bytes, after: Place, limit: int
) -> list[tuple[Place, Event]]:
    """As `read_events`, of one subject (16 bytes)."""
    found: list[tuple[Place, Event]] = []
    limit = min(limit, EVENTS_READ_MAX)
    held, row = b"", list[bytes]()
    for place in _places_of(store, subject, _following(after)):
        if len(found) >= limit:
            break
        first = place.index - place.index % EVENTS_PER_ROW
        key = schema.event_key(place.height, first)
        if key != held:
            raw = store.get(key)
            held, row = key, [] if raw is None else _row_decoder.decode(raw)
        if place.index - first >= len(row):
            raise InvariantBroken(f"the event {place} is indexed and not in the store")
        found.append((place, _event_in(row[place.index - first])))
    return found


def _places_of(store: KeyValueReader, subject: bytes, following: Place) -> Iterator[Place]:
    prefix = schema.SUBJECT + subject
    for key, row in store.iterate(prefix, start=schema.subject_key(subject, following.height)):
        height = int.from_bytes(key[len(prefix) :], "big")
        for at in range(0, len(row), _INDEX_BYTES):
            place = Place(height, int.from_bytes(row[at : at + _INDEX_BYTES], "big"))
            if place >= following:
                yield place


def _event_in(raw: bytes) -> Event:
    try:
        return codec.decode(raw, Event, STORED_EVENT_BYTES_MAX)
    except Refused as refusal:
        raise InvariantBroken(f"a stored Event is damaged: {refusal}") from refusal


def _following(cursor: Place) -> Place:
    return Place(cursor.height, cursor.index + 1) if cursor.height >= 0 else Place(0, 0)
