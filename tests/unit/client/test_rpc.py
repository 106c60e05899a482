"""The client against the real server, with a node in memory behind it; and against servers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from consilium.client import rpc as client_rpc
from consilium.client import rpc_transport
from consilium.client.rpc import BEFORE_ALL, Cursor, RemoteRefusal, RpcClient
from consilium.client.rpc_transport import rpc_url
from consilium.ledger.errors import Refused
from tests.unit.node.fake_node import GENESIS, TOKEN, FakeNode, event_at, served, transaction_id, until

ID = transaction_id(b"one")


@asynccontextmanager
async def foreign(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A server that is no node."""
    app = web.Application()
    app.router.add_route("*", "/rpc", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def replies(body: bytes, status: int = 200, content_type: str = "application/json") -> Any:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, content_type=content_type)

    return answer


async def dead_url() -> str:
    """An address where nobody listens."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("127.0.0.1:80", "http://127.0.0.1:80/rpc"),
        ("http://node:1", "http://node:1/rpc"),
        ("https://node/", "https://node/rpc"),
        ("http://[::1]:5/ledger/rpc", "http://[::1]:5/ledger/rpc"),
    ],
)
def test_addresses_are_completed(given: str, url: str) -> None:
    assert rpc_url(given) == url


@pytest.mark.parametrize(
    "given", ["", "ftp://x", "http://", "http://u:p@x", "http://x:99999", "http://x?y=1", "http://x:y"]
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(Refused) as refused:
        RpcClient(given)
    assert refused.value.code == "rpc.unreachable"


async def test_every_method_reaches_the_node_and_comes_back_typed() -> None:
    node = FakeNode(events_log=[event_at(1, 0), event_at(2, 0, "x")])
    async with served(node) as running, RpcClient(running.url, TOKEN) as rpc:
        assert (await rpc.status())["height"] == 2
        assert (await rpc.call("node.status"))["tip_time_ms"] == 5
        assert (await rpc.genesis()).chain_id == GENESIS.chain_id
        good, bad, full = await rpc.submit([b"one", b"bad", b"full"])
        assert (good.id, good.code) == (ID, None)
        assert (bad.id, bad.code) == (None, "codec.malformed")
        assert full.retry_after_ms == 40
        found = await rpc.wait(ID, certified=True)
        assert (found.id, found.height, found.index, found.time_ms, found.certified) == (
            ID,
            7,
            2,
            1_234,
            True,
        )
        assert (found.leaf.code, found.leaf.failed, found.leaf.results) == ("ok", None, [b"\x00result"])
        assert (await rpc.transaction(ID)).certified is False
        assert (await rpc.block(0)).certificate is None
        stored = await rpc.block(1)
        expected = await node.block(1)
        assert (stored.block, stored.certificate) == (expected.block, expected.certificate)
        assert stored.transactions == expected.transactions
        assert await rpc.state(b"known") == (b"value", 9)
        assert await rpc.state(b"other") == (None, 9)
        assert await rpc.verdict_receipt(ID) == b"verdict:" + ID
        assert await rpc.transaction_receipt(ID) == b"transaction:" + ID
        assert await rpc.state_receipt(b"k", 3) == b"state:k3"
        assert await rpc.state_receipt(b"k") == b"state:kNone"
        assert await rpc.verdict_receipt(ID, since=2) == b"verdict:" + ID + b" since 2"
        assert await rpc.transaction_receipt(ID, since=2) == b"transaction:" + ID + b" since 2"
        assert await rpc.state_receipt(b"k", since=2) == b"state:kNone since 2"
        assert await rpc.extend_receipt(b"old") == b"extended:oldNone"
        assert await rpc.extend_receipt(b"old", 9, 4) == b"extended:old9 since 4"
        assert [one.cursor for one in await rpc.events()] == [Cursor(1, 0), Cursor(2, 0)]
        (event,) = await rpc.events(Cursor(1, 0), 5, ["x"], bytes([2]) * 16)
        assert event.event == node.events_log[1].event
        (digest,) = await rpc.put_envelopes([b"sealed"])
        assert await rpc.get_envelope(digest) == b"sealed"
        await rpc.deposit_share(b"share")
        assert node.parcels == [b"share"]
        released = await rpc.release(ID, 2, b"\x01" * 64)
        assert released.sealed_partials == b"partials" + ID
        assert released.envelopes == (b"envelope", b"envelope")
        assert [(one.verdict, one.record, one.code) for one in released.withheld] == [
            (3, None, "access.epoch_ended"),
            (4, bytes(16), "vault.unknown"),
        ]
        assert released.next == 7
        assert (await rpc.release(ID, 2, b"\x01" * 64, start=7)).next == 14


async def test_an_accounting_comes_with_its_cursor() -> None:
    async with served() as running, RpcClient(running.url) as rpc:
        rows, after, more = await rpc.accounting(ID, 0, b"\x01" * 64, Cursor(5, 1), 9)
        assert [(row.number, row.height, row.line) for row in rows] == [(1, 5, b"line"), (2, 6, None)]
        assert (after, more) == (Cursor(6, 9), True)
        assert (await rpc.accounting(ID, 0, b"\x01" * 64))[1] == Cursor(0, 1_000)
        with pytest.raises(RemoteRefusal, match=r"accounting\.denied"):
            await rpc.accounting(ID, 0, bytes(64))


async def test_a_refusal_has_the_nodes_code() -> None:
    async with served() as running, RpcClient(running.url) as rpc:
        with pytest.raises(RemoteRefusal) as refused:
            await rpc.release(ID, 0, bytes(64))
        assert (refused.value.code, refused.value.detail) == ("access.not_allowed", "the decision denies")
        with pytest.raises(Refused, match=r"rpc\.invalid_params"):
            await rpc.call("block.get", height=-1)
        with pytest.raises(Refused, match=r"rpc\.unknown_method"):
            await rpc.call("no.such")
        with pytest.raises(Refused, match=r"rpc\.unauthorised"):
            await rpc.put_envelopes([b"sealed"])
        await rpc.deposit_share(b"share")
        assert running.node.parcels == [b"share"]


async def test_envelopes_are_put_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_rpc, "PUT_BYTES_MAX", 100)
    monkeypatch.setattr(client_rpc, "PUT_ENVELOPES_MAX", 3)
    envelopes = [bytes([number]) * size for number, size in enumerate((60, 60, 500, 1, 1, 1, 1))]
    async with served() as running, RpcClient(running.url, TOKEN) as rpc:
        assert await rpc.put_envelopes(envelopes) == [transaction_id(one) for one in envelopes]
        assert running.metrics.value("consilium_rpc_seconds_count", method="vault.put", outcome="ok") == 5
        assert await rpc.put_envelopes([]) == []


async def test_a_long_wait_is_asked_for_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_rpc, "WAIT_SLICE_S", 0.02)
    node = FakeNode(hold=True)
    async with served(node) as running, RpcClient(running.url) as rpc:
        waiting = asyncio.create_task(rpc.wait(ID, timeout_s=60))
        for _ in range(3):
            await node.waiting.acquire()
        node.let_go.set()
        assert (await waiting).height == 7
        node.let_go.clear()
        with pytest.raises(Refused, match=r"rpc\.timeout"):
            await rpc.wait(ID, timeout_s=0.05)


async def test_calls_go_to_the_first_node_that_answers_and_stay_there() -> None:
    async with served() as running, RpcClient([await dead_url(), running.url]) as rpc:
        for _ in range(3):
            await rpc.status()
        assert running.metrics.value("consilium_rpc_seconds_count", method="node.status", outcome="ok") == 3


async def test_a_call_outlives_a_restart_of_the_node() -> None:
    node = FakeNode()
    async with served(node) as running:
        port = running.server.port
        rpc = RpcClient(running.url)
        await rpc.__aenter__()
        await rpc.status()
    call = asyncio.create_task(rpc.status())
    await asyncio.sleep(0)
    async with served(node, port=port):
        assert (await call)["height"] == 0
        await rpc.__aexit__(None, None, None)


async def test_nobody_there_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_rpc, "RETRY_MIN_S", 0.001)
    url = await dead_url()
    async with RpcClient(url) as rpc:
        with pytest.raises(Refused) as refused:
            await rpc.status()
    assert refused.value.code == "rpc.unreachable"
    assert url in refused.value.detail


async def test_the_token_goes_to_the_first_node_with_privileged_calls_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_rpc, "RETRY_MIN_S", 0.001)
    seen: list[str | None] = []

    async def spy(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=503)

    async with (
        foreign(spy) as stranger,
        served() as running,
        RpcClient([running.url, stranger], TOKEN) as rpc,
    ):
        await rpc.deposit_share(b"share")
        await running.server.stop()
        with pytest.raises(Refused, match=r"rpc\.unreachable"):
            await rpc.deposit_share(b"share")
        assert seen == []
        with pytest.raises(Refused, match=r"rpc\.unreachable"):
            await rpc.status()
        assert set(seen) == {None}


async def test_a_busy_node_is_asked_again() -> None:
    node = FakeNode(hold=True)
    async with served(node, in_flight_max=1) as running, RpcClient(running.url) as rpc:
        waiting = asyncio.create_task(rpc.wait(ID))
        await node.waiting.acquire()
        asking = asyncio.create_task(rpc.status())
        busy = {"method": "node.status", "outcome": "rpc.busy"}
        await until(lambda: running.metrics.value("consilium_rpc_seconds_count", **busy))
        node.let_go.set()
        await waiting
        assert (await asking)["height"] == 0


async def test_a_silent_server_times_out() -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with foreign(silent) as url, RpcClient(url, timeout_s=0.05) as rpc:
        with pytest.raises(Refused, match=r"rpc\.timeout"):
            await rpc.status()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (replies(b"<html>", content_type="text/html"), "not JSON"),
        (replies(b"{"), "no JSON-RPC"),
        (replies(b"[]"), "no JSON-RPC"),
        (replies(b"[" * 100_000), "no JSON-RPC"),
        (replies(b"{}"), "no request of ours"),
        (replies(b'{"jsonrpc":"2.0","id":-1,"result":{}}'), "no request of ours"),
        (
            replies(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"a\\u001b[31mb"}}'),
            "a\N{REPLACEMENT CHARACTER}.31mb",
        ),
        (
            replies(b'{"id":1,"error":{"code":-32000,"message":"m","data":{"code":"later.version"}}}'),
            r"later.version: m \(-32000\)",
        ),
        (replies(b" " * 3_000), "more than 2000 bytes"),
    ],
)
async def test_what_is_no_answer_of_a_node_is_a_remote_error(
    answer: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_transport, "ANSWER_BYTES_MAX", 2_000 if "bytes" in reason else 2**20)
    async with foreign(answer) as url, RpcClient(url) as rpc:
        with pytest.raises(Refused, match=reason) as refused:
            await rpc.status()
        assert refused.value.code == "rpc.remote_error"


async def test_a_result_of_another_shape_is_a_remote_error() -> None:
    async def answer(request: web.Request) -> web.Response:
        number = (await request.json())["id"]
        return web.json_response({"jsonrpc": "2.0", "id": number, "result": {"results": [{"id": 5}]}})

    async with foreign(answer) as url, RpcClient(url) as rpc:
        with pytest.raises(Refused, match=r"rpc\.remote_error.*results"):
            await rpc.submit([b"one"])


async def test_a_client_is_opened_before_it_is_used() -> None:
    with pytest.raises(RuntimeError, match="context manager"):
        await RpcClient("127.0.0.1:1").status()
    with pytest.raises(Refused):
        RpcClient([])


async def test_many_calls_at_a_time_over_one_socket() -> None:
    node = FakeNode(hold=True)
    async with served(node) as running, RpcClient(running.url) as rpc, rpc.socket() as socket:
        waiting = asyncio.create_task(
            socket.call("transaction.wait", {"id": ID.hex()}, dict[str, Any], timeout_s=10)
        )
        await node.waiting.acquire()
        statuses = await asyncio.gather(
            *(socket.call("node.status", {}, dict[str, Any], timeout_s=10) for _ in range(100))
        )
        assert len(statuses) == 100
        node.let_go.set()
        assert (await waiting)["height"] == 7
        with pytest.raises(Refused, match=r"rpc\.unknown_method"):
            await socket.call("no.such", {}, Any, timeout_s=10)
        node.let_go.clear()
        with pytest.raises(Refused, match=r"rpc\.timeout"):
            await socket.call("transaction.wait", {"id": ID.hex()}, Any, timeout_s=0.01)


async def test_a_lost_socket_fails_the_calls_that_wait() -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        await socket.close()
        return socket

    async with foreign(hang_up) as url, RpcClient(url) as rpc, rpc.socket() as socket:
        with pytest.raises(client_rpc.ConnectionLost):
            await socket.call("node.status", {}, Any, timeout_s=10)
        with pytest.raises(client_rpc.ConnectionLost):
            await socket.call("node.status", {}, Any, timeout_s=10)


def test_before_all_is_before_every_event() -> None:
    assert Cursor(0, 0) > BEFORE_ALL
