"""did:key: a public key as an identifier that needs no registry.

`did:key:` and multibase base58btc (`z`) of a multicodec prefix and the raw key: 0xed for Ed25519, 0xec for X25519, each
as an unsigned varint of two bytes. Exactly one text belongs to a key, and only that one is accepted.

Sources: W3C CCG, "The did:key Method", sections 2 and 3.1; draft-msporny-base58-03; the multicodec table.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from consilium.client import group
from consilium.ledger.crypto import KEY_BYTES
from consilium.ledger.errors import Refused

DID_CHARS_MAX: Final = 64

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES: Final = {character: value for value, character in enumerate(_ALPHABET)}
_PREFIX: Final = "did:key:z"


class KeyKind(Enum):
    """The kinds that this network uses, with their multicodec prefixes."""

    ED25519 = b"\xed\x01"
    X25519 = b"\xec\x01"


class DidKey(NamedTuple):
    """A kind and its raw public key (32 bytes)."""

    kind: KeyKind
    key: bytes

    def __str__(self) -> str:
        return _PREFIX + base58_encode(self.kind.value + self.key)


def did_of_signing_key(key: bytes) -> str:
    """The identifier of an Ed25519 public key (32 bytes), `did:key:z6Mk…`."""
    return str(DidKey(KeyKind.ED25519, key))


def did_of_encryption_key(key: bytes) -> str:
    """The identifier of an X25519 public key (32 bytes), `did:key:z6LS…`."""
    return str(DidKey(KeyKind.X25519, key))


def parse_did(text: str) -> DidKey:
    """The key behind an identifier. Raises Refused `did.malformed`: another method, kind, length, or no valid key."""
    if len(text) > DID_CHARS_MAX or not text.startswith(_PREFIX):
        raise Refused(
            "did.malformed", f"a did:key has at most {DID_CHARS_MAX} characters and starts with {_PREFIX}"
        )
    raw = base58_decode(text[len(_PREFIX) :])
    for kind in KeyKind:
        if raw[:2] == kind.value and len(raw) == 2 + KEY_BYTES:
            if kind is KeyKind.ED25519 and not group.is_point(raw[2:]):
                raise Refused("did.malformed", "the bytes are no Ed25519 public key")
            return DidKey(kind, raw[2:])
    raise Refused("did.malformed", "the identifier holds no Ed25519 or X25519 public key of 32 bytes")


def base58_encode(raw: bytes) -> str:
    """base58btc: a leading zero byte is a leading `1`. Quadratic in the length; for keys."""
    number = int.from_bytes(raw, "big")
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    zeros = len(raw) - len(raw.lstrip(b"\x00"))
    return "1" * zeros + "".join(reversed(digits))


def base58_decode(text: str) -> bytes:
    """The bytes of a base58btc text; the caller has bounded it. Raises Refused `did.malformed` for other characters."""
    number = 0
    for character in text:
        value = _VALUES.get(character)
        if value is None:
            raise Refused("did.malformed", f"{character!r} is no base58btc character")
        number = number * 58 + value
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
