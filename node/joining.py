"""A candidate's way in: once the institutions have accepted its key and it follows the chain, it says that it is ready.

docs/contracts.md, "governance.ready".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from consilium.contracts import ballot
from consilium.contracts.registry import operation
from consilium.ledger.crypto import SigningKey
from consilium.ledger.transaction import Operation
from consilium.node.clerk import Clerk
from consilium.node.executor import Executor

PAUSE_S: Final = 1.0

_log = structlog.get_logger("consilium.joining")


class Joining:
    """See the module. `look` when a candidate may have been accepted; `run` is a task of the node."""

    def __init__(
        self, key: SigningKey, clerk: Clerk, executor: Executor, follows: Callable[[], bool]
    ) -> None:
        self._key = key
        self._clerk = clerk
        self._executor = executor
        self._follows = follows
        self._wake = asyncio.Event()
        self._wake.set()

    def look(self) -> None:
        """Something about candidates was decided."""
        self._wake.set()

    async def run(self) -> None:
        """Say *ready* for as long as this node is a candidate, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while await asyncio.to_thread(self._is_candidate):
                if self._follows():
                    _log.info(
                        "joining.ready", code=await self._clerk.say(await asyncio.to_thread(self._ready))
                    )
                await asyncio.sleep(PAUSE_S)

    def _is_candidate(self) -> bool:
        tip_ms = self._executor.store.tip.time_ms
        return any(
            one.key == self._key.public
            and one.institution == self._clerk.institution
            and tip_ms < one.expires_ms
            for one in ballot.candidates(self._executor.store.state)
        )

    def _ready(self) -> Operation:
        tip = self._executor.store.tip
        digest = ballot.ready_digest(
            chain_id=self._executor.context.chain_id,
            key=self._key.public,
            institution=self._clerk.institution,
            height=tip.height,
            block_hash=tip.block_hash,
        )
        body = ballot.Ready(self._key.public, tip.height, tip.block_hash, self._key.sign(digest))
        return operation("governance.ready", body)
