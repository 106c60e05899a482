"""Streams seal and open to the same bytes, digests and anchors as what is handled whole, and refuse the same lies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.client import envelope as layout
from consilium.client import group, sealing
from consilium.client.envelope import Context, HeaderFields
from consilium.client.release import Partial, make_partial
from consilium.client.sealing import AuthorKeys
from consilium.client.sealing_streams import (
    head_length,
    open_pieces_as_author,
    open_pieces_with_partials,
    seal_pieces,
    split_head,
)
from consilium.client.sharing import CompartmentKey, ShareParcel, make_compartment
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import Refused

SECRET = make_compartment(threshold=2, custodians=3)
AUTHOR_SECRET = make_compartment(threshold=1, custodians=1).shares[0].scalar
CONTEXT = Context(b"c" * 32, b"r" * 16, b"p" * 16, 0, b"a" * 16)
KEY = CompartmentKey(CONTEXT.chain_id, CONTEXT.compartment, 0, SECRET.commitments)
AUTHOR = AuthorKeys(SigningKey(b"s" * 32), group.multiply_base(AUTHOR_SECRET))
FIELDS = HeaderFields("ImagingStudy", "1", "application/dicom")
LARGE = bytes(range(256)) * 1_200


def cut(raw: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(raw), size):
        yield raw[at : at + size]


def sealed(payload: bytes, step: int = 10_000) -> tuple[bytes, layout.Seals]:
    pieces, seals = seal_pieces(cut(payload, step), len(payload), CONTEXT, KEY.point, AUTHOR, [], FIELDS)
    with pytest.raises(ValueError, match="read to its end"):
        seals()
    return b"".join(pieces), seals()


def partials_for(envelope: bytes) -> list[Partial]:
    head = layout.parse(envelope).head
    return [make_partial(ShareParcel(1, KEY, share), head, CONTEXT) for share in SECRET.shares[:2]]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, len(LARGE)), st.integers(1_000, 90_000), st.integers(1_000, 90_000))
def test_streams_and_wholes_agree(size: int, seal_step: int, open_step: int) -> None:
    payload = LARGE[:size]
    envelope, seals = sealed(payload, seal_step)
    assert layout.seals_of(envelope, CONTEXT) == seals
    assert sealing.open_as_author(envelope, CONTEXT, AUTHOR_SECRET).payload == payload
    own = open_pieces_as_author(cut(envelope, open_step), CONTEXT, seals.anchor, AUTHOR_SECRET)
    assert own.header.fields == FIELDS
    assert b"".join(own.pieces) == payload
    read = open_pieces_with_partials(
        cut(envelope, open_step), CONTEXT, seals.anchor, KEY, partials_for(envelope)
    )
    assert b"".join(read.pieces) == payload


def test_every_kind_of_damage_is_refused_before_the_end() -> None:
    envelope, seals = sealed(LARGE)
    end = head_length(envelope)
    assert end is not None
    places = [0, 5, end // 2, end - 1, end, end + 40, len(envelope) // 2, len(envelope) - 1]
    for at in places:
        flipped = envelope[:at] + bytes((envelope[at] ^ 1,)) + envelope[at + 1 :]
        with pytest.raises(Refused):
            list(open_pieces_as_author(cut(flipped, 7_000), CONTEXT, seals.anchor, AUTHOR_SECRET).pieces)
    for cut_at in (0, 3, end - 1, end, end + 10, len(envelope) - 1):
        with pytest.raises(Refused):
            list(
                open_pieces_as_author(
                    cut(envelope[:cut_at], 7_000), CONTEXT, seals.anchor, AUTHOR_SECRET
                ).pieces
            )


def test_another_anchor_is_refused_at_the_end() -> None:
    envelope, _ = sealed(LARGE)
    opened = open_pieces_as_author(cut(envelope, 9_000), CONTEXT, bytes(32), AUTHOR_SECRET)
    with pytest.raises(Refused) as refused:
        list(opened.pieces)
    assert refused.value.code == "sealing.wrong_anchor"


def test_too_few_or_false_partials_are_refused() -> None:
    envelope, seals = sealed(b"payload")
    first, second = partials_for(envelope)
    with pytest.raises(Refused) as refused:
        open_pieces_with_partials([envelope], CONTEXT, seals.anchor, KEY, [first])
    assert refused.value.code == "sealing.too_few_partials"
    false = Partial(second.index, first.point, second.proof)
    with pytest.raises(Refused) as refused:
        open_pieces_with_partials([envelope], CONTEXT, seals.anchor, KEY, [first, false])
    assert refused.value.code == "sealing.bad_partial"


def test_heads_are_bounded() -> None:
    assert head_length(b"\x00\x00") is None
    for beginning in (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff"):
        with pytest.raises(Refused) as refused:
            split_head([beginning, b"x"])
        assert refused.value.code == "sealing.damaged"
