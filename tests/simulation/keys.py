"""Keyed hashes that stand in for Ed25519 in most schedules: a thousand times cheaper, and as deterministic.

Nobody can forge here who does not call `sign`; attackers are given their own keys only. The product knows nothing of
it: `standing_in` puts the keyring in the place of libsodium below `ledger.crypto`, the only module that calls it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from nacl import bindings
from nacl.exceptions import BadSignatureError

from consilium.ledger import crypto
from consilium.ledger.crypto import SIGNATURE_BYTES, Digest, SigningKey, Verify


class HashKey(SigningKey):
    """Looks like a signing key; signs with two keyed hashes (64 bytes)."""

    __slots__ = ()

    def __init__(self, seed: bytes, public: bytes | None = None) -> None:
        self.seed = seed
        self.public = hashlib.sha256(b"public" + seed).digest() if public is None else public

    def sign(self, digest: Digest) -> bytes:
        """64 bytes."""
        half = hashlib.sha256(self.seed + digest).digest()
        return half + hashlib.sha256(half).digest()


@cache
def point_of(seed: bytes) -> bytes:
    """The real public key of a seed: contracts ask of some keys that they be points of the group."""
    return bindings.crypto_sign_seed_keypair(seed)[0]


class Keyring:
    """All keys of a schedule, and how to verify their signatures. With `points`, public keys are real ones."""

    def __init__(self, count: int, real: bool, points: bool = False) -> None:
        self.real = real
        self._by_public: dict[bytes, SigningKey] = {}
        seeds = [hashlib.sha256(b"simulated node %d" % index).digest() for index in range(count)]
        self.keys: list[SigningKey] = [self.make(seed, points) for seed in seeds]
        self.verify: Verify = crypto.verify if real else self._verify

    def make(self, seed: bytes, point: bool = False) -> SigningKey:
        """A further key."""
        key = SigningKey(seed) if self.real else HashKey(seed, point_of(seed) if point else None)
        self._by_public[key.public] = key
        return key

    def _verify(self, public: bytes, digest: Digest, signature: bytes) -> bool:
        key = self._by_public.get(public)
        return key is not None and key.sign(digest) == signature

    # What `ledger.crypto` asks of libsodium, where the keyring stands in for it

    def crypto_sign_open(self, signed: bytes, public: bytes) -> bytes:
        """As libsodium's, of keyed hashes. Raises BadSignatureError."""
        key = self._by_public.get(public)
        digest = signed[SIGNATURE_BYTES:]
        if key is None or key.sign(Digest(digest)) != signed[:SIGNATURE_BYTES]:
            raise BadSignatureError("a keyed hash does not match")
        return digest

    @staticmethod
    def crypto_core_ed25519_is_valid_point(point: bytes) -> bool:
        """As libsodium's."""
        return bool(bindings.crypto_core_ed25519_is_valid_point(point))

    @staticmethod
    def crypto_sign_seed_keypair(seed: bytes) -> tuple[bytes, bytes]:
        """As libsodium's."""
        return bindings.crypto_sign_seed_keypair(seed)


@contextmanager
def standing_in(ring: Keyring) -> Iterator[None]:
    """While it lasts, this process verifies by the keyring, unless its keys are real."""
    if ring.real:
        yield
        return
    setattr(crypto, "bindings", ring)  # noqa: B010 - a module of its own there, and no name that it exports
    try:
        yield
    finally:
        setattr(crypto, "bindings", bindings)  # noqa: B010
