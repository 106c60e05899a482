"""DID documents: who is named, which key serves which purpose, and what is refused."""

from __future__ import annotations

import msgspec
import pytest

from consilium.client.did import DidKey, did_of_encryption_key, did_of_signing_key, parse_did
from consilium.client.did_document import (
    ShiftKey,
    did_of_identity,
    document,
    parse_subject,
    resolution,
    timestamp,
)
from consilium.contracts.identity import Identity
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import Refused

CHAIN = bytes(range(32))
WHO = bytes(range(16))
FIRST, SECOND, SHIFT = (SigningKey(bytes([number]) * 32).public for number in (1, 2, 3))
KNOWN = Identity(
    "practitioner", "active", bytes(16), [FIRST, SECOND], b"\x09" * 32, None, [], 1_700_000_000_999
)
NOT_AFTER = 1_700_043_200_000


def test_a_did_names_the_identity_whatever_its_keys_are() -> None:
    did = did_of_identity(CHAIN, WHO)
    assert did == f"did:consilium:{CHAIN.hex()}:{WHO.hex()}"
    assert parse_subject(did, CHAIN) == WHO
    assert isinstance(parse_subject(did_of_signing_key(FIRST), CHAIN), DidKey)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (did_of_identity(bytes(32), WHO), "did.other_network"),
        (did_of_identity(CHAIN, WHO)[:-1], "did.malformed"),
        (did_of_identity(CHAIN, WHO).upper(), "did.malformed"),
        (did_of_identity(CHAIN, WHO).replace(":", "", 3), "did.malformed"),
        (did_of_identity(CHAIN, WHO) + "#key", "did.malformed"),
        (f"did:consilium:{CHAIN.hex()}", "did.malformed"),
        ("did:web:example.org", "did.malformed"),
        ("did:key:z", "did.malformed"),
        ("", "did.malformed"),
        (f"did:consilium:{CHAIN.hex()}:" + "٣" * 32, "did.malformed"),
    ],
)
def test_what_names_nobody_is_refused(text: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_subject(text, CHAIN)
    assert refused.value.code == code


def test_every_key_has_its_purposes() -> None:
    made = document(CHAIN, WHO, KNOWN, [ShiftKey(SHIFT, NOT_AFTER)])
    did = made["id"]
    methods = {method["id"]: method for method in made["verificationMethod"]}
    by_key = {str(parse_did("did:key:" + one["publicKeyMultibase"])): one for one in methods.values()}
    assert set(by_key) == {
        did_of_signing_key(FIRST),
        did_of_signing_key(SECOND),
        did_of_signing_key(SHIFT),
        did_of_encryption_key(KNOWN.encryption_key),
    }
    lasting = [by_key[did_of_signing_key(key)]["id"] for key in (FIRST, SECOND)]
    session = by_key[did_of_signing_key(SHIFT)]
    assert made["assertionMethod"] == made["capabilityInvocation"] == lasting
    assert made["authentication"] == [*lasting, session["id"]]
    assert made["keyAgreement"] == [by_key[did_of_encryption_key(KNOWN.encryption_key)]["id"]]
    assert session["expires"] == timestamp(NOT_AFTER) == "2023-11-15T10:13:20Z"
    assert all(
        method["controller"] == did and method["id"].startswith(did + "#") for method in methods.values()
    )
    assert made["alsoKnownAs"] == [did_of_signing_key(FIRST), did_of_signing_key(SECOND)]


def test_rotation_changes_the_keys_and_not_the_did() -> None:
    rotated = msgspec.structs.replace(KNOWN, keys=[SECOND])
    before, after = document(CHAIN, WHO, KNOWN), document(CHAIN, WHO, rotated)
    assert before["id"] == after["id"]
    assert did_of_signing_key(FIRST) not in after["alsoKnownAs"]
    assert len(after["assertionMethod"]) == 1


def test_a_suspended_identity_is_deactivated_and_shows_no_key() -> None:
    suspended = msgspec.structs.replace(KNOWN, status="suspended")
    found = resolution(CHAIN, WHO, suspended, [ShiftKey(SHIFT, NOT_AFTER)], 7, did_of_identity(CHAIN, WHO))
    assert found["didDocumentMetadata"] == {
        "created": "2023-11-14T22:13:20Z",
        "versionId": "7",
        "deactivated": True,
    }
    assert set(found["didDocument"]) == {"@context", "id"}


def test_a_key_leads_to_its_identitys_own_did() -> None:
    found = resolution(CHAIN, WHO, KNOWN, [], 7, did_of_signing_key(SECOND))
    assert (
        found["didDocumentMetadata"]["canonicalId"]
        == found["didDocument"]["id"]
        == did_of_identity(CHAIN, WHO)
    )
    assert found["didResolutionMetadata"] == {"contentType": "application/did+ld+json"}
