"""The snapshots that this node holds for others, and how it gives them out.

One is taken with the first block of each period of block time, so that all nodes have one of the same height and a
newcomer can ask several at once; and one with the first block after a start, so that there is one at all. The newest
few are held. Serving them is reading with rests (node/serving.py), so that votes and blocks never wait for a newcomer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from consilium.ledger import codec
from consilium.ledger.block import Block
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.receipt_format import SET_CHANGES_MAX
from consilium.ledger.snapshot import (
    BLOCKS_BYTES_MAX,
    MANIFEST_BYTES_MAX,
    SNAPSHOT_VERSION,
    Manifest,
)
from consilium.ledger.trie_parts import is_prefix
from consilium.node.executor import Commit
from consilium.node.peer_messages import LIMITS, Kind
from consilium.node.receipts import sealing_at, set_change_at
from consilium.node.serving import Serving
from consilium.node.snapshot_messages import (
    LEAVES_ANSWER_BYTES,
    LEAVES_BYTES_MAX,
    LeavesAnswer,
    LeavesRequest,
    PartAnswer,
    PartRequest,
    RunAnswer,
    RunRequest,
    SnapshotOffer,
    SnapshotRequest,
)
from consilium.node.sync import Send
from consilium.storage.chain import ChainStore
from consilium.storage.snapshot import StateSnapshot

KINDS: Final = (Kind.SNAPSHOT_REQUEST, Kind.PART_REQUEST, Kind.RUN_REQUEST, Kind.LEAVES_REQUEST)
SNAPSHOTS_KEPT: Final = 2
"""An old one may be in use while a new one is taken."""

_log = structlog.get_logger("consilium.shelf")


class Shelf:
    """See the module. `every_ms` is the period of block time; 0 takes none, and serves blocks and receipts alone."""

    def __init__(
        self,
        store: ChainStore,
        send: Send,
        every_ms: int,
        broken: Callable[[InvariantBroken], None],
        serving: Serving | None = None,
    ) -> None:
        self._store = store
        self._send = send
        self._every_ms = every_ms
        self._broken = broken
        self._held: list[StateSnapshot] = []
        self._manifests: dict[int, bytes] = {}
        self._serving = serving or Serving()

    @property
    def heights(self) -> list[int]:
        """Of the snapshots that are held, ascending."""
        return [snapshot.height for snapshot in self._held]

    def committed(self, commit: Commit) -> None:
        """A block was committed, and none since. On the event loop: taking a snapshot reads one row."""
        header = commit.block.header
        if not self._every_ms or header.height != self._store.tip.height:
            return
        if self._held:
            period = header.time_ms // self._every_ms
            if period == self._store.header(header.height - 1).time_ms // self._every_ms:
                return
        self._held.append(self._store.snapshot())
        _log.info("snapshot.taken", height=header.height)
        while len(self._held) > SNAPSHOTS_KEPT:
            gone = self._held.pop(0)
            self._manifests.pop(gone.height, None)
            gone.close()

    def close(self) -> None:
        """Let go of all of them."""
        for snapshot in self._held:
            snapshot.close()
        self._held.clear()

    async def handle(self, peer: bytes, kind: int, body: bytes) -> None:
        """A question of one of KINDS. Raises Refused for bytes that are none."""
        match kind:
            case Kind.SNAPSHOT_REQUEST:
                asked = codec.decode(body, SnapshotRequest, LIMITS[kind])
                await self._answer(peer, Kind.SNAPSHOT_OFFER, lambda: self._offer(asked.height))
            case Kind.PART_REQUEST:
                part = codec.decode(body, PartRequest, LIMITS[kind])
                await self._answer(peer, Kind.PART, lambda: self._part(part))
            case Kind.RUN_REQUEST:
                run = codec.decode(body, RunRequest, LIMITS[kind])
                await self._answer(peer, Kind.RUN, lambda: self._run(run))
            case _:
                leaves = codec.decode(body, LeavesRequest, LIMITS[kind])
                await self._answer(peer, Kind.LEAVES, lambda: self._leaves(leaves))

    async def _answer(self, peer: bytes, kind: Kind, read: Callable[[], bytes]) -> None:
        try:
            await self._serving.for_other(lambda body: self._send(peer, kind, body), read)
        except InvariantBroken as broken:
            self._broken(broken)

    # ---- in a thread

    def _offer(self, asked: int | None) -> bytes:
        found = None
        for snapshot in list(self._held):
            # Only once the next header certifies it.
            if snapshot.height < self._store.tip.height and asked in (None, snapshot.height):
                found = self._manifest(snapshot.height)
        return codec.encode(SnapshotOffer(asked, found))

    def _manifest(self, height: int) -> bytes | None:
        known = self._manifests.get(height)
        if known is None:
            try:
                known = codec.encode(make_manifest(self._store, height))
            except Refused as refusal:
                _log.warning("snapshot.not_offered", height=height, reason=str(refusal))
                return None
            if len(known) > MANIFEST_BYTES_MAX:
                _log.warning("snapshot.not_offered", height=height, reason="its manifest is too long")
                return None
            self._manifests[height] = known
        return known

    def _part(self, asked: PartRequest) -> bytes:
        part = None
        for snapshot in list(self._held):
            if snapshot.height == asked.height and is_prefix(asked.prefix):
                try:
                    part = snapshot.part(asked.prefix)
                except Refused:  # closed a moment ago
                    break
        return codec.encode(PartAnswer(asked.height, asked.prefix, part))

    def _run(self, asked: RunRequest) -> bytes:
        blocks: list[Block] = []
        size = 0
        if 1 <= asked.last <= self._store.tip.height:
            for height in range(asked.last, max(0, asked.last - asked.count), -1):
                block = self._store.block(height)
                size += len(codec.encode(block))
                if blocks and size > BLOCKS_BYTES_MAX - 16 * len(blocks):
                    break
                blocks.append(block)
        return codec.encode(RunAnswer(asked.last, blocks[::-1]))

    def _leaves(self, asked: LeavesRequest) -> bytes:
        heights: list[list[bytes]] = []
        size = 0
        for height in range(asked.last, max(0, asked.last - asked.count), -1):
            try:
                leaves = self._store.leaves(height)
            except Refused:
                break
            size += sum(len(leaf) + 8 for leaf in leaves) + 8
            if size > (LEAVES_ANSWER_BYTES if heights else LEAVES_BYTES_MAX):
                break
            heights.append(leaves)
        return codec.encode(LeavesAnswer(asked.last, heights))


def make_manifest(store: ChainStore, height: int) -> Manifest:
    """Why the state after `height` may be believed. Raises Refused `chain.*` where the next height is not here yet, or
    certificates that it needs are not kept any more; `receipt.too_many_changes` where nobody could read it."""
    heights = store.set_changes(0, height + 2)
    if len(heights) > SET_CHANGES_MAX:
        raise Refused("receipt.too_many_changes", f"{len(heights)} changes; at most {SET_CHANGES_MAX}")
    changes = [set_change_at(store, changed) for changed in heights]
    return Manifest(
        SNAPSHOT_VERSION,
        height,
        store.header(height + 1),
        sealing_at(store, height + 1),
        sealing_at(store, height),
        changes,
    )
