"""What nodes say to each other besides votes: batches, blocks for those who lag, and how far they are.

Each kind has its number, its lane and its bound in one table; the mesh refuses anything else before it is decoded.
Votes have a lane of their own, so that they never wait behind megabytes of batches.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

import msgspec

from consilium.consensus.messages import MESSAGE_BYTES_MAX
from consilium.consensus.restart import REQUEST_BYTES_MAX, STATUS_BYTES_MAX
from consilium.ledger import codec
from consilium.ledger.batch import BATCH_BYTES_MAX
from consilium.ledger.block import (
    BLOCK_BATCHES_MAX,
    BLOCK_BYTES_MAX,
    BLOCK_PAYLOAD_BYTES_MAX,
    CERTIFICATE_BYTES_MAX,
    Block,
    CommitCertificate,
)
from consilium.node import snapshot_messages
from consilium.storage.envelopes import PIECE_BYTES, STREAM_BYTES_MAX

BLOCKS_PER_RESPONSE_MAX: Final = 64
BLOCKS_RESPONSE_BYTES: Final = 1024 * 1024
"""A response of several blocks stays below this; a single large block may take it to BLOCKS_BYTES_MAX."""
BLOCKS_BYTES_MAX: Final = (
    BLOCKS_RESPONSE_BYTES + BLOCK_PAYLOAD_BYTES_MAX + BLOCK_BYTES_MAX + CERTIFICATE_BYTES_MAX + 4_096
)

LENGTH_BYTES: Final = 16
"""At most so much goes for a length in an encoding, and for what surrounds it."""


class Kind(IntEnum):
    """The first byte of every message between nodes."""

    CONSENSUS = 1
    TIP = 2
    BATCH = 3
    BATCH_REQUEST = 4
    BLOCKS_REQUEST = 5
    BLOCKS = 6
    STATUS_REQUEST = 7
    STATUS = 8
    ENVELOPE_REQUEST = 20
    ENVELOPE_PIECE = 21
    SNAPSHOT_REQUEST = 30
    SNAPSHOT_OFFER = 31
    PART_REQUEST = 32
    PART = 33
    RUN_REQUEST = 34
    RUN = 35
    LEAVES_REQUEST = 36
    LEAVES = 37


class EnvelopeRequest(codec.Wire, frozen=True):
    """Send me a piece of the envelope that this record anchors; `piece` counts from 0, by PIECE_BYTES."""

    digest: codec.Bytes32
    record: codec.Bytes16
    piece: Annotated[int, msgspec.Meta(ge=0, le=STREAM_BYTES_MAX // PIECE_BYTES)]


class EnvelopePiece(codec.Wire, frozen=True):
    """The answer: a piece with the envelope's whole length, or neither, where the sender has none to give."""

    digest: codec.Bytes32
    piece: codec.Uint
    size: Annotated[int, msgspec.Meta(ge=0, le=STREAM_BYTES_MAX)] | None
    data: Annotated[bytes, msgspec.Meta(max_length=PIECE_BYTES)]


class Tip(codec.Wire, frozen=True):
    """The sender's newest committed block."""

    height: codec.Uint
    hash: codec.Bytes32


class BatchRequest(codec.Wire, frozen=True):
    """Send me these batches, each in a BATCH message."""

    digests: Annotated[list[codec.Bytes32], msgspec.Meta(min_length=1, max_length=BLOCK_BATCHES_MAX)]


class BlocksRequest(codec.Wire, frozen=True):
    """Send me decided blocks from height `first` on, at most `count`."""

    first: codec.Uint
    count: Annotated[int, msgspec.Meta(ge=1, le=BLOCKS_PER_RESPONSE_MAX)]


class DecidedBlock(codec.Wire, frozen=True):
    """A block with its certificate and the raw bytes of its batches, in order."""

    block: Block
    certificate: CommitCertificate
    batches: Annotated[
        list[Annotated[bytes, msgspec.Meta(max_length=BATCH_BYTES_MAX)]],
        msgspec.Meta(max_length=BLOCK_BATCHES_MAX),
    ]


def decided_bytes(decided: DecidedBlock) -> int:
    """How much room a block takes in a response, rather more than less."""
    batches = sum(len(raw) + LENGTH_BYTES for raw in decided.batches)
    return len(codec.encode(decided.block)) + len(codec.encode(decided.certificate)) + batches + LENGTH_BYTES


class Blocks(codec.Wire, frozen=True):
    """The answer to a BlocksRequest, or one block that a peer shows to be missing. Consecutive heights."""

    blocks: Annotated[list[DecidedBlock], msgspec.Meta(max_length=BLOCKS_PER_RESPONSE_MAX)]


LIMITS: Final[dict[int, int]] = {
    Kind.CONSENSUS: MESSAGE_BYTES_MAX,
    Kind.TIP: 64,
    Kind.BATCH: BATCH_BYTES_MAX,
    Kind.BATCH_REQUEST: 16 + BLOCK_BATCHES_MAX * 34,
    Kind.BLOCKS_REQUEST: 32,
    Kind.ENVELOPE_REQUEST: 96,
    Kind.ENVELOPE_PIECE: PIECE_BYTES + 96,
    Kind.BLOCKS: BLOCKS_BYTES_MAX,
    Kind.STATUS_REQUEST: REQUEST_BYTES_MAX,
    Kind.STATUS: STATUS_BYTES_MAX,
    Kind.SNAPSHOT_REQUEST: snapshot_messages.REQUEST_BYTES_MAX,
    Kind.SNAPSHOT_OFFER: snapshot_messages.OFFER_BYTES_MAX,
    Kind.PART_REQUEST: snapshot_messages.REQUEST_BYTES_MAX,
    Kind.PART: snapshot_messages.PART_ANSWER_BYTES_MAX,
    Kind.RUN_REQUEST: snapshot_messages.REQUEST_BYTES_MAX,
    Kind.RUN: snapshot_messages.RUN_BYTES_MAX,
    Kind.LEAVES_REQUEST: snapshot_messages.REQUEST_BYTES_MAX,
    Kind.LEAVES: snapshot_messages.LEAVES_ANSWER_BYTES_MAX,
}
"""Bytes at most of each kind; a kind without an entry is refused."""
