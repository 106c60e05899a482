"""Sealing and opening payloads that do not fit in memory: an imaging study is read, sealed, sent and opened in pieces.

The formats are those of `sealing`; only the digests are made on the way. What opening yields is **provisional** until
its iterator has ended without raising: only then have the final tag, the author's length and the anchor been checked.
Write it to a place that nobody reads until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from consilium.client import envelope as layout
from consilium.client import group, release, sealing, sharing, stream, wrapping
from consilium.client.envelope import (
    HEAD_BYTES_MAX,
    HEAD_LENGTH_BYTES,
    Context,
    EnvelopeHead,
    HeaderFields,
    Seals,
    SignedHeader,
)
from consilium.client.release import Partial
from consilium.client.sealing import AuthorKeys
from consilium.client.sharing import CompartmentKey
from consilium.client.wrapping import Recipient
from consilium.ledger.errors import Refused


class HeadAndRest(NamedTuple):
    """An envelope that comes in pieces: its head, decoded, and the pieces of its stream."""

    head: EnvelopeHead
    head_bytes: bytes
    rest: Iterator[bytes]


class OpenedStream(NamedTuple):
    """A record's header, as its author signed it, and its payload in pieces: provisional until they end."""

    header: SignedHeader
    pieces: Iterator[bytes]
    liars: tuple[int, ...] = ()


def head_length(beginning: bytes) -> int | None:
    """How many bytes of an envelope its head takes, length field included; None while that cannot be seen yet.

    Raises Refused `sealing.damaged`.
    """
    if len(beginning) < HEAD_LENGTH_BYTES:
        return None
    length = int.from_bytes(beginning[:HEAD_LENGTH_BYTES], "big")
    if not 0 < length <= HEAD_BYTES_MAX:
        raise Refused("sealing.damaged", f"a head of {length} bytes")
    return HEAD_LENGTH_BYTES + length


def split_head(pieces: Iterable[bytes]) -> HeadAndRest:
    """Take the head off. Raises Refused `sealing.damaged`, `sealing.wrong_version`, `codec.*`."""
    source = iter(pieces)
    beginning = bytearray()
    for piece in source:
        beginning += piece
        end = head_length(bytes(beginning[:HEAD_LENGTH_BYTES]))
        if end is not None and len(beginning) >= end:
            head_bytes = bytes(beginning[HEAD_LENGTH_BYTES:end])
            return HeadAndRest(
                layout.parse_head(head_bytes), head_bytes, _chained(bytes(beginning[end:]), source)
            )
    raise Refused("sealing.damaged", "the envelope ends before its head does")


def seal_pieces(
    pieces: Iterable[bytes],
    payload_bytes: int,
    context: Context,
    compartment_point: bytes,
    author: AuthorKeys,
    custodians: Iterable[bytes],
    header: HeaderFields,
) -> tuple[Iterator[bytes], Callable[[], Seals]]:
    """The envelope's pieces, and a function that gives digest and anchor once they were all read.

    Arguments and errors are those of `sealing.seal_stream`; the function raises ValueError when asked too early.
    """
    sealed = sealing.seal_stream(
        pieces, payload_bytes, context, compartment_point, author, custodians, header
    )
    found: list[Seals] = []

    def read() -> Iterator[bytes]:
        whole, ciphertext = layout.envelope_hasher(), layout.ciphertext_hasher()
        for number, piece in enumerate(sealed.pieces):
            whole.update(piece)
            if number:  # the first piece is the head
                ciphertext.update(piece)
            yield piece
        found.append(Seals(whole.digest(), layout.anchor_from(sealed.head, ciphertext.digest(), context)))

    def seals() -> Seals:
        if not found:
            raise ValueError("the envelope has not been read to its end")
        return found[0]

    return read(), seals


def open_pieces_with_partials(
    pieces: Iterable[bytes], context: Context, anchor: bytes, key: CompartmentKey, partials: Iterable[Partial]
) -> OpenedStream:
    """As `sealing.open_with_partials`, of an envelope that comes in pieces; `anchor` is the chain's."""
    head, head_bytes, rest = split_head(pieces)
    wrapping.verify_wrap(head, Recipient.COMPARTMENT, key.point, context)
    checked = release.check_partials(partials, head, context, key)
    if len(checked.sound) < key.threshold:
        count = f"{len(checked.sound)} of the {key.threshold} partials that are needed are sound"
        code = "sealing.bad_partial" if checked.liars else "sealing.too_few_partials"
        raise Refused(code, count)
    shared = sharing.combine({partial.index: partial.point for partial in checked.sound})
    data_key = wrapping.unwrap_key(head, Recipient.COMPARTMENT, key.point, shared, context)
    return _open(HeadAndRest(head, head_bytes, rest), context, anchor, data_key, checked.liars)


def open_pieces_as_author(
    pieces: Iterable[bytes], context: Context, anchor: bytes, point_secret: bytes
) -> OpenedStream:
    """As `sealing.open_as_author`, of an envelope that comes in pieces; `anchor` is the chain's."""
    parts = split_head(pieces)
    point = group.multiply_base(point_secret)
    wrapping.verify_wrap(parts.head, Recipient.AUTHOR, point, context)
    shared = group.multiply(point_secret, parts.head.author_wrap.point)
    data_key = wrapping.unwrap_key(parts.head, Recipient.AUTHOR, point, shared, context)
    return _open(parts, context, anchor, data_key, ())


def _open(
    parts: HeadAndRest, context: Context, anchor: bytes, data_key: bytes, liars: tuple[int, ...]
) -> OpenedStream:
    header = layout.open_header_with_key(parts.head, context, data_key)
    binding = layout.stream_binding(parts.head_bytes, context)

    def payload() -> Iterator[bytes]:
        ciphertext = layout.ciphertext_hasher()

        def hashed() -> Iterator[bytes]:
            for piece in parts.rest:
                ciphertext.update(piece)
                yield piece

        seen = 0
        for piece in stream.open_stream(data_key, binding, hashed()):
            seen += len(piece)
            yield piece
        if seen != header.payload_bytes:
            raise Refused("sealing.damaged", "the payload is not as long as its author's header says")
        if layout.anchor_from(parts.head, ciphertext.digest(), context) != anchor:
            raise Refused("sealing.wrong_anchor", "the envelope is not the one that the chain anchors")

    return OpenedStream(header, payload(), liars)


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest
