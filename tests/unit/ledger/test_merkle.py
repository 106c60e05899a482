"""Merkle trees against a recursive twin written from RFC 6962 section 2.1, and the RFC's own known roots."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.ledger import codec, merkle
from consilium.ledger.merkle import InclusionProof, MountainRange, NodePosition


def twin_root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + twin_root(leaves[:k]) + twin_root(leaves[k:])).digest()


def twin_path(leaves: list[bytes], index: int) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if index < k:
        return [*twin_path(leaves[:k], index), twin_root(leaves[k:])]
    return [*twin_path(leaves[k:], index - k), twin_root(leaves[:k])]


# Roots over the first n of these leaves, as published with certificate-transparency's reference test data.
KNOWN_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
KNOWN_ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


@pytest.mark.parametrize("count", sorted(KNOWN_ROOTS))
def test_known_roots(count: int) -> None:
    assert merkle.merkle_root(KNOWN_LEAVES[:count]).hex() == KNOWN_ROOTS[count]


def test_the_empty_tree() -> None:
    assert (
        merkle.merkle_root([]) == MountainRange().root() == merkle.EMPTY_ROOT == hashlib.sha256(b"").digest()
    )


def leaves_of(count: int) -> list[bytes]:
    return [b"leaf %d" % i for i in range(count)]


@pytest.mark.parametrize("count", [*range(1, 40), 63, 64, 65, 100])
def test_roots_and_paths_equal_the_twin(count: int) -> None:
    leaves = leaves_of(count)
    root = merkle.merkle_root(leaves)
    assert root == twin_root(leaves)
    for index in range(count):
        proof = merkle.inclusion_proof(leaves, index)
        assert list(proof.path) == twin_path(leaves, index)
        assert merkle.verify_inclusion(merkle.leaf_hash(leaves[index]), index, count, proof.path, root)


def test_the_mountain_range_is_the_same_tree() -> None:
    leaves = leaves_of(130)
    stored: dict[NodePosition, bytes] = {}
    frontier = MountainRange()
    for count, leaf in enumerate(leaves, start=1):
        frontier, completed = frontier.grow(merkle.leaf_hash(leaf))
        assert not stored.keys() & dict(completed).keys()
        stored.update(completed)
        assert frontier.well_formed()
        assert frontier.root() == merkle.merkle_root(leaves[:count])
        raw = codec.encode(frontier)
        assert codec.decode(raw, MountainRange, merkle.MOUNTAIN_RANGE_BYTES_MAX) == frontier
    for size in (1, 2, 3, 5, 64, 65, 77, 127, 128, 130):
        for index in range(size):
            proof = merkle.history_proof(stored.__getitem__, index, size)
            assert proof == merkle.inclusion_proof(leaves[:size], index)


def test_append_is_grow() -> None:
    a = b = MountainRange()
    for leaf in leaves_of(9):
        a, b = a.append(merkle.leaf_hash(leaf)), b.grow(merkle.leaf_hash(leaf))[0]
    assert a == b
    assert (a.count, len(a.peaks)) == (9, 2)


def test_a_range_whose_peaks_do_not_fit_is_not_well_formed() -> None:
    assert not MountainRange(count=3, peaks=(bytes(32),)).well_formed()


@given(st.integers(1, 70), st.data())
def test_a_changed_proof_fails(count: int, data: st.DataObject) -> None:
    leaves = leaves_of(count)
    root = merkle.merkle_root(leaves)
    index = data.draw(st.integers(0, count - 1))
    leaf = merkle.leaf_hash(leaves[index])
    path = list(merkle.inclusion_proof(leaves, index).path)

    def accepted(leaf: bytes = leaf, index: int = index, size: int = count, path: list[bytes] = path) -> bool:
        return merkle.verify_inclusion(leaf, index, size, path, root)

    assert accepted()
    assert not accepted(leaf=merkle.leaf_hash(b"other"))
    assert not accepted(leaf=leaf[:31])
    assert not accepted(path=[*path, bytes(32)])
    assert not accepted(index=-1)
    assert not accepted(index=count)
    other = data.draw(st.integers(0, count - 1))
    assert accepted(index=other) == (other == index)
    for at in range(len(path)):
        shorter = path[:at] + path[at + 1 :]
        assert not accepted(path=shorter)
        flipped = list(path)
        flipped[at] = bytes([flipped[at][0] ^ 1]) + flipped[at][1:]
        assert not accepted(path=flipped)
        cut = list(path)
        cut[at] = cut[at][:31]
        assert not accepted(path=cut)


def test_index_and_size_fix_the_length_of_the_path() -> None:
    """Longer and shorter paths are refused even where they lead to the root that is asked for."""
    leaf, x, y = merkle.leaf_hash(b"leaf"), bytes(32), b"\x01" * 32
    for root in (merkle.node_hash(leaf, x), merkle.node_hash(x, leaf)):
        assert not merkle.verify_inclusion(leaf, 0, 1, [x], root)
        for top in (merkle.node_hash(root, y), merkle.node_hash(y, root)):
            assert not merkle.verify_inclusion(leaf, 0, 2, [x, y], top)
            assert not merkle.verify_inclusion(leaf, 1, 2, [x, y], top)
        assert not merkle.verify_inclusion(leaf, 0, 4, [x], root)
    assert not merkle.verify_inclusion(leaf, 0, 2, [], leaf)
    assert not merkle.verify_inclusion(leaf, 0, 2, [x[:31]], merkle.node_hash(leaf, x[:31]))


def test_a_node_is_no_leaf() -> None:
    """An inner node cannot be passed off as a leaf of a smaller tree: the domains differ."""
    leaves = leaves_of(4)
    inner = [merkle.node_hash(merkle.leaf_hash(a), merkle.leaf_hash(b)) for a, b in (leaves[:2], leaves[2:])]
    assert merkle.merkle_root([b"".join(map(merkle.leaf_hash, leaves[:2])), leaves[2]]) != merkle.merkle_root(
        leaves
    )
    assert not merkle.verify_inclusion(inner[0], 0, 4, [inner[1]], merkle.merkle_root(leaves))


@pytest.mark.parametrize("index", [-1, 3])
def test_no_proof_outside_the_tree(index: int) -> None:
    with pytest.raises(IndexError):
        merkle.inclusion_proof(leaves_of(3), index)
    with pytest.raises(IndexError):
        merkle.history_proof(lambda position: bytes(32), index, 3)


def test_the_longest_proof_fits_its_limit() -> None:
    longest = InclusionProof(index=2**63 - 1, size=2**63 - 1, path=(bytes(32),) * merkle.PATH_HASHES_MAX)
    raw = codec.encode(longest)
    assert len(raw) == merkle.INCLUSION_PROOF_BYTES_MAX
    assert codec.decode(raw, InclusionProof, merkle.INCLUSION_PROOF_BYTES_MAX) == longest
