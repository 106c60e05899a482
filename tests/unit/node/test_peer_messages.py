"""What nodes say to each other: frozen bytes, and for every kind a limit that everything honest keeps.

`CONSILIUM_REWRITE_GOLDEN=1` writes the golden file anew. Whoever does that has changed a format, and owes a version.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.ledger import codec
from consilium.ledger.batch import BATCH_BYTES_MAX
from consilium.ledger.block import (
    BLOCK_BATCHES_MAX,
    BLOCK_BYTES_MAX,
    BLOCK_PAYLOAD_BYTES_MAX,
    CERTIFICATE_BYTES_MAX,
    Block,
    CommitCertificate,
    Header,
    Seal,
)
from consilium.ledger.errors import Refused
from consilium.ledger.snapshot import BranchPart, RowsPart, StateRow
from consilium.ledger.validators import VALIDATORS_MAX
from consilium.node import peer_messages
from consilium.node.peer_messages import (
    BLOCKS_BYTES_MAX,
    BLOCKS_PER_RESPONSE_MAX,
    LIMITS,
    BatchRequest,
    Blocks,
    BlocksRequest,
    DecidedBlock,
    EnvelopePiece,
    EnvelopeRequest,
    Kind,
    Tip,
    decided_bytes,
)
from consilium.node.snapshot_messages import (
    LeavesAnswer,
    LeavesRequest,
    PartAnswer,
    PartRequest,
    RunAnswer,
    RunRequest,
    SnapshotOffer,
    SnapshotRequest,
)
from consilium.storage.envelopes import PIECE_BYTES
from tests.unit.node.harness import some

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "node" / "peer_messages.json"
UINT = st.integers(0, codec.UINT_MAX)
DIGEST = st.binary(min_size=32, max_size=32)


def block(height: int, batches: int) -> Block:
    header = Header(
        version=1,
        chain_id=some("chain", 32),
        height=height,
        parent=some("parent", 32),
        time_ms=height,
        primary=some("primary", 32),
        lost=0,
        batches_root=some("batches", 32),
        state_root=some("state", 32),
        receipts_root=some("receipts", 32),
        validators_hash=some("validators", 32),
        next_validators_hash=some("next", 32),
        history_root=some("history", 32),
    )
    return Block(header, [some(f"batch {number}", 32) for number in range(batches)])


def certificate(height: int, seals: int) -> CommitCertificate:
    return CommitCertificate(height, 0, some("block", 32), [Seal(n, some("s", 32) * 2) for n in range(seals)])


ROW = StateRow(b"key", b"value")
EXAMPLES: dict[str, tuple[Kind, codec.Wire]] = {
    "snapshot_request": (Kind.SNAPSHOT_REQUEST, SnapshotRequest(None)),
    "snapshot_request_of_a_height": (Kind.SNAPSHOT_REQUEST, SnapshotRequest(600)),
    "snapshot_offer": (Kind.SNAPSHOT_OFFER, SnapshotOffer(600, b"manifest")),
    "snapshot_offer_of_none": (Kind.SNAPSHOT_OFFER, SnapshotOffer(None, None)),
    "part_request": (Kind.PART_REQUEST, PartRequest(600, b"\x0a\x0b")),
    "part_with_rows": (Kind.PART, PartAnswer(600, b"\x0a\x0b", RowsPart([ROW]))),
    "part_with_a_branch": (Kind.PART, PartAnswer(600, b"", BranchPart(3, some("a", 32) + some("b", 32)))),
    "part_of_nothing": (Kind.PART, PartAnswer(600, b"", None)),
    "run_request": (Kind.RUN_REQUEST, RunRequest(600, 2)),
    "run": (Kind.RUN, RunAnswer(8, [block(7, 1), block(8, 0)])),
    "leaves_request": (Kind.LEAVES_REQUEST, LeavesRequest(600, 2)),
    "leaves": (Kind.LEAVES, LeavesAnswer(600, [[b"leaf", b"another"], []])),
    "tip": (Kind.TIP, Tip(7, some("tip", 32))),
    "batch_request": (Kind.BATCH_REQUEST, BatchRequest([some("one", 32), some("two", 32)])),
    "blocks_request": (Kind.BLOCKS_REQUEST, BlocksRequest(300, 64)),
    "blocks": (Kind.BLOCKS, Blocks([DecidedBlock(block(3, 2), certificate(3, 3), [b"first", b"second"])])),
    "no_blocks": (Kind.BLOCKS, Blocks([])),
    "envelope_request": (Kind.ENVELOPE_REQUEST, EnvelopeRequest(some("e", 32), some("r", 16), 3)),
    "envelope_piece": (Kind.ENVELOPE_PIECE, EnvelopePiece(some("e", 32), 3, 4_000_000, b"ciphertext")),
    "no_envelope": (Kind.ENVELOPE_PIECE, EnvelopePiece(some("e", 32), 0, None, b"")),
}


def test_the_bytes_of_every_message_are_what_they_were() -> None:
    made = {name: [int(kind), codec.encode(value).hex()] for name, (kind, value) in EXAMPLES.items()}
    if os.environ.get("CONSILIUM_REWRITE_GOLDEN"):
        GOLDEN.parent.mkdir(parents=True, exist_ok=True)
        GOLDEN.write_text(json.dumps(made, indent=2, sort_keys=True) + "\n")
    assert json.loads(GOLDEN.read_text()) == made


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_message_comes_back_and_no_other_bytes_do(name: str) -> None:
    kind, value = EXAMPLES[name]
    raw = codec.encode(value)
    limit = LIMITS[kind]
    assert codec.decode(raw, type(value), limit) == value
    for spoiled in (raw[:-1], raw + b"\x00", b"", b"\xc0"):
        with pytest.raises(Refused):
            codec.decode(spoiled, type(value), limit)


def test_every_kind_has_a_limit_and_a_number_of_its_own() -> None:
    assert set(LIMITS) == set(Kind)
    assert len({int(kind) for kind in Kind}) == len(Kind)
    assert all(0 <= kind <= 255 for kind in Kind)


@given(UINT, DIGEST, st.integers(1, BLOCKS_PER_RESPONSE_MAX), st.integers(1, BLOCK_BATCHES_MAX))
def test_everything_honest_keeps_its_limit(number: int, digest: bytes, count: int, batches: int) -> None:
    for kind, value in (
        (Kind.TIP, Tip(number, digest)),
        (Kind.BLOCKS_REQUEST, BlocksRequest(number, count)),
        (Kind.BATCH_REQUEST, BatchRequest([digest] * batches)),
        (Kind.ENVELOPE_REQUEST, EnvelopeRequest(digest, digest[:16], min(number, 2**16))),
        (Kind.ENVELOPE_PIECE, EnvelopePiece(digest, number, min(number, 2**36), bytes(PIECE_BYTES))),
    ):
        assert len(codec.encode(value)) <= LIMITS[kind]


def test_the_largest_block_fits_its_message() -> None:
    payload = [bytes(BLOCK_PAYLOAD_BYTES_MAX // BLOCK_BATCHES_MAX)] * BLOCK_BATCHES_MAX
    largest = DecidedBlock(
        block(codec.UINT_MAX, BLOCK_BATCHES_MAX), certificate(codec.UINT_MAX, VALIDATORS_MAX), payload
    )
    raw = codec.encode(Blocks([largest]))
    assert len(raw) <= LIMITS[Kind.BLOCKS] == BLOCKS_BYTES_MAX
    assert len(codec.encode(largest.block)) <= BLOCK_BYTES_MAX
    assert len(codec.encode(largest.certificate)) <= CERTIFICATE_BYTES_MAX
    assert codec.decode(raw, Blocks, BLOCKS_BYTES_MAX).blocks == [largest]


@given(st.integers(0, BLOCK_BATCHES_MAX), st.integers(1, VALIDATORS_MAX), st.integers(0, 3_000))
def test_the_room_that_a_block_takes_is_never_estimated_too_low(batches: int, seals: int, size: int) -> None:
    one = DecidedBlock(block(9, batches), certificate(9, seals), [bytes(size)] * batches)
    assert len(codec.encode(one)) <= decided_bytes(one)


@pytest.mark.parametrize(
    "value",
    [
        BatchRequest([]),
        BatchRequest([bytes(32)] * (BLOCK_BATCHES_MAX + 1)),
        BatchRequest([bytes(31)]),
        BlocksRequest(0, 0),
        BlocksRequest(0, BLOCKS_PER_RESPONSE_MAX + 1),
        BlocksRequest(-1, 1),
        Tip(-1, bytes(32)),
        Tip(1, bytes(33)),
        Blocks([DecidedBlock(block(1, 0), certificate(1, 1), [])] * (BLOCKS_PER_RESPONSE_MAX + 1)),
        Blocks([DecidedBlock(block(1, 0), certificate(1, 1), [b""] * (BLOCK_BATCHES_MAX + 1))]),
        Blocks([DecidedBlock(block(1, 0), certificate(1, 1), [bytes(BATCH_BYTES_MAX + 1)])]),
    ],
)
def test_what_passes_its_bounds_is_refused(value: Any) -> None:
    raw = msgspec.msgpack.encode(value)
    with pytest.raises(Refused):
        codec.decode(raw, type(value), 10 * BLOCKS_BYTES_MAX)


def test_a_limit_is_checked_before_anything_is_decoded() -> None:
    with pytest.raises(Refused) as refused:
        codec.decode(bytes(LIMITS[Kind.TIP] + 1), peer_messages.Tip, LIMITS[Kind.TIP])
    assert refused.value.code == "codec.oversized"
