"""Records end to end: what went in comes out, for those who may, and nothing comes out of a changed envelope."""

from __future__ import annotations

import inspect
from itertools import combinations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.client import envelope, group, release, sealing, sharing, stream, wrapping
from consilium.client.release import Partial
from consilium.ledger import codec
from consilium.ledger.errors import Refused


def code_of(action, *arguments) -> str:
    with pytest.raises(Refused) as refused:
        action(*arguments)
    return refused.value.code


@settings(max_examples=40)
@given(st.binary(max_size=2_000))
def test_what_is_sealed_comes_back_to_reader_and_author(single, payload: bytes) -> None:
    context, record = single.seal(payload, b"\x11" * 16)
    head = envelope.parse(record.envelope).head
    partial = release.make_partial(single.parcels[0], head, context)
    opened = sealing.open_with_partials(record.envelope, context, single.key, [partial])
    assert opened.payload == payload
    assert opened.header.fields == single.fields
    assert sealing.open_as_author(record.envelope, context, single.author_secret) == opened


def test_any_k_custodians_open_and_fewer_do_not(shared) -> None:
    for chosen in combinations(shared.partials, 3):
        assert shared.open(chosen).payload == shared.payload
    for count in (0, 1, 2):
        for chosen in combinations(shared.partials, count):
            assert code_of(shared.open, chosen) == "sealing.too_few_partials"


def test_liars_are_named_and_the_honest_suffice(shared) -> None:
    first, second, third, fourth, _ = shared.partials
    false = [Partial(5, first.point, first.proof)]
    opened = shared.open([*false, first, second, third])
    assert (opened.payload, opened.liars) == (shared.payload, (5,))
    with pytest.raises(Refused) as refused:
        shared.open([*false, Partial(2, fourth.point, second.proof), first, third])
    assert refused.value.code == "sealing.bad_partial"
    assert "2, 5" in refused.value.detail


def test_a_large_record_comes_back(single) -> None:
    payload = bytes(i % 253 for i in range(300_000))
    context, record = single.seal(payload, b"\x12" * 16)
    assert sealing.open_as_author(record.envelope, context, single.author_secret).payload == payload


def test_every_flipped_byte_of_an_envelope_is_refused(single) -> None:
    raw = single.record.envelope
    for place in range(len(raw)):
        changed = raw[:place] + bytes((raw[place] ^ (1 << place % 8),)) + raw[place + 1 :]
        with pytest.raises(Refused):
            sealing.open_as_author(changed, single.context, single.author_secret)
        with pytest.raises(Refused):
            single.open(raw=changed)


def test_every_truncation_of_an_envelope_is_refused(single) -> None:
    raw = single.record.envelope
    for end in range(len(raw)):
        with pytest.raises(Refused):
            sealing.open_as_author(raw[:end], single.context, single.author_secret)
    with pytest.raises(Refused):
        sealing.open_as_author(raw + b"\x00", single.context, single.author_secret)


@pytest.mark.parametrize("field", ["chain_id", "record", "compartment", "epoch", "author"])
def test_another_context_opens_nothing(single, field: str) -> None:
    value = 9 if field == "epoch" else bytes(len(getattr(single.context, field)))
    other = msgspec.structs.replace(single.context, **{field: value})
    opening = (single.record.envelope, other, single.author_secret)
    assert code_of(sealing.open_as_author, *opening) == "sealing.bad_proof"
    with pytest.raises(Refused):
        single.open(context=other)


def test_another_authors_secret_opens_nothing(single) -> None:
    opening = (single.record.envelope, single.context, group.random_scalar())
    assert code_of(sealing.open_as_author, *opening) == "sealing.bad_proof"


def test_streams_of_two_records_cannot_be_exchanged(single) -> None:
    context, other = single.seal(b"other payload", b"\x13" * 16)
    mine, theirs = envelope.parse(single.record.envelope), envelope.parse(other.envelope)
    mixed = envelope.assemble(mine.head_bytes, bytes(theirs.stream))
    opening = (mixed, single.context, single.author_secret)
    assert code_of(sealing.open_as_author, *opening) == "sealing.damaged"
    foreign = (other.envelope, single.context, single.author_secret)
    assert code_of(sealing.open_as_author, *foreign) == "sealing.bad_proof"
    assert sealing.open_as_author(other.envelope, context, single.author_secret).payload == b"other payload"


