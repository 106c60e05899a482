"""The trie against a dumb recursive twin, its proofs against every change, and versions against history."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.ledger import codec, trie, trie_nodes, trie_proof
from consilium.ledger.crypto import Tag
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.trie import TrieUpdate
from consilium.ledger.trie_nodes import NodeRef
from consilium.ledger.trie_proof import BUCKET_KEYS_MAX, BranchStep, TrieProof, verify_state_hashes

Pairs = dict[bytes, bytes]


class Nodes:
    """A trie in memory, as of every version: by moves alone an earlier one is found again."""

    def __init__(self) -> None:
        self.branches: dict[bytes, bytes] = {}
        self.buckets: dict[bytes, bytes] = {}
        self.places: dict[bytes, NodeRef] = {}
        self.root: NodeRef | None = None
        self.history: list[Nodes] = []

    def branch(self, key: bytes) -> bytes:
        if key not in self.branches:
            raise InvariantBroken(f"no branch {key.hex()}")
        return self.branches[key]

    def bucket(self, key: bytes) -> bytes:
        if key not in self.buckets:
            raise InvariantBroken(f"no bucket {key.hex()}")
        return self.buckets[key]

    def take(self, update: TrieUpdate) -> None:
        before = Nodes()
        before.branches, before.buckets = dict(self.branches), dict(self.buckets)
        before.places, before.root = dict(self.places), self.root
        self.history.append(before)
        for held, made in ((self.branches, update.branches), (self.buckets, update.buckets)):
            for key, node in made.items():
                held.pop(key, None)
                if node is not None:
                    held[key] = node
        for key, move in update.moves.items():
            assert len(move) == 65
            assert move[:32] + move[64:] != move[32:64] + move[64:]
            assert trie_nodes.moved_from(move) == self.places.get(key)
            now = trie_nodes.moved_to(move)
            self.places.pop(key, None)
            if now is not None:
                self.places[key] = now
        self.root = update.root
        back = dict(self.places)
        for key, move in update.moves.items():
            was = trie_nodes.moved_from(move)
            back.pop(key, None)
            if was is not None:
                back[key] = was
        assert back == before.places

    def check(self) -> None:
        """The nodes and the places are one trie: what refers to a node has its hash, and nothing else stands."""
        stand: dict[bytes, NodeRef] = {}
        if self.root is not None:
            stand[trie_nodes.ROOT_KEY] = self.root
        for key, node in self.branches.items():
            for slot, ref in trie_nodes.children_of(node):
                child = trie_nodes.child_keys(key)[slot]
                assert (trie_nodes.parent_key(child), trie_nodes.slot_of(child)) == (key, slot)
                stand[child] = ref
        hashed = {key: NodeRef(trie_nodes.branch_hash(node), True) for key, node in self.branches.items()}
        hashed |= {key: NodeRef(hashlib.sha256(node).digest(), False) for key, node in self.buckets.items()}
        assert stand == hashed
        assert {key: ref for key, ref in stand.items() if key != trie_nodes.ROOT_KEY} == self.places


def twin_root(pairs: Pairs) -> bytes:
    """docs/state.md in a few lines: from all pairs at once, with hexadecimal strings for paths."""
    if not pairs:
        return Tag("consilium/state-empty/1").digest()

    def subtree(below: dict[str, bytes], depth: int) -> bytes:
        if len(below) <= BUCKET_KEYS_MAX:
            flat = b"".join(bytes.fromhex(path) + value for path, value in sorted(below.items()))
            return Tag("consilium/state-bucket/1").digest(flat)
        bitmap, hashes = 0, b""
        for slot, nibble in enumerate("0123456789abcdef"):
            inside = {path: value for path, value in below.items() if path[depth] == nibble}
            if inside:
                bitmap |= 1 << slot
                hashes += subtree(inside, depth + 1)
        return Tag("consilium/state-branch/1").digest(bitmap.to_bytes(2, "big") + hashes)

    return subtree({key.hex(): value for key, value in pairs.items()}, 0)


def crowded_path(number: int) -> bytes:
    """Key hashes of which many share long prefixes: what SHA-256 would need astronomical luck for."""
    draw = random.Random(number)
    shared = bytes.fromhex("a" * 64)[: draw.choice([0, 0, 1, 2, 5, 31])]
    rest = hashlib.sha256(b"%d" % number).digest()
    return (shared + rest)[:32]


def value_of(number: int) -> bytes:
    return hashlib.sha256(b"value %d" % number).digest()


def apply_all(pairs: Pairs, nodes: Nodes, root: NodeRef | None = None) -> TrieUpdate:
    update = trie.apply_hashes(nodes, root, list(pairs.items()))
    nodes.take(update)
    return update


paths = st.integers(0, 400).map(crowded_path)
changes = st.dictionaries(paths, st.one_of(st.none(), st.integers(0, 3).map(value_of)), max_size=120)


@settings(max_examples=150, deadline=None)
@given(st.lists(changes, min_size=1, max_size=6))
def test_every_version_equals_the_twin(blocks: list[dict[bytes, bytes | None]]) -> None:
    nodes, root, pairs = Nodes(), None, dict[bytes, bytes]()
    history: list[Pairs] = []
    for block in blocks:
        before = dict(pairs)
        for path, value in block.items():
            if value is None:
                pairs.pop(path, None)
            else:
                pairs[path] = value
        update = trie.apply_hashes(nodes, root, list(block.items()))
        nodes.take(update)
        assert update.root_hash == trie.root_hash_of(update.root) == twin_root(pairs)
        if before == pairs:
            assert update == TrieUpdate(root, update.root_hash, {}, {}, {})
        root = update.root
        nodes.check()
        history.append(dict(pairs))
    # It is exactly the last tree, built from nothing.
    fresh = Nodes()
    apply_all(pairs, fresh)
    assert (nodes.branches, nodes.buckets, nodes.places) == (fresh.branches, fresh.buckets, fresh.places)
    # Every earlier version proves what it held.
    for old, old_pairs in zip([*nodes.history[1:], nodes], history, strict=True):
        for path in [*old_pairs, *(crowded_path(number) for number in range(0, 400, 37))]:
            proof = trie.prove_hash(old, old.root, path)
            assert verify_state_hashes(trie.root_hash_of(old.root), path, old_pairs.get(path), proof)


@pytest.mark.parametrize("seed", range(40))
def test_growing_and_shrinking_across_the_size_of_a_bucket(seed: int) -> None:
    """Each version aims at a size near the border, so that branches appear and collapse all the time."""
    draw = random.Random(seed)
    universe = list(dict.fromkeys(crowded_path(number) for number in range(90)))
    nodes, root, pairs = Nodes(), None, dict[bytes, bytes]()
    for _ in range(14):
        border = BUCKET_KEYS_MAX + draw.choice([-1, 0, 0, 1, 2])
        size = draw.choice([0, 1, border, border, border, 60])
        kept = draw.sample(sorted(pairs), min(size, len(pairs)))
        added = draw.sample([path for path in universe if path not in pairs], max(0, size - len(kept)))
        changed = [*added, *draw.sample(kept, len(kept) // 3)]
        block: dict[bytes, bytes | None] = {path: None for path in pairs if path not in kept}
        block.update({path: value_of(draw.randrange(10**6)) for path in changed})
        for path, value in block.items():
            pairs.pop(path, None)
            if value is not None:
                pairs[path] = value
        update = trie.apply_hashes(nodes, root, list(block.items()))
        nodes.take(update)
        root = update.root
        assert update.root_hash == twin_root(pairs)
        fresh = Nodes()
        apply_all(pairs, fresh)
        assert (nodes.branches, nodes.buckets, nodes.places) == (fresh.branches, fresh.buckets, fresh.places)


def test_bytes_that_look_like_a_key_inside_other_hashes() -> None:
    """A bucket's bytes may contain a key's hash where no key stands: as a value hash, or across a border."""
    first, second, third = value_of(1), value_of(2), value_of(3)
    low, high = sorted([first, second])
    inside = (low + high)[16:48]  # stands across the border of a key hash and a value hash
    for hidden in (high, inside):
        pairs = {low: high}
        nodes = Nodes()
        root = apply_all(pairs, nodes).root
        for value in (third, first, None):
            update = trie.apply_hashes(nodes, root, [(hidden, value)])
            nodes.take(update)
            root = update.root
            now = pairs if value is None else {**pairs, hidden: value}
            assert update.root_hash == twin_root(now)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(paths, st.integers(0, 3).map(value_of), max_size=120), st.randoms(use_true_random=False)
)
def test_the_root_does_not_depend_on_the_order(pairs: Pairs, draw: random.Random) -> None:
    nodes, root = Nodes(), None
    # Long shared prefixes leave few endings: an extra path must be neither a wanted one nor there twice.
    extra = [path for path in dict.fromkeys(map(crowded_path, range(1000, 1040))) if path not in pairs]
    steps: list[tuple[bytes, bytes | None]] = [*pairs.items(), *((path, value_of(0)) for path in extra)]
    draw.shuffle(steps)
    gone: list[tuple[bytes, bytes | None]] = [(path, None) for path in extra]
    draw.shuffle(gone)
    for start in range(0, len(steps), 7):
        update = trie.apply_hashes(nodes, root, steps[start : start + 7])
        nodes.take(update)
        root = update.root
    for change in gone:
        update = trie.apply_hashes(nodes, root, [change])
        nodes.take(update)
        root = update.root
    assert trie.root_hash_of(root) == twin_root(pairs)


@pytest.mark.parametrize("count", [0, 1, 2, BUCKET_KEYS_MAX, BUCKET_KEYS_MAX + 1, 400])
@pytest.mark.parametrize(
    "path_of", [crowded_path, lambda number: value_of(number)], ids=["crowded", "spread"]
)
def test_proofs_of_presence_and_absence(count: int, path_of: Callable[[int], bytes]) -> None:
    pairs = {path_of(number): value_of(number) for number in range(count)}
    nodes = Nodes()
    root = apply_all(pairs, nodes).root
    root_hash = trie.root_hash_of(root)
    for number in range(count + 40):
        path = path_of(number)
        proof = trie.prove_hash(nodes, root, path)
        raw = codec.encode(proof)
        assert codec.decode(raw, TrieProof, trie_proof.TRIE_PROOF_BYTES_MAX) == proof
        held = pairs.get(path)
        assert verify_state_hashes(root_hash, path, held, proof)
        assert not verify_state_hashes(root_hash, path, value_of(10**6), proof)
        assert not verify_state_hashes(value_of(1), path, held, proof)
        if held is not None:
            assert not verify_state_hashes(root_hash, path, None, proof)


def test_a_proof_with_any_byte_changed_fails() -> None:
    pairs = {crowded_path(number): value_of(number) for number in range(300)}
    nodes = Nodes()
    update = apply_all(pairs, nodes)
    for path in [crowded_path(7), crowded_path(311), bytes(32), b"\xaa" * 31 + b"\x00"]:
        raw = codec.encode(trie.prove_hash(nodes, update.root, path))
        value = pairs.get(path)
        for at in range(len(raw)):
            changed = bytearray(raw)
            changed[at] ^= 1 << (at % 8)
            try:
                proof = codec.decode(bytes(changed), TrieProof, trie_proof.TRIE_PROOF_BYTES_MAX)
            except Refused:
                continue
            assert not verify_state_hashes(update.root_hash, path, value, proof)


def test_proofs_of_the_wrong_shape_fail() -> None:
    pairs = {value_of(number): value_of(number + 1) for number in range(300)}
    nodes = Nodes()
    update = apply_all(pairs, nodes)
    present, absent = value_of(0), value_of(9999)
    proof = trie.prove_hash(nodes, update.root, present)

    def holds(path: bytes, value: bytes | None, steps: tuple[BranchStep, ...], bucket: bytes) -> bool:
        return verify_state_hashes(update.root_hash, path, value, TrieProof(steps, bucket))

    assert holds(present, pairs[present], proof.steps, proof.bucket)
    # A bucket that is left out, cut, doubled, or out of order, and another key's bucket as a proof of
    # absence.
    assert not holds(present, None, proof.steps, b"")
    assert not holds(present, None, proof.steps, proof.bucket.replace(present + pairs[present], b""))
    assert not holds(present, pairs[present], proof.steps, proof.bucket[:-1])
    assert not holds(present, pairs[present], proof.steps, proof.bucket + proof.bucket[-64:])
    assert not holds(present, pairs[present], proof.steps, proof.bucket[64:] + proof.bucket[:64])
    assert not holds(absent, None, proof.steps, proof.bucket)
    assert not holds(present, pairs[present], proof.steps[1:], proof.bucket)
    assert not holds(present, pairs[present], (), proof.bucket)
    assert not holds(present, None, (), b"")
    assert not holds(present[:31], pairs[present], proof.steps, proof.bucket)
    # A branch is no bucket, a bucket no branch: the domains differ.
    assert not holds(present, None, proof.steps[:1], b"")


def bucket_hash(*pairs: tuple[bytes, bytes]) -> bytes:
    return Tag("consilium/state-bucket/1").digest(b"".join(key + value for key, value in pairs))


def branch_hash(bitmap: int, *hashes: bytes) -> bytes:
    return Tag("consilium/state-branch/1").digest(bitmap.to_bytes(2, "big"), *hashes)


def test_a_root_over_a_malformed_tree_proves_nothing() -> None:
    """Such roots are no honest network's; the verifier holds to the form of docs/state.md all the same."""
    path, other, value, x = bytes(32), b"\x01" * 32, value_of(1), value_of(2)

    def holds(root: bytes, value: bytes | None, steps: list[BranchStep], *pairs: tuple[bytes, bytes]) -> bool:
        flat = b"".join(key + held for key, held in pairs)
        return verify_state_hashes(root, path, value, TrieProof(tuple(steps), flat))

    here, there = (path, value), (other, value)
    assert holds(bucket_hash(here, there), value, [], here, there)
    assert not holds(bucket_hash(there, here), value, [], there, here)  # not ascending
    assert not holds(bucket_hash(here, here), value, [], here, here)  # twice
    assert not holds(bucket_hash((path, x), here), value, [], (path, x), here)
    # Not whole pairs.
    odd = path + value + x
    root = Tag("consilium/state-bucket/1").digest(odd)
    assert not verify_state_hashes(root, path, value, TrieProof((), odd))
    assert not verify_state_hashes(root, path, None, TrieProof((), odd))
    # A bucket below slot 0 with a key that belongs below slot 1.
    stray = (b"\x10" * 32, value)
    step = BranchStep(0b11, x)
    assert holds(branch_hash(0b11, bucket_hash(here), x), value, [step], here)
    assert not holds(branch_hash(0b11, bucket_hash(here, stray), x), value, [step], here, stray)
    assert not holds(branch_hash(0b11, bucket_hash(stray), x), None, [step], stray)
    # The slot on the path is absent by the bitmap and has a bucket, or is present and has none.
    assert not holds(branch_hash(0b10, bucket_hash(here), x), value, [BranchStep(0b10, x)], here)
    assert not holds(branch_hash(0b11, x), None, [BranchStep(0b11, x)])
    assert holds(branch_hash(0b10, x), None, [BranchStep(0b10, x)])
    # More or fewer siblings than the bitmap says.
    for siblings in (b"", x + x, x[:31]):
        step = BranchStep(0b11, siblings)
        assert not holds(branch_hash(0b11, bucket_hash(here), siblings), value, [step], here)


