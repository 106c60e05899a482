"""The did:key method's published identifiers."""

from __future__ import annotations

import base64
from typing import Any

import base58
from nacl import bindings

from consilium.client import did
from consilium.client.did import KeyKind
from consilium.ledger.crypto import SigningKey


def published_key(entry: dict[str, Any]) -> bytes:
    """The raw key of a verification method, in either of the two forms that the documents use."""
    if "publicKeyJwk" in entry:
        return base64.urlsafe_b64decode(entry["publicKeyJwk"]["x"] + "=")
    return base58.b58decode(entry["publicKeyBase58"])


def test_ed25519_identifiers(vectors) -> None:
    document = vectors("did-key/ed25519-x25519.json")
    assert document
    for text, entry in document.items():
        parsed = did.parse_did(text)
        assert parsed.kind is KeyKind.ED25519
        assert str(parsed) == text
        signing = SigningKey(bytes.fromhex(entry["seed"]))
        assert did.did_of_signing_key(signing.public) == text
        assert parsed.key == published_key(entry["verificationKeyPair"])
        agreement = entry["keyAgreementKeyPair"]
        converted = bindings.crypto_sign_ed25519_pk_to_curve25519(parsed.key)
        assert converted == published_key(agreement)
        assert did.did_of_encryption_key(converted) == "did:key:" + agreement["id"].rpartition("#")[2]


def test_x25519_identifiers(vectors) -> None:
    documents = vectors("did-key/x25519.json")["didDocument"]
    assert documents
    for text, document in documents.items():
        parsed = did.parse_did(text)
        assert parsed.kind is KeyKind.X25519
        assert did.did_of_encryption_key(parsed.key) == text
        assert parsed.key == published_key(document["verificationMethod"][0])


def test_an_identifier_of_ones_own() -> None:
    """The seed of zeros: its identifier follows from base58 and the multicodec alone."""
    key = SigningKey(bytes(32)).public
    text = "did:key:z" + base58.b58encode(b"\xed\x01" + key).decode()
    assert did.did_of_signing_key(key) == text == "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
