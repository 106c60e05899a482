"""Between the machine's `Promise` and the file that keeps it: votes small and often, proposals large and once.

A proposal is kept with its batches' bytes, so that a validator that prepared a block can always serve and execute it,
whatever else the crash took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import msgspec

from consilium.consensus.promise import Promise, decode_votes
from consilium.ledger import codec
from consilium.ledger.batch import BATCH_BYTES_MAX, VerifiedBatch, verify_batch
from consilium.ledger.block import BLOCK_BATCHES_MAX, Block
from consilium.ledger.crypto import Digest, Tag
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.storage.promise import PROPOSAL_BYTES_MAX, Promises

_OWNER = Tag("consilium/promise-owner/1")


class _KeptProposal(codec.Wire, frozen=True):
    block: Block
    batches: Annotated[
        list[Annotated[bytes, msgspec.Meta(max_length=BATCH_BYTES_MAX)]],
        msgspec.Meta(max_length=BLOCK_BATCHES_MAX),
    ]


def promise_owner(chain_id: bytes, key: bytes) -> Digest:
    """Whose word a promise folder holds (32 bytes): this validator's, on this network."""
    return _OWNER.digest(chain_id, key)


class PromiseKeeper:
    """Implements `driver.Keeper` on a promise store. Blocks for a sync: call it from a thread.

    `synced` is told, in that thread, how many seconds it took.
    """

    def __init__(self, promises: Promises, synced: Callable[[float], None] | None = None) -> None:
        self._promises = promises
        self._synced = synced

    def keep(self, promise: Promise, batches: Callable[[bytes], VerifiedBatch | None]) -> None:
        """Durable on return. Raises InvariantBroken where a batch of a promised block is not at hand."""
        started = time.perf_counter()
        names: list[bytes] = []
        for block in promise.proposals:
            name = block.hash
            names.append(name)
            if self._promises.holds(name):
                continue
            raws: list[bytes] = []
            for digest in block.batches:
                batch = batches(digest)
                if batch is None:
                    raise InvariantBroken(f"block {name.hex()[:16]} is promised without its batches")
                raws.append(batch.raw)
            self._promises.keep(name, codec.encode(_KeptProposal(block, raws)))
        self._promises.save(codec.encode(promise.votes), names)
        if self._synced is not None:
            self._synced(time.perf_counter() - started)


def recall(promises: Promises, chain_id: bytes) -> tuple[Promise | None, list[VerifiedBatch]]:
    """What was promised last, with the batches of its proposals. Verifies each signature: call it from a thread.

    Raises Refused `promise.corrupt` where what was kept is not what this program keeps.
    """
    kept = promises.load()
    if kept.votes is None:
        return None, []
    blocks: list[Block] = []
    batches: dict[bytes, VerifiedBatch] = {}
    try:
        votes = decode_votes(kept.votes)
        for name, raw in kept.proposals.items():
            proposal = codec.decode(raw, _KeptProposal, PROPOSAL_BYTES_MAX)
            held = [verify_batch(batch, chain_id) for batch in proposal.batches]
            if proposal.block.hash != name or [batch.digest for batch in held] != proposal.block.batches:
                raise Refused("promise.corrupt", f"proposal {name.hex()[:16]} is not kept with its batches")
            blocks.append(proposal.block)
            batches.update((batch.digest, batch) for batch in held)
    except Refused as refusal:
        if refusal.code == "promise.corrupt":
            raise
        raise Refused("promise.corrupt", str(refusal)) from None
    return Promise(votes, blocks), list(batches.values())