def test_an_empty_state_has_the_empty_root_and_proves_absence() -> None:
    nodes = Nodes()
    update = trie.apply(nodes, None, [(b"absent", None)])
    assert update == TrieUpdate(None, trie_proof.EMPTY_STATE_ROOT, {}, {}, {})
    proof = trie.prove(nodes, None, b"key")
    assert proof == TrieProof((), b"")
    assert trie_proof.verify_state(update.root_hash, b"key", None, proof)
    assert not trie_proof.verify_state(update.root_hash, b"key", b"", proof)


def test_keys_and_values_are_hashed_in_their_own_domains() -> None:
    nodes = Nodes()
    update = trie.apply(nodes, None, [(b"k", b"v"), (b"empty", b"")])
    nodes.take(update)
    assert update.root is not None
    assert not update.root.branch
    assert trie_proof.verify_state(update.root_hash, b"k", b"v", trie.prove(nodes, update.root, b"k"))
    assert trie_proof.verify_state(update.root_hash, b"empty", b"", trie.prove(nodes, update.root, b"empty"))
    assert not trie_proof.verify_state(
        update.root_hash, b"empty", None, trie.prove(nodes, update.root, b"empty")
    )
    assert update.root_hash == twin_root(
        {
            Tag("consilium/state-key/1").digest(key): Tag("consilium/state-value/1").digest(value)
            for key, value in {b"k": b"v", b"empty": b""}.items()
        }
    )


