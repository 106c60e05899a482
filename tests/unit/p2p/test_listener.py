"""What strangers and clumsy members cost: little, and not for long."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from functools import partial
from typing import Any

import aiohttp
import pytest
import structlog.testing

from consilium.ledger.errors import PeerFault
from consilium.p2p.frame import Lane
from consilium.p2p.policy import MeshPolicy

PATIENCE_S = 20.0


async def end_of(reader: asyncio.StreamReader) -> None:
    """Read until the other side ends the connection."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            while await reader.read(1_024):
                pass
        except ConnectionError:
            return


async def test_who_never_speaks_is_closed(net: Any, fast: MeshPolicy) -> None:
    node = await net.node(1, policy=replace(fast, handshake_timeout_s=0.3))
    reader, writer = await asyncio.open_connection(node.address.host, node.address.port)
    await end_of(reader)
    writer.close()
    assert node.mesh.metrics.handshake_failures == 1


async def test_strangers_do_not_fill_the_log(net: Any, fast: MeshPolicy) -> None:
    node = await net.node(1, policy=fast)
    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            reader, writer = await asyncio.open_connection(node.address.host, node.address.port)
            writer.write(b"no TLS at all\n" * 10)
            await end_of(reader)
            writer.close()
        while node.mesh.metrics.handshake_failures < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    said = [line for line in lines if line["event"] == "p2p.handshake_failed"]
    assert [line["unsaid"] for line in said] == [0]


async def test_a_member_who_never_says_hello_is_closed(net: Any, fast: MeshPolicy) -> None:
    node = await net.node(1, policy=replace(fast, handshake_timeout_s=0.3))
    rogue = net.rogue(2)
    node.mesh.set_members({rogue.key: None})
    reader, writer = await tls_connection(rogue, node)
    await end_of(reader)
    writer.close()
    assert node.mesh.metrics.handshake_failures == 1
    assert node.mesh.metrics.connects == 0


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        b"\x00\x01\x02 not http\r\n\r\n",
        b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["no upgrade", "post", "no http", "long line"],
)
async def test_a_member_who_speaks_no_websocket_is_closed(
    net: Any, fast: MeshPolicy, request_: bytes
) -> None:
    node = await net.node(1, policy=replace(fast, handshake_timeout_s=0.5))
    rogue = net.rogue(2)
    node.mesh.set_members({rogue.key: None})
    reader, writer = await tls_connection(rogue, node)
    writer.write(request_)
    await end_of(reader)
    writer.close()
    await net.eventually(lambda: node.mesh.metrics.handshake_failures == 1)
    assert node.mesh.metrics.connects == 0


@pytest.mark.parametrize("raw", [b"", b"no hello", bytes(70_000)])
async def test_a_hello_that_is_none_is_a_fault(net: Any, raw: bytes) -> None:
    node = await net.node(1)
    rogue = net.rogue(2)
    node.mesh.set_members({rogue.key: None})
    socket = await rogue.dialer._connect(node.address, rogue.credentials.client_context(node.key))
    await socket.send_bytes(raw)
    await node.until(lambda: node.mesh.metrics.faults == 1)
    await socket.close()


@pytest.mark.parametrize(
    "policy",
    [MeshPolicy(handshakes_max=3), MeshPolicy(handshakes_per_host_max=3)],
    ids=["in all", "per host"],
)
async def test_unfinished_handshakes_are_bounded_and_keep_nobody_out(net: Any, policy: MeshPolicy) -> None:
    node = await net.node(1, policy=replace(policy, handshake_timeout_s=600.0))
    rogue = net.rogue(2)
    node.mesh.set_members({rogue.key: None})
    streams = [await asyncio.open_connection(node.address.host, node.address.port) for _ in range(5)]
    ends = [asyncio.create_task(end_of(reader)) for reader, _ in streams]
    await net.eventually(lambda: node.mesh.metrics.handshakes_displaced == 2)
    await net.eventually(lambda: sum(end.done() for end in ends) == 2)
    # all places are held by callers that say nothing for ten minutes
    assert await rogue.dial(node, Lane.VOTES) is not None
    await net.eventually(lambda: sum(end.done() for end in ends) == 3)
    assert await rogue.dial(node, Lane.BULK) is not None
    await node.until(lambda: node.knows(frozenset({rogue.key})))
    assert node.mesh.metrics.handshakes_refused == 0
    # a place that was given back is nobody's loss
    for _, writer in streams:
        writer.close()
    await asyncio.wait(ends, timeout=PATIENCE_S)
    await net.eventually(lambda: node.mesh.metrics.handshake_failures >= 1)


