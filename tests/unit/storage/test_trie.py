"""The trie on disk against one built from nothing: late branches, moves back and forth, and what a crash leaves."""

from __future__ import annotations

import random

import msgspec
import pytest

from consilium.ledger import trie_nodes, trie_proof
from consilium.ledger.errors import InvariantBroken
from consilium.ledger.state import Change
from consilium.ledger.trie import prove_hash, root_hash_of
from consilium.ledger.trie_parts import build
from consilium.storage import schema
from consilium.storage import trie as trie_module
from consilium.storage.kv import MemoryKV
from consilium.storage.state import NODE_CACHE_BYTES, StateStore

HEIGHTS = 90


class History:
    """A state under random changes, large enough for two levels of branches; with what every height held."""

    def __init__(self, seed: int, proof_heights: int = 512, cache_bytes: int = NODE_CACHE_BYTES) -> None:
        self.store = MemoryKV()
        self.cache_bytes = cache_bytes
        self.proof_heights = proof_heights
        self.state = self.opened()
        self.draw = random.Random(seed)
        self.values: list[dict[bytes, bytes]] = []

    def opened(self, store: MemoryKV | None = None) -> StateStore:
        return StateStore(
            store or self.store, proof_heights=self.proof_heights, node_cache_bytes=self.cache_bytes
        )

    def add(self, count: int, deleted: float = 0.3, reopen: bool = False) -> None:
        if reopen:
            self.state = self.opened()
        values = dict(self.values[-1]) if self.values else {}
        changes: list[Change] = []
        for number in self.draw.sample(range(900), count):
            key = b"key %d" % number
            value = b"%d" % self.draw.randrange(10**6)
            if self.draw.random() < deleted:
                values.pop(key, None)
                changes.append((key, None))
            else:
                values[key] = value
                changes.append((key, value))
        update = self.state.prepare(changes)
        self.store.write(self.state.writes(len(self.values), changes, update), sync=True)
        self.state.committed(changes, update)
        self.values.append(values)
        assert root_hash_of(update.root) == self.root(-1)

    def pairs(self, height: int) -> list[tuple[bytes, bytes]]:
        values = self.values[height]
        return sorted(
            (trie_proof.key_hash(key), trie_proof.value_hash(value)) for key, value in values.items()
        )

    def root(self, height: int) -> bytes:
        pairs = self.pairs(height)
        return build(pairs, b"")[0].hash if pairs else trie_proof.EMPTY_STATE_ROOT


def history(seed: int = 1, proof_heights: int = 512, cache_bytes: int = NODE_CACHE_BYTES) -> History:
    made = History(seed, proof_heights, cache_bytes)
    made.add(800, deleted=0)
    for number in range(HEIGHTS - 1):
        # Now and then most of it goes, so that branches collapse, and comes again.
        heavy = number % 30
        made.add(
            {20: 700, 25: 800}.get(heavy, 1 + number % 9),
            deleted={20: 0.97, 25: 0.05}.get(heavy, 0.3),
            reopen=number % 17 == 3,
        )
    return made


def test_every_height_is_proved_while_branches_wait() -> None:
    made = history()
    assert made.state.waiting.branches
    for state in (made.state, made.opened()):
        for height in (0, 1, 19, 20, 21, 25, 26, 50, HEIGHTS - 2, HEIGHTS - 1):
            root = made.root(height)
            for number in (*range(0, 900, 61), 10**6):
                key = b"key %d" % number
                value, proof = state.prove(key, height)
                assert value == made.values[height].get(key)
                assert trie_proof.verify_state(root, key, value, proof)


def test_what_waits_is_what_is_not_written_and_nothing_waits_long() -> None:
    made = history()
    whole = dict(build(made.pairs(-1), b"")[1])
    rows = {key[1:]: trie_nodes.BRANCH_HEAD + row for key, row in made.store.iterate(schema.BRANCH)}
    assert rows != whole
    waiting = made.state.waiting.branches
    stand = {**rows, **waiting}
    assert {key: node for key, node in stand.items() if node is not None} == whole
    for _ in range(schema.BRANCH_HEIGHTS_MAX):
        made.add(0)
    assert not made.state.waiting.branches
    assert {key[1:]: trie_nodes.BRANCH_HEAD + row for key, row in made.store.iterate(schema.BRANCH)} == whole


