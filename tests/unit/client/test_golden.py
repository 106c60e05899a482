"""Golden files: bytes that a released program has written, and that every later one must still read.

`CONSILIUM_REWRITE_GOLDEN=1` writes them anew. Whoever does that has changed a format, and owes a version.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from consilium.client import (
    boxes,
    envelope,
    group,
    pseudonyms,
    recovery_words,
    release,
    sealing,
    sharing,
    wallet,
)
from consilium.client.envelope import Context, HeaderFields
from consilium.ledger import codec
from consilium.ledger.crypto import SigningKey, Tag

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "client"
PASSPHRASE = "golden passphrase"
CHEAP = wallet.Cost(1, wallet.MEMORY_BYTES_MIN)
PAYLOAD = b'{"resourceType":"Observation","id":"weight-1"}'
FIELDS = HeaderFields("Observation", "weight-1", "application/fhir+json", "urn:uuid:7", -1_000, 86_400_000)


def make_sealing() -> dict[str, Any]:
    """Two of three, once with everything secret written down."""
    secret = sharing.make_compartment(2, 3)
    key = sharing.CompartmentKey(b"\xc1" * 32, b"\xc2" * 16, 5, secret.commitments)
    context = Context(key.chain_id, b"\xc3" * 16, key.compartment, key.epoch, b"\xc4" * 16)
    pairs = [boxes.new_box_key() for _ in range(3)]
    recipients = tuple(pair.public for pair in pairs)
    author_secret, signing = group.random_scalar(), SigningKey(b"\xc5" * 32)
    author = sealing.AuthorKeys(signing, group.multiply_base(author_secret))
    record = sealing.seal(PAYLOAD, context, key.point, author, recipients, FIELDS)
    parcels = [sharing.ShareParcel(1, key, share) for share in secret.shares]
    head = envelope.parse(record.envelope).head
    partials = [release.make_partial(parcel, head, context) for parcel in parcels]
    reader = boxes.new_box_key()
    answer = release.Release(1, b"\xc6" * 32, (release.RecordPartial(context.record, partials[0]),))
    return {
        "anchor": record.anchor.hex(),
        "author_secret": author_secret.hex(),
        "compartment_secret": codec.encode(secret).hex(),
        "context": codec.encode(context).hex(),
        "custodian_secrets": [pair.secret.hex() for pair in pairs],
        "digest": record.digest.hex(),
        "envelope": record.envelope.hex(),
        "key": codec.encode(key).hex(),
        "parcels": [parcel.hex() for parcel in sharing.seal_parcels(secret, key, recipients)],
        "partials": [codec.encode(partial).hex() for partial in partials],
        "payload": PAYLOAD.hex(),
        "reader_secret": reader.secret.hex(),
        "release": codec.encode(answer).hex(),
        "sealed_release": release.seal_release(answer, reader.public).hex(),
        "signing_key": signing.public.hex(),
    }


def make_wallet() -> dict[str, Any]:
    kept = wallet.KeptCompartment(b"\xc2" * 16, 5, sharing.make_compartment(2, 3))
    mine = wallet.Wallet.create("Golden", "patient").keeping(kept).speaking_for(b"\xc7" * 16)
    mine = mine.knowing(wallet.KeptBlinding(b"\xc2" * 16, b"\xc8" * 32))
    return {
        "compartment": codec.encode(kept).hex(),
        "did": mine.did,
        "encryption_public": mine.encryption_public.hex(),
        "file": mine.sealed(PASSPHRASE, CHEAP).hex(),
        "identity": mine.identity.hex(),
        "class_blinding": mine.class_blinding(b"\xc2" * 16).hex(),
        "label": mine.label,
        "point": mine.point.hex(),
        "role": mine.role,
    }


def golden(name: str, make) -> dict[str, Any]:
    path = GOLDEN / name
    if os.environ.get("CONSILIUM_REWRITE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(make(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sealed() -> dict[str, Any]:
    return golden("sealing.json", make_sealing)


def unhex(values: list[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in values]


def context_of(sealed: dict[str, Any]) -> Context:
    return codec.decode(bytes.fromhex(sealed["context"]), Context, 1_000)


def key_of(sealed: dict[str, Any]) -> sharing.CompartmentKey:
    return codec.decode(bytes.fromhex(sealed["key"]), sharing.CompartmentKey, 1_000)


def test_the_golden_envelope_has_its_seals(sealed: dict[str, Any]) -> None:
    raw, context = bytes.fromhex(sealed["envelope"]), context_of(sealed)
    assert envelope.envelope_digest(raw).hex() == sealed["digest"]
    assert envelope.seals_of(raw, context).anchor.hex() == sealed["anchor"]
    head = envelope.parse(raw)
    assert envelope.assemble(codec.encode(head.head), bytes(head.stream)) == raw


def test_the_golden_envelope_opens_for_author_custodians_and_reader(sealed: dict[str, Any]) -> None:
    raw, context, key = bytes.fromhex(sealed["envelope"]), context_of(sealed), key_of(sealed)
    as_author = sealing.open_as_author(raw, context, bytes.fromhex(sealed["author_secret"]))
    assert as_author.payload.hex() == sealed["payload"]
    assert as_author.header.fields == FIELDS
    assert as_author.header.key.hex() == sealed["signing_key"]
    partials = [codec.decode(part, release.Partial, 200) for part in unhex(sealed["partials"])]
    for chosen in (partials[:2], partials[1:], partials[::2]):
        assert sealing.open_with_partials(raw, context, key, chosen) == as_author
    head = envelope.parse(raw).head
    for secret in unhex(sealed["custodian_secrets"]):
        opened = envelope.open_header_as_custodian(head, context, boxes.box_key_of(secret))
        assert opened == as_author.header


def test_the_golden_parcels_open_and_make_partials(sealed: dict[str, Any]) -> None:
    key, context = key_of(sealed), context_of(sealed)
    secret = codec.decode(bytes.fromhex(sealed["compartment_secret"]), sharing.CompartmentSecret, 1_000)
    assert secret.commitments == key.commitments
    head = envelope.parse(bytes.fromhex(sealed["envelope"])).head
    pairs = [boxes.box_key_of(raw) for raw in unhex(sealed["custodian_secrets"])]
    known = [codec.decode(raw, release.Partial, 200) for raw in unhex(sealed["partials"])]
    for place, (parcel, pair) in enumerate(zip(unhex(sealed["parcels"]), pairs, strict=True)):
        opened = sharing.open_parcel(parcel, pair, key, place + 1)
        assert opened.share == secret.shares[place]
        made = release.make_partial(opened, head, context)
        assert (made.index, made.point) == (known[place].index, known[place].point)


def test_the_golden_release_opens(sealed: dict[str, Any]) -> None:
    reader = boxes.box_key_of(bytes.fromhex(sealed["reader_secret"]))
    opened = release.open_release(bytes.fromhex(sealed["sealed_release"]), reader, b"\xc6" * 32)
    assert codec.encode(opened).hex() == sealed["release"]


def test_the_golden_wallet_opens() -> None:
    expected = golden("wallet.json", make_wallet)
    opens_as(expected)
    assert bytes.fromhex(expected["file"]).startswith(wallet.MAGIC)
    opened = wallet.Wallet.opened(bytes.fromhex(expected["file"]), PASSPHRASE)
    assert opened.class_blinding(b"\xc2" * 16).hex() == expected["class_blinding"]
    assert opened.class_blinding(b"\xc3" * 16) == wallet.Wallet.of_root(opened.root).class_blinding(
        b"\xc3" * 16
    )


@pytest.mark.parametrize(
    ("name", "magic"), [("wallet-1.json", wallet.MAGIC_1), ("wallet-2.json", wallet.MAGIC_2)]
)
def test_a_wallet_of_an_earlier_version_opens(name: str, magic: bytes) -> None:
    expected = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    mine = opens_as(expected)
    assert bytes.fromhex(expected["file"]).startswith(magic)
    again = wallet.Wallet.opened(mine.sealed(PASSPHRASE, CHEAP), PASSPHRASE)
    assert (again.identity, again.compartments) == (mine.identity, mine.compartments)


def opens_as(expected: dict[str, Any]) -> wallet.Wallet:
    mine = wallet.Wallet.opened(bytes.fromhex(expected["file"]), PASSPHRASE)
    assert (mine.label, mine.role, mine.did) == (expected["label"], expected["role"], expected["did"])
    assert mine.identity.hex() == expected["identity"]
    assert mine.encryption_public.hex() == expected["encryption_public"]
    assert mine.point.hex() == expected["point"]
    assert [codec.encode(kept).hex() for kept in mine.compartments] == [expected["compartment"]]
    return mine


def test_derivations_do_not_move() -> None:
    expected = golden("derived.json", derived)
    assert derived() == expected


def derived() -> dict[str, str]:
    context = Context(b"\x01" * 32, b"\x02" * 16, b"\x03" * 16, 4, b"\x05" * 16)
    root = wallet._Contents("", "", b"\x06" * 32, (), None, ())
    mine = wallet.Wallet(root)
    return {
        "context_digest": context.digest().hex(),
        "pseudonym": pseudonyms.pseudonym(mine, b"\x08" * 32, b"\x09" * 16).identity.hex(),
        "words": recovery_words.words_of(mine),
        "encryption_secret": mine.encryption_secret.hex(),
        "hash_to_scalar": group.hash_to_scalar(Tag("consilium/golden/1"), b"part").hex(),
        "identity": mine.identity.hex(),
        "key_commitment": envelope.key_commitment(b"\x07" * 32, context).hex(),
        "point_secret": mine.point_secret.hex(),
        "signing_seed": mine.signing.seed.hex(),
        "stream_binding": envelope.stream_binding(b"head", context).hex(),
    }
