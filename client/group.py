"""The prime-order group of Ed25519, and two proofs: knowledge of a logarithm, and equality of two logarithms.

Everything is libsodium's, through `nacl.bindings`: unclamped scalar multiplication, because X25519's clamping would
break sharing. The curve has points outside the prime-order group (cofactor 8), and libsodium's multiplication and
`is_valid_point` refuse them, together with the identity and non-canonical encodings; nothing here trusts a point
before one of the two has seen it. Secret scalars stay in libsodium's constant-time functions: only public
ones (indexes, orders) ever become Python integers.

A proof is `challenge || response`, two canonical scalars. Both kinds are Fiat-Shamir over a tagged hash of the whole
statement and a 32-byte binding of the caller's, so that a proof made for one purpose proves nothing for another.

Sources: RFC 8032 section 5.1 (the curve); RFC 8235 (Schnorr's proof, non-interactive); Chaum and Pedersen,
"Wallet Databases with Observers", CRYPTO 1992, section 3.2 (equality of logarithms).
"""

from __future__ import annotations

from typing import Final

from nacl import bindings
from nacl import exceptions as nacl_errors
from nacl.utils import random

from consilium.ledger.crypto import Tag
from consilium.ledger.errors import Refused

ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""The number of points in the group, a prime."""
SCALAR_BYTES: Final = 32
POINT_BYTES: Final = 32
PROOF_BYTES: Final = 64

_NONCE: Final = Tag("consilium/proof-nonce/1")
_KNOWLEDGE: Final = Tag("consilium/proof-knowledge/1")
_EQUALITY: Final = Tag("consilium/proof-equality/1")


def is_scalar(scalar: bytes) -> bool:
    """Whether the bytes are a canonical scalar (little-endian, below the order) other than zero."""
    return len(scalar) == SCALAR_BYTES and 0 < int.from_bytes(scalar, "little") < ORDER


def is_point(point: bytes) -> bool:
    """Whether the bytes are the canonical encoding of a point of the prime-order group other than its identity."""
    return len(point) == POINT_BYTES and bindings.crypto_core_ed25519_is_valid_point(point)


def public_scalar(number: int) -> bytes:
    """A public integer, reduced modulo the order, as 32 bytes. Never for secrets: integers take varying time."""
    return (number % ORDER).to_bytes(SCALAR_BYTES, "little")


def random_scalar() -> bytes:
    """A fresh secret scalar, never zero; 64 random bytes are reduced, so that its bias is below 2^-256."""
    while True:
        scalar = bindings.crypto_core_ed25519_scalar_reduce(random(64))
        if is_scalar(scalar):
            return scalar


def hash_to_scalar(tag: Tag, *parts: bytes) -> bytes:
    """Two tagged digests, which differ in a first byte, reduced as one 64-byte number. Parts as for `Tag.digest`."""
    wide = tag.digest(b"\x00", *parts) + tag.digest(b"\x01", *parts)
    return bindings.crypto_core_ed25519_scalar_reduce(wide)


def multiply_base(scalar: bytes) -> bytes:
    """`scalar · G`. Raises ValueError for a scalar that is zero or not canonical: no caller may hold one."""
    if not is_scalar(scalar):
        raise ValueError("a scalar must be canonical and not zero")
    return bindings.crypto_scalarmult_ed25519_base_noclamp(scalar)


def multiply(scalar: bytes, point: bytes) -> bytes:
    """`scalar · point`. Raises Refused `sealing.bad_point` for one outside the group, ValueError for a bad scalar."""
    if not is_scalar(scalar):
        raise ValueError("a scalar must be canonical and not zero")
    try:
        return bindings.crypto_scalarmult_ed25519_noclamp(scalar, point)
    except (nacl_errors.RuntimeError, nacl_errors.TypeError):
        raise Refused("sealing.bad_point", "a point lies outside the prime-order group") from None


def add(left: bytes, right: bytes) -> bytes:
    """`left + right`; may be the identity. Raises Refused `sealing.bad_point` for bytes that are not on the curve."""
    try:
        return bindings.crypto_core_ed25519_add(left, right)
    except (nacl_errors.RuntimeError, nacl_errors.TypeError):
        raise Refused("sealing.bad_point", "a point is not on the curve") from None


def scalar_multiply_add(factor: bytes, scalar: bytes, addend: bytes) -> bytes:
    """`factor * scalar + addend` modulo the order, in constant time."""
    return bindings.crypto_core_ed25519_scalar_add(
        bindings.crypto_core_ed25519_scalar_mul(factor, scalar), addend
    )


def prove_knowledge(secret: bytes, point: bytes, binding: bytes) -> bytes:
    """Prove that the author of `point = secret · G` knows `secret`, for the statement in `binding` (32 bytes)."""
    nonce = _nonce(secret, binding)
    challenge = hash_to_scalar(_KNOWLEDGE, binding, point, multiply_base(nonce))
    return challenge + scalar_multiply_add(challenge, secret, nonce)


def verify_knowledge(point: bytes, binding: bytes, proof: bytes) -> bool:
    """Whether the proof (64 bytes) was made by who knows the logarithm of `point`, for this very `binding`."""
    parsed = _parse(proof)
    if parsed is None:
        return False
    challenge, response = parsed
    try:
        commitment = _commitment(challenge, multiply_base(response), point)
    except Refused:
        return False
    return hash_to_scalar(_KNOWLEDGE, binding, point, commitment) == challenge


def prove_equality(secret: bytes, key: bytes, base: bytes, power: bytes, binding: bytes) -> bytes:
    """Prove that `key = secret · G` and `power = secret · base` have the same logarithm, for `binding` (32 bytes)."""
    nonce = _nonce(secret, binding + base)
    commitments = multiply_base(nonce) + multiply(nonce, base)
    challenge = hash_to_scalar(_EQUALITY, binding, key, base, power, commitments)
    return challenge + scalar_multiply_add(challenge, secret, nonce)


def verify_equality(key: bytes, base: bytes, power: bytes, binding: bytes, proof: bytes) -> bool:
    """Whether the proof (64 bytes) shows that `power` stands to `base` as `key` stands to G."""
    parsed = _parse(proof)
    if parsed is None:
        return False
    challenge, response = parsed
    try:
        first = _commitment(challenge, multiply_base(response), key)
        second = _commitment(challenge, multiply(response, base), power)
    except Refused:
        return False
    return hash_to_scalar(_EQUALITY, binding, key, base, power, first + second) == challenge


def _nonce(secret: bytes, binding: bytes) -> bytes:
    """A secret scalar for one proof: hashed from chance and the secret, so that bad chance alone reveals nothing."""
    return hash_to_scalar(_NONCE, random(32), secret, binding)


def _parse(proof: bytes) -> tuple[bytes, bytes] | None:
    challenge, response = proof[:SCALAR_BYTES], proof[SCALAR_BYTES:]
    return (challenge, response) if is_scalar(challenge) and is_scalar(response) else None


def _commitment(challenge: bytes, powered: bytes, point: bytes) -> bytes:
    """What the prover must have committed to: `response · base - challenge · point`, with `powered` the first term."""
    return bindings.crypto_core_ed25519_sub(powered, multiply(challenge, point))