def test_deleting_everything_leaves_no_node() -> None:
    pairs = {crowded_path(number): value_of(number) for number in range(200)}
    nodes = Nodes()
    root = apply_all(pairs, nodes).root
    update = trie.apply_hashes(nodes, root, [(path, None) for path in pairs])
    nodes.take(update)
    assert update.root is None
    assert (nodes.branches, nodes.buckets, nodes.places) == ({}, {}, {})


def test_the_caller_is_told_of_its_faults() -> None:
    nodes = Nodes()
    update = trie.apply(nodes, None, [(b"k", b"v")])
    nodes.take(update)
    with pytest.raises(ValueError, match="twice"):
        trie.apply(nodes, update.root, [(b"a", b"1"), (b"a", b"2")])
    with pytest.raises(ValueError, match="not ascending"):
        trie.apply_sorted(nodes, update.root, [b"\x02" * 32, b"\x01" * 32], [None, None])
    with pytest.raises(InvariantBroken):
        trie.prove(Nodes(), update.root, b"k")


@pytest.mark.parametrize("damage", [b"", b"\x00", b"short"])
def test_a_stored_branch_of_the_wrong_form_halts(damage: bytes) -> None:
    nodes = Nodes()
    update = apply_all({value_of(number): value_of(0) for number in range(100)}, nodes)
    for node in (
        damage,
        nodes.branches[trie_nodes.ROOT_KEY][:-1],
        nodes.branches[trie_nodes.ROOT_KEY] + b"\x00",
    ):
        nodes.branches[trie_nodes.ROOT_KEY] = node
        with pytest.raises(InvariantBroken):
            trie.prove_hash(nodes, update.root, value_of(1))
        with pytest.raises(InvariantBroken):
            trie.apply_hashes(nodes, update.root, [(value_of(1), value_of(2))])


def test_the_longest_proof_fits_its_limit() -> None:
    longest = TrieProof(
        (BranchStep(0xFFFF, bytes(trie_proof.BRANCH_SLOTS * 32)),) * trie_proof.DEPTH_MAX,
        bytes(BUCKET_KEYS_MAX * trie_proof.PAIR_BYTES),
    )
    assert len(codec.encode(longest)) <= trie_proof.TRIE_PROOF_BYTES_MAX
