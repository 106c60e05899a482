"""The envelope: one record, sealed. Wire types, digests, and where each byte stands. `docs/sealing.md` is its page.

    envelope = head length:u32be || head || stream

The *head* is a canonical Wire value: the author-signed header, sealed to the custodians; the data key wrapped to the
compartment and to the author's institution; the commitment to the data key. The *stream* is the payload's secretstream,
whose associated data is a digest of context and head: no part of an envelope can be exchanged.

The *context* is not in the envelope: whoever opens it takes it from the chain, and everything inside depends on it.
The chain carries two digests and nothing else of an envelope: `envelope_digest`, by which vaults keep it, and the
`anchor`, which commits to the parts one by one.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec

from consilium.client import boxes
from consilium.client.sharing import CUSTODIANS_MAX
from consilium.ledger import codec
from consilium.ledger.codec import Bytes16, Bytes32, Bytes64, Uint
from consilium.ledger.crypto import Hasher, SigningKey, Tag, verify
from consilium.ledger.errors import Refused

ENVELOPE_VERSION: Final = 1
ENVELOPE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of an envelope that is handled in memory, as one bytes value."""
HEAD_BYTES_MAX: Final = 8 * 1024
HEAD_LENGTH_BYTES: Final = 4
HEADER_BYTES_MAX: Final = 4_096
HEADER_GRAIN_BYTES: Final = 256
HINT_BYTES: Final = 8
MEDIA_TYPE_CHARS_MAX: Final = 96
RESOURCE_ID_CHARS_MAX: Final = 64
RESOURCE_TYPE_CHARS_MAX: Final = 64
FULL_URL_CHARS_MAX: Final = 256
LABELS_MAX: Final = 16
LABEL_CHARS_MAX: Final = 16
REFERENCES_MAX: Final = 32
REFERENCE_TAG_BYTES: Final = 16
TIME_MS_MIN: Final = -62_135_596_800_000
TIME_MS_MAX: Final = 253_402_300_799_999

_CONTEXT: Final = Tag("consilium/record-context/1")
_ENVELOPE: Final = Tag("consilium/envelope/1")
_ANCHOR: Final = Tag("consilium/anchor/1")
_PART: Final = Tag("consilium/anchor-part/1")
_CIPHERTEXT: Final = Tag("consilium/anchor-ciphertext/1")
_COMMITMENT: Final = Tag("consilium/key-commitment/1")
_STREAM: Final = Tag("consilium/stream/1")
_HEADER: Final = Tag("consilium/record-header/1")
_HEADER_KEY: Final = Tag("consilium/header-key/1")
_REFERENCE: Final = Tag("consilium/reference/1")
_HINT: Final = Tag("consilium/header-hint/1")

Time = Annotated[int, msgspec.Meta(ge=TIME_MS_MIN, le=TIME_MS_MAX)]
"""Milliseconds since 1970-01-01 UTC, from the year 1 to 9999: clinical data may be older than 1970."""


ReferenceTags = Annotated[tuple[Bytes16, ...], msgspec.Meta(max_length=REFERENCES_MAX)]
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=LABEL_CHARS_MAX)]


class Context(codec.Wire, frozen=True):
    """What a sealed record is bound to. `author` is the id of the author's institution."""

    chain_id: Bytes32
    record: Bytes16
    compartment: Bytes16
    epoch: Uint
    author: Bytes16

    def digest(self) -> bytes:
        """32 bytes that stand for the context in every derivation and proof."""
        return _CONTEXT.digest(codec.encode(self))


class HeaderFields(codec.Wire, frozen=True):
    """What the author says about the record, for those who enforce obligations. A missing bound of the period is None.

    `period_start_ms` is inclusive, `period_end_ms` exclusive. `labels` are codes of v3-Confidentiality and of the v3
    sensitivities; `authors` and `related` are tags of references (`reference_tag`). `is_cut` says that there were
    more of them than fit: who enforces a condition on them must then assume the worse.
    """

    resource_type: Annotated[str, msgspec.Meta(min_length=1, max_length=RESOURCE_TYPE_CHARS_MAX)]
    resource_id: Annotated[str, msgspec.Meta(max_length=RESOURCE_ID_CHARS_MAX)]
    media_type: Annotated[str, msgspec.Meta(min_length=1, max_length=MEDIA_TYPE_CHARS_MAX)]
    full_url: Annotated[str, msgspec.Meta(max_length=FULL_URL_CHARS_MAX)] = ""
    period_start_ms: Time | None = None
    period_end_ms: Time | None = None
    labels: Annotated[tuple[Label, ...], msgspec.Meta(max_length=LABELS_MAX)] = ()
    authors: ReferenceTags = ()
    related: ReferenceTags = ()
    is_cut: bool = False


class SignedHeader(codec.Wire, frozen=True):
    """The fields, the payload's length, the author's signature. Whether `key` may speak is the state's to say."""

    fields: HeaderFields
    payload_bytes: Uint
    key: Bytes32
    signature: Bytes64


