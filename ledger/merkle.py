"""RFC 6962 Merkle trees over lists, and the same tree grown leaf by leaf over all headers.

One hash tree serves two purposes. A block commits to its transactions, receipts and batches by the root
over a list that is at hand. A header commits to *all earlier headers* by the root over a list that only
grows: the history root. An RFC 6962 tree over n leaves is a row of perfect trees, one per bit of n, largest
first, bagged from the right, so a frontier of at most 63 peaks is enough to append (a Merkle mountain
range), and both kinds of root are one function of the leaves. Hence one proof and one verifier, and a
receipt can be extended to any later header.

`verify_inclusion` shares no code with what builds trees and proofs, except the two hashes.

Source: RFC 6962 section 2.1 (hashes, MTH, PATH), RFC 9162 section 2.1.3.2 (verification).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec

from consilium.ledger.codec import Bytes32, Uint, Wire
from consilium.ledger.crypto import Digest

PATH_HASHES_MAX: Final = 64
PEAKS_MAX: Final = 63
EMPTY_ROOT: Final = Digest(hashlib.sha256(b"").digest())
"""Root of the tree without leaves: SHA-256 of nothing, as the RFC says."""

_sha256 = hashlib.sha256


class InclusionProof(Wire, frozen=True):
    """Leaf `index` (from 0) is in the tree over `size` leaves; `path` holds the siblings, lowest first."""

    index: Uint
    size: Uint
    path: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=PATH_HASHES_MAX)]


INCLUSION_PROOF_BYTES_MAX: Final = 1 + 9 + 9 + 3 + PATH_HASHES_MAX * 34


class NodePosition(NamedTuple):
    """A perfect subtree: the leaves [number << level, (number + 1) << level)."""

    level: int
    number: int


NodeSource = Callable[[NodePosition], bytes]
"""Gives the hash (32 bytes) of a stored perfect subtree. Level 0 is the leaf hash itself."""


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data): 32 bytes."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right): 32 bytes."""
    return _sha256(b"\x01" + left + right).digest()


def merkle_root(leaves: Sequence[bytes]) -> Digest:
    """The RFC's MTH over the leaves' data: 32 bytes."""
    return merkle_root_of_hashes([_sha256(b"\x00" + leaf).digest() for leaf in leaves])


def merkle_root_of_hashes(hashes: Sequence[bytes]) -> Digest:
    """The root over leaves that are already hashed by `leaf_hash`."""
    if not hashes:
        return EMPTY_ROOT
    row = list(hashes)
    while len(row) > 1:
        row = _row_above(row)
    return Digest(row[0])


def inclusion_proof(leaves: Sequence[bytes], index: int) -> InclusionProof:
    """The RFC's PATH for leaf `index` of the leaves' data. Raises IndexError outside of them."""
    return inclusion_proof_of_hashes([leaf_hash(leaf) for leaf in leaves], index)


def inclusion_proof_of_hashes(hashes: Sequence[bytes], index: int) -> InclusionProof:
    """The path for leaf `index` over leaves that are already hashed. Raises IndexError outside of them."""
    if not 0 <= index < len(hashes):
        raise IndexError(f"leaf {index} of {len(hashes)}")
    path = []
    row, position = list(hashes), index
    while len(row) > 1:
        sibling = position ^ 1
        if sibling < len(row):  # an unpaired last node rises without a sibling
            path.append(row[sibling])
        row, position = _row_above(row), position >> 1
    return InclusionProof(index=index, size=len(hashes), path=tuple(path))


def _row_above(row: list[bytes]) -> list[bytes]:
    # node_hash, spelled out: this is where the time of a tree goes
    pairs = zip(row[::2], row[1::2], strict=False)
    above = [_sha256(b"\x01" + left + right).digest() for left, right in pairs]
    if len(row) % 2:
        above.append(row[-1])
    return above


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected_root: bytes) -> bool:
    """Whether `path` leads from the leaf *hash* at `index` to the root of a tree over `size` leaves.

    Never raises: whatever is wrong with the numbers or the path is `False`. Index and size fix the path's
    length, so that no other path can be accepted for them.
    """
    if not 0 <= index < size or len(leaf) != 32:
        return False
    position, last = index, size - 1
    running = leaf
    for sibling in path:
        if last == 0 or len(sibling) != 32:
            return False
        if position & 1 or position == last:
            running = node_hash(sibling, running)
            while position & 1 == 0 and position != 0:  # levels where this node rose without a sibling
                position >>= 1
                last >>= 1
        else:
            running = node_hash(running, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and running == expected_root


class MountainRange(Wire, frozen=True):
    """The frontier of a growing tree: how many leaves, and the roots of its perfect trees, largest first.

    There is one peak per set bit of `count`. A value: `append` gives a new one.
    """

    count: Uint = 0
    peaks: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=PEAKS_MAX)] = ()

    def append(self, leaf: bytes) -> MountainRange:
        """The range with one more leaf *hash* (`leaf_hash(header hash)` for the history)."""
        return self.grow(leaf)[0]

    def grow(self, leaf: bytes) -> tuple[MountainRange, list[tuple[NodePosition, bytes]]]:
        """As `append`, and the perfect subtrees that the leaf completes: `history_proof` reads them."""
        completed = [(NodePosition(0, self.count), leaf)]
        peaks = list(self.peaks)
        running, level, position = leaf, 0, self.count
        while position & 1:
            running = node_hash(peaks.pop(), running)
            level, position = level + 1, position >> 1
            completed.append((NodePosition(level, position), running))
        peaks.append(running)
        return MountainRange(count=self.count + 1, peaks=tuple(peaks)), completed

    def root(self) -> Digest:
        """Peaks bagged from the right (the smallest first): equal to the RFC 6962 root over all leaves."""
        if not self.peaks:
            return EMPTY_ROOT
        running = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            running = node_hash(peak, running)
        return Digest(running)

    def well_formed(self) -> bool:
        """Whether the number of peaks fits the count: to be asked of a range that came from elsewhere."""
        return len(self.peaks) == self.count.bit_count()


MOUNTAIN_RANGE_BYTES_MAX: Final = 1 + 9 + 3 + PEAKS_MAX * 34


def history_proof(source: NodeSource, index: int, size: int) -> InclusionProof:
    """Prove leaf `index` in the tree over the first `size` leaves, from stored perfect subtrees.

    Reads O(log² size) nodes at most. Raises IndexError outside of the tree, and whatever `source` raises
    for a node that it does not have.
    """
    if not 0 <= index < size:
        raise IndexError(f"leaf {index} of {size}")
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_root(source, middle, end))
            end = middle
        else:
            path.append(_range_root(source, start, middle))
            start = middle
    path.reverse()
    return InclusionProof(index=index, size=size, path=tuple(path))


def _split(count: int) -> int:
    """The RFC's k: the largest power of two below `count` (which is at least 2)."""
    return 1 << ((count - 1).bit_length() - 1)


def _range_root(source: NodeSource, start: int, end: int) -> bytes:
    """Root over the leaves [start, end); start is a multiple of the least power of two >= end - start."""
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return source(NodePosition(level, start >> level))
    middle = start + _split(count)
    return node_hash(_range_root(source, start, middle), _range_root(source, middle, end))
