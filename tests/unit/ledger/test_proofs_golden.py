"""Golden proofs, and a second verifier of them: written from docs/state.md alone, with hashlib and msgpack.

`CONSILIUM_REWRITE_GOLDEN=1` writes the files anew: a change in them changes the network's format.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from consilium.ledger import codec, merkle, trie, trie_proof
from consilium.ledger.errors import Refused
from consilium.ledger.merkle import InclusionProof, MountainRange
from consilium.ledger.trie_proof import TrieProof

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "ledger"


# ---- the second verifier: nothing below may come from consilium


def tagged(tag: str, data: bytes) -> bytes:
    return hashlib.sha256(bytes([len(tag)]) + tag.encode() + b"\x00" + data).digest()


def second_verifier(root: bytes, key: bytes, value: bytes | None, raw: bytes) -> bool:
    try:
        steps, bucket = msgpack.unpackb(raw, raw=False, strict_map_key=True)
        if msgpack.packb([steps, bucket]) != raw or len(steps) > 64 or len(bucket) > 24 * 64:
            return False
        steps = [(bitmap, siblings) for bitmap, siblings in steps]
        if any(not 1 <= bitmap <= 65535 or not isinstance(siblings, bytes) for bitmap, siblings in steps):
            return False
    except (ValueError, TypeError, msgpack.UnpackException):
        return False
    path = tagged("consilium/state-key/1", key).hex()
    n = len(steps)
    node: bytes | None = None
    if bucket:
        if not isinstance(bucket, bytes) or len(bucket) % 64:
            return False
        pairs = [(bucket[i : i + 32].hex(), bucket[i + 32 : i + 64]) for i in range(0, len(bucket), 64)]
        keys = [key_hash for key_hash, _ in pairs]
        if keys != sorted(set(keys)) or any(key_hash[:n] != path[:n] for key_hash in keys):
            return False
        if dict(pairs).get(path) != (None if value is None else tagged("consilium/state-value/1", value)):
            return False
        node = tagged("consilium/state-bucket/1", bucket)
    elif value is not None:
        return False
    elif n == 0:
        return root == tagged("consilium/state-empty/1", b"")
    for d in reversed(range(n)):
        slot = int(path[d], 16)
        bitmap, siblings = steps[d]
        others = [s for s in range(16) if bitmap & 2**s and s != slot]
        if (bitmap & 2**slot != 0) != (node is not None) or len(siblings) != 32 * len(others):
            return False
        hashes = {s: siblings[32 * i : 32 * i + 32] for i, s in enumerate(others)}
        if node is not None:
            hashes[slot] = node
        data = bitmap.to_bytes(2, "big") + b"".join(hashes[s] for s in sorted(hashes))
        node = tagged("consilium/state-branch/1", data)
    return node == root


def second_inclusion(leaf: bytes, raw: bytes, root: bytes) -> bool:
    try:
        index, size, path = msgpack.unpackb(raw, raw=False)
        if msgpack.packb([index, size, path]) != raw or not 0 <= index < size or len(path) > 64:
            return False
        if any(not isinstance(p, bytes) or len(p) != 32 for p in path):
            return False
    except (ValueError, TypeError, msgpack.UnpackException):
        return False
    r, f, last = hashlib.sha256(b"\x00" + leaf).digest(), index, size - 1
    for p in path:
        if last == 0:
            return False
        if f % 2 == 1 or f == last:
            r = hashlib.sha256(b"\x01" + p + r).digest()
            while f % 2 == 0 and f != 0:
                f, last = f // 2, last // 2
        else:
            r = hashlib.sha256(b"\x01" + r + p).digest()
        f, last = f // 2, last // 2
    return bool(last == 0 and r == root)


# ---- the golden files


class Nodes:
    def __init__(self) -> None:
        self.branches: dict[bytes, bytes | None] = {}
        self.buckets: dict[bytes, bytes | None] = {}

    def branch(self, key: bytes) -> bytes:
        return self.branches[key] or b""

    def bucket(self, key: bytes) -> bytes:
        return self.buckets[key] or b""


def make_state() -> list[dict[str, Any]]:
    cases = []
    for count in (0, 1, 24, 25, 700):
        pairs = {b"key %d" % number: b"value %d" % (number * number) for number in range(count)}
        nodes = Nodes()
        update = trie.apply(nodes, None, list(pairs.items()))
        nodes.branches.update(update.branches)
        nodes.buckets.update(update.buckets)
        for key in (b"key 0", b"key %d" % (count // 2), b"key %d" % count, b"key %d" % (count + 7)):
            value = pairs.get(key)
            cases.append(
                {
                    "keys_in_state": count,
                    "state_root": update.root_hash.hex(),
                    "key": key.hex(),
                    "value": None if value is None else value.hex(),
                    "proof": codec.encode(trie.prove(nodes, update.root, key)).hex(),
                }
            )
    return cases


def make_trees() -> list[dict[str, Any]]:
    cases = []
    for size in (1, 2, 3, 7, 8, 100):
        leaves = [bytes([number]) * (number % 5) for number in range(size)]
        frontier = MountainRange()
        for leaf in leaves:
            frontier = frontier.append(merkle.leaf_hash(leaf))
        for index in sorted({0, size // 2, size - 1}):
            cases.append(
                {
                    "leaf": leaves[index].hex(),
                    "root": merkle.merkle_root(leaves).hex(),
                    "mountain_range": codec.encode(frontier).hex(),
                    "proof": codec.encode(merkle.inclusion_proof(leaves, index)).hex(),
                }
            )
    return cases


def golden(name: str, make: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    path = GOLDEN / name
    if os.environ.get("CONSILIUM_REWRITE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(make(), indent=1) + "\n", encoding="utf-8")
    cases: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return cases


STATE = golden("state_proofs.json", make_state)
TREES = golden("inclusion_proofs.json", make_trees)


def first_verifier(root: bytes, key: bytes, value: bytes | None, raw: bytes) -> bool:
    try:
        proof = codec.decode(raw, TrieProof, trie_proof.TRIE_PROOF_BYTES_MAX)
    except Refused:
        return False
    return trie_proof.verify_state(root, key, value, proof)


def first_inclusion(leaf: bytes, raw: bytes, root: bytes) -> bool:
    try:
        proof = codec.decode(raw, InclusionProof, merkle.INCLUSION_PROOF_BYTES_MAX)
    except Refused:
        return False
    return merkle.verify_inclusion(merkle.leaf_hash(leaf), proof.index, proof.size, proof.path, root)


def test_the_code_still_makes_the_golden_files() -> None:
    assert make_state() == STATE
    assert make_trees() == TREES


@pytest.mark.parametrize("case", STATE, ids=lambda case: f"{case['keys_in_state']} keys")
@pytest.mark.parametrize("verifier", [first_verifier, second_verifier])
def test_state_proofs(
    case: dict[str, Any], verifier: Callable[[bytes, bytes, bytes | None, bytes], bool]
) -> None:
    root, key, raw = (bytes.fromhex(case[name]) for name in ("state_root", "key", "proof"))
    value = None if case["value"] is None else bytes.fromhex(case["value"])
    assert verifier(root, key, value, raw)
    assert not verifier(root, key, b"another" if value is not None else b"", raw)
    assert not verifier(root, key, None if value is not None else b"value 0", raw)
    assert not verifier(bytes(32), key, value, raw)
    assert not verifier(root, key, value, raw + b"\x00")
    for at in range(len(raw)):
        assert not verifier(root, key, value, raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1 :])


@pytest.mark.parametrize("case", TREES, ids=lambda case: case["proof"][2:8])
@pytest.mark.parametrize("verifier", [first_inclusion, second_inclusion])
def test_inclusion_proofs(case: dict[str, Any], verifier: Callable[[bytes, bytes, bytes], bool]) -> None:
    leaf, root, raw = (bytes.fromhex(case[name]) for name in ("leaf", "root", "proof"))
    assert verifier(leaf, raw, root)
    assert not verifier(leaf + b"\x00", raw, root)
    assert not verifier(leaf, raw, bytes(32))
    for at in range(3, len(raw)):  # behind index and size, which are two or three bytes here
        flipped = raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1 :]
        assert not verifier(leaf, flipped, root)


def test_mountain_ranges() -> None:
    for case in TREES:
        raw = bytes.fromhex(case["mountain_range"])
        frontier = codec.decode(raw, MountainRange, merkle.MOUNTAIN_RANGE_BYTES_MAX)
        assert frontier.well_formed()
        assert frontier.root().hex() == case["root"]
