"""Checking a whole store against itself: for a backup that was restored, and for an operator who asks.

Everything is recomputed that a root commits to: the headers follow each other from genesis to the tip, a quorum sealed
the tip, and the values of the state give the tip's state root. It reads every row, so it takes long; memory is
bounded by the largest sixteenth of a sixteenth of the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from consilium.ledger.block import Header, check_certified
from consilium.ledger.errors import Refused
from consilium.ledger.trie_proof import (
    BRANCH_TAG,
    BUCKET_KEYS_MAX,
    BUCKET_TAG,
    EMPTY_STATE_ROOT,
    PAIR_BYTES,
    key_hash,
    value_hash,
)
from consilium.storage.chain import ChainStore

PROGRESS_EVERY = 4_096


def check_chain(
    chain: ChainStore, genesis: Header, progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Raises Refused `store.wrong_chain`, `store.corrupt`. `progress(done, total)` counts headers and rows of state."""
    tip = chain.tip
    if chain.header(0) != genesis:
        raise Refused("store.wrong_chain", "its first block is not this network's genesis")
    parent = genesis
    for height in range(1, tip.height + 1):
        header = chain.header(height)
        if header.height != height or header.parent != parent.hash:
            raise Refused("store.corrupt", f"block {height} does not follow block {height - 1}")
        if header.validators_hash != parent.next_validators_hash:
            raise Refused("store.corrupt", f"block {height} names other validators than its parent")
        parent = header
        if height % PROGRESS_EVERY == 0:
            progress(height, tip.height)
    if parent.hash != tip.block_hash:
        raise Refused("store.corrupt", "the tip is not the last block")
    for validators_hash in (parent.next_validators_hash, tip.next_validators_hash):
        chain.validators(validators_hash)
    certificate = chain.certificate(tip.height)
    if certificate is not None:
        try:
            check_certified(parent, certificate, chain.validators(parent.validators_hash))
        except Refused as refusal:
            raise Refused("store.corrupt", f"the tip's certificate: {refusal}") from None
    if state_root(_pairs(chain)) != tip.state_root:
        raise Refused("store.corrupt", "the values of the state do not give the tip's state root")


def _pairs(chain: ChainStore) -> Iterator[bytes]:
    for path, key, value in chain.state_rows():
        if key_hash(key) != path:
            raise Refused("store.corrupt", "a value of the state is stored by another key's hash")
        yield path + value_hash(value)


class _Subtree(NamedTuple):
    """`pairs` while they would fit a bucket, else empty: then there is `hash` of a branch."""

    keys: int
    pairs: bytes
    hash: bytes


def state_root(pairs: Iterable[bytes]) -> bytes:
    """The state root over (key hash, value hash) of 64 bytes each, ascending. Source: docs/state.md."""
    bytes_of_path = groupby(pairs, key=lambda pair: pair[0])
    seconds = ((first, _subtree(b"".join(group), 2)) for first, group in bytes_of_path)
    firsts = [
        (nibble, _join([(first & 15, subtree) for first, subtree in group]))
        for nibble, group in groupby(seconds, key=lambda item: item[0] >> 4)
    ]
    whole = _join(firsts)
    if not whole.keys:
        return EMPTY_STATE_ROOT
    return _hash_of(whole)


def _subtree(pairs: bytes, depth: int) -> _Subtree:
    keys = len(pairs) // PAIR_BYTES
    if keys <= BUCKET_KEYS_MAX:
        return _Subtree(keys, pairs, b"")
    shift = 0 if depth & 1 else 4
    slots: list[list[bytes]] = [[] for _ in range(16)]
    for at in range(0, len(pairs), PAIR_BYTES):
        slots[pairs[at + (depth >> 1)] >> shift & 15].append(pairs[at : at + PAIR_BYTES])
    return _join([(slot, _subtree(b"".join(below), depth + 1)) for slot, below in enumerate(slots) if below])


def _join(children: list[tuple[int, _Subtree]]) -> _Subtree:
    keys = sum(child.keys for _, child in children)
    if keys <= BUCKET_KEYS_MAX:
        return _Subtree(keys, b"".join(child.pairs for _, child in children), b"")
    bitmap = sum(1 << slot for slot, _ in children)
    hashes = b"".join(_hash_of(child) for _, child in children)
    return _Subtree(keys, b"", BRANCH_TAG.digest(bitmap.to_bytes(2, "big"), hashes))


def _hash_of(subtree: _Subtree) -> bytes:
    return subtree.hash or BUCKET_TAG.digest(subtree.pairs)
