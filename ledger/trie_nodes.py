"""The nodes of the state trie as bytes, and the places where they stand.

A node is known by its place, its *key*: depth (u8), then the nibbles that lead to it, packed and padded with 0. What
stands at a place is a *bucket* or a *branch*. Nodes begin with the tag that they are hashed under, so that what is
hashed needs no joining:

    bucket  tag, then sorted pairs: key hash (32), value hash (32)
    branch  tag, bitmap (u16, bit s = slot s present), the hashes of the present slots in order (32 each), and then,
            not hashed, which of the slots are branches (u16)

    move    hash before (32), hash now (32), kind before << 4 | kind now (u8); 32 zero bytes where nothing stands

Numbers are big-endian.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from consilium.ledger.errors import InvariantBroken
from consilium.ledger.trie_proof import BRANCH_TAG, BUCKET_KEYS_MAX, BUCKET_TAG, PAIR_BYTES

NOTHING: Final = 0
BUCKET: Final = 1
BRANCH: Final = 2
"""Kinds: what may stand at a place."""

BUCKET_HEAD: Final = BUCKET_TAG.prefix
BRANCH_HEAD: Final = BRANCH_TAG.prefix
ROOT_KEY: Final = b"\x00"
NO_HASH: Final = bytes(32)

PAIRS_AT: Final = len(BUCKET_HEAD)
FULL_BYTES: Final = PAIRS_AT + BUCKET_KEYS_MAX * PAIR_BYTES
BITMAP_AT: Final = len(BRANCH_HEAD)
HASHES_AT: Final = BITMAP_AT + 2
BYTES: Final = tuple(bytes((byte,)) for byte in range(256))
"""A byte by its number: quicker than making it."""
DEPTHS: Final = BYTES[:65]
HIGH_NIBBLES: Final = tuple(bytes((byte & 0xF0,)) for byte in range(256))


class NodeRef(NamedTuple):
    """A node as its parent refers to it: its hash (32 bytes), and whether it is a branch."""

    hash: bytes
    branch: bool


Child = tuple[bytes, int]
"""What a place holds after an update: hash and kind."""


class NodeReader(Protocol):
    """Where nodes come from: a store, with a cache before it. Both raise InvariantBroken for what is not there."""

    def branch(self, key: bytes) -> bytes:
        """The branch at a place."""
        ...

    def bucket(self, key: bytes) -> bytes:
        """The bucket at a place."""
        ...


def node_key(depth: int, path: bytes) -> bytes:
    """The place at this depth on a path: depth (u8), the first `depth` nibbles, packed and padded with 0."""
    half = depth >> 1
    if depth & 1:
        return DEPTHS[depth] + path[:half] + HIGH_NIBBLES[path[half]]
    return DEPTHS[depth] + path[:half]


def child_keys(key: bytes) -> list[bytes]:
    """The 16 places below one."""
    label = DEPTHS[key[0] + 1]
    if key[0] & 1:
        return [label + key[1:-1] + BYTES[key[-1] | slot] for slot in range(16)]
    return [label + key[1:] + BYTES[slot << 4] for slot in range(16)]


def parent_key(key: bytes) -> bytes:
    """The place above one that is not the root's."""
    depth = key[0] - 1
    return DEPTHS[depth] + key[1:-1] + (HIGH_NIBBLES[key[-1]] if depth & 1 else b"")


def slot_of(key: bytes) -> int:
    """Which slot of its parent a place is."""
    return key[-1] >> 4 if key[0] & 1 else key[-1] & 15


def branch_of(children: Sequence[tuple[int, NodeRef]]) -> bytes:
    """The branch over these children, by ascending slot."""
    bitmap = sum(1 << slot for slot, _ in children)
    below = sum(1 << slot for slot, child in children if child.branch)
    hashes = b"".join([child.hash for _, child in children])
    return BRANCH_HEAD + bitmap.to_bytes(2, "big") + hashes + below.to_bytes(2, "big")


def children_of(node: bytes) -> list[tuple[int, NodeRef]]:
    """The children of a branch, by ascending slot. Raises InvariantBroken for what is no branch."""
    bitmap, below = branch_head(node)
    slots = [slot for slot in range(16) if bitmap >> slot & 1]
    return [
        (slot, NodeRef(node[at : at + 32], bool(below >> slot & 1)))
        for slot, at in zip(slots, range(HASHES_AT, len(node) - 2, 32), strict=True)
    ]


def child_hash(node: bytes, slot: int) -> bytes:
    """The hash of the child in a slot of a branch; nothing where there is none. Raises InvariantBroken as
    `branch_head`."""
    bitmap, _ = branch_head(node)
    bit = 1 << slot
    at = HASHES_AT + 32 * (bitmap & bit - 1).bit_count()
    return node[at : at + 32] if bitmap & bit else b""


def branch_hash(node: bytes) -> bytes:
    """The hash of a branch."""
    return sha256(node[:-2]).digest()


def branch_head(node: bytes) -> tuple[int, int]:
    """Bitmaps of a branch: the present slots, and those that are branches. Raises InvariantBroken for another thing."""
    if len(node) > HASHES_AT:
        bitmap, below = node[BITMAP_AT] << 8 | node[BITMAP_AT + 1], node[-2] << 8 | node[-1]
        if len(node) == HASHES_AT + 2 + 32 * bitmap.bit_count() and not below & ~bitmap:
            return bitmap, below
    raise InvariantBroken("a stored trie node is no branch")


def node_move(before: bytes | bytearray, now: bytes, kind_before: int, kind_now: int) -> bytes:
    """A move: see the module. A hash is empty where nothing stands."""
    return b"".join((before or NO_HASH, now or NO_HASH, BYTES[kind_before << 4 | kind_now]))


def moved_from(move: bytes) -> NodeRef | None:
    """What stood at a place before a move."""
    kind = move[64] >> 4
    return None if kind == NOTHING else NodeRef(move[:32], kind == BRANCH)


def moved_to(move: bytes) -> NodeRef | None:
    """What stands at a place after a move."""
    kind = move[64] & 15
    return None if kind == NOTHING else NodeRef(move[32:64], kind == BRANCH)


def place_in(node: bytes, path: bytes) -> int:
    """Where a key that a bucket has not would stand."""
    low, high = 0, (len(node) - PAIRS_AT) // PAIR_BYTES
    while low < high:
        half = low + high >> 1
        at = PAIRS_AT + half * PAIR_BYTES
        if node[at : at + 32] < path:
            low = half + 1
        else:
            high = half
    return PAIRS_AT + low * PAIR_BYTES
