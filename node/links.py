"""TCP links that can be cut, between the nodes of a test cluster, so that the product needs no switch for it.

Each directed pair of nodes gets a listening socket; what connects there is forwarded to the target, byte for byte.
A cut link resets what it carries and accepts nothing, as a cable that was pulled and a firewall that answers.
Memory is bounded: a side that does not read stops the other side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from consilium.node.ports import LOOPBACK

CONNECT_TIMEOUT_S: Final = 2.0
LINK_BUFFER_BYTES: Final = 256 * 1024


class _End(asyncio.Protocol):
    """One end of a forwarded connection; `other` is where its bytes go."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a link carries streams")
        self.transport = transport
        transport.set_write_buffer_limits(high=LINK_BUFFER_BYTES)
        self._link.adopt(self)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._link.lose(self)
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

    def heal(self) -> None:
        """Everybody reaches everybody."""
        for link in self._links.values():
            link.heal()

    def stop(self) -> None:
        """End every link."""
        for link in self._links.values():
            link.stop()
