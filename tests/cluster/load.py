"""Honest load on a cluster: what was acknowledged must be there at the end, and when commits go on is measured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from consilium.ledger.errors import Refused
from consilium.node.testing import LocalCluster
from tests.cluster.chains import common_chain

RESUME_S_MAX = float(os.environ.get("CONSILIUM_RESUME_S_MAX", "30"))
"""Commits must go on so soon after a quorum is back. The project promises 5 s; a test on a busy machine asks for less,
and records what it measured. `CONSILIUM_RESUME_S_MAX=5` asks for what is promised."""
COMMIT_TIMEOUT_S = 5.0
POLL_S = 0.02


class Load:
    """Commits by way of some nodes, one after the other at each, until the end of the block."""

    def __init__(self, cluster: LocalCluster, nodes: Sequence[int]) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._tasks: list[asyncio.Task[None]] = []
        self.acknowledged: list[tuple[float, bytes]] = []
        """When (monotonic seconds), and the transaction's id."""

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._commit(index)) for index in self._nodes]
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in ended:
            if isinstance(one, BaseException) and not isinstance(one, asyncio.CancelledError):
                raise one

    async def _commit(self, index: int) -> None:
        while True:
            # A node that is down or has no quorum refuses or does not answer: then nothing was acknowledged.
            with contextlib.suppress(Refused, TimeoutError):
                done = await self._cluster.commit(index, timeout_s=COMMIT_TIMEOUT_S)
                self.acknowledged.append((time.monotonic(), done.id))
            await asyncio.sleep(POLL_S)

    async def more(self, count: int, timeout_s: float = 60.0) -> None:
        """Wait until so many further transactions are acknowledged."""
        reached = len(self.acknowledged) + count
        await until(lambda: len(self.acknowledged) >= reached, timeout_s)

    async def resumed_s(self, since_s: float) -> float:
        """Wait for an acknowledgement after `since_s`; how long after, in seconds."""
        await until(lambda: bool(self.acknowledged) and self.acknowledged[-1][0] >= since_s, RESUME_S_MAX)
        return next(at_s for at_s, _ in self.acknowledged if at_s >= since_s) - since_s

    async def nothing_lost(self, nodes: Sequence[int]) -> None:
        """Every acknowledged transaction is on every one of these nodes, and their chains are the same."""
        last = await self._cluster.commit(nodes[0], timeout_s=60.0)
        await self._cluster.wait_height(last.height, nodes, timeout_s=60.0)
        await common_chain(self._cluster, nodes)
        for index in nodes:
            client = self._cluster.clients[index]
            for _, identifier in self.acknowledged:
                assert (await client.transaction(identifier)).id == identifier


async def stands(cluster: LocalCluster, nodes: Sequence[int], for_s: float) -> None:
    """Nodes that are too few decide nothing for so long, and have the same chain: called when the quorum is gone."""
    before = max([await cluster.height(index) for index in nodes])
    await asyncio.sleep(for_s)
    after = max([await cluster.height(index) for index in nodes])
    # A block that was sealed when the quorum went may still land; for the next one there are too few.
    assert after <= before + 1, f"from height {before} to {after} without a quorum"
    await common_chain(cluster, nodes)


async def until(holds: Callable[[], bool], timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - other processes decide it
            await asyncio.sleep(POLL_S)
