"""The envelope's layout, digests and header: every part is bound to its place."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.client import boxes, envelope, sealing
from consilium.client.envelope import Context, HeaderFields
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, SigningKey
from consilium.ledger.errors import Refused

CONTEXT = Context(bytes(32), b"\x01" * 16, b"\x02" * 16, 7, b"\x03" * 16)
FIELDS = HeaderFields("Observation", "1", "application/fhir+json")
SIGNING = SigningKey(bytes(range(32)))
DATA_KEY = b"\x42" * 32


def tagged(name: str, *parts: bytes) -> bytes:
    """The house's tagged SHA-256, once more."""
    return hashlib.sha256(bytes((len(name),)) + name.encode() + b"\x00" + b"".join(parts)).digest()


def code_of(action, *arguments) -> str:
    with pytest.raises(Refused) as refused:
        action(*arguments)
    return refused.value.code


def test_digests_are_what_the_document_says(single) -> None:
    raw, context = single.record.envelope, single.context
    size = int.from_bytes(raw[:4], "big")
    head_bytes, stream_bytes = raw[4 : 4 + size], raw[4 + size :]
    head = envelope.parse(raw).head
    context_digest = tagged("consilium/record-context/1", codec.encode(context))
    assert context.digest() == context_digest
    assert single.record.digest == tagged("consilium/envelope/1", raw)
    parts = [
        tagged("consilium/anchor-part/1", codec.encode(x)) for x in (head.header, head.wrap, head.author_wrap)
    ]
    ciphertext = tagged("consilium/anchor-ciphertext/1", stream_bytes)
    anchor = tagged(
        "consilium/anchor/1", context_digest, (1).to_bytes(8, "big"), *parts, head.key_commitment, ciphertext
    )
    assert single.record.anchor == anchor
    assert envelope.stream_binding(head_bytes, context) == tagged(
        "consilium/stream/1", context_digest, head_bytes
    )


def test_the_anchor_names_one_envelope_in_one_context(single) -> None:
    raw, anchor = single.record.envelope, single.record.anchor
    envelope.verify_anchor(raw, single.context, anchor)
    other = msgspec.structs.replace(single.context, epoch=4)
    assert code_of(envelope.verify_anchor, raw, other, anchor) == "sealing.wrong_anchor"
    changed = raw[:-1] + bytes((raw[-1] ^ 1,))
    assert code_of(envelope.verify_anchor, changed, single.context, anchor) == "sealing.wrong_anchor"


def test_every_field_of_the_context_counts() -> None:
    digests = {CONTEXT.digest()}
    changes = {
        "chain_id": b"\x09" * 32,
        "record": bytes(16),
        "compartment": bytes(16),
        "epoch": 8,
        "author": bytes(16),
    }
    for field, value in changes.items():
        digests.add(msgspec.structs.replace(CONTEXT, **{field: value}).digest())
    assert len(digests) == 6


@given(st.binary(max_size=200))
def test_parsing_garbage_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused):
        envelope.parse(raw)


def test_parsing_names_what_is_wrong(single, monkeypatch) -> None:
    raw = single.record.envelope
    head = envelope.parse(raw).head
    newer = codec.encode(msgspec.structs.replace(head, version=2))
    assert code_of(envelope.parse, envelope.assemble(newer, b"")) == "sealing.wrong_version"
    assert code_of(envelope.parse, raw[:100]) == "sealing.damaged"
    assert code_of(envelope.parse, b"\x00\x00") == "sealing.damaged"
    assert code_of(envelope.parse, bytes(4) + b"x") == "sealing.damaged"
    long = envelope.assemble(bytes(envelope.HEAD_BYTES_MAX + 1), b"")
    assert code_of(envelope.parse, long) == "sealing.damaged"
    monkeypatch.setattr(envelope, "ENVELOPE_BYTES_MAX", len(raw) - 1)
    assert code_of(envelope.parse, raw) == "sealing.too_large"


def test_the_largest_head_fits_its_limit() -> None:
    fields = HeaderFields(
        "🏥" * 64, "🏥" * 64, "🏥" * 96, "🏥" * 256, envelope.TIME_MS_MIN, envelope.TIME_MS_MAX
    )
    custodians = tuple(boxes.new_box_key().public for _ in range(16))
    header = envelope.seal_header(fields, codec.UINT_MAX, CONTEXT, SIGNING, custodians, DATA_KEY)
    wrap = envelope.Wrap(bytes(32), bytes(48), bytes(64))
    raw = codec.encode(envelope.EnvelopeHead(1, header, wrap, wrap, bytes(32)))
    assert envelope.parse_head(raw).header == header
    assert envelope.open_header_with_key(envelope.parse_head(raw), CONTEXT, DATA_KEY).fields == fields


@pytest.mark.parametrize(
    "change",
    [{"resource_type": ""}, {"resource_id": "x" * 65}, {"media_type": ""}, {"period_start_ms": 2**60}],
)
def test_header_fields_beyond_their_limits_are_refused(change: dict) -> None:
    fields = msgspec.structs.replace(FIELDS, **change)
    assert code_of(envelope.seal_header, fields, 1, CONTEXT, SIGNING, (), DATA_KEY) == "codec.malformed"


