"""What was released and must be told: durable before it leaves, counted once, forgotten when told and over."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.contracts import accounting
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.storage import releases, schema
from consilium.storage.kv import MemoryKV
from consilium.storage.leveldb import LevelKV
from consilium.storage.releases import ReleaseJournal, ReleaseKey, ReleaseNote, Untold

A, B = ReleaseKey(b"a" * 32, 0, 0), ReleaseKey(b"b" * 32, 255, 119)


def noted(key: ReleaseKey, *places: int, at: int = 5, until: int = 100) -> ReleaseNote:
    return ReleaseNote(key, 3, places, at, until)


def test_a_note_is_durable_on_return_and_comes_back_after_a_crash() -> None:
    store = MemoryKV()
    journal = ReleaseJournal(store)
    journal.note([noted(A, 0, 2), noted(B, 7)])
    assert journal.untold(9) == [Untold(A, 3, 2, 5), Untold(B, 3, 1, 5)]
    again = ReleaseJournal(store.crash())
    assert again.untold(9) == journal.untold(9)
    assert again.waiting == 2
    assert again.untold(1) == [Untold(A, 3, 2, 5)]


def test_records_that_come_again_count_once_and_keep_their_time() -> None:
    journal = ReleaseJournal(MemoryKV())
    journal.note([noted(A, 0, 1, at=5)])
    journal.note([noted(A, 1, at=8)])
    assert journal.untold(9) == [Untold(A, 3, 2, 5)]
    journal.note([noted(A, 1, 9, at=8)])
    assert journal.untold(9) == [Untold(A, 3, 3, 8)]


def test_how_long_the_oldest_waits() -> None:
    store = MemoryKV()
    journal = ReleaseJournal(store)
    assert journal.waiting_since_ms is None
    journal.note([noted(A, 0, at=50)])
    journal.note([noted(B, 0, at=40)])  # by a clock that was set back
    assert journal.waiting_since_ms == 40
    journal.note([noted(A, 1, at=90)])  # one more record of it: the first still waits
    journal.told([Untold(B, 3, 1, 40)])
    assert journal.waiting_since_ms == 50
    assert ReleaseJournal(store.crash()).waiting_since_ms is not None
    journal.told(journal.untold(9))
    assert journal.waiting_since_ms is None
    journal.note([noted(A, 2, at=95)])
    assert journal.waiting_since_ms == 95


def test_what_is_told_waits_no_more_until_there_is_more_of_it() -> None:
    journal = ReleaseJournal(MemoryKV())
    journal.note([noted(A, 0)])
    told = journal.untold(9)
    journal.note([noted(A, 1)])
    journal.told(told)
    assert journal.untold(9) == [Untold(A, 3, 2, 5)]
    journal.told(journal.untold(9))
    assert (journal.waiting, journal.untold(9)) == (0, [])
    journal.told(told)  # a late answer takes nothing back
    assert journal.waiting == 0
    journal.note([noted(A, 1)])
    assert journal.waiting == 0
    journal.note([noted(A, 2)])
    assert journal.waiting == 1


def test_rows_are_forgotten_once_they_are_told_and_their_window_is_over() -> None:
    store = MemoryKV()
    journal = ReleaseJournal(store)
    journal.note([noted(A, 0, until=100), noted(B, 0, until=200)])
    assert journal.forget(10**9) == 0
    journal.told(journal.untold(9))
    assert journal.forget(100) == 0
    assert journal.forget(101) == 1
    assert [key for key, _ in store.iterate(schema.RELEASED)] == [schema.release_key(B.transaction, 255, 119)]
    assert journal.forget(201) == 1


def test_the_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "ROWS_MAX", 1)
    journal = ReleaseJournal(MemoryKV())
    journal.note([noted(A, 0)])
    with pytest.raises(Refused, match=r"custodian\.untold"):
        journal.note([noted(A, 1), noted(B, 0)])
    assert journal.untold(9) == [Untold(A, 3, 1, 5)]
    journal.note([noted(A, 1)])
    journal.told(journal.untold(9))
    journal.forget(10**9)
    journal.note([noted(B, 0)])
    with pytest.raises(Refused, match=r"custodian\.untold"):
        ReleaseJournal(journal._store).note([noted(A, 0)])


def test_a_place_beyond_the_last_is_a_mistake() -> None:
    journal = ReleaseJournal(MemoryKV())
    for bad in (-1, releases.PLACES_MAX):
        with pytest.raises(ValueError, match="place"):
            journal.note([noted(A, bad)])
    with pytest.raises(ValueError, match="once"):
        journal.note([noted(A, 0), noted(A, 1)])
    journal.note([noted(A, releases.PLACES_MAX - 1)])
    assert journal.untold(1) == [Untold(A, 3, 1, 5)]


def test_nothing_to_note_writes_nothing() -> None:
    store = MemoryKV()
    ReleaseJournal(store).note([])
    assert list(store.iterate(b"")) == []


def test_a_damaged_row_stops_the_node() -> None:
    store = MemoryKV()
    ReleaseJournal(store).note([noted(A, 0)])
    ((key, raw),) = store.iterate(schema.RELEASED)
    store.write([(key, raw[:-1])], sync=True)
    with pytest.raises(InvariantBroken):
        ReleaseJournal(store)


def test_on_a_real_disk(tmp_path: Path) -> None:
    store = LevelKV(tmp_path / "shares", create=True)
    ReleaseJournal(store).note([noted(A, *range(0, 4_096, 3))])
    store.close()
    store = LevelKV(tmp_path / "shares")
    try:
        assert ReleaseJournal(store).untold(1) == [Untold(A, 3, 1_366, 5)]
    finally:
        store.close()


def test_a_verdict_has_as_many_places_here_as_on_the_chain() -> None:
    assert releases.PLACES_MAX == accounting.RELEASED_RECORDS_MAX


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("note"), st.sampled_from([A, B]), st.sets(st.integers(0, 20), min_size=1)),
            st.tuples(st.just("tell"), st.integers(1, 2)),
            st.tuples(st.just("crash")),
        ),
        max_size=20,
    )
)
def test_beside_a_dumb_twin(steps: list[tuple[object, ...]]) -> None:
    """What is released and not told is never lost; what is told may be told again after a crash, never too little."""
    store = MemoryKV()
    journal = ReleaseJournal(store)
    places: dict[ReleaseKey, set[int]] = {}
    told: dict[ReleaseKey, int] = {}
    for step in steps:
        if step[0] == "note":
            key, new = step[1], step[2]
            assert isinstance(key, ReleaseKey)
            assert isinstance(new, set)
            journal.note([noted(key, *sorted(new))])
            places.setdefault(key, set()).update(new)
        elif step[0] == "tell":
            assert isinstance(step[1], int)
            known = journal.untold(step[1])
            journal.told(known)
            told.update((one.key, max(one.records, told.get(one.key, 0))) for one in known)
        else:
            store = store.crash()
            journal = ReleaseJournal(store)
        waiting = {one.key: one.records for one in journal.untold(9)}
        assert all(waiting[key] == len(places[key]) for key in waiting)
        assert {key for key in places if told.get(key, 0) < len(places[key])} <= waiting.keys()
