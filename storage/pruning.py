"""Forgetting old blocks, and what stays of them.

Of a pruned height the batches (the transactions themselves), the receipt leaves and the list of ids go, and the
certificate, unless a receipt has to show it: one that crosses a change of the validator set. What stays: the header,
the history over all headers, the index of transactions and of events. So a receipt that was issued verifies for ever,
can still be extended to a newer header, and the accounting of who read what is complete; what cannot be answered any
more is refused by name (`chain.height_pruned`), never with "unknown".

Heights within the window in which a transaction could be repeated stay, however few are asked to be kept.
"""

from __future__ import annotations

from typing import Final

from consilium.ledger.block import Block
from consilium.storage import schema
from consilium.storage.kv import KeyValueReader, Write

PRUNE_HEIGHTS_MAX: Final = 256
"""In one write, so that commits never wait long behind it."""


def lowest_kept(store: KeyValueReader) -> int:
    """The lowest height above genesis that is kept whole."""
    raw = store.get(schema.LOWEST)
    return 1 if raw is None else int.from_bytes(raw, "big")


def base_of(store: KeyValueReader) -> int:
    """The height of the snapshot that the store began with; 0 where it began with genesis."""
    raw = store.get(schema.BASE)
    return 0 if raw is None else int.from_bytes(raw, "big")


def lowest_writes(height: int) -> list[Write]:
    """Say that heights below `height` are not kept whole."""
    return [(schema.LOWEST, height.to_bytes(8, "big"))]


def prune_writes(store: KeyValueReader, block: Block) -> list[Write]:
    """What deletes a height's payload, given its block."""
    height = block.height
    writes: list[Write] = [
        (schema.at_height(schema.LEAVES, height), None),
        (schema.at_height(schema.SEEN, height), None),
    ]
    for place, digest in enumerate(block.batches):
        key = schema.batch_key(height, place)
        writes.append((key, None))
        if store.get(schema.BATCH_PLACE + digest) == key[1:]:
            writes.append((schema.BATCH_PLACE + digest, None))
    if store.get(schema.at_height(schema.SET_CHANGE, height)) is None:
        writes.append((schema.at_height(schema.CERTIFICATE, height), None))
    return writes
