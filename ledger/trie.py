"""The state trie: 16-ary, bucketed, versioned; one pass per block over the sorted changes. Builds proofs.

The shape is that of `ledger.trie_proof`: a function of the set of keys, never of history. Nodes are
immutable: a node's key is (version, depth, path), the version being the height whose changes wrote it, as
in a Jellyfish Merkle tree (Gao, Hu, Wu 2021); a branch refers to a child by version and hash. So every old
root stays provable until what its successors replaced, the *stale* keys of each update, is deleted. And
because versions come first in the key, a block's nodes are written side by side at the end of the store,
which a log-structured store likes best.

Pure: nodes come from a `NodeReader`, and go out in a `TrieUpdate`. Nodes are worked on as bytes, since most
of a node does not change when one of its children does:

    bucket  0x00, then sorted pairs: key hash (32), value hash (32)
    branch  0x01, bitmap (u16, bit s = slot s present), then for its n present slots in order:
            n hashes (32 each), n versions (u64 each), n sizes (u8: keys in the bucket below, 0 for a branch)

Numbers are big-endian. Versions and sizes are hints for whoever holds the nodes; the hashes do not cover
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from consilium.ledger.crypto import Digest
from consilium.ledger.errors import InvariantBroken
from consilium.ledger.trie_proof import (
    BRANCH_TAG,
    BUCKET_KEYS_MAX,
    BUCKET_TAG,
    EMPTY_STATE_ROOT,
    PAIR_BYTES,
    BranchStep,
    TrieProof,
    key_hash,
    value_hash,
)

_BUCKET: Final = 0
_BRANCH: Final = 1
_GONE: Final = (b"", -1)
_DEPTHS: Final = tuple(bytes((depth,)) for depth in range(65))
_HIGH_NIBBLES: Final = tuple(bytes((byte & 0xF0,)) for byte in range(256))

_bucket_digest: Final = BUCKET_TAG.digest

_Child = tuple[bytes, int]
"""What a slot holds after the pass: hash, and size (0: a branch). Its version is the pass's."""


class NodeRef(NamedTuple):
    """A root: the version that wrote it, and its hash (32 bytes)."""

    version: int
    hash: bytes


class NodeReader(Protocol):
    """Where nodes come from: a store, with a cache before it."""

    def node(self, key: bytes) -> bytes:
        """The node's bytes. Raises InvariantBroken for a node that is not there."""
        ...


class TrieUpdate(NamedTuple):
    """What a block's changes do. `nodes` are to be written; roots from this one on do not need `stale`."""

    root: NodeRef | None
    root_hash: Digest
    nodes: list[tuple[bytes, bytes]]
    stale: list[bytes]


def node_key(version: int, depth: int, path: bytes) -> bytes:
    """version (u64 big-endian), depth (u8), the first `depth` nibbles of `path`, packed and padded with 0."""
    return version.to_bytes(8, "big") + _suffix(depth, path)


def root_hash_of(root: NodeRef | None) -> Digest:
    """The state root that a header carries: 32 bytes."""
    return EMPTY_STATE_ROOT if root is None else Digest(root.hash)


def apply(
    reader: NodeReader, root: NodeRef | None, version: int, changes: Iterable[tuple[bytes, bytes | None]]
) -> TrieUpdate:
    """Apply a block's changes (key, value; None deletes) to the state under `root`, as `version`.

    A key appears once. `version` is above the root's. Changes that change nothing write nothing. Raises
    ValueError when the caller breaks this, InvariantBroken for a missing node.
    """
    hashed = [(key_hash(key), None if value is None else value_hash(value)) for key, value in changes]
    return apply_hashes(reader, root, version, hashed)