def test_too_many_custodians_are_the_callers_error() -> None:
    with pytest.raises(ValueError, match="custodians"):
        envelope.seal_header(FIELDS, 1, CONTEXT, SIGNING, (bytes(32),) * 17, DATA_KEY)


def test_a_custodian_of_small_order_is_refused() -> None:
    assert (
        code_of(envelope.seal_header, FIELDS, 1, CONTEXT, SIGNING, (bytes(32),), DATA_KEY)
        == "sealing.bad_recipient"
    )


def test_custodians_and_key_holders_read_the_same_header(shared) -> None:
    as_opened = shared.open().header
    assert as_opened.fields == shared.fields
    assert as_opened.payload_bytes == len(shared.payload)
    assert as_opened.key == shared.author.signing.public
    for pair in shared.boxes:
        assert envelope.open_header_as_custodian(shared.head, shared.context, pair) == as_opened
    stranger = boxes.new_box_key()
    assert (
        code_of(envelope.open_header_as_custodian, shared.head, shared.context, stranger)
        == "sealing.wrong_key"
    )


def test_headers_of_different_types_have_one_size() -> None:
    short = envelope.seal_header(FIELDS, 1, CONTEXT, SIGNING, (), DATA_KEY)
    fields = HeaderFields("MedicationAdministration", "2", "application/fhir+json")
    longer = envelope.seal_header(fields, 1, CONTEXT, SIGNING, (), DATA_KEY)
    assert len(short.body) == len(longer.body)


def test_two_envelopes_do_not_show_a_common_custodian(single) -> None:
    _, other = single.seal(b"more", b"\x09" * 16)
    first, second = single.head.header.slots[0], envelope.parse(other.envelope).head.header.slots[0]
    assert first.hint != second.hint


def test_a_header_in_another_context_does_not_open(single) -> None:
    other = msgspec.structs.replace(single.context, record=bytes(16))
    assert (
        code_of(envelope.open_header_as_custodian, single.head, other, single.boxes[0]) == "sealing.wrong_key"
    )


def forged_header(context: Context, signed: envelope.SignedHeader, pad: bytes = b"") -> envelope.EnvelopeHead:
    """A head whose header is encrypted as it should be, whatever stands inside."""
    key = tagged("consilium/header-key/1", DATA_KEY, context.digest())
    encoded = codec.encode(signed)
    plain = len(encoded).to_bytes(2, "big") + encoded
    plain += (pad or bytes(-len(plain) % 256)) if pad is not None else b""
    commitment = tagged("consilium/key-commitment/1", key, context.digest())
    body = boxes.encrypt(key, bytes(24), plain, context.digest())
    wrap = envelope.Wrap(bytes(32), bytes(48), bytes(64))
    return envelope.EnvelopeHead(1, envelope.SealedHeader((), commitment, body), wrap, wrap, bytes(32))


def honest() -> envelope.SignedHeader:
    parts = (CONTEXT.digest(), SIGNING.public, (9).to_bytes(8, "big"), codec.encode(FIELDS))
    signature = SIGNING.sign(Digest(tagged("consilium/record-header/1", *parts)))
    return envelope.SignedHeader(FIELDS, 9, SIGNING.public, signature)


def test_a_signature_that_is_not_the_authors_is_refused() -> None:
    good = honest()
    assert envelope.open_header_with_key(forged_header(CONTEXT, good), CONTEXT, DATA_KEY) == good
    changes = (
        {"payload_bytes": 10},
        {"key": SigningKey(bytes(32)).public},
        {"signature": bytes(64)},
        {"fields": msgspec.structs.replace(FIELDS, resource_type="Patient")},
    )
    for change in changes:
        head = forged_header(CONTEXT, msgspec.structs.replace(good, **change))
        assert code_of(envelope.open_header_with_key, head, CONTEXT, DATA_KEY) == "sealing.bad_signature"


def test_a_signed_header_moved_to_another_context_is_refused() -> None:
    other = msgspec.structs.replace(CONTEXT, record=bytes(16))
    head = forged_header(other, honest())
    assert code_of(envelope.open_header_with_key, head, other, DATA_KEY) == "sealing.bad_signature"


def test_a_header_with_other_padding_is_refused() -> None:
    size = -(2 + len(codec.encode(honest()))) % 256
    for pad in (b"\x00", b"\x01" * size, bytes(size + 256)):
        head = forged_header(CONTEXT, honest(), pad)
        assert code_of(envelope.open_header_with_key, head, CONTEXT, DATA_KEY) == "sealing.damaged"


def test_two_headers_under_two_keys_are_caught(single) -> None:
    """The cipher does not commit to its key; the header's own commitment does."""
    lying = msgspec.structs.replace(single.head.header, key_commitment=bytes(32))
    head = msgspec.structs.replace(single.head, header=lying)
    assert (
        code_of(envelope.open_header_as_custodian, head, single.context, single.boxes[0]) == "sealing.damaged"
    )


def test_seals_of_equals_what_sealing_returned(single) -> None:
    seals = envelope.seals_of(single.record.envelope, single.context)
    assert sealing.SealedRecord(single.record.envelope, *seals) == single.record
