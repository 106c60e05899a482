"""The trie on disk: branches that are written late, moves that are written at once, and buckets that need not be.

A block changes as many branches as keys, and writing them was the dearest part of a commit. So a height writes its
*moves* only, one row: what each place of the trie had and has now. Changed branches stay in memory until their turn
comes, at the latest BRANCH_HEIGHTS_MAX heights later, and after a start they are what was written last with the moves
since. Backwards the same moves lead to the trie as of an earlier height. A bucket need not be kept at all: the state's
rows are in the trie's order, so a bucket is read off a short range of them.

Reading it off takes five times as long as reading a row, and a state that the cache does not hold has it read for
nearly each key that changes. So once the cache has forgotten something, changed buckets are written too. Such a row
is a cache like the other: its parent's branch has its hash, and where that differs the row is old, and not believed.

Memory: two caches, and the branches that wait (WAITING_BRANCHES_MAX).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from consilium.ledger import trie_nodes
from consilium.ledger.errors import InvariantBroken
from consilium.ledger.trie import TrieUpdate
from consilium.ledger.trie_nodes import BRANCH_HEAD, BUCKET_HEAD, NodeRef
from consilium.ledger.trie_parts import bucket_of
from consilium.ledger.trie_proof import DEPTH_MAX, value_hash
from consilium.storage import schema
from consilium.storage.cache import NodeCache
from consilium.storage.kv import KeyValue, KeyValueReader, Write

WAITING_BRANCHES_MAX: Final = 32_768
"""Some 20 MB of branches that are not written yet; beyond that all are."""
TURNS: Final = 8
"""Branches are written in so many groups, one after the other: looking through all that wait is not free."""
BRANCHES_OF_CACHE: Final = 4
"""One part of so many of the cache is for branches: a key has 2 to 38 bytes in them, by how full buckets are, and 70 in
its bucket. A branch that is missing is asked for by every bucket below it."""
BRANCH_BYTES: Final = 600
BUCKET_BYTES: Final = 1_000
"""Of a node on average, with Python's own: a full bucket has half as many more."""

Moves = Mapping[bytes, bytes]

_MISSING: Final = b"missing"
_moves_decoder = msgspec.msgpack.Decoder(dict[bytes, bytes])


class Undo(NamedTuple):
    """The values that a height overwrote, by key hash, and these hashes, ascending."""

    values: Mapping[bytes, bytes | None]
    paths: Sequence[bytes]


class Waiting(NamedTuple):
    """The branches that changed since they were written, as of a height; None where none stands any more."""

    height: int
    branches: Mapping[bytes, bytes | None]


class Later(NamedTuple):
    """How to read what heights changed: by height, and the source to read it from."""

    moves: Callable[[int, KeyValueReader], Moves]
    undo: Callable[[int, KeyValueReader], Undo]