async def test_a_member_that_tls_has_shown_loses_its_place_to_nobody(net: Any, fast: MeshPolicy) -> None:
    node = await net.node(1, policy=replace(fast, handshake_timeout_s=600.0, handshakes_max=1))
    rogue = net.rogue(2)
    node.mesh.set_members({rogue.key: None})
    reader, writer = await tls_connection(rogue, node)
    member = asyncio.create_task(end_of(reader))
    await net.eventually(lambda: node.mesh._listener._handshakes[rogue.key] == 1)
    streams = [await asyncio.open_connection(node.address.host, node.address.port) for _ in range(8)]
    await net.eventually(lambda: node.mesh.metrics.handshakes_displaced >= 7)
    ends = [asyncio.create_task(end_of(reader)) for reader, _ in streams]
    await net.eventually(lambda: sum(end.done() for end in ends) == 7)
    assert not member.done()
    assert node.mesh.metrics.handshakes_displaced == 7
    for _, stream in [*streams, (reader, writer)]:
        stream.close()
    await asyncio.wait([*ends, member], timeout=PATIENCE_S)


async def test_one_member_cannot_hold_every_place(net: Any, fast: MeshPolicy) -> None:
    node = await net.node(1, policy=replace(fast, handshake_timeout_s=5.0, handshakes_per_peer_max=2))
    rogue = net.rogue(2)
    node.mesh.set_members({rogue.key: None})
    streams = [await tls_connection(rogue, node) for _ in range(4)]
    await net.eventually(lambda: node.mesh.metrics.handshakes_refused == 2)
    for _, writer in streams:
        writer.close()


async def tls_connection(rogue: Any, node: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context: ssl.SSLContext = rogue.credentials.client_context(node.key)
    return await asyncio.open_connection(
        node.address.host, node.address.port, ssl=context, server_hostname=""
    )


async def test_a_member_gets_its_places_back(net: Any, fast: MeshPolicy) -> None:
    node = await net.node(1, policy=replace(fast, handshakes_per_peer_max=2))
    rogue = net.rogue(2)
    node.mesh.set_members({rogue.key: None})
    for count in range(1, 4):
        _, writer = await tls_connection(rogue, node)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await net.eventually(partial(failures_are, node, count))
        writer.close()
    node.mesh.set_members({})
    node.mesh.set_members({rogue.key: None})  # with a clean record
    assert await rogue.dial(node, Lane.VOTES) is not None


async def test_a_banned_member_is_not_even_given_a_websocket(net: Any, fast: MeshPolicy) -> None:
    node = await net.node(1, policy=replace(fast, ban_first_s=600.0))
    rogue = net.rogue(2)
    node.mesh.set_members({rogue.key: None})
    node.mesh.fault(rogue.key, PeerFault("nonsense", 100))
    with pytest.raises((aiohttp.ClientError, OSError)):
        await rogue.dialer._connect(node.address, rogue.credentials.client_context(node.key))
    assert node.mesh.metrics.handshakes_refused >= 1  # aiohttp tries a GET twice
    assert node.mesh.metrics.faults == 1


def failures_are(node: Any, count: int) -> bool:
    return bool(node.mesh.metrics.handshake_failures == count)
