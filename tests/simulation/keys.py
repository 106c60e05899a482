"""Keyed hashes that stand in for Ed25519 in most schedules: a thousand times cheaper, and as deterministic.

Nobody can forge here who does not call `sign`; attackers are given their own keys only.
"""

from __future__ import annotations

import hashlib

from consilium.ledger import crypto
from consilium.ledger.crypto import Digest, SigningKey, Verify


class HashKey(SigningKey):
    """Looks like a signing key; signs with two keyed hashes (64 bytes)."""

    __slots__ = ()

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        self.public = hashlib.sha256(b"public" + seed).digest()

    def sign(self, digest: Digest) -> bytes:
        """64 bytes."""
        half = hashlib.sha256(self.seed + digest).digest()
        return half + hashlib.sha256(half).digest()


class Keyring:
    """All keys of a schedule, and how to verify their signatures."""

    def __init__(self, count: int, real: bool) -> None:
        seeds = [hashlib.sha256(b"simulated node %d" % index).digest() for index in range(count)]
        self.keys: list[SigningKey] = [SigningKey(seed) if real else HashKey(seed) for seed in seeds]
        self._by_public = {key.public: key for key in self.keys}
        self.verify: Verify = crypto.verify if real else self._verify

    def _verify(self, public: bytes, digest: Digest, signature: bytes) -> bool:
        key = self._by_public.get(public)
        return key is not None and key.sign(digest) == signature
