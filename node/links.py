"""TCP links that can be cut, between the nodes of a test cluster, so that the product needs no switch for it.

Each directed pair of nodes gets a listening socket; what connects there is forwarded to the target, byte for byte.
A cut link resets what it carries and accepts nothing, as a cable that was pulled and a firewall that answers.
A delayed one carries everything a while later, in order. Memory is bounded: a side that does not read stops the other
side.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from consilium.node.cluster import NodeFolder
from consilium.node.config import write_peers
from consilium.node.config_sections import Peer
from consilium.node.ports import LOOPBACK

CONNECT_TIMEOUT_S: Final = 2.0
LINK_BUFFER_BYTES: Final = 256 * 1024
LATE_BYTES_MAX: Final = 16 * 1024 * 1024
"""So many bytes are under way on a delayed link, each way."""


class _End(asyncio.Protocol):
    """One end of a forwarded connection; `other` is where its bytes go."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self._late: deque[tuple[float, bytes]] = deque()
        """What is under way to the other end, and when it arrives."""
        self._late_bytes = 0
        self._blocked = False
        self._arrival: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a link carries streams")
        self.transport = transport
        transport.set_write_buffer_limits(high=LINK_BUFFER_BYTES)
        self._link.adopt(self)

    def data_received(self, data: bytes) -> None:
        if self._link.delay_s <= 0 and not self._late:
            self._hand_over(data)
            return
        self._late.append((asyncio.get_running_loop().time() + self._link.delay_s, data))
        self._late_bytes += len(data)
        if self._late_bytes > LATE_BYTES_MAX:
            self.read(blocked=self._blocked)
        if self._arrival is None:
            self._await_arrival()

    def _await_arrival(self) -> None:
        self._arrival = asyncio.get_running_loop().call_at(self._late[0][0], self._arrive)

    def _arrive(self) -> None:
        self._arrival = None
        now_s, full = asyncio.get_running_loop().time(), self._late_bytes > LATE_BYTES_MAX
        while self._late and self._late[0][0] <= now_s:
            _, data = self._late.popleft()
            self._late_bytes -= len(data)
            self._hand_over(data)
        if self._late:
            self._await_arrival()
        if full:
            self.read(blocked=self._blocked)

    def _hand_over(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.read(blocked=True)

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.read(blocked=False)

    def read(self, *, blocked: bool) -> None:
        """Read on, unless what was read before is held up: by who does not take it (`blocked`), or under way."""
        self._blocked = blocked
        if self.transport is None:
            return
        if blocked or self._late_bytes > LATE_BYTES_MAX:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._link.lose(self)
        if self._arrival is not None:
            self._arrival.cancel()
        if self.other is not None:
            self.other.end()

    def end(self) -> None:
        """Hang up at once."""
        if self.transport is not None:
            self.transport.abort()


class Link:
    """The way from one node to another. `start` gives the port to dial in place of the target's."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._ends: set[_End] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self.is_cut = False
        self.delay_s = 0.0
        """How long bytes are under way, each way. Those that are keep their time when it changes."""

    async def start(self) -> int:
        """Listen, and return the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Accepted(self), LOOPBACK, 0)
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Carry nothing any more."""
        self.is_cut = True
        self._hang_up()

    def heal(self) -> None:
        """Carry again what is dialled from now on."""
        self.is_cut = False

    def stop(self) -> None:
        """End it for good."""
        self.cut()
        if self._server is not None:
            self._server.close()
            self._server = None

    def adopt(self, end: _End) -> None:
        """A new end belongs to this link."""
        self._ends.add(end)

    def lose(self, end: _End) -> None:
        """An end is closed."""
        self._ends.discard(end)

    def forward(self, accepted: _End) -> None:
        """Connect an accepted end with the target."""
        task = asyncio.get_running_loop().create_task(self._forward(accepted))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _forward(self, accepted: _End) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, dialled = await loop.create_connection(lambda: _End(self), LOOPBACK, self._target_port)
        except OSError:  # also what the timeout raises
            accepted.end()
            return
        transport = accepted.transport
        if self.is_cut or transport is None or transport.is_closing():
            accepted.end()
            dialled.end()
            return
        accepted.other, dialled.other = dialled, accepted
        transport.resume_reading()

    def _hang_up(self) -> None:
        for task in list(self._dials):
            task.cancel()
        for end in list(self._ends):
            end.end()


class _Accepted(_End):
    """The end that a node dialled; it is not read from until the target is connected."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._link.is_cut:
            self.end()
            return
        if self.transport is not None:
            self.transport.pause_reading()
        self._link.forward(self)


class Network:
    """The links of every pair of nodes. `ports[i][j]` is where node i dials node j."""

    def __init__(self, p2p_ports: Iterable[int]) -> None:
        targets = tuple(p2p_ports)
        self.size = len(targets)
        self._links = {
            (source, target): Link(port)
            for target, port in enumerate(targets)
            for source in range(self.size)
            if source != target
        }
        self.ports: dict[tuple[int, int], int] = {}

    async def start(self) -> None:
        """Listen for every pair."""
        for pair, link in self._links.items():
            self.ports[pair] = await link.start()

    def partition(self, *groups: Iterable[int]) -> None:
        """Let nodes of one group reach each other and nobody else; a node in no group is alone."""
        place = {node: number for number, group in enumerate(groups) for node in group}
        for (source, target), link in self._links.items():
            if place.get(source, -1 - source) == place.get(target, -1 - target):
                link.heal()
            else:
                link.cut()

    def delay(self, one_way_s: float) -> None:
        """From now on everything is under way for so long."""
        for link in self._links.values():
            link.delay_s = one_way_s

    def heal(self) -> None:
        """Everybody reaches everybody."""
        for link in self._links.values():
            link.heal()

    def stop(self) -> None:
        """End every link."""
        for link in self._links.values():
            link.stop()


def dial_through(nodes: Sequence[NodeFolder], ports: Mapping[tuple[int, int], int]) -> None:
    """Have each node dial the others at `ports[its index, theirs]`. Nodes read it when they start."""
    cards = [node.card() for node in nodes]
    for node in nodes:
        peers = [
            Peer(key=card.node_key, address=f"{LOOPBACK}:{ports[node.index, target]}", name=card.name)
            for target, card in enumerate(cards)
            if target != node.index
        ]
        write_peers(node.config().peers_path, peers)
