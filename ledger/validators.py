"""The validator set: every threshold by name, and who is primary.

With n validators, f = ⌊(n−1)/3⌋ may lie. A quorum is ⌈(n+f+1)/2⌉: any two quorums share an honest validator for every
n ≥ 1 (2f+1 would not, where n ≠ 3f+1), and n−f honest validators always make one.

The primary of a height follows from the parent's header alone. It stays for PRIMARY_HEIGHTS heights, so that a dead
validator costs a timeout seldom; then it moves on, so that none can censor for long. A validator that lost its turn
(a view change passed it by) is skipped once at the next moves, which `Header.lost` records as a bit mask.

Source: Castro & Liskov 1999, §4 (quorums); docs/consensus.md, "Primary".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from consilium.ledger import codec
from consilium.ledger.crypto import Digest, Tag

VALIDATORS_MAX: Final = 60
"""The mask of lost turns must fit an unsigned 63-bit integer."""
PRIMARY_HEIGHTS: Final = 64

_SET_TAG: Final = Tag("consilium/validators/1")


class Validator(codec.Wire, frozen=True):
    """`key` signs votes and identifies the node to its peers; `institution` is the identity that runs it."""

    key: codec.Bytes32
    institution: codec.Bytes16


class _ValidatorList(codec.Wire, frozen=True):
    validators: Annotated[list[Validator], msgspec.Meta(min_length=1, max_length=VALIDATORS_MAX)]


class ValidatorSet:
    """Validators in the order of their keys. Immutable; equal sets have equal hashes."""

    __slots__ = ("_index", "f", "hash", "keys", "n", "quorum", "validators", "weak_quorum")

    def __init__(self, validators: Sequence[Validator]) -> None:
        ordered = tuple(sorted(validators, key=lambda v: v.key))
        if not 1 <= len(ordered) <= VALIDATORS_MAX:
            raise ValueError(f"a network has 1 to {VALIDATORS_MAX} validators, not {len(ordered)}")
        self.validators: tuple[Validator, ...] = ordered
        self.keys: tuple[bytes, ...] = tuple(v.key for v in ordered)
        self._index: dict[bytes, int] = {key: i for i, key in enumerate(self.keys)}
        if len(self._index) != len(ordered):
            raise ValueError("two validators have the same key")
        self.n: int = len(ordered)
        self.f: int = (self.n - 1) // 3
        self.quorum: int = (self.n + self.f + 2) // 2  # ⌈(n+f+1)/2⌉ in whole numbers
        self.weak_quorum: int = self.f + 1
        """At least one of so many is honest."""
        self.hash: Digest = _SET_TAG.digest(codec.encode(_ValidatorList(list(ordered))))

    def index(self, key: bytes) -> int | None:
        """The validator's place in the order of keys, or None."""
        return self._index.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def __len__(self) -> int:
        return self.n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ValidatorSet) and other.hash == self.hash

    def __hash__(self) -> int:
        return int.from_bytes(self.hash[:8], "big")

    def __repr__(self) -> str:
        return f"ValidatorSet(n={self.n}, f={self.f}, quorum={self.quorum})"


def first_primary(validators: ValidatorSet, height: int, parent_primary: bytes, parent_lost: int) -> int:
    """The index of primary(height, view 0), from the parent header's `primary` and `lost`.

    `parent_lost` counts by this set's order; give 0 when the set changed between parent and height.
    """
    here = validators.index(parent_primary)
    if here is None:
        # The parent's primary was removed: whoever follows its key in the order takes over.
        return sum(1 for key in validators.keys if key < parent_primary) % validators.n
    if height % PRIMARY_HEIGHTS:
        return here
    for step in range(1, validators.n + 1):
        candidate = (here + step) % validators.n
        if not parent_lost >> candidate & 1:
            return candidate
    return (here + 1) % validators.n


def primary(
    validators: ValidatorSet, height: int, view: int, parent_primary: bytes, parent_lost: int
) -> bytes:
    """The key of primary(height, view): the view-th validator after the first one."""
    first = first_primary(validators, height, parent_primary, parent_lost)
    return validators.keys[(first + view) % validators.n]


def lost_after(
    validators: ValidatorSet, height: int, parent_primary: bytes, parent_lost: int, proposer: bytes
) -> int:
    """The mask that the header at `height`, first proposed by `proposer`, must carry.

    Whoever was due before the proposer lost this turn; whoever was skipped by a move has served its wait.
    """
    lost = parent_lost
    first = first_primary(validators, height, parent_primary, parent_lost)
    here = validators.index(parent_primary)
    if here is not None and height % PRIMARY_HEIGHTS == 0:
        passed = (here + 1) % validators.n
        while passed != first:
            lost &= ~(1 << passed)
            passed = (passed + 1) % validators.n
    due = first
    proposer_index = validators.index(proposer)
    if proposer_index is None:
        raise ValueError("the proposer is not a validator of this height")
    while due != proposer_index:
        lost |= 1 << due
        due = (due + 1) % validators.n
    return lost & ~(1 << proposer_index)
