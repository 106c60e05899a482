"""The state trie: 16-ary, bucketed; one pass per block over the sorted changes. Builds proofs.

The shape is that of `ledger.trie_proof`: a function of the set of keys, never of history. So the trie is nothing but a
map from places to hashes (`ledger.trie_nodes`), and an update is told twice: as the nodes that it makes, for whoever
keeps them, and as *moves*, what each place but the root's had and has now, for whoever wants to go back.

Pure: nodes come from a `NodeReader`, and go out in a `TrieUpdate`. Nodes are worked on as bytes, since most of a node
does not change when one of its children does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from consilium.ledger.crypto import Digest
from consilium.ledger.trie_nodes import (
    BITMAP_AT,
    BRANCH,
    BUCKET,
    BUCKET_HEAD,
    BYTES,
    DEPTHS,
    FULL_BYTES,
    HASHES_AT,
    HIGH_NIBBLES,
    NOTHING,
    PAIRS_AT,
    ROOT_KEY,
    Child,
    NodeReader,
    NodeRef,
    branch_hash,
    branch_head,
    branch_of,
    child_keys,
    children_of,
    node_key,
    node_move,
    place_in,
)
from consilium.ledger.trie_proof import (
    BUCKET_KEYS_MAX,
    EMPTY_STATE_ROOT,
    PAIR_BYTES,
    BranchStep,
    TrieProof,
    key_hash,
    value_hash,
)

_GONE: Final = (b"", NOTHING)
_SAME_KIND: Final = tuple(BYTES[kind << 4 | kind] for kind in (NOTHING, BUCKET, BRANCH))
_SEARCHED_MIN: Final = 48
"""From so many changes on, where a slot's changes end is searched rather than walked to."""


class TrieUpdate(NamedTuple):
    """What a block's changes do. Nodes by place, None where none of that kind stands any more."""

    root: NodeRef | None
    root_hash: Digest
    branches: dict[bytes, bytes | None]
    buckets: dict[bytes, bytes | None]
    moves: dict[bytes, bytes]


def root_hash_of(root: NodeRef | None) -> Digest:
    """The state root that a header carries: 32 bytes."""
    return EMPTY_STATE_ROOT if root is None else Digest(root.hash)


def apply(
    reader: NodeReader, root: NodeRef | None, changes: Iterable[tuple[bytes, bytes | None]]
) -> TrieUpdate:
    """Apply a block's changes (key, value; None deletes) to the state under `root`.

    A key appears once. Changes that change nothing make nothing. Raises ValueError when the caller breaks this,
    InvariantBroken for a missing node.
    """
    hashed = [(key_hash(key), None if value is None else value_hash(value)) for key, value in changes]
    return apply_hashes(reader, root, hashed)


def apply_hashes(
    reader: NodeReader, root: NodeRef | None, changes: Iterable[tuple[bytes, bytes | None]]
) -> TrieUpdate:
    """As `apply`, of (key hash, value hash or None), 32 bytes each, in any order."""
    ordered = sorted(changes, key=lambda change: change[0])
    return apply_sorted(reader, root, [key for key, _ in ordered], [value for _, value in ordered])


def apply_sorted(
    reader: NodeReader, root: NodeRef | None, keys: list[bytes], values: list[bytes | None]
) -> TrieUpdate:
    """As `apply_hashes`, of ascending key hashes and their values' hashes."""
    if any(map(bytes.__ge__, keys, keys[1:])):
        raise ValueError("keys are not ascending, or one is changed twice in one update")
    work = _Pass(reader, keys, values)
    after: Child | None = None
    if root is None:
        after = work.grow(ROOT_KEY, 0, 0, len(keys))
    elif keys:
        after = (work.branch if root.branch else work.bucket)(ROOT_KEY, 0, 0, len(keys))
    new_root = root
    if after is not None:
        new_root = None if after is _GONE else NodeRef(after[0], after[1] == BRANCH)
    return TrieUpdate(new_root, root_hash_of(new_root), work.branches, work.buckets, work.moves)


