"""What the state root commits to, and how a proof against it is checked. Cannot build a proof.

The state is a set of (key, value). Its tree is a function of that set alone: take the hashes of all keys,
64 nibbles each; a subtree with at most `BUCKET_KEYS_MAX` keys is one *bucket*, a larger one is a *branch*
on the next nibble, and an empty one is nothing. There is no path compression. docs/state.md says it
precisely enough to write another verifier from it; whoever changes a line here changes that page, and the
network's format.

A bucket does not name its path: a root fixes every node below it, so a genuine root never holds a bucket in
a wrong place, and the verifier refuses one whose keys do not lie under the path that it walked.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.ledger.codec import Wire
from consilium.ledger.crypto import DIGEST_BYTES, Digest, Tag

BUCKET_KEYS_MAX: Final = 24
PAIR_BYTES: Final = 2 * DIGEST_BYTES
BRANCH_SLOTS: Final = 16
DEPTH_MAX: Final = 2 * DIGEST_BYTES

KEY_TAG: Final = Tag("consilium/state-key/1")
VALUE_TAG: Final = Tag("consilium/state-value/1")
BUCKET_TAG: Final = Tag("consilium/state-bucket/1")
BRANCH_TAG: Final = Tag("consilium/state-branch/1")
EMPTY_STATE_ROOT: Final = Tag("consilium/state-empty/1").digest()
"""The root hash of the state without keys."""


class BranchStep(Wire, frozen=True):
    """A branch on the way from the root down to the key.

    `bitmap` has bit s set where slot s (0 to 15) is present. `siblings` are the hashes (32 bytes each) of
    the present slots except the one on the path, in slot order, one after the other.
    """

    bitmap: Annotated[int, msgspec.Meta(ge=1, le=0xFFFF)]
    siblings: Annotated[bytes, msgspec.Meta(max_length=BRANCH_SLOTS * DIGEST_BYTES)]


class TrieProof(Wire, frozen=True):
    """The branches from the root down, and where they end.

    `bucket` is the bucket's pairs (key hash, value hash), sorted, one after the other; empty when the path
    ends in an absent slot of the last branch (or the state is empty, when there are no branches either).
    """

    steps: Annotated[tuple[BranchStep, ...], msgspec.Meta(max_length=DEPTH_MAX)]
    bucket: Annotated[bytes, msgspec.Meta(max_length=BUCKET_KEYS_MAX * PAIR_BYTES)]


TRIE_PROOF_BYTES_MAX: Final = 1 + 3 + DEPTH_MAX * (1 + 3 + 3 + 512) + 3 + BUCKET_KEYS_MAX * PAIR_BYTES


def key_hash(key: bytes) -> Digest:
    """The path of a key: 32 bytes, 64 nibbles, the high one of each byte first."""
    return KEY_TAG.digest(key)


def value_hash(value: bytes) -> Digest:
    """What a bucket holds for a value: 32 bytes."""
    return VALUE_TAG.digest(value)


def verify_state(root_hash: bytes, key: bytes, value: bytes | None, proof: TrieProof) -> bool:
    """Whether `proof` shows that the state under `root_hash` holds `value` for `key` (None: no such key).

    Never raises for a proof that was decoded from the wire: whatever is wrong with it is `False`.
    """
    return verify_state_hashes(root_hash, key_hash(key), None if value is None else value_hash(value), proof)


def verify_state_hashes(root_hash: bytes, path: bytes, value: bytes | None, proof: TrieProof) -> bool:
    """As `verify_state`, of the hashes of key and value (32 bytes each)."""
    depth = len(proof.steps)
    running: bytes | None
    if proof.bucket:
        found = _bucket_value(proof.bucket, path, depth)
        if found is False or found != value:
            return False
        running = BUCKET_TAG.digest(proof.bucket)
    elif value is not None:
        return False
    elif depth == 0:
        return root_hash == EMPTY_STATE_ROOT
    else:
        running = None
    for step in reversed(proof.steps):
        depth -= 1
        running = _branch_above(step, _nibble_at(path, depth), running)
        if running is None:
            return False
    return running == root_hash


def _bucket_value(bucket: bytes, path: bytes, depth: int) -> bytes | bool | None:
    """The value hash for `path`; None where the bucket has none, False where it is no bucket of this path."""
    if len(bucket) % PAIR_BYTES or depth > DEPTH_MAX or len(path) != DIGEST_BYTES:
        return False
    previous = b""
    found = None
    for start in range(0, len(bucket), PAIR_BYTES):
        key = bucket[start : start + DIGEST_BYTES]
        if key <= previous or key.hex()[:depth] != path.hex()[:depth]:
            return False
        if key == path:
            found = bucket[start + DIGEST_BYTES : start + PAIR_BYTES]
        previous = key
    return found


def _branch_above(step: BranchStep, slot: int, child: bytes | None) -> bytes | None:
    """The branch's hash with `child` in `slot` (None: absent). None where the step does not fit that."""
    present = bool(step.bitmap >> slot & 1)
    if present != (child is not None):
        return None
    if len(step.siblings) != (step.bitmap.bit_count() - present) * DIGEST_BYTES:
        return None
    before = (step.bitmap & ((1 << slot) - 1)).bit_count() * DIGEST_BYTES
    hashes = step.siblings[:before] + (child or b"") + step.siblings[before:]
    return BRANCH_TAG.digest(step.bitmap.to_bytes(2, "big"), hashes)


def _nibble_at(path: bytes, depth: int) -> int:
    return path[depth // 2] >> (0 if depth % 2 else 4) & 15
