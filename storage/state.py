"""State on disk: values after the tip, and what leads back to the last `PROOF_HEIGHTS` heights.

Values are kept once, as of the tip, under the hash of their key: in the trie's order, so that a range of the trie is a
range of the store. Each height keeps what it overwrote (its *undo*): a value as of height h is the one that the first
later height overwrote, else the one that stands. `storage.trie` does the same for the trie. All this costs memory by
its caches only.

Contracts read here, so failures are InvariantBroken, never Refused: a refusal would become a verdict.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final, NamedTuple, TypeVar

import msgspec

from consilium.ledger import trie
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.state import Change
from consilium.ledger.trie import TrieUpdate
from consilium.ledger.trie_nodes import NodeRef
from consilium.ledger.trie_proof import KEY_TAG, VALUE_TAG, TrieProof
from consilium.storage import schema
from consilium.storage.cache import GenerationCache
from consilium.storage.known import EVERYTHING, KnownKeys
from consilium.storage.kv import KeyValue, KeyValueReader, Write
from consilium.storage.snapshot import StateSnapshot
from consilium.storage.trie import Later, Moves, TrieAt, TrieStore, Undo, Waiting, last_height, read_moves

NODE_CACHE_BYTES: Final = 256 * 1024 * 1024
"""Where nobody asks for another size: the trie over two million keys."""
VALUE_CACHE_BYTES: Final = 64 * 1024 * 1024
HASHES_MEMORISED_MAX: Final = 50_000
HEIGHTS_CACHED_MAX: Final = 16
"""So many heights' undo and moves are kept decoded for readers of the past: some 1 MB each of a large block."""
LEARNT_PER_COMMIT: Final = 2_048
"""After a start each commit notes so many of the keys that were here before, until all are: some 5 ms each."""

_MISSING: Final = b"missing"
_LENGTHS: Final = tuple(bytes((length,)) for length in range(256))
_VALUE_HEAD: Final = VALUE_TAG.prefix
_undo_decoder = msgspec.msgpack.Decoder(dict[bytes, bytes | None])
_T = TypeVar("_T")


