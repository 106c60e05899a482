"""Sharing against integers: Shamir, Lagrange, Feldman, and parcels that must be the custodian's own."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.client import boxes, group, sharing
from consilium.client.sharing import CompartmentKey, CompartmentSecret, Share, ShareParcel
from consilium.ledger import codec
from consilium.ledger.errors import Refused

sizes = st.integers(1, 6).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n)))


def number(scalar: bytes) -> int:
    return int.from_bytes(scalar, "little")


def twin_polynomial(coefficients: list[int], at: int) -> int:
    return sum(c * at**power for power, c in enumerate(coefficients)) % group.ORDER


def twin_interpolate(points: dict[int, int]) -> int:
    """Lagrange's formula at zero, as the textbook writes it."""
    total = 0
    for i, value in points.items():
        weight = 1
        for j in points:
            if j != i:
                weight = weight * -j * pow(i - j, -1, group.ORDER) % group.ORDER
        total += value * weight
    return total % group.ORDER


def key_of(secret: CompartmentSecret) -> CompartmentKey:
    return CompartmentKey(bytes(32), bytes(16), 0, secret.commitments)


@settings(max_examples=30)
@given(sizes)
def test_shares_lie_on_the_polynomial_and_any_k_give_the_secret(size: tuple[int, int]) -> None:
    threshold, custodians = size
    secret = sharing.make_compartment(threshold, custodians)
    coefficients = [number(c) for c in secret.coefficients]
    assert secret.point == secret.commitments[0] == group.multiply_base(secret.coefficients[0])
    assert [share.index for share in secret.shares] == list(range(1, custodians + 1))
    for share in secret.shares:
        assert number(share.scalar) == twin_polynomial(coefficients, share.index)
        assert sharing.share_matches(share, secret.commitments)
        assert sharing.verification_key(secret.commitments, share.index) == group.multiply_base(share.scalar)
    for chosen in combinations(secret.shares, threshold):
        points = {share.index: number(share.scalar) for share in chosen}
        assert twin_interpolate(points) == coefficients[0]


@given(st.lists(st.integers(1, sharing.CUSTODIANS_MAX), unique=True, min_size=1, max_size=8))
def test_weights_equal_the_textbook(indexes: list[int]) -> None:
    for position, weight in enumerate(sharing.lagrange_at_zero(tuple(indexes))):
        unit = {index: int(place == position) for place, index in enumerate(indexes)}
        assert number(weight) == twin_interpolate(unit)


@settings(max_examples=20)
@given(sizes, st.randoms(use_true_random=False))
def test_partials_combine_to_the_secrets_power_from_any_k(size: tuple[int, int], chance) -> None:
    threshold, custodians = size
    secret = sharing.make_compartment(threshold, custodians)
    base = group.multiply_base(group.random_scalar())
    chosen = chance.sample(secret.shares, threshold)
    powers = {share.index: group.multiply(share.scalar, base) for share in chosen}
    assert sharing.combine(powers) == group.multiply(secret.coefficients[0], base)


def test_fewer_than_k_give_something_else() -> None:
    secret = sharing.make_compartment(3, 5)
    base = group.multiply_base(group.random_scalar())
    wanted = group.multiply(secret.coefficients[0], base)
    for count in (1, 2):
        for chosen in combinations(secret.shares, count):
            powers = {share.index: group.multiply(share.scalar, base) for share in chosen}
            assert sharing.combine(powers) != wanted


def test_a_false_share_does_not_match() -> None:
    secret = sharing.make_compartment(2, 3)
    first, second = secret.shares[:2]
    assert not sharing.share_matches(Share(1, second.scalar), secret.commitments)
    assert not sharing.share_matches(Share(3, first.scalar), secret.commitments)
    assert not sharing.share_matches(Share(1, group.random_scalar()), secret.commitments)
    assert not sharing.share_matches(Share(1, bytes(32)), secret.commitments)
    beyond = number(first.scalar) + group.ORDER
    assert not sharing.share_matches(Share(1, beyond.to_bytes(32, "little")), secret.commitments)
    assert not sharing.share_matches(first, sharing.make_compartment(2, 3).commitments)


def test_commitments_outside_the_group_are_refused(outsiders: tuple[bytes, ...]) -> None:
    good = sharing.make_compartment(2, 2).commitments
    for point in outsiders:
        for commitments in ((point,), (good[0], point)):
            with pytest.raises(Refused) as refused:
                sharing.verification_key(commitments, 1)
            assert refused.value.code == "sealing.bad_point"
        with pytest.raises(Refused):
            sharing.verification_key((point, good[1]), 1)


