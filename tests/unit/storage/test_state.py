"""State on disk with caches too small to hold anything, and with commits in the middle of a read."""

from __future__ import annotations

import random

import pytest

from consilium.ledger import trie_proof
from consilium.ledger.errors import InvariantBroken
from consilium.ledger.state import Change
from consilium.ledger.trie import root_hash_of
from consilium.ledger.trie_nodes import NodeRef
from consilium.storage import schema
from consilium.storage import state as states
from consilium.storage.kv import MemoryKV
from consilium.storage.state import StateStore


class Chain:
    """A state under random changes, beside a dict of every height."""

    def __init__(self, store: MemoryKV, cache_bytes: int) -> None:
        self.store = store
        self.state = StateStore(
            store, proof_heights=5, node_cache_bytes=cache_bytes, value_cache_bytes=cache_bytes
        )
        self.heights: list[dict[bytes, bytes]] = []
        self.roots: list[NodeRef | None] = []

    def add(self, changes: list[Change]) -> None:
        height = len(self.heights)
        update = self.state.prepare(changes)
        self.store.write(self.state.writes(height, changes, update), sync=True)
        self.state.committed(changes, update)
        values = dict(self.heights[-1]) if self.heights else {}
        for key, value in changes:
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value
        self.heights.append(values)
        self.roots.append(update.root)


@pytest.mark.parametrize("cache_bytes", [1, 20_000, 10**8])
def test_caches_change_no_answer(cache_bytes: int) -> None:
    draw = random.Random(5)
    chain = Chain(MemoryKV(), cache_bytes)
    keys = [b"key %d" % number for number in range(150)]
    for _ in range(30):
        changed = draw.sample(keys, draw.choice([0, 1, 3, 40]))
        chain.add([(key, b"%d" % draw.randrange(99) if draw.random() < 0.7 else None) for key in changed])
        for key in draw.sample(keys, 20):
            assert chain.state.get(key) == chain.heights[-1].get(key)
    reopened = StateStore(chain.store, proof_heights=5)
    for height in range(25, 30):
        for key in keys:
            value, proof = reopened.prove(key, height)
            assert value == chain.state.at(height).get(key) == chain.heights[height].get(key)
            assert trie_proof.verify_state(root_hash_of(chain.roots[height]), key, value, proof)


def test_a_read_that_is_overtaken_by_a_commit_leaves_no_old_value_behind() -> None:
    chain = Chain(MemoryKV(), 10**6)
    chain.add([(b"key", b"old")])
    overtaken = StateStore(chain.store)
    read = chain.store.get

    class Slow:
        """Answers the first read of a value only after a commit has gone by."""

        def __init__(self) -> None:
            self.waiting = True

        def get(self, key: bytes) -> bytes | None:
            row = read(key)
            if self.waiting and key.startswith(schema.STATE):
                self.waiting = False
                changes: list[Change] = [(b"key", b"new")]
                update = overtaken.prepare(changes)
                chain.store.write(overtaken.writes(1, changes, update), sync=True)
                overtaken.committed(changes, update)
            return row

        iterate = staticmethod(chain.store.iterate)

    overtaken._store = Slow()  # type: ignore[assignment]
    assert overtaken.get(b"key") == b"old"
    assert overtaken.get(b"key") == b"new"


def test_a_commit_while_a_read_value_changes_generation_is_not_undone_by_that() -> None:
    """A reader takes the value from the old generation, and puts it into the young one: a commit between the two would
    be overwritten, and the next block executed on what stood before."""
    chain = Chain(MemoryKV(), 10**6)
    chain.add([(b"key", b"old")])
    path = trie_proof.key_hash(b"key")
    state, cache = chain.state, chain.state._values
    committed: list[bool] = []

    class Old(dict[bytes, bytes | None]):
        """Lets a commit in where one can come: it waits for whoever holds the lock."""

        def pop(self, key: bytes, default: bytes | None = None) -> bytes | None:  # type: ignore[override]
            value = super().pop(key, default)
            if not committed and not state._lock.locked():
                committed.append(True)
                chain.add([(b"key", b"new")])
            return value

    cache._old, cache.young = Old({path: b"old"}), {}
    assert state.get(b"key") == b"old"
    if not committed:
        chain.add([(b"key", b"new")])
    assert state.get(b"key") == b"new"


def test_a_row_of_another_key_halts() -> None:
    chain = Chain(MemoryKV(), 1)
    chain.add([(b"key 1", b"one"), (b"key 2", b"two")])
    first, second = (schema.STATE + trie_proof.key_hash(key) for key in (b"key 1", b"key 2"))
    row = chain.store.get(second)
    chain.store.write([(first, row)], sync=True)
    with pytest.raises(InvariantBroken):
        StateStore(chain.store).get(b"key 1")


def test_readers_fill_no_memory_while_no_block_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "HASHES_MEMORISED_MAX", 10)
    chain = Chain(MemoryKV(), 10**8)
    chain.add([(b"here", b"1")])
    for number in range(100):
        assert chain.state.get(b"absent %d" % number) is None
    assert chain.state.get(b"here") == b"1"
    assert len(chain.state._hashes) <= 10