class _Pass:
    """One recursive descent. Methods return the child after it, `_GONE`, or None where nothing changed.

    This is the dearest loop of a block, so it works on the nodes' bytes, and spells out what could be calls.
    """

    __slots__ = (
        "branches",
        "buckets",
        "deletes",
        "keys",
        "moves",
        "read_branch",
        "read_bucket",
        "ready",
        "values",
    )

    def __init__(self, reader: NodeReader, keys: list[bytes], values: list[bytes | None]) -> None:
        self.read_branch = reader.branch
        self.read_bucket = reader.bucket
        self.keys = keys
        self.values = values
        self.deletes = None in values
        self.branches: dict[bytes, bytes | None] = {}
        self.buckets: dict[bytes, bytes | None] = {}
        self.moves: dict[bytes, bytes] = {}

    def branch(self, key: bytes, depth: int, low: int, high: int) -> Child | None:
        """Apply the changes [low, high) to the branch at `key`, which is at `depth` on their common path."""
        node = self.read_branch(key)
        bitmap, below = branch_head(node)
        keys = self.keys
        byte, shift = depth >> 1, 0 if depth & 1 else 4
        label, half, odd = DEPTHS[depth + 1], depth + 1 >> 1, not depth & 1
        changed: list[tuple[bytes, int, Child]] = []
        while low < high:
            path = keys[low]
            prefix = path[byte] >> shift
            end = low + 1
            if high - low > _SEARCHED_MIN:
                following = prefix + 1 << shift
                end = (
                    high if following > 255 else bisect_left(keys, path[:byte] + BYTES[following], low, high)
                )
            else:
                while end < high and keys[end][byte] >> shift == prefix:
                    end += 1
            bit = 1 << (prefix & 15)
            child = label + path[:half] + HIGH_NIBBLES[path[half]] if odd else label + path[:half]
            if not bitmap & bit:
                after = self.grow(child, depth + 1, low, end)
            elif below & bit:
                after = self.branch(child, depth + 1, low, end)
            elif end - low == 1:
                after = self.pair(child, depth + 1, low)
            else:
                after = self.bucket(child, depth + 1, low, end)
            if after is not None:
                changed.append((child, bit, after))
            low = end
        if len(changed) == 1 and (below or not self.deletes):
            child, bit, (digest, kind) = changed[0]
            if kind == ((BRANCH if below & bit else BUCKET) if bitmap & bit else NOTHING):
                # Most branches: one child has another hash, and that is all.
                at = HASHES_AT + 32 * (bitmap & bit - 1).bit_count()
                self.moves[child] = b"".join((node[at : at + 32], digest, _SAME_KIND[kind]))
                node = b"".join((node[:at], digest, node[at + 32 :]))
                self.branches[key] = node
                return sha256(node[:-2]).digest(), BRANCH
        return self._rebuilt(key, bytearray(node), bitmap, below, changed) if changed else None

    def _rebuilt(
        self, key: bytes, body: bytearray, bitmap: int, below: int, changed: list[tuple[bytes, int, Child]]
    ) -> Child:
        """The branch at `key` with some children that changed."""
        moves = self.moves
        for child, bit, (digest, kind) in changed:
            at = HASHES_AT + 32 * (bitmap & bit - 1).bit_count()
            before, end = ((BRANCH if below & bit else BUCKET), at + 32) if bitmap & bit else (NOTHING, at)
            if kind == before:
                moves[child] = b"".join((body[at:end], digest, _SAME_KIND[kind]))
                body[at:end] = digest
                continue
            moves[child] = node_move(body[at:end], digest, before, kind)
            body[at:end] = digest
            bitmap = bitmap | bit if kind else bitmap & ~bit
            below = below | bit if kind == BRANCH else below & ~bit
        body[BITMAP_AT:HASHES_AT] = bitmap.to_bytes(2, "big")
        body[-2:] = below.to_bytes(2, "big")
        if self.deletes and not below:
            pairs = self._pairs_below(key, bitmap)
            if pairs is not None:
                return self._collapse(key, body, pairs)
        node = bytes(body)
        self.branches[key] = node
        return branch_hash(node), BRANCH

    def pair(self, key: bytes, depth: int, index: int) -> Child | None:
        """Apply one change to a bucket: most of all work is this. The general way is `bucket`."""
        path, value = self.keys[index], self.values[index]
        node = self.read_bucket(key)
        at = node.find(path, PAIRS_AT)
        if value is None or (at < 0 and len(node) >= FULL_BYTES):
            return self.bucket(key, depth, index, index + 1)
        if at < 0:
            at = place_in(node, path)
            node = b"".join((node[:at], path, value, node[at:]))
        elif (at - PAIRS_AT) % PAIR_BYTES:  # the key's bytes stand across other hashes
            return self.bucket(key, depth, index, index + 1)
        else:
            at += 32
            if node.startswith(value, at):
                return None
            node = b"".join((node[:at], value, node[at + 32 :]))
        self.buckets[key] = node
        return sha256(node).digest(), BUCKET

    def bucket(self, key: bytes, depth: int, low: int, high: int) -> Child | None:
        """Apply the changes [low, high) to the bucket at `key`, which is at `depth` on their common path."""
        node = before = self.read_bucket(key)
        for index in range(low, high):
            node = _bucket_with(node, self.keys[index], self.values[index])
        if node == before:
            return None
        if len(node) == PAIRS_AT:
            self.buckets[key] = None
            return _GONE
        if len(node) <= FULL_BYTES:
            self.buckets[key] = node
            return sha256(node).digest(), BUCKET
        self.buckets[key] = None
        return self._build(
            key, [(node[at : at + 32], node[at + 32 : at + 64]) for at in _places(node)], depth
        )

    def grow(self, key: bytes, depth: int, low: int, high: int) -> Child | None:
        """Apply the changes [low, high) where nothing stands. None when all of them delete."""
        pairs = [(self.keys[at], value) for at in range(low, high) if (value := self.values[at]) is not None]
        return self._build(key, pairs, depth) if pairs else None

    def _build(self, key: bytes, pairs: Sequence[tuple[bytes, bytes]], depth: int) -> Child:
        """The subtree over sorted pairs that share their first `depth` nibbles; at least one pair."""
        if len(pairs) <= BUCKET_KEYS_MAX:
            node = BUCKET_HEAD + b"".join([path + value for path, value in pairs])
            self.buckets[key] = node
            return sha256(node).digest(), BUCKET
        byte, shift = depth >> 1, 0 if depth & 1 else 4
        slots: list[list[tuple[bytes, bytes]]] = [[] for _ in range(16)]
        for pair in pairs:
            slots[pair[0][byte] >> shift & 15].append(pair)
        children: list[tuple[int, NodeRef]] = []
        for slot, inside in enumerate(slots):
            if inside:
                child = node_key(depth + 1, inside[0][0])
                digest, kind = self._build(child, inside, depth + 1)
                self.moves[child] = node_move(b"", digest, NOTHING, kind)
                children.append((slot, NodeRef(digest, kind == BRANCH)))
        branch = branch_of(children)
        self.branches[key] = branch
        return branch_hash(branch), BRANCH

    def _pairs_below(self, key: bytes, bitmap: int) -> list[bytes] | None:
        """The pairs of the buckets below a branch; None where they are too many for one bucket."""
        found: list[bytes] = []
        size = 0
        for slot, child in enumerate(child_keys(key)):
            if bitmap >> slot & 1:
                node = self.buckets.get(child) or self.read_bucket(child)
                size += len(node) - PAIRS_AT
                if size > BUCKET_KEYS_MAX * PAIR_BYTES:
                    return None
                found.append(node[PAIRS_AT:])
        return found

    def _collapse(self, key: bytes, body: bytearray, pairs: list[bytes]) -> Child:
        """Fold the buckets below a branch that has become too small for one into a bucket in its place."""
        self.branches[key] = None
        children = child_keys(key)
        for slot, ref in children_of(bytes(body)):
            child = children[slot]
            self.buckets[child] = None
            move = self.moves.get(child)
            before, kind = (ref.hash, BUCKET) if move is None else (move[:32], move[64] >> 4)
            if kind == NOTHING:
                del self.moves[child]
            else:
                self.moves[child] = node_move(before, b"", kind, NOTHING)
        if not pairs:
            return _GONE
        node = BUCKET_HEAD + b"".join(pairs)
        self.buckets[key] = node
        return sha256(node).digest(), BUCKET


