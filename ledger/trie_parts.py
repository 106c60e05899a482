"""Subtrees of the state trie on their own: built from their pairs, found below a root, joined again.

A snapshot travels as subtrees. Each is named by its *prefix*, the nibbles that lead to it (one byte of 0 to 15 each,
at most 64), and is fixed by its hash, whoever sends it. The layout of nodes is that of `ledger.trie`; a test holds
the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from consilium.ledger.errors import InvariantBroken
from consilium.ledger.trie import NodeReader, NodeRef, node_key
from consilium.ledger.trie_proof import BRANCH_TAG, BUCKET_KEYS_MAX, BUCKET_TAG, DEPTH_MAX, PAIR_BYTES

_BUCKET: Final = b"\x00"
_BRANCH: Final = b"\x01"

Node = tuple[bytes, bytes]
"""A node's key and its bytes, as they are stored."""
Pair = tuple[bytes, bytes]
"""A key's hash and its value's hash, 32 bytes each."""


class Subtree(NamedTuple):
    """A subtree as its parent refers to it. `size` counts the keys of a bucket; it is 0 for a branch."""

    hash: bytes
    version: int
    size: int


def packed(prefix: bytes) -> bytes:
    """The nibbles as 32 bytes, the rest of them 0: the lowest path with that prefix."""
    nibbles = prefix + bytes(DEPTH_MAX - len(prefix))
    return bytes(nibbles[at] << 4 | nibbles[at + 1] for at in range(0, DEPTH_MAX, 2))


def is_prefix(prefix: bytes) -> bool:
    """Whether these are nibbles, and not too many."""
    return len(prefix) <= DEPTH_MAX and all(nibble < 16 for nibble in prefix)


def starts_with(path: bytes, prefix: bytes) -> bool:
    """Whether a path (32 bytes) begins with these nibbles."""
    half = len(prefix) >> 1
    if path[:half] != packed(prefix)[:half]:
        return False
    return len(prefix) & 1 == 0 or path[half] >> 4 == prefix[-1]


def build(pairs: Sequence[Pair], prefix: bytes, version: int) -> tuple[Subtree, list[Node]]:
    """The subtree over these pairs, which are at least one, ascend, and begin with the prefix; and all its nodes."""
    nodes: list[Node] = []
    return _build(pairs, len(prefix), version, nodes), nodes


def _build(pairs: Sequence[Pair], depth: int, version: int, nodes: list[Node]) -> Subtree:
    key = node_key(version, depth, pairs[0][0])
    if len(pairs) <= BUCKET_KEYS_MAX:
        body = b"".join([path + value for path, value in pairs])
        nodes.append((key, _BUCKET + body))
        return Subtree(BUCKET_TAG.digest(body), version, len(pairs))
    byte, shift = depth >> 1, 0 if depth & 1 else 4
    slots: list[list[Pair]] = [[] for _ in range(16)]
    for pair in pairs:
        slots[pair[0][byte] >> shift & 15].append(pair)
    children = [(slot, _build(below, depth + 1, version, nodes)) for slot, below in enumerate(slots) if below]
    subtree, node = _branch(children, version)
    nodes.append((key, node))
    return subtree


def join(children: Sequence[tuple[int, Subtree]], prefix: bytes, version: int) -> tuple[Subtree, Node]:
    """The branch at `prefix` over children by ascending slot, at least one."""
    subtree, node = _branch(children, version)
    return subtree, (node_key(version, len(prefix), packed(prefix)), node)


def _branch(children: Sequence[tuple[int, Subtree]], version: int) -> tuple[Subtree, bytes]:
    bitmap = sum(1 << slot for slot, _ in children)
    committed = bitmap.to_bytes(2, "big") + b"".join([child.hash for _, child in children])
    versions = b"".join([child.version.to_bytes(8, "big") for _, child in children])
    sizes = bytes([child.size for _, child in children])
    return Subtree(BRANCH_TAG.digest(committed), version, 0), _BRANCH + committed + versions + sizes


def find(reader: NodeReader, root: NodeRef, prefix: bytes) -> bytes | None:
    """The stored node at a prefix below a root; None where nothing is there, or a bucket stands above it.

    Raises InvariantBroken for a missing node.
    """
    path, version = packed(prefix), root.version
    node = reader.node(node_key(version, 0, path))
    for depth, slot in enumerate(prefix, 1):
        if node[:1] != _BRANCH:
            return None
        bitmap, count = branch_head(node)
        if not bitmap >> slot & 1:
            return None
        at = 3 + 32 * count + 8 * (bitmap & ((1 << slot) - 1)).bit_count()
        version = int.from_bytes(node[at : at + 8], "big")
        node = reader.node(node_key(version, depth, path))
    return node


def branch_head(node: bytes) -> tuple[int, int]:
    """A branch's bitmap, and how many slots are present. Raises InvariantBroken for a node that is no branch."""
    bitmap = int.from_bytes(node[1:3], "big")
    count = bitmap.bit_count()
    if node[:1] != _BRANCH or len(node) != 3 + 41 * count:
        raise InvariantBroken("a stored trie node is no branch")
    return bitmap, count


def is_bucket(node: bytes) -> bool:
    """Whether a stored node is a bucket."""
    return node[:1] == _BUCKET and len(node) % PAIR_BYTES == 1