def test_a_start_finds_what_waited() -> None:
    made = history(seed=2)
    opened = made.opened()
    before, after = made.state.waiting, opened.waiting
    assert after.height == before.height
    assert before.branches.items() <= after.branches.items()  # it also finds some that were written since
    whole = dict(build(made.pairs(-1), b"")[1])
    assert {key: node for key, node in after.branches.items() if node is not None}.items() <= whole.items()
    # Fewer heights are kept than branches may wait, or were when it was written.
    for kept in (1, 3):
        short = history(seed=3, proof_heights=kept)
        short.proof_heights = 512
        short.add(30, reopen=True)
        whole = dict(build(short.pairs(-1), b"")[1])
        stand = {
            **{key[1:]: trie_nodes.BRANCH_HEAD + row for key, row in short.store.iterate(schema.BRANCH)},
            **short.state.waiting.branches,
        }
        assert {key: node for key, node in stand.items() if node is not None} == whole


def test_too_many_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trie_module, "WAITING_BRANCHES_MAX", 5)
    made = History(4)
    made.add(800, deleted=0)
    for count in (3, 700, 2, 300):
        made.add(count)
        assert len(made.state.waiting.branches) <= 5


def test_a_proof_from_before_or_amid_a_commit() -> None:
    """What waits is asked for before the snapshot is taken; a commit may come in between, or be half told."""
    made = history(seed=5)
    stale = made.state.waiting
    for _ in range(3):
        made.add(40)
    with made.store.snapshot() as snapshot:
        for height in range(HEIGHTS - 3, HEIGHTS + 3):
            nodes = made.state.trie_at(height, snapshot, stale)
            root = made.state.root_at(height, snapshot)
            for number in range(0, 900, 97):
                path = trie_proof.key_hash(b"key %d" % number)
                value = made.values[height].get(b"key %d" % number)
                hashed = None if value is None else trie_proof.value_hash(value)
                proof = prove_hash(nodes, root, path)
                assert trie_proof.verify_state_hashes(made.root(height), path, hashed, proof)


def test_a_proof_of_long_ago_keeps_what_lies_along_its_path_alone() -> None:
    """Anybody may ask for one, of hundreds of blocks ago, each of which may have changed thousands of places."""
    made = history(seed=6)
    path = trie_proof.key_hash(b"key 1")
    with made.store.snapshot() as snapshot:
        whole = made.state.trie_at(0, snapshot, made.state.waiting)
        along = made.state.trie_at(0, snapshot, made.state.waiting, path)
        ref = made.state.root_at(0, snapshot)
        assert prove_hash(along, ref, path) == prove_hash(whole, ref, path)
    held = [len(moves) for moves in along._later]
    assert 0 < sum(held) < sum(map(len, whole._later)) // 4
    assert max(held) <= 3 * 16  # the trie has two levels of branches, and now and then a third


def test_lost_moves_or_branches_are_found_at_the_start() -> None:
    made = history(seed=6)
    values = dict(made.store.iterate(b""))
    tip = schema.at_height(schema.MOVES, HEIGHTS - 1)
    moves = msgspec.msgpack.decode(values[tip])
    deepest = max(moves, key=len)
    less = {key: move for key, move in moves.items() if key != deepest}
    with pytest.raises(InvariantBroken, match="does not fit"):
        made.opened(MemoryKV({**values, tip: msgspec.msgpack.encode(less)}))
    short = History(8)
    short.add(800, deleted=0)
    short.add(3)
    gone = dict(short.store.iterate(b""))
    del gone[schema.BRANCH + trie_nodes.ROOT_KEY]
    with pytest.raises(InvariantBroken, match="does not fit"):
        made.opened(MemoryKV(gone))


