"""Overlays against a dumb twin that copies a dict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.ledger.errors import InvariantBroken
from consilium.ledger.state import STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX, MemoryState, Overlay

KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
VALUES = st.none() | st.sampled_from([b"", b"1", b"2"])
STEPS = st.lists(st.tuples(KEYS, VALUES), max_size=12)
STATES = st.dictionaries(KEYS, st.sampled_from([b"", b"1", b"2"]))


def write(overlay: Overlay, twin: dict[bytes, bytes], steps: list[tuple[bytes, bytes | None]]) -> None:
    for key, value in steps:
        if value is None:
            overlay.delete(key)
            twin.pop(key, None)
        else:
            overlay.put(key, value)
            twin[key] = value


@given(STATES, STEPS, st.sets(KEYS))
def test_an_overlay_reads_what_it_wrote(
    base: dict[bytes, bytes], steps: list[tuple[bytes, bytes | None]], read_first: set[bytes]
) -> None:
    below, twin = MemoryState(dict(base)), dict(base)
    overlay = Overlay(below)
    for key in read_first:
        assert overlay.get(key) == base.get(key)
    write(overlay, twin, steps)
    assert {key: overlay.get(key) for key in (b"a", b"b", b"c", b"d")} == {
        key: twin.get(key) for key in (b"a", b"b", b"c", b"d")
    }
    assert below.values == base
    changes = overlay.changes()
    assert changes == sorted(changes)
    assert {key for key, _ in changes} == {key for key, _ in steps if base.get(key) != twin.get(key)}
    below.apply(changes)
    assert below.values == twin


@given(STATES, STEPS, STEPS)
def test_growth_is_what_state_is_longer_by_than_when_it_was_last_kept(
    base: dict[bytes, bytes],
    kept: list[tuple[bytes, bytes | None]],
    steps: list[tuple[bytes, bytes | None]],
) -> None:
    def size(values: dict[bytes, bytes]) -> int:
        return sum(len(key) + len(value) for key, value in values.items())

    overlay, twin = Overlay(MemoryState(dict(base))), dict(base)
    write(overlay, twin, kept)
    assert overlay.growth() == size(twin) - size(base)
    overlay.keep()
    before = size(twin)
    write(overlay, twin, steps)
    assert overlay.growth() == size(twin) - before
    overlay.drop()
    assert overlay.growth() == 0


@given(STATES, st.lists(st.tuples(STEPS, st.sets(KEYS), st.booleans()), max_size=5))
def test_what_is_not_kept_never_was(
    base: dict[bytes, bytes], transactions: list[tuple[list[tuple[bytes, bytes | None]], set[bytes], bool]]
) -> None:
    """As a block does: its transactions one after the other on one overlay, the refused ones taken back."""
    below, twin = MemoryState(dict(base)), dict(base)
    block = Overlay(below)
    for steps, read, kept in transactions:
        for key in read:
            assert block.get(key) == twin.get(key)
        copied = dict(twin)
        write(block, copied, steps)
        if kept:
            block.keep()
            twin = copied
        else:
            block.drop()
        assert {key: block.get(key) for key in (b"a", b"b", b"c", b"d")} == {
            key: twin.get(key) for key in (b"a", b"b", b"c", b"d")
        }
    changes = block.changes()
    assert {key for key, _ in changes} == {
        key for key in (b"a", b"b", b"c", b"d") if base.get(key) != twin.get(key)
    }
    below.apply(changes)
    assert below.values == twin


def test_the_base_is_asked_once() -> None:
    asked: list[bytes] = []

    class Base:
        def get(self, key: bytes) -> bytes | None:
            asked.append(key)
            return None

    overlay = Overlay(Base())
    for _ in range(2):
        assert overlay.get(b"a") is None
        overlay.put(b"b", b"1")
        overlay.drop()
        assert overlay.get(b"b") is None
    overlay.changes()
    assert asked == [b"a", b"b"]


@given(STATES, STEPS)
def test_changes_do_not_depend_on_the_order_of_writing(
    base: dict[bytes, bytes], steps: list[tuple[bytes, bytes | None]]
) -> None:
    last = dict(steps)
    one, other = Overlay(MemoryState(base)), Overlay(MemoryState(base))
    write(one, {}, list(last.items()))
    write(other, {}, list(reversed(last.items())))
    assert one.changes() == other.changes()


def test_bounds() -> None:
    overlay = Overlay(MemoryState())
    overlay.put(bytes(STATE_KEY_BYTES_MAX), bytes(STATE_VALUE_BYTES_MAX))
    for key, value in (
        (b"", b""),
        (bytes(STATE_KEY_BYTES_MAX + 1), b""),
        (b"k", bytes(STATE_VALUE_BYTES_MAX + 1)),
    ):
        with pytest.raises(InvariantBroken, match="limits"):
            overlay.put(key, value)
    assert len(overlay.changes()) == 1


def test_deleting_what_is_not_there_changes_nothing() -> None:
    overlay = Overlay(MemoryState({b"a": b"1"}))
    overlay.delete(b"b")
    overlay.put(b"c", b"1")
    overlay.delete(b"c")
    overlay.put(b"a", b"1")
    assert overlay.changes() == []
