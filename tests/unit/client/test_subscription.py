"""None is missed, none comes twice: across restarts, several nodes, drops, lags, and a random history of them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.client import subscription
from consilium.client.rpc import NOW, Cursor, RpcClient
from consilium.ledger.errors import Refused
from tests.unit.client.test_rpc import dead_url, foreign, replies
from tests.unit.node.fake_node import FakeNode, event_at, served, until


async def take(stream: Any, count: int) -> list[str]:
    """The next cursors of a stream."""
    found: list[str] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found.append(str((await anext(stream)).cursor))
    return found


async def test_the_past_then_the_present() -> None:
    node = FakeNode(events_log=[event_at(1, 0), event_at(1, 1)])
    async with served(node) as running, RpcClient(running.url) as rpc, aclosing(rpc.subscribe()) as stream:
        assert await take(stream, 2) == ["1.0", "1.1"]
        node.commit(event_at(2, 0, data=b"d"))
        found = await anext(stream)
        assert found.event == node.events_log[-1].event


async def test_after_kinds_and_subject() -> None:
    node = FakeNode(events_log=[event_at(1, 0, "a"), event_at(2, 0, "a"), event_at(2, 1, "b")])
    async with (
        served(node) as running,
        RpcClient(running.url) as rpc,
        aclosing(rpc.subscribe("1.0", ["a"], bytes([2]) * 16)) as stream,
    ):
        assert await take(stream, 1) == ["2.0"]
    assert node.subscribed == [(node.events_log[0].cursor, frozenset({"a"}), bytes([2]) * 16)]


async def test_a_stream_survives_restarts_of_the_node() -> None:
    node = FakeNode(events_log=[event_at(1, 0)])
    async with served(node) as running:
        port = running.server.port
        rpc = RpcClient(running.url)
        await rpc.__aenter__()
        stream = rpc.subscribe()
        assert await take(stream, 1) == ["1.0"]
    node.commit(event_at(2, 0))
    async with served(node, port=port):
        node.commit(event_at(2, 1))
        assert await take(stream, 2) == ["2.0", "2.1"]
    async with served(node, port=port):
        node.commit(event_at(3, 0))
        assert await take(stream, 1) == ["3.0"]
        await stream.aclose()
        await rpc.__aexit__()


async def test_a_stream_goes_on_at_another_node_even_one_that_lags() -> None:
    history = [event_at(height, 0) for height in range(1, 6)]
    ahead, behind = FakeNode(events_log=history[:3]), FakeNode(events_log=history[:1])
    async with served(behind) as second:
        async with served(ahead) as first:
            rpc = RpcClient([first.url, await dead_url(), second.url])
            await rpc.__aenter__()
            stream = rpc.subscribe()
            assert await take(stream, 3) == ["1.0", "2.0", "3.0"]
        following = asyncio.create_task(take(stream, 2))
        for event in history[1:]:
            behind.commit(event)
        assert await following == ["4.0", "5.0"]
        await stream.aclose()
        await rpc.__aexit__()


async def test_from_now_on_stays_that_moment_across_reconnects() -> None:
    node = FakeNode(events_log=[event_at(1, 0)])
    async with served(node) as running:
        port = running.server.port
        rpc = RpcClient(running.url)
        await rpc.__aenter__()
        stream = rpc.subscribe(NOW)
        first = asyncio.create_task(take(stream, 1))
        await until(lambda: node.subscribed)
    # Committed while nobody was connected: after that moment, so it comes.
    node.commit(event_at(2, 0))
    async with served(node, port=port):
        assert await first == ["2.0"]
        await stream.aclose()
        await rpc.__aexit__()


async def test_an_application_that_pauses_is_dropped_and_misses_nothing() -> None:
    node = FakeNode(endless=True)
    async with (
        served(node, slow_subscriber_timeout_ms=30) as running,
        RpcClient(running.url) as rpc,
        aclosing(rpc.subscribe()) as stream,
    ):
        assert await take(stream, 1) == ["1.0"]
        await until(lambda: running.metrics.value("consilium_rpc_slow_subscribers_total"))
        # Now the chain has an end: what must hold is the order, without a gap, across the drop.
        node.endless = False
        node.events_log = [event_at(height, 0) for height in range(1, 1_501)]
        assert await take(stream, 1_499) == [f"{height}.0" for height in range(2, 1_501)]


async def test_a_node_that_repeats_itself_is_not_believed() -> None:
    class Repeating(FakeNode):
        async def subscribe(self, after: Any, kinds: Any, subject: Any) -> Any:
            for height in (1, 2, 1, 2, 3):
                yield event_at(height, 0)
            await self.changed.wait()

    async with (
        served(Repeating()) as running,
        RpcClient(running.url) as rpc,
        aclosing(rpc.subscribe()) as stream,
    ):
        assert await take(stream, 3) == ["1.0", "2.0", "3.0"]


async def test_a_refusal_ends_the_stream() -> None:
    node = FakeNode(raises=Refused("chain.height_pruned", "kept from 100 on"))
    async with served(node) as running, RpcClient(running.url) as rpc:
        with pytest.raises(Refused) as refused:
            await anext(rpc.subscribe(Cursor(5, 0)))
        assert (refused.value.code, refused.value.detail) == ("chain.height_pruned", "kept from 100 on")
        with pytest.raises(ValueError, match="cursor"):
            rpc.subscribe("yesterday")


async def test_without_any_node_the_stream_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "RETRY_MIN_S", 0.001)
    async with RpcClient([await dead_url(), await dead_url()]) as rpc:
        with pytest.raises(Refused, match=r"rpc\.unreachable"):
            await anext(rpc.subscribe(give_up_s=0.05))


async def test_a_server_that_is_no_node_ends_the_stream() -> None:
    async with foreign(replies(b"{}", status=404)) as url, RpcClient(url) as rpc:
        with pytest.raises(Refused, match=r"rpc\.remote_error.*404"):
            await anext(rpc.subscribe())


async def test_closing_the_stream_closes_its_connection() -> None:
    node = FakeNode(events_log=[event_at(1, 0)])
    async with served(node) as running, RpcClient(running.url) as rpc:
        stream = rpc.subscribe()
        await take(stream, 1)
        await stream.aclose()
        await until(lambda: not node.open_subscriptions)


steps = st.lists(st.sampled_from(["commit", "commit", "commit", "stop", "start", "take"]), max_size=25)


@settings(max_examples=15)
@given(steps)
def test_whatever_happens_every_event_comes_once_and_in_order(history: list[str]) -> None:
    async def run() -> None:
        node = FakeNode()
        async with served(node) as running:
            port = running.server.port
        taken: list[str] = []
        server: Any = None
        async with RpcClient(f"127.0.0.1:{port}") as rpc, aclosing(rpc.subscribe()) as stream:
            for step in [*history, "start", "commit", "take"]:
                if step == "commit":
                    node.commit(event_at(len(node.events_log) + 1, 0))
                elif step == "start" and server is None:
                    server = served(node, port=port)
                    await server.__aenter__()
                elif step == "stop" and server is not None:
                    await server.__aexit__(None, None, None)
                    server = None
                elif step == "take" and server is not None:
                    taken += await take(stream, len(node.events_log) - len(taken))
        await server.__aexit__(None, None, None)
        assert taken == [str(one.cursor) for one in node.events_log]

    asyncio.run(run())
