"""The relay of the benchmark: nodes dial through it, it carries as late as it is told, and ends with who started it."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.node.config import read_peers
from consilium.node.ports import LOOPBACK
from scripts.benchmark.relay import Relay

TIMEOUT_S = 60.0
NODES = 2


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say which port this is, then send back what comes."""
    writer.write(int(writer.get_extra_info("sockname")[1]).to_bytes(2, "big"))
    try:
        while raw := await reader.read(1_024):
            writer.write(raw)
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Any]:
    """As much of a cluster as the relay looks at; where nodes listen for each other there is an echo."""
    servers = [await asyncio.start_server(serve, LOOPBACK, 0) for _ in range(NODES)]
    yield SimpleNamespace(nodes=[node(index, server, tmp_path) for index, server in enumerate(servers)])
    for server in servers:
        server.close()


def node(index: int, server: asyncio.Server, folder: Path) -> Any:
    port = server.sockets[0].getsockname()[1]
    config = SimpleNamespace(p2p=SimpleNamespace(port=port), peers_path=folder / f"peers-{index}.toml")
    card = SimpleNamespace(node_key=bytes([index + 1]) * 32, name=f"node-{index}")
    return SimpleNamespace(index=index, config=lambda: config, card=lambda: card)


async def test_nodes_dial_through_the_relay_which_carries_as_late_as_it_is_told(cluster: Any) -> None:
    relay = Relay()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.to_thread(relay.prepare, cluster)
            for one, other in ((0, 1), (1, 0)):
                (peer,) = read_peers(cluster.nodes[one].config().peers_path)
                target = cluster.nodes[other].config().p2p.port
                assert peer.name == f"node-{other}"
                host, port = peer.address.rsplit(":", 1)
                assert (host, int(port) != target) == (LOOPBACK, True)
                reader, writer = await asyncio.open_connection(host, int(port))
                assert int.from_bytes(await reader.readexactly(2), "big") == target
                await asyncio.to_thread(relay.set_delay, 50.0)
                began_s = time.perf_counter()
                writer.write(b"there and back")
                assert await reader.readexactly(14) == b"there and back"
                assert time.perf_counter() - began_s >= 0.1
                await asyncio.to_thread(relay.set_delay, 0.0)
                writer.close()
    finally:
        await asyncio.to_thread(relay.close)
    assert process_of(relay).returncode == 0


async def test_who_asks_a_relay_that_does_not_run_is_told(cluster: Any) -> None:
    relay = Relay()
    relay.close()  # before it was started: nothing to end
    with pytest.raises(RuntimeError, match="does not run"):
        relay.set_delay(1.0)
    await asyncio.to_thread(relay.prepare, cluster)
    process_of(relay).kill()
    process_of(relay).wait()
    with pytest.raises((RuntimeError, BrokenPipeError)):
        await asyncio.to_thread(relay.set_delay, 1.0)
    relay.close()


def process_of(relay: Relay) -> subprocess.Popen[str]:
    return cast("subprocess.Popen[str]", relay._process)
