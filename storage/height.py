"""The rows of one height, and the values that they are read back as.

What belongs to the state (its values, the trie's nodes, undo) is `storage.state`'s, everything else is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from consilium.ledger import codec, merkle
from consilium.ledger.block import Block
from consilium.ledger.execution import Outcome
from consilium.ledger.merkle import MOUNTAIN_RANGE_BYTES_MAX, MountainRange
from consilium.ledger.trie import TrieUpdate
from consilium.storage import schema
from consilium.storage.events import Place, event_writes
from consilium.storage.kv import Write

TIP_BYTES_MAX: Final = 256 + MOUNTAIN_RANGE_BYTES_MAX


class Tip(codec.Wire, frozen=True):
    """The last committed height, and what the next header says of it.

    `state_root`, `receipts_root` and `next_validators_hash` (the set of the height after next) follow from its
    execution; `history` is over all headers up to its own.
    """

    height: codec.Uint
    block_hash: codec.Bytes32
    time_ms: codec.Uint
    state_root: codec.Bytes32
    receipts_root: codec.Bytes32
    next_validators_hash: codec.Bytes32
    history: MountainRange


class SeenAt(NamedTuple):
    """The transactions that a height executed, in the order of their receipt leaves."""

    height: int
    time_ms: int
    ids: tuple[bytes, ...]


def height_writes(
    block: Block, batches: Sequence[bytes], outcome: Outcome, update: TrieUpdate, history: MountainRange
) -> tuple[list[Write], Tip]:
    """All rows of a height but its certificate and its state."""
    height, block_hash = block.height, block.hash
    height_bytes = height.to_bytes(8, "big")
    grown, completed = history.grow(merkle.leaf_hash(block_hash))
    ids = [transaction.id for transaction in outcome.transactions]
    next_validators = outcome.next_validators
    tip = Tip(
        height=height,
        block_hash=block_hash,
        time_ms=block.header.time_ms,
        state_root=update.root_hash,
        receipts_root=outcome.receipts_root,
        next_validators_hash=next_validators.hash,
        history=grown,
    )
    writes: list[Write] = [
        (schema.BLOCK + height_bytes, codec.encode(block)),
        (schema.HEIGHT_OF + block_hash, height_bytes),
        (schema.LEAVES + height_bytes, codec.encode(list(outcome.leaves))),
        (schema.SEEN + height_bytes, block.header.time_ms.to_bytes(8, "big") + b"".join(ids)),
        (schema.VALIDATORS + next_validators.hash, codec.encode(list(next_validators.validators))),
        (schema.TIP, codec.encode(tip)),
    ]
    if block.header.next_validators_hash != block.header.validators_hash:
        writes.append((schema.at_height(schema.SET_CHANGE, height), b""))
    for index, (digest, raw) in enumerate(zip(block.batches, batches, strict=True)):
        key = schema.batch_key(height, index)
        writes += [(key, raw), (schema.BATCH_PLACE + digest, key[1:])]
    for index, transaction_id in enumerate(ids):
        writes.append((schema.TRANSACTION + transaction_id, height_bytes + index.to_bytes(4, "big")))
    writes += event_writes(height, outcome.events)
    writes += [(schema.history_key(position), node) for position, node in completed]
    return writes, tip


def place_in(raw: bytes) -> Place:
    """Read back what `height_writes` wrote as height and index."""
    return Place(int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:12], "big"))


def seen_in(key: bytes, row: bytes) -> SeenAt:
    """Read back a row of SEEN."""
    ids = tuple(row[at : at + 32] for at in range(8, len(row), 32))
    return SeenAt(schema.height_in(key), int.from_bytes(row[:8], "big"), ids)