class TrieStore:
    """The trie's part of the chain's store. One thread applies blocks; any may read with `at`."""

    def __init__(self, store: KeyValue, proof_heights: int, cache_bytes: int) -> None:
        """Takes up the branches that were not written. Raises InvariantBroken where they do not fit the roots."""
        self._store = store
        heights = min(schema.BRANCH_HEIGHTS_MAX, proof_heights)
        self._stride = max(1, heights // TURNS)
        self._turns = heights // self._stride
        self._branches = NodeCache(cache_bytes // BRANCHES_OF_CACHE, BRANCH_BYTES)
        self._buckets = NodeCache(cache_bytes - cache_bytes // BRANCHES_OF_CACHE, BUCKET_BYTES)
        height = last_height(store)
        row = store.get(schema.at_height(schema.ROOT, height)) if height >= 0 else b""
        self.root = schema.root_of(row or b"")
        self._keeps_buckets = any(True for _ in store.iterate(schema.BUCKET, limit=1))
        """Some may be in the store, and what changes is written."""
        self.waiting = Waiting(height, self._recovered(height))
        self._next = self.waiting

    # ---- as of the tip, for whoever applies blocks

    def branch(self, key: bytes) -> bytes:
        """The branch at a place. Raises InvariantBroken."""
        node = self._branches.young.get(key) or self._branches.get(key)
        if node is None:
            waits = self.waiting.branches.get(key, _MISSING)
            node = waits if waits is not _MISSING else _branch_in(self._store, key)
            if node is None:
                raise InvariantBroken(f"the state trie's branch {key.hex()} is not in the store")
            self._branches.put_all({key: node})
        return node

    def bucket(self, key: bytes) -> bytes:
        """The bucket at a place. Raises InvariantBroken."""
        node = self._buckets.young.get(key) or self._buckets.get(key)
        if node is None:
            node = self._kept_bucket(key) or _bucket_in(self._store, key, {})
            self._buckets.put_all({key: node})
        return node

    def _kept_bucket(self, key: bytes) -> bytes | None:
        """The bucket as it was written last, unless it has changed since."""
        row = self._store.get(schema.BUCKET + key) if self._keeps_buckets else None
        if row is None or self.root is None:
            return None
        expected = self.root.hash
        if key != trie_nodes.ROOT_KEY:
            expected = trie_nodes.child_hash(self.branch(trie_nodes.parent_key(key)), trie_nodes.slot_of(key))
        node = BUCKET_HEAD + row
        return node if sha256(node).digest() == expected else None

    def writes(self, height: int, update: TrieUpdate) -> list[Write]:
        """What a height writes of the trie, to be part of its batch."""
        waiting = {**self.waiting.branches, **update.branches}
        due: list[bytes] = []
        if height == 0 or len(waiting) > WAITING_BRANCHES_MAX:
            due = sorted(waiting)
        elif height % self._stride == 0:
            turn, turns = height // self._stride % self._turns, self._turns
            due = sorted([key for key in waiting if key[len(key) >> 1] % turns == turn])
        head, branch = len(BRANCH_HEAD), schema.BRANCH
        writes: list[Write] = [
            (branch + key, node if node is None else node[head:])
            for key, node in zip(due, map(waiting.pop, due), strict=True)
        ]
        self._next = Waiting(height, waiting)
        writes.append((schema.at_height(schema.ROOT, height), schema.root_row(update.root)))
        if self._keeps_buckets:
            head, bucket = len(BUCKET_HEAD), schema.BUCKET
            writes += [
                (bucket + key, node if node is None else node[head:]) for key, node in update.buckets.items()
            ]
        if height > 0:  # nothing comes before genesis
            writes.append((schema.at_height(schema.MOVES, height), msgspec.msgpack.encode(update.moves)))
        return writes

    def committed(self, update: TrieUpdate) -> None:
        """The batch with what `writes` gave last is durable."""
        self.root = update.root
        self.waiting = self._next
        _install(self._branches, update.branches)
        _install(self._buckets, update.buckets)
        self._keeps_buckets = self._keeps_buckets or self._buckets.has_forgotten

    def _recovered(self, tip: int) -> dict[bytes, bytes | None]:
        """The branches that the last heights changed, whether they were written or not."""
        found: dict[bytes, dict[int, NodeRef]] = {}
        newest: dict[bytes, NodeRef | None] = {trie_nodes.ROOT_KEY: self.root}
        for height in range(max(1, tip - schema.BRANCH_HEIGHTS_MAX + 1), tip + 1):
            raw = self._store.get(schema.at_height(schema.MOVES, height))
            if raw is None:
                continue  # from before a snapshot or a migration: those write all branches
            for key, move in _moves_decoder.decode(raw).items():
                parent = trie_nodes.parent_key(key)
                children = found.get(parent)
                if children is None:
                    children = found[parent] = dict(_children_in(self._store, parent))
                _set(children, trie_nodes.slot_of(key), trie_nodes.moved_to(move))
                newest[key] = trie_nodes.moved_to(move)
        branches: dict[bytes, bytes | None] = {}
        for key, children in found.items():
            node = trie_nodes.branch_of(sorted(children.items())) if children else None
            ref = newest.get(key)
            stands = ref is not None and ref.branch
            if (node is not None) != stands or (node and ref and trie_nodes.branch_hash(node) != ref.hash):
                raise InvariantBroken(f"the state trie's branch {key.hex()} does not fit its parent")
            branches[key] = node
        return branches


class TrieAt:
    """The trie as of a height, read from a snapshot of the store, for `ledger.trie`.

    `waiting` is from before the snapshot was taken. A place that no later height moved holds what stands now.

    Hundreds of heights may lie between, of a megabyte each. Where one `path` (a key's hash) is all that will be asked,
    what lies along it is all that is kept of their moves; what they overwrote is read one height at a time.
    """

    __slots__ = ("_above", "_forth", "_later", "_snapshot", "_undo", "_waiting")

    def __init__(
        self, height: int, snapshot: KeyValueReader, waiting: Waiting, later: Later, path: bytes | None = None
    ) -> None:
        self._snapshot = snapshot
        self._waiting = waiting.branches
        self._undo = later.undo
        self._above = range(last_height(snapshot), height, -1)
        since = range(waiting.height + 1, height + 1)
        self._later = [_along(path, later.moves(above, snapshot)) for above in self._above]
        self._forth = [_along(path, later.moves(above, snapshot)) for above in since]

    def branch(self, key: bytes) -> bytes:
        """The branch at a place. Raises InvariantBroken."""
        node = self._waiting.get(key, _MISSING)
        if node is _MISSING:
            node = _branch_in(self._snapshot, key)
        if self._later or self._forth:
            places = trie_nodes.child_keys(key)
            if node is not None and not any(
                child in moves for moves in (*self._forth, *self._later) for child in places
            ):
                return node
            children = dict(trie_nodes.children_of(node)) if node is not None else {}
            for slot, child in enumerate(places):
                for moves in self._forth:
                    if child in moves:
                        _set(children, slot, trie_nodes.moved_to(moves[child]))
                for moves in self._later:
                    if child in moves:
                        _set(children, slot, trie_nodes.moved_from(moves[child]))
            node = trie_nodes.branch_of(sorted(children.items())) if children else None
        if node is None:
            raise InvariantBroken(f"the state trie's branch {key.hex()} is not in the store")
        return node

    def bucket(self, key: bytes) -> bytes:
        """The bucket at a place. Raises InvariantBroken."""
        before: dict[bytes, bytes | None] = {}
        low, high = _bounds(key)
        for above in self._above:
            undo = self._undo(above, self._snapshot)
            inside = undo.paths[bisect_left(undo.paths, low) : bisect_right(undo.paths, high)]
            before.update({path: undo.values[path] for path in inside})
        return _bucket_in(self._snapshot, key, before)


def last_height(reader: KeyValueReader) -> int:
    """The last height that was committed; -1 before genesis."""
    for key, _ in reader.iterate(schema.ROOT, reverse=True, limit=1):
        return schema.height_in(key)
    return -1


def read_moves(height: int, source: KeyValueReader) -> Moves:
    """How a height changed the trie; nothing where that is not kept."""
    raw = source.get(schema.at_height(schema.MOVES, height))
    return MappingProxyType(_moves_decoder.decode(raw) if raw is not None else {})


def _along(path: bytes | None, moves: Moves) -> Moves:
    """The moves below the branches on a path. Where a branch changed, so did what its parent says of it."""
    if path is None:
        return moves
    found: dict[bytes, bytes] = {}
    depth, key = 0, trie_nodes.ROOT_KEY
    while depth < DEPTH_MAX and (depth == 0 or key in found):
        found.update((child, moves[child]) for child in trie_nodes.child_keys(key) if child in moves)
        depth += 1
        key = trie_nodes.node_key(depth, path)
    return found


def _install(cache: NodeCache, nodes: dict[bytes, bytes | None]) -> None:
    gone = [key for key, node in nodes.items() if node is None] if None in nodes.values() else []
    for key in gone:
        cache.drop(key)
    stand = {key: node for key, node in nodes.items() if node is not None} if gone else nodes
    cache.put_all(stand)  # type: ignore[arg-type]  # the others are gone


def _set(children: dict[int, NodeRef], slot: int, ref: NodeRef | None) -> None:
    if ref is None:
        children.pop(slot, None)
    else:
        children[slot] = ref


def _branch_in(source: KeyValueReader, key: bytes) -> bytes | None:
    row = source.get(schema.BRANCH + key)
    return None if row is None else BRANCH_HEAD + row


def _children_in(source: KeyValueReader, key: bytes) -> list[tuple[int, NodeRef]]:
    node = _branch_in(source, key)
    return [] if node is None else trie_nodes.children_of(node)


def _bounds(key: bytes) -> tuple[bytes, bytes]:
    """The least and the greatest path below a place."""
    packed = key[1:]
    last = packed[:-1] + bytes((packed[-1] | 15,)) if key[0] & 1 else packed
    return packed.ljust(32, b"\x00"), last.ljust(32, b"\xff")


def _bucket_in(source: KeyValueReader, key: bytes, before: Mapping[bytes, bytes | None]) -> bytes:
    """The bucket over the state's rows at a place, with some values as they were before."""
    low, high = _bounds(key)
    beyond = schema.STATE + high
    hashes: dict[bytes, bytes] = {}
    for stored, row in source.iterate(schema.STATE + low[: key[0] >> 1], start=schema.STATE + low):
        if stored > beyond:
            break
        path = stored[1:]
        if path not in before:
            hashes[path] = value_hash(row[1 + row[0] :])
    hashes.update({path: value_hash(value) for path, value in before.items() if value is not None})
    if not hashes:
        raise InvariantBroken(f"the state trie's bucket {key.hex()} has no rows in the store")
    return bucket_of(sorted(hashes.items()))
