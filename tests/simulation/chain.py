"""A tiny chain for replicas on a table (council.py). Execution is a hash chain; the shape is that of the real one.

A batch whose text starts with `set:` and a bit mask over the hosts changes the validator set two heights later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

from consilium.consensus.context import HeightContext
from consilium.ledger.block import BLOCK_VERSION, Block, CommitCertificate, Header
from consilium.ledger.merkle import EMPTY_ROOT
from consilium.ledger.validators import ValidatorSet

CHAIN_ID = hashlib.sha256(b"simulated chain").digest()


def digest_of(batch: bytes) -> bytes:
    """The digest of a simulated batch."""
    return hashlib.sha256(b"batch" + batch).digest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One committed height. Genesis has neither certificate nor batches."""

    header: Header
    block: Block | None
    certificate: CommitCertificate | None
    batches: tuple[bytes, ...]
    state_root: bytes
    history_root: bytes


def _mix(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


class Chain:
    """The committed entries of one host, and what follows from them."""

    def __init__(self, genesis: ValidatorSet, subset: Callable[[int], ValidatorSet], time_ms: int) -> None:
        header = Header(
            version=BLOCK_VERSION,
            chain_id=CHAIN_ID,
            height=0,
            parent=bytes(32),
            time_ms=time_ms,
            primary=genesis.keys[0],
            lost=0,
            batches_root=EMPTY_ROOT,
            state_root=bytes(32),
            receipts_root=bytes(32),
            validators_hash=genesis.hash,
            next_validators_hash=genesis.hash,
            history_root=bytes(32),
        )
        self._subset = subset
        self.sets: list[ValidatorSet] = [genesis, genesis, genesis]  # by height; known up to tip + 2
        self.entries: list[Entry] = [Entry(header, None, None, (), _mix(b"state"), _mix(header.hash))]
        self.committed: dict[bytes, int] = {}

    @property
    def tip(self) -> int:
        """The greatest committed height."""
        return len(self.entries) - 1

    def rewound(self, tip: int) -> Chain:
        """A copy that ends at an earlier height."""
        earlier = copy(self)
        earlier.entries = self.entries[: tip + 1]
        earlier.sets = self.sets[: tip + 3]
        earlier.committed = {digest: height for digest, height in self.committed.items() if height <= tip}
        return earlier

    def context(self) -> HeightContext:
        """What the next height must be built on."""
        last = self.entries[-1]
        height = self.tip + 1
        return HeightContext(
            height=height,
            chain_id=CHAIN_ID,
            parent=last.header,
            validators=self.sets[height],
            next_validators_hash=self.sets[height + 1].hash,
            state_root=last.state_root,
            receipts_root=_mix(b"receipts", last.state_root),
            history_root=last.history_root,
        )

    def commit(self, block: Block, certificate: CommitCertificate, batches: tuple[bytes, ...]) -> None:
        """Execute and append."""
        last = self.entries[-1]
        if block.height != self.tip + 1 or block.header.parent != last.header.hash:
            raise AssertionError(f"a block of height {block.height} does not extend the tip {self.tip}")
        changed = self.sets[-1]
        for digest, batch in zip(block.batches, batches, strict=True):
            self.committed[digest] = block.height
            if batch.startswith(b"set:"):
                changed = self._subset(int(batch.split(b":")[1]))
        self.sets.append(changed)
        self.entries.append(
            Entry(
                block.header,
                block,
                certificate,
                batches,
                _mix(last.state_root, *batches) if batches else last.state_root,
                _mix(last.history_root, block.hash),
            )
        )
