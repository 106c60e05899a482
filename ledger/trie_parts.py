"""Subtrees of the state trie on their own: built from their pairs, found below a root, joined again.

A snapshot travels as subtrees. Each is named by its *prefix*, the nibbles that lead to it (one byte of 0 to 15 each,
at most 64), and is fixed by its hash, whoever sends it. The layout of nodes is that of `ledger.trie`; a test holds
the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consilium.ledger.trie_nodes import (
    BUCKET_HEAD,
    NodeReader,
    NodeRef,
    branch_hash,
    branch_of,
    children_of,
    node_key,
)
from consilium.ledger.trie_proof import BUCKET_KEYS_MAX, BUCKET_TAG, DEPTH_MAX

_HEX: Final = b"0123456789abcdef" + bytes(240)

Node = tuple[bytes, bytes]
"""A branch's place and the branch, as `ledger.trie` has them. Buckets follow from the pairs."""
Pair = tuple[bytes, bytes]
"""A key's hash and its value's hash, 32 bytes each."""


def packed(prefix: bytes) -> bytes:
    """The nibbles as 32 bytes, the rest of them 0: the lowest path with that prefix."""
    return bytes.fromhex(_digits(prefix).ljust(DEPTH_MAX, "0"))


def _digits(prefix: bytes) -> str:
    return prefix.translate(_HEX).decode("ascii")


def is_prefix(prefix: bytes) -> bool:
    """Whether these are nibbles, and not too many."""
    return len(prefix) <= DEPTH_MAX and all(nibble < 16 for nibble in prefix)


def starts_with(path: bytes, prefix: bytes) -> bool:
    """Whether a path (32 bytes) begins with these nibbles."""
    return path.hex().startswith(_digits(prefix))


def build(pairs: Sequence[Pair], prefix: bytes) -> tuple[NodeRef, list[Node]]:
    """The subtree over these pairs, which are at least one, ascend, and begin with the prefix; and all its branches."""
    nodes: list[Node] = []
    return _build(pairs, len(prefix), nodes), nodes


def _build(pairs: Sequence[Pair], depth: int, nodes: list[Node]) -> NodeRef:
    if len(pairs) <= BUCKET_KEYS_MAX:
        return NodeRef(BUCKET_TAG.digest(b"".join([path + value for path, value in pairs])), False)
    byte, shift = depth >> 1, 0 if depth & 1 else 4
    slots: list[list[Pair]] = [[] for _ in range(16)]
    for pair in pairs:
        slots[pair[0][byte] >> shift & 15].append(pair)
    children = [(slot, _build(below, depth + 1, nodes)) for slot, below in enumerate(slots) if below]
    node = branch_of(children)
    nodes.append((node_key(depth, pairs[0][0]), node))
    return NodeRef(branch_hash(node), True)


def join(children: Sequence[tuple[int, NodeRef]], prefix: bytes) -> tuple[NodeRef, Node]:
    """The branch at `prefix` over children by ascending slot, at least one."""
    node = branch_of(children)
    return NodeRef(branch_hash(node), True), (node_key(len(prefix), packed(prefix)), node)


def find(reader: NodeReader, root: NodeRef, prefix: bytes) -> NodeRef | None:
    """What stands at a prefix below a root; None where nothing does, or a bucket stands above it.

    Raises InvariantBroken for a missing branch.
    """
    path, ref = packed(prefix), root
    for depth, slot in enumerate(prefix):
        if not ref.branch:
            return None
        found = dict(children_of(reader.branch(node_key(depth, path)))).get(slot)
        if found is None:
            return None
        ref = found
    return ref


def bucket_of(pairs: Sequence[Pair]) -> bytes:
    """The bucket over these pairs, which ascend."""
    return BUCKET_HEAD + b"".join([path + value for path, value in pairs])
