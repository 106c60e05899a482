"""The two ways in which a short secret travels: to a public key that nobody has met, and under a key that two derived.

`seal_to` is libsodium's sealed box (X25519, XSalsa20-Poly1305): anonymous, so what it carries must prove itself.
`encrypt` is XChaCha20-Poly1305. It does not commit to its key: whoever relies on *which* key opened it must compare a
commitment too. libsodium's exceptions end here.

Sources: libsodium's documentation on sealed boxes; draft-irtf-cfrg-xchacha-03.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from nacl import bindings
from nacl import exceptions as nacl_errors

from consilium.ledger.errors import Refused

BOX_OVERHEAD_BYTES: Final = bindings.crypto_box_SEALBYTES
"""32 of ephemeral public key, 16 of tag."""
CIPHER_KEY_BYTES: Final = 32
CIPHER_NONCE_BYTES: Final = 24
CIPHER_OVERHEAD_BYTES: Final = 16

SINGLE_USE: Final = bytes(CIPHER_NONCE_BYTES)
"""The nonce for a key that encrypts exactly one message in its life."""


class BoxKey(NamedTuple):
    """An X25519 pair to receive with: 32 bytes each."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"BoxKey({self.public.hex()[:16]}…)"


def new_box_key() -> BoxKey:
    """A fresh pair; a reader makes one for each request, and forgets it after the answer."""
    public, secret = bindings.crypto_box_keypair()
    return BoxKey(public, secret)


def box_key_of(secret: bytes) -> BoxKey:
    """The pair of a 32-byte X25519 secret."""
    return BoxKey(bindings.crypto_scalarmult_base(secret), secret)


def seal_to(public: bytes, message: bytes) -> bytes:
    """Seal to an X25519 public key (32 bytes). Raises Refused `sealing.bad_recipient` for a key of small order."""
    try:
        return bindings.crypto_box_seal(message, public)
    except (nacl_errors.RuntimeError, nacl_errors.ValueError):
        raise Refused("sealing.bad_recipient", "no secret can be shared with this X25519 key") from None


def open_sealed(key: BoxKey, sealed: bytes) -> bytes:
    """Open what was sealed to `key.public`. Raises Refused `sealing.wrong_key`: another's, or damaged."""
    if len(sealed) < BOX_OVERHEAD_BYTES:
        raise Refused("sealing.wrong_key", "shorter than any sealed box")
    try:
        return bindings.crypto_box_seal_open(sealed, key.public, key.secret)
    except nacl_errors.CryptoError:
        raise Refused("sealing.wrong_key", "sealed to another key, or damaged") from None


def encrypt(key: bytes, nonce: bytes, message: bytes, associated: bytes) -> bytes:
    """XChaCha20-Poly1305: ciphertext followed by a 16-byte tag. Callers never let a (key, nonce) come twice."""
    return bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(message, associated, nonce, key)


def decrypt(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    """The message. Raises Refused `sealing.damaged` unless key, nonce, associated data and every byte are right."""
    if len(sealed) < CIPHER_OVERHEAD_BYTES:
        raise Refused("sealing.damaged", "shorter than an authentication tag")
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, associated, nonce, key)
    except nacl_errors.CryptoError:
        raise Refused("sealing.damaged", "the authentication tag does not match") from None
