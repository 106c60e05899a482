"""The filter of known keys: it may know too much, and never too little."""

from __future__ import annotations

import hashlib
import random

from hypothesis import given
from hypothesis import strategies as st

from consilium.ledger.state import Change
from consilium.storage import state as state_module
from consilium.storage.known import EVERYTHING, KnownKeys
from consilium.storage.kv import MemoryKV
from consilium.storage.state import StateStore


def path(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


@given(st.lists(st.sets(st.integers(0, 2_000)), max_size=8), st.sampled_from([64, 1_024]))
def test_what_was_noted_is_never_lacking(rounds: list[set[int]], bytes_max: int) -> None:
    known = KnownKeys(bytes_min=16, bytes_max=bytes_max)
    known.upto = EVERYTHING
    noted: set[int] = set()
    for numbers in rounds:
        known.note([path(number) for number in numbers])
        noted |= numbers
        assert not any(known.lacks(path(number)) for number in noted)


def test_it_knows_little_else_while_it_may_grow() -> None:
    known = KnownKeys(bytes_min=1_024)
    known.upto = EVERYTHING
    for first in range(0, 20_000, 100):
        known.note([path(number) for number in range(first, first + 100)])
    wrong = sum(not known.lacks(path(number)) for number in range(20_000, 30_000))
    assert wrong < 2_000


def test_nothing_is_said_of_what_was_not_looked_through() -> None:
    known = KnownKeys()
    low, high = sorted([path(1), path(2)])
    assert not known.lacks(low)
    known.upto = high
    assert known.lacks(low)
    assert not known.lacks(high)


class Counted(MemoryKV):
    """Counts the keys that are asked for."""

    asked = 0

    def get(self, key: bytes) -> bytes | None:
        self.asked += 1
        return super().get(key)


def test_a_state_learns_what_was_here_before() -> None:
    draw, store = random.Random(7), Counted()
    first = StateStore(store)
    keys = [b"key %d" % number for number in range(4 * state_module.LEARNT_PER_COMMIT // 3)]
    changes: list[Change] = [(key, b"1") for key in sorted(keys)]
    update = first.prepare(changes)
    store.write(first.writes(0, changes, update), sync=True)
    again = StateStore(store)
    for height in range(1, 4):
        # A commit that deletes a key, one that writes one, and reads of all kinds between them.
        some: list[Change] = sorted([(draw.choice(keys), None), (b"new %d" % height, b"2")])
        update = again.prepare(some)
        store.write(again.writes(height, some, update), sync=True)
        again.committed(some, update)
        reader = StateStore(store)
        for key in (*draw.sample(keys, 200), *(b"new %d" % number for number in range(6))):
            assert again.get(key) == reader.get(key)
    store.asked = 0
    absent = [b"absent %d" % number for number in range(1_000)]
    assert [again.get(key) for key in absent] == [None] * 1_000
    assert store.asked < 200
