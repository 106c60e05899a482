from __future__ import annotations

import asyncio
import base64
import json
import os
import socket as sockets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from consilium.ledger.errors import Refused
from consilium.node import subscriptions
from tests.unit.node.fake_node import FakeNode, Running, event_at, served, until


@asynccontextmanager
async def opened(
    node: FakeNode, **section: Any
) -> AsyncIterator[tuple[Running, aiohttp.ClientWebSocketResponse]]:
    async with (
        served(node, **section) as running,
        aiohttp.ClientSession() as http,
        http.ws_connect(running.url) as socket,
    ):
        yield running, socket


async def call(socket: aiohttp.ClientWebSocketResponse, method: str, **params: Any) -> Any:
    await socket.send_json({"jsonrpc": "2.0", "method": method, "params": params, "id": method})
    answer = await socket.receive_json()
    assert answer["id"] == method
    return answer


async def cursors(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[str]:
    found = []
    for _ in range(count):
        notice = await socket.receive_json()
        assert notice["method"] == "events.event"
        assert "id" not in notice
        found.append(notice["params"]["cursor"])
    return found


async def test_the_past_first_then_what_comes() -> None:
    node = FakeNode(events_log=[event_at(1, 0), event_at(1, 1), event_at(2, 0)])
    async with opened(node) as (running, socket):
        answer = await call(socket, "events.subscribe")
        assert answer["result"] == {"subscription": "1", "after": "-1.-1"}
        assert await cursors(socket, 3) == ["1.0", "1.1", "2.0"]
        node.commit(event_at(3, 0))
        assert await cursors(socket, 1) == ["3.0"]
        assert running.metrics.value("consilium_rpc_subscriptions") == 1


async def test_the_answer_leaves_before_the_first_event_even_in_a_batch() -> None:
    node = FakeNode(events_log=[event_at(1, 0)])
    async with opened(node) as (_, socket):
        one = {"jsonrpc": "2.0", "method": "events.subscribe", "id": 1}
        slow = {"jsonrpc": "2.0", "method": "rpc.discover", "id": 2}
        await socket.send_json([one, slow, {**one, "id": 3}])
        answers = await socket.receive_json()
        assert [one["id"] for one in answers] == [1, 2, 3]
        assert await cursors(socket, 2) == ["1.0", "1.0"]


async def test_after_kinds_and_subject_select() -> None:
    node = FakeNode(
        events_log=[event_at(1, 0, "a"), event_at(1, 1, "b"), event_at(2, 0, "a"), event_at(2, 1, "b")]
    )
    async with opened(node) as (_, socket):
        await call(socket, "events.subscribe", after="1.0", kinds=["b"], subject="02" * 16)
        assert await cursors(socket, 1) == ["2.1"]
        assert node.subscribed[0][1:] == (frozenset({"b"}), bytes([2]) * 16)


async def test_now_means_after_the_newest_block() -> None:
    node = FakeNode(events_log=[event_at(1, 0), event_at(4, 3)])
    async with opened(node) as (_, socket):
        after = (await call(socket, "events.subscribe", after="now"))["result"]["after"]
        assert after == "4.2147483647"
        node.commit(event_at(5, 0))
        assert await cursors(socket, 1) == ["5.0"]


async def test_after_unsubscribe_nothing_comes() -> None:
    node = FakeNode()
    async with opened(node) as (running, socket):
        name = (await call(socket, "events.subscribe"))["result"]["subscription"]
        node.commit(event_at(1, 0))
        assert await cursors(socket, 1) == ["1.0"]
        assert (await call(socket, "events.unsubscribe", subscription=name))["result"] == {"ended": True}
        assert node.open_subscriptions == 0
        node.commit(event_at(2, 0))
        assert (await call(socket, "events.unsubscribe", subscription=name))["result"] == {"ended": False}
        assert running.metrics.value("consilium_rpc_subscriptions") == 0


async def test_subscriptions_of_a_connection_are_bounded() -> None:
    async with opened(FakeNode(), subscriptions_max=2) as (_, socket):
        for _ in range(2):
            assert "result" in await call(socket, "events.subscribe")
        failed = (await call(socket, "events.subscribe"))["error"]
        assert failed["data"]["code"] == "rpc.too_many_subscriptions"
        await call(socket, "events.unsubscribe", subscription="1")
        assert "result" in await call(socket, "events.subscribe")


async def test_a_node_that_cannot_serve_the_cursor_says_so_and_keeps_the_connection() -> None:
    node = FakeNode(raises=Refused("chain.height_pruned", "kept from 100 on"))
    async with opened(node) as (_, socket):
        await call(socket, "events.subscribe", after="5.0")
        notice = await socket.receive_json()
        assert notice["method"] == "events.dropped"
        assert notice["params"]["code"] == "chain.height_pruned"
        assert notice["params"]["cursor"] == "5.0"
        assert notice["params"]["remedy"]
        assert "error" in await call(socket, "nothing.there")


async def test_a_bug_in_the_stream_ends_it_aloud() -> None:
    node = FakeNode(raises=ZeroDivisionError("secret"))
    async with opened(node) as (_, socket):
        await call(socket, "events.subscribe")
        notice = await socket.receive_json()
        assert (notice["method"], notice["params"]["code"]) == ("events.dropped", "rpc.internal")
        assert "secret" not in json.dumps(notice)


async def test_a_stopping_node_tells_its_subscribers_where_they_stood() -> None:
    node = FakeNode(events_log=[event_at(1, 0)])
    async with opened(node) as (running, socket):
        await call(socket, "events.subscribe")
        assert await cursors(socket, 1) == ["1.0"]
        stop = asyncio.create_task(running.server.stop())
        notice = await socket.receive_json()
        assert notice["params"]["code"] == "rpc.shutting_down"
        assert notice["params"]["cursor"] == "1.0"
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == aiohttp.WSCloseCode.GOING_AWAY
        await stop
        assert node.open_subscriptions == 0


async def test_a_subscriber_that_leaves_holds_nothing() -> None:
    node = FakeNode()
    async with served(node) as running, aiohttp.ClientSession() as http:
        async with http.ws_connect(running.url) as socket:
            await call(socket, "events.subscribe")
            node.commit(event_at(1, 0))
            await cursors(socket, 1)
        await until(lambda: not node.open_subscriptions)


class RawSocket:
    """A WebSocket client that reads only when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> RawSocket:
        plain = sockets.socket()
        plain.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 32_768)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=plain, limit=4_096)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET /rpc HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        return cls(reader, writer)

    def send(self, value: Any) -> None:
        body = json.dumps(value).encode()
        assert len(body) < 126
        self.writer.write(bytes((0x81, 0x80 | len(body), 0, 0, 0, 0)) + body)

    async def frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame."""
        first, length = await self.reader.readexactly(2)
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        return first & 0x0F, await self.reader.readexactly(length)

    async def frames_for_ever(self) -> None:
        """Read until the connection ends, which raises."""
        while True:
            await self.frame()


SUBSCRIBE = {"jsonrpc": "2.0", "method": "events.subscribe", "id": 1}


async def _dropped(running: Running) -> None:
    await until(lambda: running.metrics.value("consilium_rpc_slow_subscribers_total"))


async def test_a_slow_subscriber_is_told_and_dropped_and_pulls_nothing_meanwhile() -> None:
    node = FakeNode(endless=True)
    async with served(node, slow_subscriber_timeout_ms=200) as running:
        raw = await RawSocket.open(running.server.port)
        raw.send(SUBSCRIBE)
        await _dropped(running)
        pulled = node.pulled
        # What the kernel's buffers hold, and nothing for the queue that there is not.
        assert pulled * 11_000 < 2 * 1024 * 1024
        assert node.open_subscriptions <= 1

        notices: list[Any] = []
        close = b""
        while not close:
            opcode, payload = await raw.frame()
            if opcode == 8:
                close = payload
            elif opcode == 1:
                notices.append(json.loads(payload))
        events = [one["params"]["cursor"] for one in notices if one.get("method") == "events.event"]
        assert events == [f"{number}.0" for number in range(1, len(events) + 1)]
        last = notices[-1]
        assert last["method"] == "events.dropped"
        assert last["params"]["code"] == "rpc.slow_subscriber"
        # The last word never claims more than was sent: going on after what arrived, or after this, misses nothing.
        assert int(last["params"]["cursor"].split(".")[0]) <= len(events)
        assert int.from_bytes(close[:2], "big") == aiohttp.WSCloseCode.TRY_AGAIN_LATER
        assert node.pulled == pulled
        raw.writer.close()


async def test_a_subscriber_that_never_reads_again_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "CLOSE_TIMEOUT_S", 0.1)
    node = FakeNode(endless=True)
    async with served(node, slow_subscriber_timeout_ms=50) as running:
        raw = await RawSocket.open(running.server.port)
        raw.send(SUBSCRIBE)
        await _dropped(running)
        await until(lambda: not node.open_subscriptions)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await raw.frames_for_ever()
        raw.writer.close()


async def test_a_reader_that_keeps_reading_is_never_too_slow() -> None:
    node = FakeNode(endless=True)
    async with opened(node, slow_subscriber_timeout_ms=500) as (running, socket):
        await call(socket, "events.subscribe")
        for wanted in range(1, 501):
            assert (await socket.receive_json())["params"]["cursor"] == f"{wanted}.0"
        assert running.metrics.value("consilium_rpc_slow_subscribers_total") == 0
