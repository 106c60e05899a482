"""Payload to envelope, and envelope to payload. No function here takes a nonce, a data key or an ephemeral secret.

Sealing: a random data key; the author-signed header, sealed to the custodians; the key, wrapped to the compartment and
to the author's institution; the payload as a padded stream bound to all of these. Opening: the wrap's proof, each
custodian's proof, the key commitment, the author's signature, every chunk, the final tag: nothing is returned before
the last of them held. The formats stand in `docs/sealing.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from nacl.utils import random

from consilium.client import envelope as layout
from consilium.client import group, release, sharing, stream, wrapping
from consilium.client.envelope import Context, EnvelopeHead, HeaderFields, SignedHeader
from consilium.client.release import Partial
from consilium.client.sharing import CompartmentKey
from consilium.client.wrapping import Recipient
from consilium.ledger import codec
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import Refused

DATA_KEY_BYTES: Final = 32


class AuthorKeys(NamedTuple):
    """What an author seals with: the key that signs headers, and the public point of the author's institution."""

    signing: SigningKey
    point: bytes


class SealedRecord(NamedTuple):
    """An envelope with what the chain carries of it (32 bytes each)."""

    envelope: bytes
    digest: bytes
    anchor: bytes


class SealedStream(NamedTuple):
    """An envelope whose payload is sealed while `pieces` is read; `pieces` starts with the head."""

    head: EnvelopeHead
    pieces: Iterator[bytes]


class Opened(NamedTuple):
    """A record as its author sealed it. `liars` are the custodians whose partials were refused on the way."""

    payload: bytes
    header: SignedHeader
    liars: tuple[int, ...] = ()


def seal(
    payload: bytes,
    context: Context,
    compartment_point: bytes,
    author: AuthorKeys,
    custodians: Iterable[bytes],
    header: HeaderFields,
) -> SealedRecord:
    """Seal a record's bytes to a compartment, its custodians' X25519 keys (for the header) and its author.

    Raises Refused: `sealing.too_large`, `sealing.bad_point`, `sealing.bad_recipient`, or the codec's codes for header
    fields beyond their limits. About 0.5 ms for 1 KB, most of it in libsodium: call it from a thread.
    """
    if stream.sealed_size(len(payload)) > layout.ENVELOPE_BYTES_MAX - layout.HEAD_BYTES_MAX:
        raise Refused("sealing.too_large", f"{len(payload)} bytes; seal it as a stream")
    sealed = seal_stream((payload,), len(payload), context, compartment_point, author, custodians, header)
    envelope = b"".join(sealed.pieces)
    return SealedRecord(envelope, *layout.seals_of(envelope, context))


def seal_stream(
    pieces: Iterable[bytes],
    payload_bytes: int,
    context: Context,
    compartment_point: bytes,
    author: AuthorKeys,
    custodians: Iterable[bytes],
    header: HeaderFields,
) -> SealedStream:
    """As `seal`, for a payload of `payload_bytes` that comes in pieces. The pieces are read as the result is."""
    data_key = random(DATA_KEY_BYTES)
    sealed_header = layout.seal_header(
        header, payload_bytes, context, author.signing, tuple(custodians), data_key
    )
    head = EnvelopeHead(
        layout.ENVELOPE_VERSION,
        sealed_header,
        wrapping.wrap_key(data_key, Recipient.COMPARTMENT, compartment_point, context, sealed_header),
        wrapping.wrap_key(data_key, Recipient.AUTHOR, author.point, context, sealed_header),
        layout.key_commitment(data_key, context),
    )
    head_bytes = codec.encode(head)

    def _pieces() -> Iterator[bytes]:
        yield layout.assemble(head_bytes, b"")
        yield from stream.seal_stream(
            data_key, layout.stream_binding(head_bytes, context), payload_bytes, pieces
        )

    return SealedStream(head, _pieces())


def open_with_partials(
    envelope: bytes, context: Context, key: CompartmentKey, partials: Iterable[Partial]
) -> Opened:
    """Open a record with what its custodians released; context and key come from the chain.

    Raises Refused: `sealing.bad_proof` (the wrap is another record's), `sealing.bad_partial` (too few sound ones: names
    the custodians that lied), `sealing.too_few_partials` (nobody lied), `sealing.wrong_compartment`,
    `sealing.bad_signature` (the header is not the author's), `sealing.damaged`, and as `envelope.parse`.
    """
    parsed = layout.parse(envelope)
    wrapping.verify_wrap(parsed.head, Recipient.COMPARTMENT, key.point, context)
    checked = release.check_partials(partials, parsed.head, context, key)
    if len(checked.sound) < key.threshold:
        count = f"{len(checked.sound)} of the {key.threshold} partials that are needed are sound"
        if checked.liars:
            raise Refused(
                "sealing.bad_partial", f"{count}; custodians with a false one: {_names(checked.liars)}"
            )
        raise Refused("sealing.too_few_partials", count)
    shared = sharing.combine({partial.index: partial.point for partial in checked.sound})
    data_key = wrapping.unwrap_key(parsed.head, Recipient.COMPARTMENT, key.point, shared, context)
    return _open(parsed, context, data_key)._replace(liars=checked.liars)


def open_as_author(envelope: bytes, context: Context, point_secret: bytes) -> Opened:
    """Open an institution's own record with its own secret; no custodian is asked. Raises as `open_with_partials`."""
    parsed = layout.parse(envelope)
    point = group.multiply_base(point_secret)
    wrapping.verify_wrap(parsed.head, Recipient.AUTHOR, point, context)
    shared = group.multiply(point_secret, parsed.head.author_wrap.point)
    data_key = wrapping.unwrap_key(parsed.head, Recipient.AUTHOR, point, shared, context)
    return _open(parsed, context, data_key)


def _open(parsed: layout.ParsedEnvelope, context: Context, data_key: bytes) -> Opened:
    header = layout.open_header_with_key(parsed.head, context, data_key)
    binding = layout.stream_binding(parsed.head_bytes, context)
    payload = b"".join(stream.open_stream(data_key, binding, (bytes(parsed.stream),)))
    if header.payload_bytes != len(payload):
        raise Refused("sealing.damaged", "the payload is not as long as its author's header says")
    return Opened(payload, header)


def _names(indexes: tuple[int, ...]) -> str:
    return ", ".join(str(index) for index in indexes)