def test_nothing_repeats_between_two_seals_of_the_same_payload(single) -> None:
    first = single.seal(single.payload, b"\x14" * 16)[1]
    second = single.seal(single.payload, b"\x14" * 16)[1]
    heads = [envelope.parse(record.envelope).head for record in (first, second)]
    seen = [
        part
        for head in heads
        for part in (head.wrap.point, head.author_wrap.point, head.key_commitment, head.header.body)
    ]
    assert len(set(seen)) == len(seen)
    assert first.digest != second.digest


def test_the_payload_and_its_header_do_not_show(single) -> None:
    raw = single.record.envelope
    for secret in (
        single.payload,
        b"Observation",
        b"weight-1",
        single.author.signing.public,
        single.context.record,
    ):
        assert secret not in raw


def test_sizes_show_in_steps_only(single) -> None:
    sizes = {len(single.seal(bytes(size), b"\x15" * 16)[1].envelope) for size in range(0, 240, 40)}
    assert len(sizes) == 1


def test_sealing_takes_no_nonce_and_no_key() -> None:
    names = set(inspect.signature(sealing.seal).parameters)
    assert names == {"payload", "context", "compartment_point", "author", "custodians", "header"}


def test_a_record_may_have_no_custodians_for_its_header(single) -> None:
    record = sealing.seal(b"x", single.context, single.key.point, single.author, (), single.fields)
    assert sealing.open_as_author(record.envelope, single.context, single.author_secret).payload == b"x"


def test_a_stream_gives_the_same_envelope_in_pieces(single) -> None:
    pieces = [b"a" * 50_000] * 5
    arguments = (single.context, single.key.point, single.author, (), single.fields)
    sealed = sealing.seal_stream(iter(pieces), 250_000, *arguments)
    raw = b"".join(sealed.pieces)
    assert envelope.parse(raw).head == sealed.head
    assert sealing.open_as_author(raw, single.context, single.author_secret).payload == b"".join(pieces)


def test_what_is_too_large_for_memory_is_refused_before_any_work(single, monkeypatch) -> None:
    monkeypatch.setattr(envelope, "ENVELOPE_BYTES_MAX", 16 * 1024)
    arguments = (single.context, single.key.point, single.author, (), single.fields)
    assert code_of(sealing.seal, bytes(8 * 1024), *arguments) == "sealing.too_large"
    assert stream.sealed_size(7_000) < 8 * 1024
    assert sealing.seal(bytes(7_000), *arguments).digest


def test_a_compartment_point_outside_the_group_is_refused(single, outsiders: tuple[bytes, ...]) -> None:
    for point in outsiders:
        arguments = (b"x", single.context, point, single.author, (), single.fields)
        assert code_of(sealing.seal, *arguments) == "sealing.bad_point"


def test_a_header_that_lies_about_the_length_is_refused(single) -> None:
    """`seal_stream` is told a length for header and stream alike; a forger could sign another."""
    context, signing = single.context, single.author.signing
    key, other = bytes(range(32)), b"payload"
    header = envelope.seal_header(single.fields, 8, context, signing, (), key)
    wrap = wrapping.wrap_key(key, wrapping.Recipient.AUTHOR, single.author.point, context, header)
    commitment = envelope.key_commitment(key, context)
    head = codec.encode(envelope.EnvelopeHead(1, header, wrap, wrap, commitment))
    body = b"".join(stream.seal_stream(key, envelope.stream_binding(head, context), len(other), [other]))
    opening = (envelope.assemble(head, body), context, single.author_secret)
    assert code_of(sealing.open_as_author, *opening) == "sealing.damaged"


def test_the_key_must_be_the_compartments(single) -> None:
    stranger = sharing.make_compartment(1, 1)
    key = msgspec.structs.replace(single.key, commitments=stranger.commitments)
    opening = (single.record.envelope, single.context, key, single.partials)
    assert code_of(sealing.open_with_partials, *opening) == "sealing.bad_proof"
