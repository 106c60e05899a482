"""Links carry bytes both ways, break at once when they are cut, and hold no memory for who does not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from consilium.node import links
from consilium.node.links import LINK_BUFFER_BYTES, Link, Network
from consilium.node.ports import LOOPBACK, Reservation

TIMEOUT_S = 10.0


class Echo:
    """A server that sends back what it gets, until it is told to read no more."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.reading.set()
        self.connections = 0
        self.received = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                await self.reading.wait()
                raw = await reader.read(65_536)
                if not raw:
                    break
                self.received += len(raw)
                writer.write(raw)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, int]]:
    made = Echo()
    server = await asyncio.start_server(made.serve, LOOPBACK, 0)
    async with server:
        yield made, server.sockets[0].getsockname()[1]


async def test_bytes_go_both_ways_and_a_cut_ends_them(echo: tuple[Echo, int]) -> None:
    link = Link(echo[1])
    port = await link.start()
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(b"x" * 100_000)
        assert await reader.readexactly(100_000) == b"x" * 100_000
        link.cut()
        assert await _ends(reader)
        writer.close()

        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        assert await _ends(reader)
        writer.close()
        assert echo[0].connections == 1

        link.heal()
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(b"again")
        assert await reader.readexactly(5) == b"again"
        writer.close()
    link.stop()


async def test_a_target_that_does_not_listen_is_a_closed_connection() -> None:
    with Reservation(1) as reserved:
        link = Link(reserved.ports[0])
        port = await link.start()
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            assert await _ends(reader)
            writer.close()
        link.stop()


async def test_who_does_not_read_holds_back_who_writes(echo: tuple[Echo, int]) -> None:
    echo[0].reading.clear()
    link = Link(echo[1])
    port = await link.start()
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        total = 64 * LINK_BUFFER_BYTES
        writer.write(b"y" * total)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await writer.drain()
        buffered = sum(end.transport.get_write_buffer_size() for end in link._ends if end.transport)
        assert buffered <= 2 * LINK_BUFFER_BYTES
        echo[0].reading.set()
        assert len(await reader.readexactly(total)) == total
        writer.close()
    link.stop()


async def test_a_delayed_link_carries_everything_later_and_in_order(echo: tuple[Echo, int]) -> None:
    link, loop = Link(echo[1]), asyncio.get_running_loop()
    link.delay_s = 0.05
    port = await link.start()
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        sent = bytes(range(256)) * 2_000
        begun_s = loop.time()
        for at in range(0, len(sent), 32_000):
            writer.write(sent[at : at + 32_000])
        assert await reader.readexactly(len(sent)) == sent
        assert loop.time() - begun_s >= 2 * link.delay_s
        writer.write(b"late")
        await asyncio.sleep(0.01)
        link.delay_s = 0.0  # what comes after does not overtake what is under way
        writer.write(b"soon")
        assert await reader.readexactly(8) == b"latesoon"
        writer.close()
    link.stop()


async def test_what_is_under_way_is_bounded(echo: tuple[Echo, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "LATE_BYTES_MAX", 100_000)
    link = Link(echo[1])
    link.delay_s = 0.02
    port = await link.start()
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        total, most = 2_000_000, 0
        writer.write(b"z" * total)
        received = 0
        while received < total:
            received += len(await reader.read(65_536))
            most = max(most, *(end._late_bytes for end in link._ends))
        assert 100_000 < most < 100_000 + 2 * 262_144  # what one read of a socket brings comes on top
        writer.close()
    link.stop()


async def test_a_partition_parts_the_groups() -> None:
    network = Network([1, 2, 3, 4])
    await network.start()
    assert len(network.ports) == 12
    network.partition([0, 1], [2])
    cut = {pair for pair, link in network._links.items() if link.is_cut}
    assert cut == set(network._links) - {(0, 1), (1, 0)}
    network.heal()
    network.delay(0.5)
    assert {link.delay_s for link in network._links.values()} == {0.5}
    assert not any(link.is_cut for link in network._links.values())
    network.stop()


async def _ends(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True
