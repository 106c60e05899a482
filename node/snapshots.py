"""Snapshots in the life of a node: it holds some for others, and begins with one where it should.

It should where it follows nothing yet and the network is far ahead, where its peers have pruned the block that it
needs, and where the operator asked for it. The chain that it has is served until the new one is complete; then `run`
returns, and the node starts again on the new one (`node.stores`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog

from consilium.contracts.registry import default_registry
from consilium.ledger.errors import InvariantBroken, PeerFault
from consilium.ledger.execution import execute_genesis
from consilium.ledger.genesis import Genesis, genesis_block
from consilium.ledger.state import MemoryState
from consilium.node import shelf
from consilium.node.config import Config
from consilium.node.executor import Commit, Executor
from consilium.node.questions import SHAPES, Questions
from consilium.node.serving import Serving
from consilium.node.shelf import Shelf
from consilium.node.state_sync import StateSync
from consilium.node.stores import LITTLE_HEIGHTS, complete_staging, drop_staging, is_staging, open_staging
from consilium.node.sync import Send, Synchroniser
from consilium.node.threads import in_thread
from consilium.storage.staging import Staging

KINDS: Final = (*shelf.KINDS, *SHAPES)
LOOK_S: Final = 0.25
HEAD_START_S: Final = 60.0
"""A snapshot that the operator asked for is looked for so long before blocks are fetched."""
NEW_S: Final = 60.0
"""So long after its start a node without much of a chain may find that the network is far ahead."""

_log = structlog.get_logger("consilium.snapshots")


class Snapshots:
    """See the module."""

    def __init__(
        self,
        *,
        config: Config,
        genesis: Genesis,
        executor: Executor,
        synchroniser: Synchroniser,
        connected: Callable[[], frozenset[bytes]],
        send: Send,
        fault: Callable[[bytes, PeerFault], None],
        broken: Callable[[InvariantBroken], None],
        serving: Serving | None = None,
    ) -> None:
        self._config = config
        self._genesis = genesis
        self._executor = executor
        self._synchroniser = synchroniser
        self._connected = connected
        self._fault = fault
        self._questions = Questions(send)
        self._shelf = Shelf(executor.store, send, config.storage.snapshot_every_s * 1_000, broken, serving)
        self._fetching: StateSync | None = None
        self._chosen = False
        self._head_start = False
        self._new_until_s = (
            asyncio.get_running_loop().time() + NEW_S
            if executor.store.tip.height < LITTLE_HEIGHTS and not executor.store.base
            else 0.0
        )

    def committed(self, commit: Commit) -> None:
        """A block was committed."""
        self._shelf.committed(commit)

    async def handle(self, peer: bytes, kind: int, body: bytes) -> None:
        """A message of one of KINDS. Raises PeerFault or Refused where the peer is at fault."""
        if kind in shelf.KINDS:
            await self._shelf.handle(peer, kind, body)
        else:
            await self._questions.take(peer, kind, body)

    def status(self) -> dict[str, Any]:
        """For `NodeApi.status`: which snapshots are held, and how far one is that is fetched."""
        fetching = self._fetching
        return {
            "base_height": self._executor.store.base,
            "snapshots": self._shelf.heights,
            "fetching": None if fetching is None else fetching.status(),
        }

    def close(self) -> None:
        """Let go of what is held: before the store is closed."""
        self._shelf.close()

    async def run(self) -> None:
        """Until the node should start again, on a chain that came as a snapshot; else for ever."""
        requested = is_staging(self._config)
        if requested:
            self._give_head_start()
        while True:
            while not requested and not self._needed():  # noqa: ASYNC110 - what peers claim can only be looked at
                await asyncio.sleep(LOOK_S)
            if await self._fetch(requested):
                await in_thread(complete_staging, self._config)
                return
            # Blocks were to be had after all, or nobody gives what is offered.
            requested = False
            await in_thread(drop_staging, self._config)

    async def _fetch(self, requested: bool) -> bool:
        def hopeless() -> bool:
            return self._fetching is not None and self._fetching.hopeless

        _log.info("state_sync.started", height=self._executor.store.tip.height, requested=requested)
        store = await in_thread(open_staging, self._config)
        try:
            outcome = await in_thread(execute_genesis, self._genesis, MemoryState(), default_registry())
            trusted = self._config.sync.trusted_header
            self._fetching = StateSync(
                genesis=self._genesis,
                staging=await in_thread(Staging, store, genesis_block(self._genesis), outcome),
                questions=self._questions,
                connected=self._connected,
                fault=self._fault,
                above=lambda: self._executor.store.tip.height,
                needed=lambda: (requested and not hopeless()) or self._needed(),
                chosen=self._pause,
                lost=self._resume,
                trusted=bytes.fromhex(trusted) if trusted else None,
            )
            return await self._fetching.run()
        finally:
            self._fetching = None
            await in_thread(store.close)

    def _give_head_start(self) -> None:
        """Blocks wait a while: who has them is above every snapshot that is held, and would not get what was asked for.
        Should nobody offer one in that time, blocks are better than nothing."""
        self._head_start = self._synchroniser.paused = True
        asyncio.get_running_loop().call_later(HEAD_START_S, self._end_head_start)

    def _end_head_start(self) -> None:
        self._head_start = False
        self._synchroniser.paused = self._chosen

    def _pause(self) -> None:
        self._chosen = self._synchroniser.paused = True

    def _resume(self) -> None:
        """Until another is chosen, blocks are better than nothing: one peer that offers a snapshot and does not give it
        must not keep the node from what all others have."""
        self._chosen = False
        self._synchroniser.paused = self._head_start

    def _needed(self) -> bool:
        section, synchroniser = self._config.sync, self._synchroniser
        if section.mode == "blocks":
            return False
        gap = synchroniser.best_known - self._executor.store.tip.height
        new = asyncio.get_running_loop().time() < self._new_until_s
        return synchroniser.starved or (new and gap > section.snapshot_gap)