class HeaderSlot(codec.Wire, frozen=True):
    """The header key, sealed to one custodian; the hint lets it find its slot without telling others whose it is."""

    hint: Annotated[bytes, msgspec.Meta(min_length=HINT_BYTES, max_length=HINT_BYTES)]
    sealed_key: Annotated[bytes, msgspec.Meta(min_length=80, max_length=80)]


class SealedHeader(codec.Wire, frozen=True):
    """A SignedHeader, encrypted under the header key; the data key gives the header key too.

    The commitment to the header key makes custodian and reader see the same header, whatever its author tries.
    """

    slots: Annotated[tuple[HeaderSlot, ...], msgspec.Meta(max_length=CUSTODIANS_MAX)]
    key_commitment: Bytes32
    body: Annotated[bytes, msgspec.Meta(max_length=HEADER_BYTES_MAX + boxes.CIPHER_OVERHEAD_BYTES)]


class Wrap(codec.Wire, frozen=True):
    """The data key for the holder of a group secret (ECIES), with a proof that the author knows `point`'s logarithm."""

    point: Bytes32
    sealed_key: Annotated[bytes, msgspec.Meta(min_length=48, max_length=48)]
    proof: Bytes64


class EnvelopeHead(codec.Wire, frozen=True):
    """Everything of an envelope but the payload's stream."""

    version: Uint
    header: SealedHeader
    wrap: Wrap
    author_wrap: Wrap
    key_commitment: Bytes32


class ParsedEnvelope(NamedTuple):
    """An envelope's parts; `stream` is a view into the original bytes."""

    head: EnvelopeHead
    head_bytes: bytes
    stream: memoryview


class Seals(NamedTuple):
    """What the chain carries of an envelope."""

    digest: bytes
    anchor: bytes


def reference_tag(reference: str) -> bytes:
    """What a header says of a reference such as `Practitioner/7` (16 bytes): of one length, and compared only."""
    return _REFERENCE.digest(reference.encode())[:REFERENCE_TAG_BYTES]


def assemble(head_bytes: bytes, stream_bytes: bytes) -> bytes:
    """The envelope's bytes."""
    return len(head_bytes).to_bytes(HEAD_LENGTH_BYTES, "big") + head_bytes + stream_bytes


def parse(envelope: bytes) -> ParsedEnvelope:
    """Take an envelope apart.

    Raises Refused: `sealing.too_large`, `sealing.damaged`, `sealing.wrong_version`, and the codec's codes.
    """
    if len(envelope) > ENVELOPE_BYTES_MAX:
        raise Refused(
            "sealing.too_large", f"the envelope has {len(envelope)} bytes; the limit is {ENVELOPE_BYTES_MAX}"
        )
    head_end = HEAD_LENGTH_BYTES + int.from_bytes(envelope[:HEAD_LENGTH_BYTES], "big")
    if len(envelope) < HEAD_LENGTH_BYTES or not HEAD_LENGTH_BYTES < head_end <= len(envelope):
        raise Refused("sealing.damaged", "the envelope ends before its head does")
    if head_end - HEAD_LENGTH_BYTES > HEAD_BYTES_MAX:
        raise Refused("sealing.damaged", f"the envelope's head is longer than {HEAD_BYTES_MAX} bytes")
    head_bytes = envelope[HEAD_LENGTH_BYTES:head_end]
    return ParsedEnvelope(parse_head(head_bytes), head_bytes, memoryview(envelope)[head_end:])


def parse_head(head_bytes: bytes) -> EnvelopeHead:
    """Decode a head. Raises Refused `sealing.wrong_version`, `codec.*`."""
    head = codec.decode(head_bytes, EnvelopeHead, HEAD_BYTES_MAX)
    if head.version != ENVELOPE_VERSION:
        raise Refused("sealing.wrong_version", f"envelope version {head.version}, not {ENVELOPE_VERSION}")
    return head


def envelope_digest(envelope: bytes) -> bytes:
    """By which vaults keep the envelope: a tagged SHA-256 of all its bytes (32)."""
    return _ENVELOPE.digest(envelope)


def envelope_hasher() -> Hasher:
    """`envelope_digest` of bytes that come in pieces."""
    return _ENVELOPE.hasher()


def ciphertext_hasher() -> Hasher:
    """Of an envelope's stream, for `anchor_from`."""
    return _CIPHERTEXT.hasher()


def anchor_of(parsed: ParsedEnvelope, context: Context) -> bytes:
    """The commitment (32 bytes) to context, version, header, both wraps, key commitment and ciphertext."""
    return anchor_from(parsed.head, _CIPHERTEXT.digest(bytes(parsed.stream)), context)


def anchor_from(head: EnvelopeHead, ciphertext: bytes, context: Context) -> bytes:
    """As `anchor_of`, given the digest that `ciphertext_hasher` makes of the stream."""
    parts = (head.header, head.wrap, head.author_wrap)
    return _ANCHOR.digest(
        context.digest(),
        head.version.to_bytes(8, "big"),
        *(_PART.digest(codec.encode(part)) for part in parts),
        head.key_commitment,
        ciphertext,
    )


