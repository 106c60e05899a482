"""Thresholds proved by brute force for every size, and the primary's schedule against a twin that writes it out."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.ledger.validators import (
    PRIMARY_HEIGHTS,
    VALIDATORS_MAX,
    Validator,
    ValidatorSet,
    first_primary,
    lost_after,
    primary,
)
from tests.unit.ledger.world import some

SIZES = range(1, VALIDATORS_MAX + 1)


def members(size: int) -> list[Validator]:
    return [Validator(some(f"key {number}"), some(f"institution {number}", 16)) for number in range(size)]


def set_of(size: int) -> ValidatorSet:
    return ValidatorSet(members(size))


# ---- thresholds


@pytest.mark.parametrize("n", SIZES)
def test_thresholds(n: int) -> None:
    validators = set_of(n)
    f, quorum = validators.f, validators.quorum
    assert f == max(faulty for faulty in range(n) if n > 3 * faulty or faulty == 0)
    assert quorum == math.ceil(Fraction(n + f + 1, 2))
    assert len(validators) == n == validators.n
    # Any two quorums overlap in at least 2q - n validators, of whom f may lie: somebody honest is in both.
    assert 2 * quorum - n >= f + 1
    # The honest alone are a quorum: the network lives while f are silent.
    assert n - f >= quorum
    # And no smaller number would do.
    assert 2 * (quorum - 1) - n < f + 1
    assert validators.weak_quorum == f + 1
    assert validators.weak_quorum <= quorum


@pytest.mark.parametrize("n", range(1, 11))
def test_quorums_by_brute_force(n: int) -> None:
    """Every pair of quorums, as bit masks, shares more validators than may lie."""
    validators = set_of(n)
    quorums = [mask for mask in range(2**n) if mask.bit_count() == validators.quorum]
    assert min((one & other).bit_count() for one in quorums for other in quorums) > validators.f


def test_the_mask_of_lost_turns_fits() -> None:
    assert (1 << VALIDATORS_MAX) - 1 <= 2**63 - 1


# ---- the set as a value


@given(st.permutations(range(7)))
def test_order_does_not_matter(order: list[int]) -> None:
    every = members(7)
    shuffled = ValidatorSet([every[place] for place in order])
    assert shuffled == ValidatorSet(every)
    assert shuffled.hash == ValidatorSet(every).hash
    assert hash(shuffled) == hash(ValidatorSet(every))
    assert list(shuffled.keys) == sorted(validator.key for validator in every)
    for place, key in enumerate(shuffled.keys):
        assert shuffled.index(key) == place
        assert key in shuffled
    assert shuffled.index(bytes(32)) is None
    assert bytes(32) not in shuffled


def test_sets_that_differ() -> None:
    every = members(4)
    moved = Validator(every[0].key, bytes(16))
    sets = [
        ValidatorSet(every),
        ValidatorSet(every[1:]),
        ValidatorSet([moved, *every[1:]]),
        ValidatorSet(members(5)),
    ]
    assert len({one.hash for one in sets}) == 4
    assert ValidatorSet(every) != "a set"
    assert [one == other for one in sets for other in sets].count(True) == 4
    assert repr(sets[0]) == "ValidatorSet(n=4, f=1, quorum=3)"


@pytest.mark.parametrize("size", [0, VALIDATORS_MAX + 1])
def test_sizes_that_no_network_has(size: int) -> None:
    with pytest.raises(ValueError, match="1 to 60"):
        set_of(size)


def test_one_key_for_two() -> None:
    key = some("key")
    with pytest.raises(ValueError, match="same key"):
        ValidatorSet([Validator(key, bytes(16)), Validator(key, b"\x01" * 16)])


# ---- who is primary


def twin_first(keys: list[bytes], height: int, parent: bytes, lost: set[bytes]) -> bytes:
    """The rule, told with a list that is turned until the right one is in front."""
    if parent not in keys:
        turned = [key for key in keys if key > parent] + [key for key in keys if key < parent]
        return turned[0]
    while keys[0] != parent:
        keys = keys[1:] + keys[:1]
    if height % PRIMARY_HEIGHTS != 0:
        return keys[0]
    waiting = keys[1:] + keys[:1]
    return next((key for key in waiting if key not in lost), waiting[0])


HEIGHTS = st.one_of(st.integers(1, 300), st.sampled_from([64, 128, 640]))


@given(st.integers(1, 9), HEIGHTS, st.integers(0, 2**9 - 1), st.integers(0, 9), st.integers(0, 30))
def test_the_schedule(n: int, height: int, mask: int, parent: int, view: int) -> None:
    validators = set_of(n)
    keys = list(validators.keys)
    lost = {key for place, key in enumerate(keys) if mask >> place & 1}
    stranger = parent >= n
    parent_key = some(f"stranger {parent}") if stranger else keys[parent]
    first = twin_first(keys, height, parent_key, lost)
    assert keys[first_primary(validators, height, parent_key, mask)] == first
    turned = keys[keys.index(first) :] + keys[: keys.index(first)]
    assert primary(validators, height, view, parent_key, mask) == turned[view % n]


@given(st.integers(1, 9), HEIGHTS, st.integers(0, 2**9 - 1), st.integers(0, 9), st.integers(0, 8))
def test_turns_that_were_lost(n: int, height: int, mask: int, parent: int, view: int) -> None:
    """Twin: forgive whom the move skipped, blame who was due, forgive the proposer."""
    validators = set_of(n)
    keys = list(validators.keys)
    mask &= 2**n - 1
    parent_key = some(f"stranger {parent}") if parent >= n else keys[parent]
    proposer = primary(validators, height, view % n, parent_key, mask)
    lost = {key for place, key in enumerate(keys) if mask >> place & 1}
    first = twin_first(keys, height, parent_key, lost)
    if parent < n and height % PRIMARY_HEIGHTS == 0:
        turned = keys[parent + 1 :] + keys[: parent + 1]
        lost -= set(turned[: turned.index(first)])
    due = [primary(validators, height, passed, parent_key, mask) for passed in range(view % n)]
    expected = (lost | set(due)) - {proposer}
    after = lost_after(validators, height, parent_key, mask, proposer)
    assert {key for place, key in enumerate(keys) if after >> place & 1} == expected
    assert after < 2**n


def test_a_stranger_proposes_nothing() -> None:
    with pytest.raises(ValueError, match="not a validator"):
        lost_after(set_of(4), 1, set_of(4).keys[0], 0, bytes(32))


def test_everybody_has_turns_and_the_dead_cost_few() -> None:
    """A whole run: validator 2 of 4 is dead. It loses a turn at most every other round, the others have theirs."""
    validators = set_of(4)
    dead = validators.keys[2]
    parent, lost, timeouts = validators.keys[0], 0, 0
    turns = dict.fromkeys(validators.keys, 0)
    heights = PRIMARY_HEIGHTS * 32
    for height in range(1, heights + 1):
        view = 0
        while primary(validators, height, view, parent, lost) == dead:
            view += 1
            timeouts += 1
        proposer = primary(validators, height, view, parent, lost)
        lost = lost_after(validators, height, parent, lost, proposer)
        parent = proposer
        turns[proposer] += 1
    assert turns[dead] == 0
    assert min(count for key, count in turns.items() if key != dead) >= heights // 5
    assert 1 <= timeouts <= 32 // 4


def test_nobody_is_skipped_for_ever() -> None:
    """A validator that lost a turn long ago has its next but one."""
    validators = set_of(4)
    skipped = validators.keys[1]
    parent, lost = validators.keys[0], 0b0010
    seen = []
    for height in range(1, PRIMARY_HEIGHTS * 9):
        proposer = primary(validators, height, 0, parent, lost)
        lost = lost_after(validators, height, parent, lost, proposer)
        parent = proposer
        seen.append(proposer)
    assert seen.count(skipped) >= PRIMARY_HEIGHTS
