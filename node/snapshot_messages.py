"""What nodes say to each other about snapshots: questions, and answers that name what they answer.

An answer echoes its question, so one that comes late, twice, or unasked is known for what it is. Where the sender has
nothing to give, the answer says so by an empty field: silence would cost the asker a timeout.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.ledger import codec
from consilium.ledger.block import Block
from consilium.ledger.snapshot import (
    BLOCKS_BYTES_MAX,
    BLOCKS_MAX,
    LEAVES_MAX,
    MANIFEST_BYTES_MAX,
    PART_BYTES_MAX,
    Leaf,
    Part,
)
from consilium.ledger.trie_proof import DEPTH_MAX

ENVELOPE_BYTES: Final = 256
"""What surrounds the contents of an answer."""
LEAVES_HEIGHTS_MAX: Final = 512
LEAVES_ANSWER_BYTES: Final = 1024 * 1024
"""An answer of several heights stays below this."""
LEAVES_BYTES_MAX: Final = 6 * 1024 * 1024
"""Of one height's receipts. A height with more of them is not served; nothing that contracts answer comes near it."""

Prefix = Annotated[bytes, msgspec.Meta(max_length=DEPTH_MAX)]


class SnapshotRequest(codec.Wire, frozen=True):
    """Which snapshot have you: the newest one, or the one of `height`?"""

    height: codec.Uint | None


class SnapshotOffer(codec.Wire, frozen=True):
    """The answer: an encoded `ledger.snapshot.Manifest`, or None."""

    asked: codec.Uint | None
    manifest: Annotated[bytes, msgspec.Meta(max_length=MANIFEST_BYTES_MAX)] | None


class PartRequest(codec.Wire, frozen=True):
    """Send me what stands at this prefix (nibbles, a byte each) in the snapshot of `height`."""

    height: codec.Uint
    prefix: Prefix


class PartAnswer(codec.Wire, frozen=True):
    """The answer; `part` is None where the sender has no such snapshot, or nothing there."""

    height: codec.Uint
    prefix: Prefix
    part: Part | None


class RunRequest(codec.Wire, frozen=True):
    """Send me blocks without their batches, the last of which is at height `last`."""

    last: codec.Uint
    count: Annotated[int, msgspec.Meta(ge=1, le=BLOCKS_MAX)]


class RunAnswer(codec.Wire, frozen=True):
    """The answer: ascending, up to `last`; empty where the sender has none."""

    last: codec.Uint
    blocks: Annotated[list[Block], msgspec.Meta(max_length=BLOCKS_MAX)]


class LeavesRequest(codec.Wire, frozen=True):
    """Send me all receipt leaves of heights from `last` downwards, at most `count` of them."""

    last: codec.Uint
    count: Annotated[int, msgspec.Meta(ge=1, le=LEAVES_HEIGHTS_MAX)]


class LeavesAnswer(codec.Wire, frozen=True):
    """The answer: a list for each height, of `last` first; empty where they are not kept."""

    last: codec.Uint
    heights: Annotated[
        list[Annotated[list[Leaf], msgspec.Meta(max_length=LEAVES_MAX)]],
        msgspec.Meta(max_length=LEAVES_HEIGHTS_MAX),
    ]


REQUEST_BYTES_MAX: Final = 96
OFFER_BYTES_MAX: Final = MANIFEST_BYTES_MAX + ENVELOPE_BYTES
PART_ANSWER_BYTES_MAX: Final = PART_BYTES_MAX + ENVELOPE_BYTES
RUN_BYTES_MAX: Final = BLOCKS_BYTES_MAX + ENVELOPE_BYTES
LEAVES_ANSWER_BYTES_MAX: Final = LEAVES_BYTES_MAX + ENVELOPE_BYTES