def test_commitments_that_cancel_each_other_are_refused() -> None:
    """C + 1 · A = identity: custodian 1 would have the share zero."""
    scalar = group.random_scalar()
    minus = group.public_scalar(group.ORDER - number(scalar))
    commitments = (group.multiply_base(scalar), group.multiply_base(minus))
    with pytest.raises(Refused) as refused:
        sharing.verification_key(commitments, 1)
    assert refused.value.code == "sealing.bad_point"


@pytest.mark.parametrize(("threshold", "custodians"), [(0, 1), (2, 1), (1, 17), (17, 17), (-1, 3)])
def test_impossible_thresholds_are_refused(threshold: int, custodians: int) -> None:
    with pytest.raises(ValueError, match="impossible"):
        sharing.make_compartment(threshold, custodians)


def test_indexes_are_distinct_and_in_range() -> None:
    with pytest.raises(ValueError, match="distinct"):
        sharing.lagrange_at_zero((1, 2, 1))
    for index in (0, -1, 17):
        with pytest.raises(ValueError, match="index"):
            sharing.verification_key(sharing.make_compartment(1, 1).commitments, index)


def test_a_parcel_opens_for_its_custodian_and_compartment_only() -> None:
    secret = sharing.make_compartment(2, 3)
    key = key_of(secret)
    pairs = [boxes.new_box_key() for _ in range(3)]
    parcels = sharing.seal_parcels(secret, key, tuple(pair.public for pair in pairs))
    for place, (parcel, pair) in enumerate(zip(parcels, pairs, strict=True), start=1):
        opened = sharing.open_parcel(parcel, pair, key, place)
        assert opened.share == secret.shares[place - 1]
        assert opened.key == key
    cases = [
        (parcels[0], pairs[1], key, 1, "sealing.wrong_key"),
        (parcels[0], pairs[0], key, 2, "sealing.bad_share"),
        (
            parcels[0],
            pairs[0],
            CompartmentKey(bytes(32), bytes(16), 1, key.commitments),
            1,
            "sealing.bad_share",
        ),
        (parcels[0], pairs[0], key_of(sharing.make_compartment(2, 3)), 1, "sealing.bad_share"),
        (parcels[0] + bytes(2_000), pairs[0], key, 1, "codec.oversized"),
        (parcels[0][:-1], pairs[0], key, 1, "sealing.wrong_key"),
    ]
    for sealed, pair, expected, index, code in cases:
        with pytest.raises(Refused) as refused:
            sharing.open_parcel(sealed, pair, expected, index)
        assert refused.value.code == code


@pytest.mark.parametrize("version", [0, 2])
def test_a_parcel_of_another_version_or_with_a_false_share_is_refused(version: int) -> None:
    secret = sharing.make_compartment(1, 1)
    key, pair = key_of(secret), boxes.new_box_key()
    other = codec.encode(ShareParcel(version, key, secret.shares[0]))
    false = codec.encode(ShareParcel(1, key, Share(1, group.random_scalar())))
    for raw in (other, false):
        with pytest.raises(Refused) as refused:
            sharing.open_parcel(boxes.seal_to(pair.public, raw), pair, key, 1)
        assert refused.value.code == "sealing.bad_share"


def test_the_largest_parcel_fits_its_limit() -> None:
    secret = sharing.make_compartment(sharing.CUSTODIANS_MAX, sharing.CUSTODIANS_MAX)
    key = CompartmentKey(b"\xff" * 32, b"\xff" * 16, codec.UINT_MAX, secret.commitments)
    assert len(codec.encode(ShareParcel(1, key, secret.shares[-1]))) <= sharing.PARCEL_BYTES_MAX


def test_parcels_are_made_for_the_secrets_own_key_and_custodians() -> None:
    secret = sharing.make_compartment(1, 2)
    public = boxes.new_box_key().public
    with pytest.raises(ValueError, match="belong"):
        sharing.seal_parcels(secret, key_of(secret), (public,))
    with pytest.raises(ValueError, match="belong"):
        sharing.seal_parcels(secret, key_of(sharing.make_compartment(1, 2)), (public, public))


def test_nothing_shows_its_secret() -> None:
    secret = sharing.make_compartment(2, 2)
    parcel = ShareParcel(1, key_of(secret), secret.shares[0])
    for value, scalar in ((secret, secret.coefficients[0]), (parcel, secret.shares[0].scalar)):
        for shown in (repr(value), str(value), repr(value.__rich_repr__())):
            assert repr(scalar)[2:-1] not in shown
            assert scalar.hex() not in shown