def apply_hashes(
    reader: NodeReader, root: NodeRef | None, version: int, changes: Iterable[tuple[bytes, bytes | None]]
) -> TrieUpdate:
    """As `apply`, of (key hash, value hash or None), 32 bytes each, in any order."""
    ordered = sorted(changes, key=lambda change: change[0])
    work = _Pass(reader, version, [key for key, _ in ordered], [value for _, value in ordered])
    if root is not None and root.version >= version:
        raise ValueError(f"version {version} does not follow the root's version {root.version}")
    if any(first == second for first, second in zip(work.keys, work.keys[1:], strict=False)):
        raise ValueError("a key is changed twice in one update")
    after: _Child | None = None
    if root is None:
        after = work.grow(0, 0, len(ordered))
    elif ordered:
        after = work.update(node_key(root.version, 0, b""), 0, 0, len(ordered))
    new_root = root
    if after is not None:
        new_root = None if after is _GONE else NodeRef(version, after[0])
    return TrieUpdate(new_root, root_hash_of(new_root), list(work.nodes.items()), work.stale)


class _Pass:
    """One recursive descent. Methods return the child after it, `_GONE`, or None where nothing changed.

    This is the dearest loop of a block, so it works on the nodes' bytes in place, and spells out what could
    be calls.
    """

    __slots__ = ("deletes", "keys", "nodes", "read", "stale", "values", "version")

    def __init__(
        self, reader: NodeReader, version: int, keys: list[bytes], values: list[bytes | None]
    ) -> None:
        self.read = reader.node
        self.version = version.to_bytes(8, "big")
        self.keys = keys
        self.values = values
        self.deletes = None in values
        self.nodes: dict[bytes, bytes] = {}
        self.stale: list[bytes] = []

    def update(self, old_key: bytes, depth: int, low: int, high: int) -> _Child | None:
        """Apply the changes [low, high) to the node `old_key` at `depth` on their common path."""
        node = self.read(old_key)
        if node[0] == _BRANCH:
            return self._update_branch(node, old_key, depth, low, high)
        if high - low == 1:
            changed = _bucket_with(node, self.keys[low], self.values[low])
        else:
            changed = _bucket_with_all(node, self.keys[low:high], self.values[low:high])
        if changed == node:
            return None
        self.stale.append(old_key)
        size = len(changed) // PAIR_BYTES
        if size == 0:
            return _GONE
        if size <= BUCKET_KEYS_MAX:
            return self._put_bucket(changed, old_key[8:], size)
        return self._build(
            [(changed[o : o + 32], changed[o + 32 : o + 64]) for o in range(1, len(changed), PAIR_BYTES)],
            depth,
        )

    def _update_pair(self, old_key: bytes, suffix: bytes, index: int, depth: int) -> _Child | None:
        """Apply one change to a bucket: most of all work is this. The general way is `update`."""
        key, value = self.keys[index], self.values[index]
        node = self.read(old_key)
        at = node.find(key, 1)
        if value is None or node[0] != _BUCKET:
            return self.update(old_key, depth, index, index + 1)
        if at % PAIR_BYTES == 1:
            middle, end = at + 32, at + PAIR_BYTES
            if node[middle:end] == value:
                return None
            body = node[1:middle] + value + node[end:]
        elif at < 0 and len(node) <= BUCKET_KEYS_MAX * PAIR_BYTES:
            at, end = 0, len(node) // PAIR_BYTES
            while at < end:
                half = at + end >> 1
                if node[1 + half * PAIR_BYTES : 33 + half * PAIR_BYTES] < key:
                    at = half + 1
                else:
                    end = half
            at = 1 + at * PAIR_BYTES
            body = node[1:at] + key + value + node[at:]
        else:  # full, or the key's bytes stand across other hashes
            return self.update(old_key, depth, index, index + 1)
        self.stale.append(old_key)
        self.nodes[self.version + suffix] = b"\x00" + body
        return _bucket_digest(body), len(body) // PAIR_BYTES

    def grow(self, depth: int, low: int, high: int) -> _Child | None:
        """Apply the changes [low, high) to an absent slot. None when all of them delete."""
        pairs = [(self.keys[i], value) for i in range(low, high) if (value := self.values[i]) is not None]
        return self._build(pairs, depth) if pairs else None

    def _update_branch(self, node: bytes, old_key: bytes, depth: int, low: int, high: int) -> _Child | None:
        bitmap, count = _branch_head(node)
        keys, version, byte, shift = self.keys, self.version, depth >> 1, 0 if depth & 1 else 4
        label, half, odd = _DEPTHS[depth + 1], depth + 1 >> 1, not depth & 1
        branch = bytearray(node)
        changed = False
        while low < high:
            key = keys[low]
            prefix = key[byte] >> shift
            end = low + 1
            while end < high and keys[end][byte] >> shift == prefix:
                end += 1
            bit = 1 << (prefix & 15)
            at = (bitmap & (bit - 1)).bit_count()
            hash_at, version_at = 3 + 32 * at, 3 + 32 * count + 8 * at
            if bitmap & bit:
                suffix = label + key[:half] + _HIGH_NIBBLES[key[half]] if odd else label + key[:half]
                child_key = bytes(branch[version_at : version_at + 8]) + suffix
                size_at = 3 + 40 * count + at
                if end - low == 1 and branch[size_at]:
                    after = self._update_pair(child_key, suffix, low, depth + 1)
                else:
                    after = self.update(child_key, depth + 1, low, end)
                if after is _GONE:
                    bitmap, count = bitmap ^ bit, count - 1
                    del branch[size_at], branch[version_at : version_at + 8], branch[hash_at : hash_at + 32]
                    changed = True
                elif after is not None:
                    branch[hash_at : hash_at + 32] = after[0]
                    branch[version_at : version_at + 8] = version
                    branch[size_at] = after[1]
                    changed = True
            else:
                after = self.grow(depth + 1, low, end)
                if after is not None:  # from the back, so that the offsets stay true
                    branch.insert(3 + 40 * count + at, after[1])
                    branch[version_at:version_at] = version
                    branch[hash_at:hash_at] = after[0]
                    bitmap, count = bitmap | bit, count + 1
                    changed = True
            low = end
        if not changed:
            return None
        self.stale.append(old_key)
        if self.deletes:
            sizes = branch[3 + 40 * count :]
            if 0 not in sizes and sum(sizes) <= BUCKET_KEYS_MAX:
                return self._collapse(keys[high - 1], old_key[8:], depth, bitmap, branch)
        branch[1:3] = bitmap.to_bytes(2, "big")
        return self._put_branch(bytes(branch), old_key[8:], count)

    def _collapse(self, path: bytes, suffix: bytes, depth: int, bitmap: int, branch: bytearray) -> _Child:
        """Fold the buckets below a branch that has become too small for one into a bucket in its place."""
        pairs = [b"\x00"]
        versions_at = 3 + 32 * bitmap.bit_count()
        slots = [slot for slot in range(16) if bitmap >> slot & 1]
        for version_at, slot in zip(range(versions_at, len(branch), 8), slots, strict=False):
            version = bytes(branch[version_at : version_at + 8])
            child_key = version + _suffix(depth + 1, _with_nibble(path, depth, slot))
            child = self.nodes.pop(child_key, None)
            if child is None:
                self.stale.append(child_key)
                child = self.read(child_key)
            pairs.append(child[1:])
        joined = b"".join(pairs)
        return self._put_bucket(joined, suffix, len(joined) // PAIR_BYTES) if slots else _GONE

    def _build(self, pairs: Sequence[tuple[bytes, bytes]], depth: int) -> _Child:
        """The subtree over sorted pairs that share their first `depth` nibbles; at least one pair."""
        suffix = _suffix(depth, pairs[0][0])
        if len(pairs) <= BUCKET_KEYS_MAX:
            return self._put_bucket(b"\x00" + b"".join([k + v for k, v in pairs]), suffix, len(pairs))
        byte, shift = depth >> 1, 0 if depth & 1 else 4
        slots: list[list[tuple[bytes, bytes]]] = [[] for _ in range(16)]
        for pair in pairs:
            slots[pair[0][byte] >> shift & 15].append(pair)
        bitmap, hashes, sizes = 0, bytearray(), bytearray()
        for slot, below in enumerate(slots):
            if below:
                child, size = self._build(below, depth + 1)
                bitmap |= 1 << slot
                hashes += child
                sizes.append(size)
        count = len(sizes)
        node = b"".join((b"\x01", bitmap.to_bytes(2, "big"), hashes, self.version * count, sizes))
        return self._put_branch(node, suffix, count)

    def _put_bucket(self, node: bytes, suffix: bytes, size: int) -> _Child:
        self.nodes[self.version + suffix] = node
        return BUCKET_TAG.digest(node[1:]), size

    def _put_branch(self, node: bytes, suffix: bytes, count: int) -> _Child:
        self.nodes[self.version + suffix] = node
        return BRANCH_TAG.digest(node[1 : 3 + 32 * count]), 0


def prove(reader: NodeReader, root: NodeRef | None, key: bytes) -> TrieProof:
    """The proof of what the state under `root` holds for `key`, be it a value or nothing."""
    return prove_hash(reader, root, key_hash(key))


def prove_hash(reader: NodeReader, root: NodeRef | None, path: bytes) -> TrieProof:
    """As `prove`, of a key's hash (32 bytes)."""
    steps: list[BranchStep] = []
    key = None if root is None else node_key(root.version, 0, path)
    while key is not None:
        node = reader.node(key)
        if node[0] == _BUCKET:
            return TrieProof(tuple(steps), node[1:])
        bitmap, count = _branch_head(node)
        depth = len(steps)
        bit = 1 << (path[depth >> 1] >> (0 if depth & 1 else 4) & 15)
        at = (bitmap & (bit - 1)).bit_count()
        before, after = node[3 : 3 + 32 * at], node[3 + 32 * at : 3 + 32 * count]
        if bitmap & bit:
            version_at = 3 + 32 * count + 8 * at
            key = node[version_at : version_at + 8] + _suffix(depth + 1, path)
            after = after[32:]
        else:
            key = None
        steps.append(BranchStep(bitmap, before + after))
    return TrieProof(tuple(steps), b"")


def _branch_head(node: bytes) -> tuple[int, int]:
    """Bitmap of a branch's bytes, and how many slots are present."""
    bitmap = node[1] << 8 | node[2]
    count = bitmap.bit_count()
    if node[0] != _BRANCH or len(node) != 3 + 41 * count:
        raise InvariantBroken("a stored trie node is neither a bucket nor a branch")
    return bitmap, count


def _bucket_with(node: bytes, key: bytes, value: bytes | None) -> bytes:
    """A bucket's bytes with one key set to a value hash, or removed. The same bytes when nothing changes."""
    at = node.find(key, 1)
    while at >= 0 and (at - 1) % PAIR_BYTES:  # bytes that look like the key inside other hashes
        at = node.find(key, at + 1)
    if at >= 0:
        return node[:at] + (key + value if value is not None else b"") + node[at + PAIR_BYTES :]
    if value is None:
        return node
    at = 1
    while at < len(node) and node[at : at + 32] < key:
        at += PAIR_BYTES
    return node[:at] + key + value + node[at:]


def _bucket_with_all(node: bytes, keys: list[bytes], values: list[bytes | None]) -> bytes:
    """As `_bucket_with`, for several keys."""
    merged: dict[bytes, bytes | None] = {
        node[at : at + 32]: node[at + 32 : at + 64] for at in range(1, len(node), PAIR_BYTES)
    }
    merged.update(zip(keys, values, strict=True))
    return b"\x00" + b"".join([key + value for key in sorted(merged) if (value := merged[key]) is not None])


def _suffix(depth: int, path: bytes) -> bytes:
    """Depth and packed nibbles: what the keys of all versions of a node share."""
    half = depth >> 1
    if depth & 1:
        return _DEPTHS[depth] + path[:half] + _HIGH_NIBBLES[path[half]]
    return _DEPTHS[depth] + path[:half]


def _with_nibble(path: bytes, depth: int, slot: int) -> bytes:
    """`path` with another nibble at `depth`; what follows it is of no account."""
    half = depth >> 1
    byte = path[half] & 0xF0 | slot if depth & 1 else slot << 4
    return path[:half] + bytes((byte,)) + path[half + 1 :]
