"""State on disk: values after the tip, the trie's nodes, and what leads back to the last `PROOF_HEIGHTS` heights.

Values are kept once, as of the tip, under the hash of their key: in the trie's order, so that a range of the trie is a
range of the store. Each height keeps what it overwrote (its *undo*): a value as of height h is the one that the first
later height overwrote, else the one that stands. Nodes of the trie are immutable, so old roots prove old values until
the nodes that they alone need are deleted. All this costs memory by its caches only.

Contracts read here, so failures are InvariantBroken, never Refused: a refusal would become a verdict.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from consilium.ledger import trie
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.state import Change
from consilium.ledger.trie import NodeRef, TrieUpdate
from consilium.ledger.trie_proof import KEY_TAG, VALUE_TAG, TrieProof
from consilium.storage import schema
from consilium.storage.cache import GenerationCache
from consilium.storage.known import EVERYTHING, KnownKeys
from consilium.storage.kv import KeyValue, KeyValueReader, Write

NODE_CACHE_BYTES: Final = 256 * 1024 * 1024
"""Holds the live nodes of about a million keys, below the half at which a generation ends."""
VALUE_CACHE_BYTES: Final = 64 * 1024 * 1024
HASHES_MEMORISED_MAX: Final = 50_000
UNDOS_CACHED_MAX: Final = 8
LEARNT_PER_COMMIT: Final = 2_048
"""After a start each commit notes so many of the keys that were here before, until all are: some 5 ms each."""

_MISSING: Final = b"missing"
_LENGTHS: Final = tuple(bytes((length,)) for length in range(256))
_undo_decoder = msgspec.msgpack.Decoder(dict[bytes, bytes | None])
_keys_decoder = msgspec.msgpack.Decoder(list[bytes])


class StateStore:
    """The state's part of the chain's store. One thread applies blocks; any may read."""

    def __init__(
        self,
        store: KeyValue,
        *,
        proof_heights: int = schema.PROOF_HEIGHTS,
        node_cache_bytes: int = NODE_CACHE_BYTES,
        value_cache_bytes: int = VALUE_CACHE_BYTES,
    ) -> None:
        self._store = store
        self._proof_heights = proof_heights
        self._nodes = GenerationCache(node_cache_bytes)
        self._values = GenerationCache(value_cache_bytes)
        self._known = KnownKeys()
        self._hashes: dict[bytes, bytes] = {}
        self._epoch = 0
        self._block: tuple[Sequence[Change], list[bytes]] = (), []
        self._lock = threading.Lock()
        self._undo = lru_cache(UNDOS_CACHED_MAX)(self._read_undo)

    def get(self, key: bytes) -> bytes | None:
        """The value under `key` after the tip."""
        path = self._hash(key)
        value = self._values.young.get(path, _MISSING)
        if value is not _MISSING:
            return value
        if self._known.lacks(path):
            return None
        epoch = self._epoch
        value = self._values.get(path, _MISSING)
        if value is _MISSING:
            value = _value_in(self._store.get(schema.STATE + path), key)
            with self._lock:
                # A commit since then has put its own values here, and this one may be older.
                if epoch == self._epoch:
                    self._values.put(path, value)
        return value

    def node(self, key: bytes) -> bytes:
        """A node of the trie, for `ledger.trie`."""
        return self._nodes.young.get(key) or self._node(key, self._store)

    def prepare(self, root: NodeRef | None, height: int, changes: Sequence[Change]) -> TrieUpdate:
        """What a block's changes do to the trie under `root`. Writes nothing, and may be asked ahead of a decision."""
        hashed_value = VALUE_TAG.digest
        hashed = [
            (path, None if value is None else hashed_value(value))
            for path, (_, value) in zip(self._paths(changes), changes, strict=True)
        ]
        return trie.apply_hashes(self, root, height, hashed)

    def writes(self, height: int, changes: Sequence[Change], update: TrieUpdate) -> list[Write]:
        """All that a height writes and deletes of the state, to be part of its batch."""
        paths = self._paths(changes)
        cached, state, node = self._values.young.get, schema.STATE, schema.NODE
        undo = {path: cached(path, _MISSING) for path in paths}
        lacks = self._known.lacks
        for path, (key, _) in zip(paths, changes, strict=True):
            if undo[path] is _MISSING:
                undo[path] = None if lacks(path) else self.get(key)
        writes: list[Write] = [
            (state + path, None if value is None else _LENGTHS[len(key)] + key + value)
            for path, (key, value) in zip(paths, changes, strict=True)
        ]
        writes += [(node + key, value) for key, value in update.nodes]
        root = update.root
        root_row = b"" if root is None else root.version.to_bytes(8, "big") + root.hash
        writes.append((schema.at_height(schema.ROOT, height), root_row))
        if height > 0:  # nothing comes before genesis
            writes.append((schema.at_height(schema.UNDO, height), msgspec.msgpack.encode(undo)))
            writes.append((schema.at_height(schema.STALE, height), msgspec.msgpack.encode(update.stale)))
        oldest = height - self._proof_heights
        if oldest > 0:
            writes += self._prune(oldest)
        return writes

    def committed(self, changes: Sequence[Change], update: TrieUpdate) -> None:
        """The height's batch is durable: reads see it from now on."""
        if update.nodes:
            keys, nodes = zip(*update.nodes, strict=True)
            self._nodes.put_all(keys, nodes)
        self._nodes.drop_all(update.stale)
        paths = self._paths(changes)
        self._known.note(paths)
        with self._lock:
            self._epoch += 1
            self._values.put_all(paths, [value for _, value in changes])
            self._block = (), []
            if len(self._hashes) > HASHES_MEMORISED_MAX:
                self._hashes = {}
        if self._known.upto != EVERYTHING:
            self._learn()

    def root_at(self, height: int, source: KeyValueReader | None = None) -> NodeRef | None:
        """The trie's root after a height. Raises Refused `chain.height_pruned`, `chain.unknown_height`."""
        reader = source if source is not None else self._store
        row = reader.get(schema.at_height(schema.ROOT, height))
        if row is None:
            tip = _last_height(reader)
            code = "chain.unknown_height" if height > tip else "chain.height_pruned"
            raise Refused(
                code, f"height {height}; the tip is {tip}, and {self._proof_heights} heights are kept"
            )
        return NodeRef(int.from_bytes(row[:8], "big"), row[8:]) if row else None

    def at(self, height: int) -> StateAt:
        """State after a height, for reading. Raises Refused `chain.height_pruned`, `chain.unknown_height`."""
        self.root_at(height)
        return StateAt(self, height)

    def value_at(self, key: bytes, height: int) -> bytes | None:
        """The value under `key` after a height. Raises Refused `chain.height_pruned`, `chain.unknown_height`."""
        with self._store.snapshot() as snapshot:
            self.root_at(height, snapshot)
            return self._value_at(key, height, snapshot)

    def prove(self, key: bytes, height: int) -> tuple[bytes | None, TrieProof]:
        """The value under `key` after a height, or None, with the proof of it against that height's state root.

        Raises Refused `chain.height_pruned`, `chain.unknown_height`.
        """
        with self._store.snapshot() as snapshot:
            root = self.root_at(height, snapshot)
            proof = trie.prove_hash(_SnapshotNodes(self, snapshot), root, self._hash(key))
            return self._value_at(key, height, snapshot), proof

    def rows(self, after: bytes = b"", limit: int | None = None) -> Iterator[tuple[bytes, bytes, bytes]]:
        """(key hash, key, value) after the tip, by key hash, above the hash `after`."""
        start = schema.STATE + after + (b"\x00" if after else b"")
        for stored, row in self._store.iterate(schema.STATE, start=start, limit=limit):
            yield stored[1:], row[1 : 1 + row[0]], row[1 + row[0] :]

    def _learn(self) -> None:
        """Note some more of the keys that were stored before this began. By whoever commits, so that none is missed."""
        start = schema.STATE + self._known.upto
        found = self._store.iterate(schema.STATE, start=start, limit=LEARNT_PER_COMMIT)
        paths = [stored[1:] for stored, _ in found]
        self._known.note(paths)
        self._known.upto = paths[-1] if len(paths) == LEARNT_PER_COMMIT else EVERYTHING

    def _prune(self, oldest: int) -> list[Write]:
        """Delete what only heights below `oldest` need."""
        writes: list[Write] = []
        stale_key = schema.at_height(schema.STALE, oldest)
        raw = self._store.get(stale_key)
        if raw is not None:
            writes += [(schema.NODE + key, None) for key in _keys_decoder.decode(raw)]
        writes.append((stale_key, None))
        writes.append((schema.at_height(schema.UNDO, oldest), None))
        writes.append((schema.at_height(schema.ROOT, oldest - 1), None))
        return writes

    def _value_at(self, key: bytes, height: int, snapshot: KeyValueReader) -> bytes | None:
        path = self._hash(key)
        for later in range(height + 1, _last_height(snapshot) + 1):
            undo = self._undo(later)
            if path in undo:
                return undo[path]
        return _value_in(snapshot.get(schema.STATE + path), key)

    def _read_undo(self, height: int) -> dict[bytes, bytes | None]:
        raw = self._store.get(schema.at_height(schema.UNDO, height))
        if raw is None:
            raise Refused("chain.height_pruned", f"the values before height {height} are no longer kept")
        return _undo_decoder.decode(raw)

    def _node(self, key: bytes, source: KeyValueReader) -> bytes:
        node = self._nodes.get(key, _MISSING)
        if node is _MISSING or node is None:
            node = source.get(schema.NODE + key)
            if node is None:
                raise InvariantBroken(f"the state trie's node {key.hex()} is not in the store")
            self._nodes.put(key, node)
        return node

    def _paths(self, changes: Sequence[Change]) -> list[bytes]:
        """The hashes of the keys of a block's changes: asked for three times a block."""
        known, paths = self._block
        if known is not changes:
            paths = [self._hash(key) for key, _ in changes]
            self._block = changes, paths
        return paths

    def _hash(self, key: bytes) -> bytes:
        path = self._hashes.get(key)
        if path is None:
            path = self._hashes[key] = KEY_TAG.digest(key)
        return path


class StateAt:
    """State after one height, as `ledger.state.StateReader`. Good as long as the height is kept."""

    __slots__ = ("_state", "height")

    def __init__(self, state: StateStore, height: int) -> None:
        self._state = state
        self.height = height

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`. Raises Refused `chain.height_pruned` once the height is no longer kept."""
        return self._state.value_at(key, self.height)


class _SnapshotNodes:
    """Nodes as of a snapshot: what is pruned meanwhile is still there."""

    __slots__ = ("_snapshot", "_state")

    def __init__(self, state: StateStore, snapshot: KeyValueReader) -> None:
        self._state = state
        self._snapshot = snapshot

    def node(self, key: bytes) -> bytes:
        return self._state._node(key, self._snapshot)


def _value_in(row: bytes | None, key: bytes) -> bytes | None:
    if row is None:
        return None
    if row[1 : 1 + row[0]] != key:
        raise InvariantBroken("a state row holds another key than the one it is stored by")
    return row[1 + row[0] :]


def _last_height(reader: KeyValueReader) -> int:
    for key, _ in reader.iterate(schema.ROOT, reverse=True, limit=1):
        return schema.height_in(key)
    return -1