class _Sorted(NamedTuple):
    """A block's changes by ascending hash of their keys: asked for three times a block."""

    changes: Sequence[Change]
    paths: list[bytes]
    ordered: list[Change]


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
        self._trie = TrieStore(store, proof_heights, node_cache_bytes)
        self._values = GenerationCache(value_cache_bytes)
        self._known = KnownKeys()
        if self._trie.root is None:  # nothing was here before
            self._known.upto = EVERYTHING
        self._hashes: dict[bytes, bytes] = {}
        self._epoch = 0
        self._block = _Sorted((), [], [])
        self._new: list[bytes] = []
        self._lock = threading.Lock()
        self._undos: dict[int, Undo] = {}
        self._moves: dict[int, Moves] = {}

    @property
    def height(self) -> int:
        """The height that the state stands after; -1 before genesis."""
        return self._trie.waiting.height

    @property
    def root(self) -> NodeRef | None:
        """The trie's root after the tip; None while the state is empty."""
        return self._trie.root

    def get(self, key: bytes) -> bytes | None:
        """The value under `key` after the tip."""
        path = self._hash(key)
        value = self._values.young.get(path, _MISSING)
        if value is not _MISSING:
            return value
        if self._known.lacks(path):
            return None
        with self._lock:  # which a commit takes too: what it puts is not overwritten by what stood before
            epoch = self._epoch
            value = self._values.get(path, _MISSING)
        if value is _MISSING:
            value = _value_in(self._store.get(schema.STATE + path), key)
            with self._lock:
                # A commit since then has put its own values here, and this one may be older.
                if epoch == self._epoch:
                    self._values.put(path, value)
        return value

    def prepare(self, changes: Sequence[Change]) -> TrieUpdate:
        """What a block's changes do to the trie. Writes nothing, and may be asked ahead of a decision."""
        _, paths, ordered = self._sorted(changes)
        head = _VALUE_HEAD
        values = [None if value is None else sha256(head + value).digest() for _, value in ordered]
        return trie.apply_sorted(self._trie, self._trie.root, paths, values)

    def writes(self, height: int, changes: Sequence[Change], update: TrieUpdate) -> list[Write]:
        """All that a height writes and deletes of the state, to be part of its batch."""
        _, paths, ordered = self._sorted(changes)
        state, cached, lacks = schema.STATE, self._values.young.get, self._known.lacks
        before = [cached(path, _MISSING) for path in paths]
        for at, value in enumerate(before):
            if value is _MISSING:
                before[at] = None if lacks(paths[at]) else self.get(ordered[at][0])
        self._new = [path for path, value in zip(paths, before, strict=True) if value is None]
        writes: list[Write] = [
            (state + path, None if value is None else b"".join((_LENGTHS[len(key)], key, value)))
            for path, (key, value) in zip(paths, ordered, strict=True)
        ]
        writes += self._trie.writes(height, update)
        if height > 0:  # nothing comes before genesis
            writes.append(
                (
                    schema.at_height(schema.UNDO, height),
                    msgspec.msgpack.encode(dict(zip(paths, before, strict=True))),
                )
            )
        oldest = height - self._proof_heights
        if oldest > 0:  # what only heights below it need
            writes.append((schema.at_height(schema.MOVES, oldest), None))
            writes.append((schema.at_height(schema.UNDO, oldest), None))
            writes.append((schema.at_height(schema.ROOT, oldest - 1), None))
        return writes

    def committed(self, changes: Sequence[Change], update: TrieUpdate) -> None:
        """The height's batch is durable: reads see it from now on."""
        _, paths, ordered = self._sorted(changes)
        self._known.note(self._new)
        self._trie.committed(update)
        with self._lock:
            self._epoch += 1
            self._values.put_all(paths, [value for _, value in ordered])
            self._block, self._new = _Sorted((), [], []), []
        if self._known.upto != EVERYTHING:
            self._learn()

    def root_at(self, height: int, source: KeyValueReader | None = None) -> NodeRef | None:
        """The trie's root after a height. Raises Refused `chain.height_pruned`, `chain.unknown_height`."""
        reader = source if source is not None else self._store
        row = reader.get(schema.at_height(schema.ROOT, height))
        if row is None:
            tip = last_height(reader)
            code = "chain.unknown_height" if height > tip else "chain.height_pruned"
            raise Refused(
                code, f"height {height}; the tip is {tip}, and {self._proof_heights} heights are kept"
            )
        return schema.root_of(row)

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
        waiting = self._trie.waiting
        with self._store.snapshot() as snapshot:
            root, path = self.root_at(height, snapshot), self._hash(key)
            proof = trie.prove_hash(self.trie_at(height, snapshot, waiting, path), root, path)
            return self._value_at(key, height, snapshot), proof

    @property
    def waiting(self) -> Waiting:
        """Of the trie, what the store has not: to be asked for before a snapshot of the store is taken."""
        return self._trie.waiting

    def trie_at(
        self, height: int, snapshot: KeyValueReader, waiting: Waiting, path: bytes | None = None
    ) -> TrieAt:
        """The trie as of a height that is kept, from a snapshot of the store and what waited before it was taken;
        along one path only, where that is given."""
        return TrieAt(height, snapshot, waiting, Later(self._moves_of, self._undo_of), path)

    def snapshot(self, height: int) -> StateSnapshot:
        """The state after a height that is the tip, held still. To be closed."""
        waiting = self._trie.waiting
        held = self._store.snapshot()
        try:
            return StateSnapshot(
                held, height, self.root_at(height, held), self.trie_at(height, held, waiting)
            )
        except BaseException:
            held.close()
            raise

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

    def _value_at(self, key: bytes, height: int, snapshot: KeyValueReader) -> bytes | None:
        path = self._hash(key)
        for later in range(height + 1, last_height(snapshot) + 1):
            undo = self._undo_of(later, snapshot)
            if path in undo.values:
                return undo.values[path]
        return _value_in(snapshot.get(schema.STATE + path), key)

    def _undo_of(self, height: int, snapshot: KeyValueReader) -> Undo:
        return _remembered(self._undos, height, snapshot, _read_undo)

    def _moves_of(self, height: int, snapshot: KeyValueReader) -> Moves:
        return _remembered(self._moves, height, snapshot, read_moves)

    def _sorted(self, changes: Sequence[Change]) -> _Sorted:
        block = self._block
        if block.changes is not changes:
            known, hashed = self._hashes.get, self._hash
            by_path = {known(change[0]) or hashed(change[0]): change for change in changes}
            paths = sorted(by_path)
            if len(paths) != len(changes):
                raise ValueError("a key is changed twice in one block")
            block = self._block = _Sorted(changes, paths, [by_path[path] for path in paths])
        return block

    def _hash(self, key: bytes) -> bytes:
        path = self._hashes.get(key)
        if path is None:
            if len(self._hashes) >= HASHES_MEMORISED_MAX:  # readers ask while no block is decided, too
                self._hashes = {}
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


def _remembered(
    held: dict[int, _T], height: int, source: KeyValueReader, read: Callable[[int, KeyValueReader], _T]
) -> _T:
    """What a height wrote never changes, so it is read once, while it is among the few that are asked for."""
    found = held.get(height)
    if found is None:
        found = read(height, source)
        if len(held) >= HEIGHTS_CACHED_MAX:
            held.clear()
        held[height] = found
    return found


def _read_undo(height: int, source: KeyValueReader) -> Undo:
    raw = source.get(schema.at_height(schema.UNDO, height))
    if raw is None:
        raise Refused("chain.height_pruned", f"the values before height {height} are no longer kept")
    values = _undo_decoder.decode(raw)
    return Undo(values, sorted(values))


def _value_in(row: bytes | None, key: bytes) -> bytes | None:
    if row is None:
        return None
    if row[1 : 1 + row[0]] != key:
        raise InvariantBroken("a state row holds another key than the one it is stored by")
    return row[1 + row[0] :]
