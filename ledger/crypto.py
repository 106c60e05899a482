"""SHA-256 with domain tags, and Ed25519: the only place on the agreed path that knows PyNaCl.

Every preimage starts with a tag, so that bytes hashed or signed for one purpose mean nothing for another. Signatures
are made over a 32-byte tagged digest, never over raw input. Only libsodium verifies: verifiers differ on edge cases,
and a network that mixed two could split.

Sources: FIPS 180-4 (SHA-256), RFC 8032 (Ed25519).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, NewType, Protocol, TypeAlias

from nacl import bindings
from nacl.exceptions import BadSignatureError

Digest = NewType("Digest", bytes)
"""32 bytes: a tagged SHA-256."""

DIGEST_BYTES: Final = 32
KEY_BYTES: Final = 32
SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
TAG_CHARS_MAX: Final = 40


_sha256 = hashlib.sha256


class Hasher(Protocol):
    """A digest in the making."""

    def update(self, piece: bytes, /) -> None:
        """Take the next piece."""
        ...

    def digest(self) -> bytes:
        """Of all pieces so far: 32 bytes."""
        ...


class Tag:
    """A domain: every preimage starts with its prefix, `len(name) || name || 0x00`."""

    __slots__ = ("_prefix", "name")

    def __init__(self, name: str) -> None:
        encoded = name.encode("ascii")
        if not 0 < len(encoded) <= TAG_CHARS_MAX:
            raise ValueError(f"a tag has 1 to {TAG_CHARS_MAX} ASCII characters: {name!r}")
        self.name = name
        self._prefix = bytes((len(encoded),)) + encoded + b"\x00"

    def digest(self, *parts: bytes) -> Digest:
        """Hash the parts one after the other. Callers give fixed-width parts, or one self-delimiting part."""
        # Joining first is faster than feeding a copied state: the parts are short. And the name of a type is a call.
        return _sha256(b"".join((self._prefix, *parts))).digest()  # type: ignore[return-value]

    @property
    def prefix(self) -> bytes:
        """What every preimage of this domain starts with, for whoever keeps whole preimages."""
        return self._prefix

    def hasher(self) -> Hasher:
        """The same digest of one part that comes in pieces."""
        return _sha256(self._prefix)


def sign(seed: bytes, digest: Digest) -> bytes:
    """Sign a 32-byte tagged digest with an Ed25519 seed (32 bytes). Returns 64 bytes."""
    _, secret = _keypair(seed)
    return bindings.crypto_sign(digest, secret)[:SIGNATURE_BYTES]


def verify(key: bytes, digest: Digest, signature: bytes) -> bool:
    """Whether libsodium accepts the signature. Frees the GIL while it computes: call it from a thread."""
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        bindings.crypto_sign_open(signature + digest, key)
    except BadSignatureError:
        return False
    return True


CLAIM_BYTES: Final = KEY_BYTES + DIGEST_BYTES + SIGNATURE_BYTES
"""A claim is a key, a digest and a signature, one after the other: that the key signed the digest."""


def verify_claims(claims: bytes) -> bytes:
    """For each claim of 128 bytes one byte: 1 where libsodium accepts the signature, 0 where it does not.

    Raises ValueError where the bytes are no whole claims.
    """
    if len(claims) % CLAIM_BYTES:
        raise ValueError(f"claims have {CLAIM_BYTES} bytes each, not {len(claims)} together")
    answers = bytearray()
    for at in range(0, len(claims), CLAIM_BYTES):
        middle = at + KEY_BYTES + DIGEST_BYTES
        digest = Digest(claims[at + KEY_BYTES : middle])
        answers.append(verify(claims[at : at + KEY_BYTES], digest, claims[middle : at + CLAIM_BYTES]))
    return bytes(answers)


Verify: TypeAlias = Callable[[bytes, Digest, bytes], bool]
"""(key, digest, signature) -> whether it is good. `verify` everywhere but in simulations of many thousand schedules."""


def is_group_point(point: bytes) -> bool:
    """Whether 32 bytes encode a point of the prime-order group of Ed25519, canonically, and not its neutral element.

    Part of the agreed path: a release of libsodium that answers otherwise could split a network (CVE-2025-69277 was
    one), so the project pins a PyNaCl that carries the mended one.
    """
    return len(point) == KEY_BYTES and bool(bindings.crypto_core_ed25519_is_valid_point(point))


def public_key(seed: bytes) -> bytes:
    """The public key (32 bytes) of an Ed25519 seed (32 bytes)."""
    return _keypair(seed)[0]


def _keypair(seed: bytes) -> tuple[bytes, bytes]:
    if len(seed) != SEED_BYTES:
        raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}")
    key, secret = bindings.crypto_sign_seed_keypair(seed)
    return key, secret


class SigningKey:
    """A key pair kept ready: deriving the secret from its seed for each signature would double its cost."""

    __slots__ = ("_secret", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        self.public, self._secret = _keypair(seed)

    def sign(self, digest: Digest) -> bytes:
        """Sign a 32-byte tagged digest. Returns 64 bytes."""
        return bindings.crypto_sign(digest, self._secret)[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"SigningKey({self.public.hex()[:16]}…)"
