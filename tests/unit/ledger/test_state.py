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


@given(STATES, STEPS, STEPS, STEPS)
def test_overlays_on_overlays(
    base: dict[bytes, bytes],
    first: list[tuple[bytes, bytes | None]],
    dropped: list[tuple[bytes, bytes | None]],
    second: list[tuple[bytes, bytes | None]],
) -> None:
    """As a block does: one overlay a transaction on the block's; what is not merged never was."""
    below, twin = MemoryState(dict(base)), dict(base)
    block = Overlay(below)
    for steps, kept in ((first, True), (dropped, False), (second, True)):
        inner = Overlay(block)
        copied = dict(twin)
        write(inner, copied, steps)
        if kept:
            inner.merge_into(block)
            twin = copied
        assert {key: block.get(key) for key in (b"a", b"b", b"c", b"d")} == {
            key: twin.get(key) for key in (b"a", b"b", b"c", b"d")
        }
    below.apply(block.changes())
    assert below.values == twin


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
