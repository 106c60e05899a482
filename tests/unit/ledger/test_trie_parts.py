"""Subtrees on their own are those of the whole trie: same hashes, same nodes, found and joined again."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from consilium.ledger import trie
from consilium.ledger.trie_parts import build, find, is_bucket, is_prefix, join, packed, starts_with

VERSION = 7


class Nodes(dict[bytes, bytes]):
    def node(self, key: bytes) -> bytes:
        return self[key]


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
    update = trie.apply_hashes(Nodes(), None, VERSION, pairs)
    subtree, nodes = build(pairs, b"", VERSION)
    assert subtree.hash == update.root_hash
    assert sorted(nodes) == sorted(update.nodes)


@given(counts, st.integers(0, 60), st.integers(1, 20))
def test_every_node_is_found_and_is_its_subtree(count: int, crowded: int, depth: int) -> None:
    pairs = pairs_of(count, crowded, depth)
    update = trie.apply_hashes(Nodes(), None, VERSION, pairs)
    root = update.root
    assert root is not None
    stored = Nodes(update.nodes)

    def walk(prefix: bytes) -> bytes:
        """Check the subtree at a prefix; returns its hash."""
        below = [pair for pair in pairs if starts_with(pair[0], prefix)]
        node = find(stored, root, prefix)
        if not below:
            assert node is None
            return b""
        subtree, nodes = build(below, prefix, VERSION)
        assert node is not None
        assert dict(nodes).items() <= stored.items()
        assert is_bucket(node) == (len(below) <= 24) == (subtree.size > 0)
        if subtree.size:
            assert find(stored, root, prefix + b"\x00") is None
            return subtree.hash
        children = []
        for slot in range(16):
            if walk(prefix + bytes((slot,))):
                inner = [pair for pair in below if starts_with(pair[0], prefix + bytes((slot,)))]
                children.append((slot, build(inner, prefix + bytes((slot,)), VERSION)[0]))
        joined, (key, again) = join(children, prefix, VERSION)
        assert joined == subtree
        assert stored[key] == again == node
        return subtree.hash

    assert walk(b"") == update.root_hash


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
