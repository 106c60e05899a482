"""The nodes of a run: a LocalCluster whose members can be run by the product or by the runner, and struck."""

from __future__ import annotations

import asyncio
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import msgspec

from consilium.ledger.errors import Refused
from consilium.node import cluster as clusters
from consilium.node import processes
from consilium.node.processes import ProcessMark
from consilium.node.testing import LocalCluster
from scripts.crash_matrix.runner import fork_node
from scripts.crash_matrix.strike import STRIKE_FILE, Strike

START_TIMEOUT_S: Final = 900.0
"""A node whose store was lost starts with a whole chain to fetch, on a machine that is busy with its peers."""
END_TIMEOUT_S: Final = 15.0


class Fleet:
    """Starts, strikes and waits for nodes. `cluster` has started all of them as the product does."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self._run: dict[int, tuple[BaseProcess, ProcessMark]] = {}
        self._down: set[int] = set()

    def up(self) -> list[int]:
        """Which nodes are meant to run."""
        return [index for index in range(self.cluster.size) if index not in self._down]

    def strikable(self, index: int) -> bool:
        """Whether the runner runs this node, so that a strike can be armed."""
        return index in self._run

    def folder(self, index: int) -> Path:
        """A node's folder."""
        return self.cluster.nodes[index].path

    def log_since(self, index: int, offset: int) -> str:
        """What a node wrote after an offset."""
        with (self.folder(index) / processes.LOG_FILE).open("rb") as file:
            file.seek(offset)
            return file.read().decode("utf-8", "replace")

    def log_size(self, index: int) -> int:
        """Where the log ends now."""
        return (self.folder(index) / processes.LOG_FILE).stat().st_size

    async def kill(self, index: int) -> None:
        """SIGKILL, and wait until the process is gone."""
        self._down.add(index)
        if index not in self._run:
            await self.cluster.kill(index)
            return
        process, _ = self._run.pop(index)
        await self._reap(index, process)

    async def arm(self, index: int, strike: Strike) -> None:
        """Let a node that the runner runs be struck."""
        (self.folder(index) / STRIKE_FILE).write_bytes(msgspec.json.encode(strike))
        self._run[index][1].send(signal.SIGUSR1)

    async def wait_death(self, index: int, timeout_s: float) -> int | None:
        """The exit status of a struck node, negative for a signal; None where it still lives after the time."""
        process, _ = self._run[index]
        await asyncio.to_thread(process.join, timeout_s)
        if process.exitcode is None:
            return None
        self._down.add(index)
        del self._run[index]
        await self._reap(index, process)
        return process.exitcode

    async def start_product(self, index: int) -> None:
        """Start a node as `consilium node start` does; wait until it is healthy."""
        await self.cluster.restart(index, START_TIMEOUT_S)
        self._down.discard(index)

    def launch(self, index: int, strike: Strike | None = None) -> None:
        """Start a node by the runner, armed from the beginning where a strike is given."""
        node = self.cluster.nodes[index]
        clusters.forget_ports(node.config())
        if strike is not None:
            (node.path / STRIKE_FILE).write_bytes(msgspec.json.encode(strike))
        process = fork_node(node.path, armed=strike is not None)
        self._run[index] = process, processes.mark_of(process.pid or 0)

    async def healthy(self, index: int) -> None:
        """Wait until a launched node serves. Raises Refused `cluster.node_died`, TimeoutError."""
        async with asyncio.timeout(START_TIMEOUT_S):
            await clusters.wait_healthy(self.cluster.nodes[index], self._run[index][1])
        self._down.discard(index)

    async def stop(self, index: int) -> None:
        """End a launched node as an operator does."""
        self._down.add(index)
        process, _ = self._run.pop(index)
        process.terminate()
        await asyncio.to_thread(process.join, END_TIMEOUT_S)
        await self._reap(index, process)

    async def end(self) -> None:
        """End everything that the runner runs."""
        for index in list(self._run):
            await self.stop(index)

    async def head(self) -> int:
        """The highest tip among the nodes that run and answer."""
        heights = await asyncio.gather(*(self._height(index) for index in self.up()))
        return max(heights, default=0)

    async def _height(self, index: int) -> int:
        try:
            return await self.cluster.height(index)
        except Refused:
            return 0

    async def _reap(self, index: int, process: BaseProcess) -> None:
        if process.exitcode is None:
            process.kill()
            await asyncio.to_thread(process.join, END_TIMEOUT_S)
        processes.forget(self.folder(index))
