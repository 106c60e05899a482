"""Both stores behind the key-value port, against a dict; and what a crash leaves of the one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium.ledger.errors import InvariantBroken
from consilium.storage.kv import KeyValue, MemoryKV, Write, prefix_end
from consilium.storage.leveldb import LevelKV


@pytest.fixture(params=["memory", "leveldb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyValue]:
    opened: KeyValue = MemoryKV() if request.param == "memory" else LevelKV(tmp_path / "kv", create=True)
    yield opened
    opened.close()
    opened.close()


keys = st.binary(min_size=1, max_size=3) | st.lists(
    st.sampled_from([0, 1, 254, 255]), min_size=1, max_size=4
).map(bytes)
batches = st.lists(st.lists(st.tuples(keys, st.none() | st.binary(max_size=3)), max_size=8), max_size=6)


def expected_rows(
    twin: dict[bytes, bytes], prefix: bytes, start: bytes | None, reverse: bool, limit: int | None
) -> list[tuple[bytes, bytes]]:
    rows = sorted((key, value) for key, value in twin.items() if key.startswith(prefix))
    if start is not None:
        rows = [row for row in rows if (row[0] <= start if reverse else row[0] >= start)]
    if reverse:
        rows.reverse()
    return rows[:limit]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120, deadline=None)
@given(
    written=batches,
    prefix=keys | st.just(b""),
    start=st.none() | keys,
    reverse=st.booleans(),
    limit=st.none() | st.integers(0, 4),
)
def test_both_stores_equal_a_dict(
    store: KeyValue,
    written: list[list[Write]],
    prefix: bytes,
    start: bytes | None,
    reverse: bool,
    limit: int | None,
) -> None:
    store.write([(key, None) for key, _ in list(store.iterate(b""))], sync=False)
    twin: dict[bytes, bytes] = {}
    for batch in written:
        store.write(batch, sync=False)
        for key, value in batch:
            if value is None:
                twin.pop(key, None)
            else:
                twin[key] = value
    assert list(store.iterate(b"")) == sorted(twin.items())
    found = list(store.iterate(prefix, start=start, reverse=reverse, limit=limit))
    assert found == expected_rows(twin, prefix, start, reverse, limit)
    for key in [*twin, b"absent"]:
        assert store.get(key) == twin.get(key)


def test_a_snapshot_stays_as_it_was(store: KeyValue) -> None:
    store.write([(b"a", b"1"), (b"b", b"2")], sync=True)
    with store.snapshot() as snapshot:
        store.write([(b"a", b"changed"), (b"b", None), (b"c", b"3")], sync=True)
        assert snapshot.get(b"a") == b"1"
        assert list(snapshot.iterate(b"")) == [(b"a", b"1"), (b"b", b"2")]
    assert list(store.iterate(b"")) == [(b"a", b"changed"), (b"c", b"3")]


def test_a_batch_keeps_the_last_write_of_a_key(store: KeyValue) -> None:
    store.write([(b"a", b"1"), (b"a", None), (b"b", None), (b"b", b"2")], sync=True)
    assert list(store.iterate(b"")) == [(b"b", b"2")]


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", None), (b"", None), (b"\x00", b"\x01")]
)
def test_where_a_prefix_ends(prefix: bytes, end: bytes | None) -> None:
    assert prefix_end(prefix) == end


def test_a_crash_loses_what_was_not_synced_from_the_end() -> None:
    store = MemoryKV()
    store.write([(b"a", b"1")], sync=False)
    store.write([(b"b", b"1")], sync=True)
    store.write([(b"a", None)], sync=False)
    store.write([(b"c", b"1")], sync=False)
    assert store.unsynced_writes == 2
    assert list(store.crash().iterate(b"")) == [(b"a", b"1"), (b"b", b"1")]
    assert list(store.crash(1).iterate(b"")) == [(b"b", b"1")]
    assert list(store.crash(2).iterate(b"")) == [(b"b", b"1"), (b"c", b"1")]


def test_a_failed_write_is_never_tried_again() -> None:
    store = MemoryKV()
    store.fail_next_write = True
    for _ in range(2):
        with pytest.raises(InvariantBroken):
            store.write([(b"a", b"1")], sync=True)
        store.fail_next_write = False
    assert store.get(b"a") is None
