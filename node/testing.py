"""A real cluster for integration tests, here and in other people's projects: real processes, TLS, consensus, disks.

    async with LocalCluster(nodes=4) as cluster:
        session = cluster.session(0, cluster.institution(0))
        await cluster.kill(2)
        await cluster.commit(0)
        await cluster.restart(2)
        await cluster.wait_height(await cluster.height(0), nodes=[2])

Nothing is left behind, whatever happens to the test: the nodes are asked to end, then made to; should this program
itself be killed, they see their standard input close, and go. A node that died by itself fails the test at the end.
`cuttable=True` puts links between the nodes that `cut_off` and `partition` can cut; the cluster's event loop then
carries its traffic. `program` says what runs a node, in place of the product: a liar with the keys of a validator, or
the product in a network namespace. `waits_for` says of which nodes to wait for health: a liar may never have it, so it
is started first, and only has to answer. `places` are where the nodes are, if not on loopback. `observers` are made
beside the founders, and join when `join_observer` starts them. `prepare` may change the folders before any node runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from consilium.client import recording
from consilium.client import wallet as wallets
from consilium.client.rpc import Committed, RpcClient
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import Genesis
from consilium.node import cluster, files, founding, processes, terms
from consilium.node.attached import add_observers
from consilium.node.cluster import START_TIMEOUT_S, NodeFolder
from consilium.node.founding import Place
from consilium.node.links import Network, dial_through
from consilium.node.ports import Reservation
from consilium.node.processes import Child

WAIT_TIMEOUT_S: Final = 30.0
END_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.05
"""Nodes are other processes: how high they are can only be asked."""


class LocalCluster:
    """See the module. `folder` is made (or found empty) and removed at the end unless `keep`; `settings` are further
    keys of every node's configuration, by section; `decided` are settings of the network (`contracts.settings`), by
    name. The last institution is an authority, the last two issue credentials (`terms.local_terms`)."""

    def __init__(
        self,
        nodes: int = 4,
        folder: Path | None = None,
        *,
        keep: bool = False,
        cuttable: bool = False,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        program: Callable[[NodeFolder], Sequence[str]] = lambda node: processes.PROGRAM,
        waits_for: Callable[[NodeFolder], bool] = lambda node: True,
        places: Sequence[Place] | None = None,
        decided: Mapping[str, Any] = terms.NO_CHANGES,
        observers: int = 0,
        observer_settings: Mapping[str, Mapping[str, Any]] | None = None,
        prepare: Callable[[LocalCluster], None] = lambda cluster: None,
    ) -> None:
        if places is not None and (cuttable or settings or len(places) != nodes):
            raise ValueError(
                "places: one of each node, with its settings; links are cut where the places are"
            )
        self.size = nodes
        self.clients: list[RpcClient] = []
        """A client of each node, with its token: `clients[i]`."""
        self.nodes: list[NodeFolder] = []
        self.observers: list[NodeFolder] = []
        """Of those that `observers` asked for, the ones that `join_observer` has not started yet."""
        self._keep = keep
        self._cuttable = cuttable
        self._settings = settings
        self._decided = decided
        self._program = program
        self._waits_for = waits_for
        self._places = places
        self._made = None if folder is not None else Path(tempfile.mkdtemp(prefix="consilium-"))
        self.folder = folder if folder is not None else self._made / "cluster" if self._made else Path()
        self._children: dict[int, Child] = {}
        self._paused: set[int] = set()
        self._died: dict[int, str] = {}
        self._observers = observers
        self._observer_settings = observer_settings
        self._prepare = prepare
        self._reserved: Reservation | None = None
        self._network: Network | None = None
        self._genesis: Genesis | None = None

    async def __aenter__(self) -> LocalCluster:
        try:
            count = 2 * self.size + 2 * self._observers
            self._reserved = Reservation(0 if self._places else count)
            self.nodes = await asyncio.to_thread(
                cluster.create_cluster,
                self.folder,
                self.size,
                settings=self._settings,
                ports=self._reserved.ports,
                places=self._places,
                decided=self._decided,
            )
            self._genesis = cluster.cluster_genesis(self.folder)
            ports = self._reserved.ports[2 * self.size :]
            self.observers = await asyncio.to_thread(
                add_observers, self.folder, self.nodes, ports, self._observer_settings
            )
            await asyncio.to_thread(self._prepare, self)
            if self._cuttable:
                await self._link(self._reserved.ports[: 2 * self.size : 2])
            self._reserved.yield_to_nodes()
            for group in (False, True):
                starting = [node for node in self.nodes if self._waits_for(node) is group]
                for node in starting:
                    self._start(node)
                await self._ready(starting)
            for node in self.nodes:
                client = RpcClient(node.url(), node.token())
                self.clients.append(await client.__aenter__())
        except BaseException as error:
            await self._end(error)
            raise
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._end(error)

    @property
    def genesis(self) -> Genesis:
        """The network's genesis document."""
        if self._genesis is None:
            raise RuntimeError(
                "LocalCluster is an async context manager: `async with LocalCluster() as cluster`"
            )
        return self._genesis

    @property
    def genesis_path(self) -> Path:
        """The genesis document's file, for offline verification."""
        return self.folder / cluster.GENESIS_FILE

    def institution(self, index: int) -> Wallet:
        """The wallet of the institution that runs a node."""
        path = self.nodes[index].path
        passphrase = files.read_secret(path / cluster.PASSPHRASE_FILE)
        return wallets.load(path / founding.WALLET_FILE, passphrase)

    def session(self, index: int, wallet: Wallet | None = None) -> Session:
        """A session with a node, of a wallet or of the node's own institution."""
        return Session(self.clients[index], self.genesis, wallet or self.institution(index))

    def log(self, index: int, lines: int = processes.LOG_TAIL_LINES) -> str:
        """The last lines that a node logged."""
        return processes.log_tail(self.nodes[index].path, lines)

    def pid(self, index: int) -> int | None:
        """The number of a node's process, while it runs."""
        child = self._children.get(index)
        return child.process.pid if child is not None and child.process.poll() is None else None

    # --- what happens to nodes --------------------------------------------------------------------------------------

    async def kill(self, index: int) -> None:
        """End a node at once (SIGKILL), as a power cut would end it; what it wrote to the system stays written."""
        child = self._children.pop(index)
        self._paused.discard(index)
        self._note_death(index, child)
        child.mark.send(signal.SIGKILL)
        await asyncio.to_thread(child.wait, END_TIMEOUT_S)
        processes.forget(self.nodes[index].path)

    async def stop_node(self, index: int) -> None:
        """Ask a node to end (SIGTERM), and wait until it has. Raises TimeoutError where it does not."""
        child = self._children.pop(index)
        await self.resume(index)
        self._note_death(index, child)
        child.mark.send(signal.SIGTERM)
        try:
            await asyncio.to_thread(child.wait, END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._children[index] = child
            raise TimeoutError(f"node-{index} did not stop within {END_TIMEOUT_S:g} s") from None
        processes.forget(self.nodes[index].path)

    async def pause(self, index: int) -> None:
        """Freeze a node (SIGSTOP): it holds its connections and answers nothing."""
        self._children[index].mark.send(signal.SIGSTOP)
        self._paused.add(index)

    async def resume(self, index: int) -> None:
        """Let a frozen node go on."""
        if index in self._paused:
            self._paused.discard(index)
            child = self._children.get(index)
            if child is not None:
                child.mark.send(signal.SIGCONT)

    async def restart(self, index: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start a node that was ended, or end it and start it, on its folder as it is; wait until it is healthy."""
        if index in self._children:
            await self.stop_node(index)
        self._start(self.nodes[index])
        await self._ready([self.nodes[index]], timeout_s)

    async def join_observer(self, timeout_s: float = START_TIMEOUT_S) -> int:
        """Start the next observer, and wait until it is healthy. Returns its index."""
        node = self.observers.pop(0)
        self.nodes.append(node)
        self._start(node)
        await self._ready([node], timeout_s)
        client = RpcClient(node.url(), node.token())
        self.clients.append(await client.__aenter__())
        return node.index

    def cut_off(self, *indexes: int) -> None:
        """Cut these nodes off from every other node; their RPC still answers. The rest reach each other."""
        rest = [index for index in range(self.size) if index not in indexes]
        self.partition(rest)

    def partition(self, *groups: Iterable[int]) -> None:
        """Let nodes of one group reach each other and nobody else; a node in no group is alone."""
        if self._network is None:
            raise RuntimeError("only a LocalCluster(cuttable=True) has links that can be cut")
        self._network.partition(*groups)

    def heal(self) -> None:
        """Let everybody reach everybody again."""
        if self._network is not None:
            self._network.heal()

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def height(self, index: int) -> int:
        """The height of a node's tip."""
        return int((await self.clients[index].status())["height"])

    async def wait_height(
        self, height: int, nodes: Sequence[int] | None = None, timeout_s: float = WAIT_TIMEOUT_S
    ) -> None:
        """Wait until the nodes (default: all that run and are not paused) have reached a height.

        Raises TimeoutError, which says how far each came.
        """
        waiting = list(nodes) if nodes is not None else self._awake()
        reached: dict[int, int] = {}
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(self._climb(index, height, reached) for index in waiting))
        except TimeoutError:
            came = ", ".join(f"node-{index} {reached.get(index, 'unknown')}" for index in waiting)
            raise TimeoutError(f"height {height} was not reached in {timeout_s:g} s: {came}") from None

    async def wait_progress(
        self, blocks: int = 1, nodes: Sequence[int] | None = None, timeout_s: float = WAIT_TIMEOUT_S
    ) -> None:
        """Wait until the nodes are `blocks` higher than the highest of them is now. An idle chain grows by its
        heartbeats only: `commit` makes it grow at once."""
        waiting = list(nodes) if nodes is not None else self._awake()
        top = max([await self.height(index) for index in waiting])
        await self.wait_height(top + blocks, waiting, timeout_s)

    async def commit(self, index: int = 0, timeout_s: float = WAIT_TIMEOUT_S) -> Committed:
        """Commit a harmless transaction by way of a node: its institution enrols an application that nobody uses.

        Raises TimeoutError where it is not committed in time.
        """
        newcomer = Wallet.create("application", "application")
        session = self.session(index)
        async with asyncio.timeout(timeout_s):
            return await session.submit([recording.enrolment(session, "application", newcomer)])

    # --- within -----------------------------------------------------------------------------------------------------

    async def _link(self, p2p_ports: Sequence[int]) -> None:
        """Let every node dial the others by way of links."""
        self._network = Network(p2p_ports)
        await self._network.start()
        dial_through(self.nodes, self._network.ports)

    def _start(self, node: NodeFolder) -> None:
        cluster.forget_ports(node.config())
        program = self._program(node)
        self._children[node.index] = processes.start_node(node.path, owned=True, program=program)

    async def _ready(self, nodes: Sequence[NodeFolder], timeout_s: float = START_TIMEOUT_S) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(self._wait(node) for node in nodes))
        except TimeoutError:
            tails = "\n".join(f"{node.name}:\n{self.log(node.index)}" for node in nodes)
            raise TimeoutError(f"not healthy after {timeout_s:g} s\n{tails}") from None

    async def _wait(self, node: NodeFolder) -> None:
        mark = self._children[node.index].mark
        await cluster.wait_healthy(node, mark, only_answering=not self._waits_for(node))

    async def _climb(self, index: int, height: int, reached: dict[int, int]) -> None:
        while reached.get(index, -1) < height:
            with contextlib.suppress(Refused):
                reached[index] = await self.height(index)
            await asyncio.sleep(POLL_S)

    def _awake(self) -> list[int]:
        return [index for index in sorted(self._children) if index not in self._paused]

    def _note_death(self, index: int, child: Child) -> None:
        status = child.process.poll()
        if status is not None:
            self._died[index] = f"node-{index} ended by itself with status {status}:\n{self.log(index)}"

    async def _end(self, failure: BaseException | None) -> None:
        for index, child in self._children.items():
            self._note_death(index, child)
        try:
            for client in self.clients:
                await client.__aexit__(None, None, None)
            await asyncio.shield(asyncio.to_thread(self._end_processes, END_TIMEOUT_S))
        finally:
            # Again, for the case that the wait was cancelled: then at once.
            self._end_processes(0.0)
            if self._network is not None:
                self._network.stop()
            if self._reserved is not None:
                self._reserved.release()
            if not self._keep:
                shutil.rmtree(self._made or self.folder, ignore_errors=True)
        if self._died:
            told = "\n".join(self._died.values())
            if failure is None:
                raise RuntimeError(told)
            failure.add_note(told)

    def _end_processes(self, timeout_s: float) -> None:
        children = list(self._children.values())
        for child in children:
            child.mark.send(signal.SIGCONT)
            child.mark.send(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        for child in children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.mark.send(signal.SIGKILL)
                child.wait(END_TIMEOUT_S)
