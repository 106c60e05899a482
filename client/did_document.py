"""DID documents: what the ledger knows of an identity, in the form that other systems read.

The method is `did:consilium`: the network's chain id, a colon, and the identity, both in hexadecimal. The identity
outlives its keys, so the identifier stays what it was when keys are rotated; a `did:key` names one key only, and
resolves to the identity that the key belongs to. A key's purpose follows from what it is: a lasting signing key
authenticates and asserts, a session key authenticates until it expires, the encryption key agrees on keys. A document
is a node's word; a receipt of the state entry behind it is proof.

Sources: W3C Decentralized Identifiers (DIDs) v1.0, sections 3.1 and 5; W3C DID Resolution v0.3, sections 3 and 4
(metadata); W3C Controlled Identifiers v1.0, section 2.2 (Multikey, `expires`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from consilium.client.did import (
    DidKey,
    KeyKind,
    did_of_encryption_key,
    did_of_signing_key,
    parse_did,
)
from consilium.contracts.identity import Identity
from consilium.contracts.operation import ID_BYTES
from consilium.ledger.crypto import DIGEST_BYTES
from consilium.ledger.errors import Refused

DID_METHOD_CHARS_MAX: Final = 128
CONTEXTS: Final = (
    "https://www.w3.org/ns/did/v1",
    "https://w3id.org/security/multikey/v1",
)
CONTENT_TYPE: Final = "application/did+ld+json"

_PREFIX: Final = "did:consilium:"
_KEY_PREFIX: Final = "did:key:"
_HEX: Final = frozenset("0123456789abcdef")


class ShiftKey(NamedTuple):
    """A session key that may speak (32 bytes), and until when (ms, exclusive)."""

    key: bytes
    not_after_ms: int


def did_of_identity(chain_id: bytes, identity: bytes) -> str:
    """The identifier of an identity (16 bytes) on a network (chain id: 32 bytes)."""
    return f"{_PREFIX}{chain_id.hex()}:{identity.hex()}"


def parse_subject(text: str, chain_id: bytes) -> bytes | DidKey:
    """Whom a DID names on this network: an identity (16 bytes), or a key whose identity is to be looked up.

    Raises Refused `did.malformed`, `did.other_network`.
    """
    if text.startswith(_KEY_PREFIX):
        return parse_did(text)
    if len(text) > DID_METHOD_CHARS_MAX or not text.startswith(_PREFIX):
        raise Refused("did.malformed", f"it starts with neither {_PREFIX} nor {_KEY_PREFIX}")
    network, colon, identity = text[len(_PREFIX) :].partition(":")
    if not colon or not _is_hex(network, DIGEST_BYTES) or not _is_hex(identity, ID_BYTES):
        raise Refused("did.malformed", f"after {_PREFIX} stand a chain id, a colon and an identity")
    if network != chain_id.hex():
        raise Refused("did.other_network", f"it is of the network {network[:16]}")
    return bytes.fromhex(identity)


def document(
    chain_id: bytes, identity: bytes, known: Identity, shift: Sequence[ShiftKey] = ()
) -> dict[str, Any]:
    """The DID document of an identity, as JSON values. A suspended one has no keys in force, so none are shown."""
    did = did_of_identity(chain_id, identity)
    if known.status != "active":
        return {"@context": list(CONTEXTS), "id": did}
    lasting = [_method(did, KeyKind.ED25519, key) for key in known.keys]
    session = [
        {**_method(did, KeyKind.ED25519, one.key), "expires": timestamp(one.not_after_ms)} for one in shift
    ]
    agreeing = _method(did, KeyKind.X25519, known.encryption_key)
    speaking = [method["id"] for method in lasting]
    return {
        "@context": list(CONTEXTS),
        "id": did,
        "alsoKnownAs": [did_of_signing_key(key) for key in known.keys],
        "verificationMethod": [*lasting, *session, agreeing],
        "authentication": [*speaking, *(method["id"] for method in session)],
        "assertionMethod": speaking,
        "capabilityInvocation": speaking,
        "keyAgreement": [agreeing["id"]],
    }


def resolution(
    chain_id: bytes, identity: bytes, known: Identity, shift: Sequence[ShiftKey], height: int, asked: str
) -> dict[str, Any]:
    """The result of resolving a DID: the document, and metadata about it and about the resolution.

    `height` is the certified height whose state was read; it is the document's version.
    """
    did = did_of_identity(chain_id, identity)
    metadata: dict[str, Any] = {"created": timestamp(known.since_ms), "versionId": str(height)}
    if known.status != "active":
        metadata["deactivated"] = True
    if asked != did:
        metadata["canonicalId"] = did
    return {
        "didDocument": document(chain_id, identity, known, shift),
        "didDocumentMetadata": metadata,
        "didResolutionMetadata": {"contentType": CONTENT_TYPE},
    }


def timestamp(time_ms: int) -> str:
    """An XML Schema dateTime in UTC without fractions, as DID metadata wants it (DID Core, section 7.3)."""
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _method(did: str, kind: KeyKind, key: bytes) -> dict[str, Any]:
    text = did_of_signing_key(key) if kind is KeyKind.ED25519 else did_of_encryption_key(key)
    multibase = text.removeprefix(_KEY_PREFIX)
    return {
        "id": f"{did}#{multibase}",
        "type": "Multikey",
        "controller": did,
        "publicKeyMultibase": multibase,
    }


def _is_hex(text: str, size: int) -> bool:
    return len(text) == 2 * size and _HEX.issuperset(text)
