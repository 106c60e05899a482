"""The group against schoolbook arithmetic on the curve, and proofs that must hold or fail."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.client import group
from consilium.ledger.crypto import Tag
from consilium.ledger.errors import Refused

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
BASE_Y = 4 * pow(5, -1, P) % P
TAG = Tag("test/group")

secrets = st.integers(min_value=1, max_value=group.ORDER - 1)
bindings32 = st.binary(min_size=32, max_size=32)


def twin_x(y: int, sign: int) -> int:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - square) % P == 0
    return P - x if x & 1 != sign else x


def twin_add(left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
    (x1, y1), (x2, y2) = left, right
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x, y


def twin_multiply(number: int, point: tuple[int, int]) -> tuple[int, int]:
    total = (0, 1)
    while number:
        if number & 1:
            total = twin_add(total, point)
        point = twin_add(point, point)
        number >>= 1
    return total


def twin_encode(point: tuple[int, int]) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


BASE = (twin_x(BASE_Y, 0), BASE_Y)


@settings(max_examples=15)
@given(secrets, secrets)
def test_multiplication_and_addition_equal_the_twins(left: int, right: int) -> None:
    product = group.multiply_base(group.public_scalar(left))
    assert product == twin_encode(twin_multiply(left, BASE))
    twice = group.multiply(group.public_scalar(right), product)
    assert twice == twin_encode(twin_multiply(left * right % group.ORDER, BASE))
    together = group.add(product, group.multiply_base(group.public_scalar(right)))
    assert together == twin_encode(twin_multiply((left + right) % group.ORDER, BASE))


@given(secrets, secrets, secrets)
def test_scalar_arithmetic_equals_integers(factor: int, scalar: int, addend: int) -> None:
    result = group.scalar_multiply_add(*(group.public_scalar(n) for n in (factor, scalar, addend)))
    assert int.from_bytes(result, "little") == (factor * scalar + addend) % group.ORDER


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_hash_to_scalar_reduces_two_tagged_digests(parts: list[bytes]) -> None:
    prefix = bytes((len(TAG.name),)) + TAG.name.encode() + b"\x00"
    wide = b"".join(hashlib.sha256(prefix + first + b"".join(parts)).digest() for first in (b"\x00", b"\x01"))
    expected = int.from_bytes(wide, "little") % group.ORDER
    assert group.hash_to_scalar(TAG, *parts) == expected.to_bytes(32, "little")


def test_random_scalars_are_canonical_and_differ() -> None:
    scalars = [group.random_scalar() for _ in range(20)]
    assert all(group.is_scalar(scalar) for scalar in scalars)
    assert len(set(scalars)) == 20


@pytest.mark.parametrize("number", [0, group.ORDER, group.ORDER + 1, 2**256 - 1])
def test_scalars_out_of_range_are_refused(number: int) -> None:
    scalar = number.to_bytes(32, "little")
    assert not group.is_scalar(scalar)
    with pytest.raises(ValueError, match="canonical"):
        group.multiply_base(scalar)
    with pytest.raises(ValueError, match="canonical"):
        group.multiply(scalar, twin_encode(BASE))


def test_points_outside_the_group_are_refused(outsiders: tuple[bytes, ...]) -> None:
    scalar = group.random_scalar()
    for point in outsiders:
        assert not group.is_point(point)
        with pytest.raises(Refused) as refused:
            group.multiply(scalar, point)
        assert refused.value.code == "sealing.bad_point"


def test_adding_what_is_no_point_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        group.add(twin_encode(BASE), (2).to_bytes(32, "little"))
    assert refused.value.code == "sealing.bad_point"


@given(secrets, bindings32)
def test_a_proof_of_knowledge_holds_for_its_statement_only(secret: int, binding: bytes) -> None:
    scalar = group.public_scalar(secret)
    point = group.multiply_base(scalar)
    proof = group.prove_knowledge(scalar, point, binding)
    assert len(proof) == group.PROOF_BYTES
    assert group.verify_knowledge(point, binding, proof)
    assert not group.verify_knowledge(point, bytes(32) if any(binding) else b"\x01" * 32, proof)
    other = group.multiply_base(group.random_scalar())
    assert not group.verify_knowledge(other, binding, proof)
    assert not group.verify_knowledge(other, binding, group.prove_knowledge(scalar, other, binding))


def test_a_proof_of_knowledge_is_the_equation_that_rfc_8235_gives() -> None:
    """Recomputed with the twin: response * G = commitment + challenge * point."""
    secret = group.random_scalar()
    point = group.multiply_base(secret)
    proof = group.prove_knowledge(secret, point, bytes(32))
    challenge, response = (int.from_bytes(part, "little") for part in (proof[:32], proof[32:]))
    as_twin = twin_multiply(int.from_bytes(secret, "little"), BASE)
    minus = twin_multiply(group.ORDER - challenge, as_twin)
    commitment = twin_encode(twin_add(twin_multiply(response, BASE), minus))
    tag = Tag("consilium/proof-knowledge/1")
    assert group.hash_to_scalar(tag, bytes(32), point, commitment) == proof[:32]


def test_proofs_do_not_repeat_their_nonce() -> None:
    secret = group.random_scalar()
    point = group.multiply_base(secret)
    assert len({group.prove_knowledge(secret, point, bytes(32)) for _ in range(10)}) == 10


@given(secrets, secrets, bindings32)
def test_a_proof_of_equality_holds_for_its_statement_only(secret: int, base: int, binding: bytes) -> None:
    scalar = group.public_scalar(secret)
    key = group.multiply_base(scalar)
    other_base = group.multiply_base(group.public_scalar(base))
    power = group.multiply(scalar, other_base)
    proof = group.prove_equality(scalar, key, other_base, power, binding)
    assert group.verify_equality(key, other_base, power, binding, proof)
    stranger = group.multiply_base(group.random_scalar())
    assert not group.verify_equality(stranger, other_base, power, binding, proof)
    assert not group.verify_equality(key, stranger, power, binding, proof)
    assert not group.verify_equality(key, other_base, stranger, binding, proof)
    assert not group.verify_equality(key, other_base, power, bytes(a ^ 1 for a in binding), proof)


def test_an_unequal_pair_cannot_be_proved() -> None:
    first, second = group.random_scalar(), group.random_scalar()
    base = group.multiply_base(group.random_scalar())
    key, power = group.multiply_base(first), group.multiply(second, base)
    for secret in (first, second):
        proof = group.prove_equality(secret, key, base, power, bytes(32))
        assert not group.verify_equality(key, base, power, bytes(32), proof)


def test_every_flipped_bit_of_a_proof_shows() -> None:
    secret = group.random_scalar()
    key, base = group.multiply_base(secret), group.multiply_base(group.random_scalar())
    power = group.multiply(secret, base)
    knowledge = group.prove_knowledge(secret, key, bytes(32))
    equality = group.prove_equality(secret, key, base, power, bytes(32))
    for bit in range(0, 512, 3):
        flip = (1 << bit).to_bytes(64, "little")
        assert not group.verify_knowledge(
            key, bytes(32), bytes(a ^ b for a, b in zip(knowledge, flip, strict=True))
        )
        flipped = bytes(a ^ b for a, b in zip(equality, flip, strict=True))
        assert not group.verify_equality(key, base, power, bytes(32), flipped)


def test_proofs_have_one_form() -> None:
    """A response plus the order satisfies the equation too: it must be refused, and so must short or long proofs."""
    secret = group.random_scalar()
    point = group.multiply_base(secret)
    proof = group.prove_knowledge(secret, point, bytes(32))
    bigger = int.from_bytes(proof[32:], "little") + group.ORDER
    assert not group.verify_knowledge(point, bytes(32), proof[:32] + bigger.to_bytes(32, "little"))
    for bad in (b"", proof[:63], proof + b"\x00", bytes(64)):
        assert not group.verify_knowledge(point, bytes(32), bad)
        assert not group.verify_equality(point, point, point, bytes(32), bad)


def test_proofs_about_points_outside_the_group_fail(outsiders: tuple[bytes, ...]) -> None:
    secret = group.random_scalar()
    key = group.multiply_base(secret)
    for point in outsiders:
        proof = group.prove_knowledge(secret, point, bytes(32))
        assert not group.verify_knowledge(point, bytes(32), proof)
        assert not group.verify_equality(key, point, key, bytes(32), proof)
        assert not group.verify_equality(key, key, point, bytes(32), proof)
