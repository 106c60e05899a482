"""Subtrees on their own are those of the whole trie: same hashes, same nodes, found and joined again."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from consilium.ledger import trie, trie_nodes
from consilium.ledger.trie_parts import bucket_of, build, find, is_prefix, join, packed, starts_with


class Nodes:
    def __init__(self, update: trie.TrieUpdate | None = None) -> None:
        self.update = update

    def branch(self, key: bytes) -> bytes:
        return (self.update.branches[key] if self.update else None) or b""

    def bucket(self, key: bytes) -> bytes:
        return (self.update.buckets[key] if self.update else None) or b""


def sha(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def pairs_of(count: int, crowded: int, depth: int) -> list[tuple[bytes, bytes]]:
    pairs = {sha(number): sha(-number) for number in range(count)}
    pairs |= {bytes(depth) + sha(number)[depth:]: sha(number) for number in range(crowded)}
    return sorted(pairs.items())


counts = st.sampled_from([1, 2, 24, 25, 100, 700])


@given(counts, st.integers(0, 60), st.integers(1, 20))
def test_a_whole_trie_is_built_as_a_block_would(count: int, crowded: int, depth: int) -> None:
    pairs = pairs_of(count, crowded, depth)
    update = trie.apply_hashes(Nodes(), None, pairs)
    subtree, nodes = build(pairs, b"")
    assert subtree == update.root
    assert dict(nodes) == update.branches
    for key, bucket in update.buckets.items():
        assert bucket == bucket_of([pair for pair in pairs if trie_nodes.node_key(key[0], pair[0]) == key])


@given(counts, st.integers(0, 60), st.integers(1, 20))
def test_every_node_is_found_and_is_its_subtree(count: int, crowded: int, depth: int) -> None:
    pairs = pairs_of(count, crowded, depth)
    update = trie.apply_hashes(Nodes(), None, pairs)
    root = update.root
    assert root is not None
    stored = Nodes(update)

    def walk(prefix: bytes) -> trie_nodes.NodeRef | None:
        """Check the subtree at a prefix; returns how its parent refers to it."""
        below = [pair for pair in pairs if starts_with(pair[0], prefix)]
        ref = find(stored, root, prefix)
        if not below:
            assert ref is None
            return None
        subtree, nodes = build(below, prefix)
        assert ref == subtree
        assert dict(nodes).items() <= update.branches.items()
        assert subtree.branch == (len(below) > 24)
        if not subtree.branch:
            assert find(stored, root, prefix + b"\x00") is None
            return subtree
        children = []
        for slot in range(16):
            child = walk(prefix + bytes((slot,)))
            if child is not None:
                children.append((slot, child))
        joined, (key, again) = join(children, prefix)
        assert joined == subtree
        assert update.branches[key] == again
        return subtree

    assert walk(b"") == update.root


@given(st.binary(min_size=32, max_size=32), st.lists(st.integers(0, 15), max_size=64))
def test_prefixes(path: bytes, nibbles: list[int]) -> None:
    prefix = bytes(nibbles)
    assert is_prefix(prefix)
    assert starts_with(path, prefix) == path.hex().startswith("".join(f"{n:x}" for n in nibbles))
    assert packed(prefix).hex() == "".join(f"{n:x}" for n in nibbles).ljust(64, "0")
    own = bytes(int(digit, 16) for digit in path.hex())
    assert starts_with(path, own[: len(nibbles)])
    assert not is_prefix(prefix + b"\x10")
    assert not is_prefix(bytes(65))
