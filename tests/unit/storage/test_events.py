"""The log of events against a list that is searched from its beginning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.ledger.errors import InvariantBroken
from consilium.ledger.execution import Event
from consilium.storage import schema
from consilium.storage.events import (
    EVENTS_PER_ROW,
    Place,
    event_writes,
    read_events,
    read_events_of,
    read_events_of_kinds,
)
from consilium.storage.kv import MemoryKV

PEOPLE = [bytes([number]) * 16 for number in range(4)]


def event(number: int, subjects: list[bytes]) -> Event:
    kind = "test.told" if number % 3 else "test.told_else"
    return Event(kind, subjects, bytes(32), 0, number, number.to_bytes(4, "big"))


heights = st.lists(
    st.lists(st.lists(st.sampled_from(PEOPLE[:3]), min_size=1, max_size=3), max_size=EVENTS_PER_ROW * 2 + 3),
    min_size=1,
    max_size=4,
)
cursors = st.builds(Place, st.integers(-1, 4), st.integers(-1, EVENTS_PER_ROW * 2 + 4))


@given(heights, cursors, st.integers(1, 150))
def test_against_a_list(told: list[list[list[bytes]]], after: Place, limit: int) -> None:
    store = MemoryKV()
    everything: list[tuple[Place, Event]] = []
    for height, subjects in enumerate(told):
        events = [event(number, about) for number, about in enumerate(subjects)]
        store.write(event_writes(height, events), sync=False)
        everything += [(Place(height, index), one) for index, one in enumerate(events)]
    following = [(place, one) for place, one in everything if after.height < 0 or place > after]
    assert read_events(store, after, limit) == following[:limit]
    for kinds in (["test.told"], ["test.told_else"], ["test.told", "test.told_else"], ["test"], []):
        wanted = [(place, one) for place, one in following[:limit] if one.kind in kinds]
        upto = following[:limit][-1][0] if following else after
        assert read_events_of_kinds(store, after, limit, kinds) == (wanted, upto)
    for person in PEOPLE:
        about = [(place, one) for place, one in following if person in one.subjects]
        assert read_events_of(store, person, after, limit) == about[:limit]


def test_one_row_for_many_events_and_one_for_each_subject() -> None:
    events = [event(number, PEOPLE[:2]) for number in range(EVENTS_PER_ROW * 3)]
    assert len(event_writes(7, events)) == 3 + 2


def test_an_index_without_its_event_is_damage() -> None:
    store = MemoryKV()
    store.write(event_writes(1, [event(0, PEOPLE[:1])]), sync=False)
    store.write([(schema.event_key(1, 0), None)], sync=False)
    with pytest.raises(InvariantBroken, match="indexed and not in the store"):
        read_events_of(store, PEOPLE[0], Place(-1, -1), 1)


def test_a_damaged_event_is_named() -> None:
    store = MemoryKV()
    store.write(event_writes(1, [event(0, PEOPLE[:1])]), sync=False)
    store.write([(schema.event_key(1, 0), b"\x91\xc4\x01\xff")], sync=False)
    with pytest.raises(InvariantBroken, match="a stored Event is damaged"):
        read_events(store, Place(-1, -1), 1)
