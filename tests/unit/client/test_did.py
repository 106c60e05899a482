"""did:key against an independent base58, and every text that is not the one text of a key."""

from __future__ import annotations

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.client import did
from consilium.client.did import DidKey, KeyKind
from consilium.ledger.crypto import public_key
from consilium.ledger.errors import Refused

# RFC 8032 section 7.1, test 1: its public key, and that key's identifier.
RFC_KEY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
RFC_DID = "did:key:z" + base58.b58encode(b"\xed\x01" + RFC_KEY).decode()

seeds = st.binary(min_size=32, max_size=32)


def refused(text: str) -> bool:
    with pytest.raises(Refused) as caught:
        did.parse_did(text)
    return caught.value.code == "did.malformed"


@given(st.binary(max_size=50))
def test_base58_equals_its_twin(raw: bytes) -> None:
    text = did.base58_encode(raw)
    assert text == base58.b58encode(raw).decode()
    assert did.base58_decode(text) == raw


@given(st.text(alphabet="123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", max_size=60))
def test_base58_decodes_as_its_twin(text: str) -> None:
    assert did.base58_decode(text) == base58.b58decode(text)
    assert did.base58_encode(did.base58_decode(text)) == text


@given(seeds)
def test_a_signing_key_has_one_identifier(seed: bytes) -> None:
    key = public_key(seed)
    text = did.did_of_signing_key(key)
    assert text.startswith("did:key:z6Mk")
    assert len(text) <= did.DID_CHARS_MAX
    assert did.parse_did(text) == DidKey(KeyKind.ED25519, key)


@given(seeds)
def test_an_encryption_key_has_one_identifier(key: bytes) -> None:
    text = did.did_of_encryption_key(key)
    assert text.startswith("did:key:z6LS")
    assert did.parse_did(text) == DidKey(KeyKind.X25519, key)
    assert str(did.parse_did(text)) == text


def test_a_known_key() -> None:
    assert did.did_of_signing_key(RFC_KEY) == RFC_DID
    assert did.parse_did(RFC_DID).key == RFC_KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "did:key:",
        "did:key:z",
        RFC_DID[:-1],
        RFC_DID + "1",
        RFC_DID + "#" + RFC_DID[8:],
        RFC_DID.upper(),
        RFC_DID.replace("did:key", "did:web"),
        RFC_DID.replace("did:key:z", "did:key:m"),
        " " + RFC_DID,
        RFC_DID + "\n",
        RFC_DID[:-1] + "0",
        RFC_DID[:-1] + "٣",
        "did:key:z1" + RFC_DID[9:],
        "did:key:z" + "1" * 1_000_000,
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    assert refused(text)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xe7\x01" + b"\x02" * 33,
        b"\xed\x01" + RFC_KEY[:-1],
        b"\xed\x01" + RFC_KEY + b"\x00",
        b"\xed" + RFC_KEY,
        b"\xed\x81\x00" + RFC_KEY,
        b"\x12\x00" + RFC_KEY,
        b"\xed\x01" + bytes(32),
        b"\xed\x01" + b"\xff" * 32,
    ],
    ids=["secp256k1", "short", "long", "no varint", "long varint", "unknown", "small order", "no point"],
)
def test_other_keys_are_refused(raw: bytes) -> None:
    assert refused("did:key:z" + base58.b58encode(raw).decode())