def test_a_bucket_without_rows_and_a_branch_without_a_row_halt() -> None:
    made = history(seed=7)
    trie = made.opened(MemoryKV(dict(made.store.iterate(b""))))._trie
    absent = trie_nodes.node_key(20, bytes(32))
    with pytest.raises(InvariantBroken, match="no rows"):
        trie.bucket(absent)
    with pytest.raises(InvariantBroken, match="not in the store"):
        trie.branch(absent)


@pytest.mark.parametrize("depth", [0, 1, 2, 7, 8, 63, 64])
def test_a_bucket_is_read_off_its_range_alone(depth: int) -> None:
    draw = random.Random(depth)
    path = draw.randbytes(32)
    nibbles = path.hex()
    rows: dict[bytes, bytes] = {}
    for near in range(64):
        # Others that leave the path at each place, above and below it.
        other = nibbles[:near] + f"{(int(nibbles[near], 16) + 1) % 16:x}" + draw.randbytes(32).hex()
        rows[bytes.fromhex(other[:64])] = b"%d" % near
    rows[path] = b"own"
    store = MemoryKV({schema.STATE + one: schema.state_row(b"k", value) for one, value in rows.items()})
    inside = {one: value for one, value in rows.items() if one.hex()[:depth] == nibbles[:depth]}
    expected = b"".join(one + trie_proof.value_hash(inside[one]) for one in sorted(inside))
    bucket = StateStore(store)._trie.bucket(trie_nodes.node_key(depth, path))
    assert bucket == trie_nodes.BUCKET_HEAD + expected


SMALL_CACHE_BYTES = 60_000
"""Holds some of the buckets of a history, and not all."""


def kept_buckets(made: History) -> dict[bytes, bytes]:
    return {key[1:]: row for key, row in made.store.iterate(schema.BUCKET)}


def test_no_bucket_is_written_while_the_cache_holds_all() -> None:
    assert kept_buckets(history()) == {}


def test_a_state_beyond_the_cache_has_the_same_roots_and_proofs() -> None:
    """`History.add` holds every root against the twin's."""
    made = history(cache_bytes=SMALL_CACHE_BYTES)
    assert kept_buckets(made)
    for height in (1, 20, 25, 50, HEIGHTS - 1):
        for number in range(0, 900, 91):
            key = b"key %d" % number
            value, proof = made.state.prove(key, height)
            assert value == made.values[height].get(key)
            assert trie_proof.verify_state(made.root(height), key, value, proof)


def test_a_bucket_that_was_written_is_read_and_not_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    made = history(cache_bytes=SMALL_CACHE_BYTES)
    made.add(800, deleted=0)  # every bucket is written now
    scanned: list[bytes] = []
    scan = trie_module._bucket_in

    def counted(source: object, key: bytes, before: object) -> bytes:
        scanned.append(key)
        return scan(source, key, before)  # type: ignore[arg-type]

    monkeypatch.setattr(trie_module, "_bucket_in", counted)
    made.add(300, reopen=True)
    assert len(scanned) < 10  # a few keys were never drawn
    for key in kept_buckets(made):
        made.store.write([(schema.BUCKET + key, None)], sync=False)
    made.add(300, reopen=True)
    assert len(scanned) > 30


def test_old_and_damaged_buckets_are_not_believed() -> None:
    made = history(cache_bytes=SMALL_CACHE_BYTES)
    made.add(800, deleted=0)
    old = kept_buckets(made)
    for number in range(12):
        made.add(200, reopen=number % 3 == 0)
        # What is in the store is from before, or nonsense: as after a version that does not write buckets.
        damaged = {
            key: made.draw.choice([row, row[:-1], bytes(len(row)), b"", old.get(bytes(reversed(key)), b"x")])
            for key, row in old.items()
        }
        made.store.write([(schema.BUCKET + key, row) for key, row in damaged.items()], sync=False)
    assert made.state.root == made.opened().root