def prove(reader: NodeReader, root: NodeRef | None, key: bytes) -> TrieProof:
    """The proof of what the state under `root` holds for `key`, be it a value or nothing."""
    return prove_hash(reader, root, key_hash(key))


def prove_hash(reader: NodeReader, root: NodeRef | None, path: bytes) -> TrieProof:
    """As `prove`, of a key's hash (32 bytes)."""
    steps: list[BranchStep] = []
    ref = root
    while ref is not None:
        depth = len(steps)
        key = node_key(depth, path)
        if not ref.branch:
            return TrieProof(tuple(steps), reader.bucket(key)[PAIRS_AT:])
        node = reader.branch(key)
        bitmap, below = branch_head(node)
        bit = 1 << (path[depth >> 1] >> (0 if depth & 1 else 4) & 15)
        at = HASHES_AT + 32 * (bitmap & bit - 1).bit_count()
        hashes_before, after = node[HASHES_AT:at], node[at:-2]
        ref = None
        if bitmap & bit:
            ref, after = NodeRef(after[:32], bool(below & bit)), after[32:]
        steps.append(BranchStep(bitmap, hashes_before + after))
    return TrieProof(tuple(steps), b"")


def _places(node: bytes) -> range:
    return range(PAIRS_AT, len(node), PAIR_BYTES)


def _bucket_with(node: bytes, path: bytes, value: bytes | None) -> bytes:
    """A bucket with one key set to a value hash, or removed. The same bytes when nothing changes."""
    at = node.find(path, PAIRS_AT)
    while at >= 0 and (at - PAIRS_AT) % PAIR_BYTES:  # bytes that look like the key inside other hashes
        at = node.find(path, at + 1)
    if at >= 0:
        return node[:at] + (path + value if value is not None else b"") + node[at + PAIR_BYTES :]
    if value is None:
        return node
    at = place_in(node, path)
    return b"".join((node[:at], path, value, node[at:]))