def seals_of(envelope: bytes, context: Context) -> Seals:
    """Digest and anchor of an envelope in its context. Raises as `parse`."""
    return Seals(envelope_digest(envelope), anchor_of(parse(envelope), context))


def verify_anchor(envelope: bytes, context: Context, anchor: bytes) -> None:
    """Raises Refused `sealing.wrong_anchor` unless this is the very envelope that was anchored, and as `parse`."""
    if anchor_of(parse(envelope), context) != anchor:
        raise Refused("sealing.wrong_anchor", "the envelope is not the one that the chain anchors")


def key_commitment(key: bytes, context: Context) -> bytes:
    """Binds an envelope to one data key, and its header to one header key: a tagged hash of key and context."""
    return _COMMITMENT.digest(key, context.digest())


def stream_binding(head_bytes: bytes, context: Context) -> bytes:
    """The associated data (32 bytes) of every chunk."""
    return _STREAM.digest(context.digest(), head_bytes)


def header_digest(header: SealedHeader) -> bytes:
    """32 bytes that stand for the sealed header in a wrap's proof."""
    return _PART.digest(codec.encode(header))


def seal_header(
    fields: HeaderFields,
    payload_bytes: int,
    context: Context,
    signing: SigningKey,
    custodians: tuple[bytes, ...],
    data_key: bytes,
) -> SealedHeader:
    """Sign the fields for this context, and encrypt them to the custodians (X25519 keys, at most CUSTODIANS_MAX)."""
    if len(custodians) > CUSTODIANS_MAX:
        raise ValueError(f"a record has at most {CUSTODIANS_MAX} custodians, not {len(custodians)}")
    signature = signing.sign(_HEADER.digest(*_header_parts(fields, payload_bytes, signing.public, context)))
    # decoding what was encoded checks the bounds that building a Struct does not
    encoded = codec.encode(SignedHeader(fields, payload_bytes, signing.public, signature))
    codec.decode(encoded, SignedHeader, HEADER_BYTES_MAX - 2)
    plain = len(encoded).to_bytes(2, "big") + encoded
    plain += bytes(-len(plain) % HEADER_GRAIN_BYTES)
    key = _header_key(data_key, context)
    slots = tuple(HeaderSlot(_hint(public, context), boxes.seal_to(public, key)) for public in custodians)
    body = boxes.encrypt(key, boxes.SINGLE_USE, plain, context.digest())
    return SealedHeader(slots, key_commitment(key, context), body)


def open_header_as_custodian(head: EnvelopeHead, context: Context, custodian: boxes.BoxKey) -> SignedHeader:
    """The author's header. Raises Refused `sealing.wrong_key` when no slot is the custodian's, and as below."""
    hint = _hint(custodian.public, context)
    for slot in head.header.slots:
        if slot.hint == hint:
            return _open_header(head.header, context, boxes.open_sealed(custodian, slot.sealed_key))
    raise Refused("sealing.wrong_key", "the header is not sealed to this custodian in this context")


def open_header_with_key(head: EnvelopeHead, context: Context, data_key: bytes) -> SignedHeader:
    """The author's header, for whoever holds the data key.

    Raises Refused `sealing.damaged`, or `sealing.bad_signature` when the author's signature is not over this context.
    """
    return _open_header(head.header, context, _header_key(data_key, context))


def _open_header(header: SealedHeader, context: Context, key: bytes) -> SignedHeader:
    if len(key) != boxes.CIPHER_KEY_BYTES or key_commitment(key, context) != header.key_commitment:
        raise Refused("sealing.damaged", "the header key is not the one that the envelope commits to")
    plain = boxes.decrypt(key, boxes.SINGLE_USE, header.body, context.digest())
    end = 2 + int.from_bytes(plain[:2], "big")
    if len(plain) % HEADER_GRAIN_BYTES or not 0 <= len(plain) - end < HEADER_GRAIN_BYTES or any(plain[end:]):
        raise Refused("sealing.damaged", "the header is not padded as its length demands")
    signed = codec.decode(plain[2:end], SignedHeader, HEADER_BYTES_MAX)
    digest = _HEADER.digest(*_header_parts(signed.fields, signed.payload_bytes, signed.key, context))
    if not verify(signed.key, digest, signed.signature):
        raise Refused(
            "sealing.bad_signature", "the author's signature is not over this header in this context"
        )
    return signed


def _header_parts(
    fields: HeaderFields, payload_bytes: int, key: bytes, context: Context
) -> tuple[bytes, ...]:
    return (context.digest(), key, payload_bytes.to_bytes(8, "big"), codec.encode(fields))


def _header_key(data_key: bytes, context: Context) -> bytes:
    """One-way: custodians who learn the header key learn nothing of the data key."""
    return _HEADER_KEY.digest(data_key, context.digest())


def _hint(public: bytes, context: Context) -> bytes:
    """Salted with the context, so that two envelopes do not show that they share a custodian."""
    return _HINT.digest(context.digest(), public)[:HINT_BYTES]
