from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.client.rpc import RpcClient
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.node import rpc
from tests.unit.node.fake_node import TOKEN, FakeNode, Running, event_at, served, transaction_id

STATUS = {"jsonrpc": "2.0", "method": "node.status", "id": 1}
ID = transaction_id(b"x").hex()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with served() as found:
        yield found


async def post(http: aiohttp.ClientSession, running: Running, body: Any, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given_headers = {
        "Content-Type": "application/json",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    async with http.post(running.url, data=data, headers=given_headers) as response:
        raw = await response.read()
        return response.status, json.loads(raw) if raw else None


async def test_a_request_a_batch_and_notifications(http: aiohttp.ClientSession, running: Running) -> None:
    status, answer = await post(http, running, STATUS)
    assert (status, answer["id"], answer["result"]["height"]) == (200, 1, 0)
    status, answers = await post(http, running, [STATUS, {**STATUS, "id": 2}])
    assert (status, [one["id"] for one in answers]) == (200, [1, 2])
    assert await post(http, running, {"jsonrpc": "2.0", "method": "node.status"}) == (204, None)
    status, answer = await post(http, running, b"{")
    assert (status, answer["error"]["code"]) == (200, -32700)


async def test_health_and_metrics(http: aiohttp.ClientSession, running: Running) -> None:
    base = running.url.removesuffix("/rpc")
    async with http.get(f"{base}/healthz") as response:
        assert (response.status, await response.json()) == (200, {"healthy": True, "reason": ""})
    running.node.is_healthy = False
    async with http.get(f"{base}/healthz", headers={"Host": "any.name"}) as response:
        assert (response.status, (await response.json())["reason"]) == (503, "the disk is full")
    await post(http, running, STATUS)
    async with http.get(f"{base}/metrics") as response:
        assert response.status == 200
        assert 'consilium_rpc_seconds_count{method="node.status",outcome="ok"} 1.0' in await response.text()


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, False),
        ({"Authorization": f"Bearer {TOKEN}"}, True),
        ({"Authorization": f"bearer {TOKEN}"}, True),
        ({"Authorization": f"Basic {TOKEN}"}, False),
        ({"Authorization": TOKEN}, False),
        ({"Authorization": "Bearer "}, False),
        ({"Authorization": f"Bearer {TOKEN}0"}, False),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, False),
        ({"Authorization": "Bearer \u00e9"}, False),
    ],
)
async def test_privileged_methods_need_the_token_even_from_loopback(
    http: aiohttp.ClientSession, running: Running, headers: dict[str, str], allowed: bool
) -> None:
    body = {"jsonrpc": "2.0", "method": "vault.put", "params": {"envelopes": ["AAAA"]}, "id": 1}
    _, answer = await post(http, running, body, **headers)
    assert ("result" in answer) is allowed
    assert bool(running.node.envelopes) is allowed
    if not allowed:
        assert answer["error"]["data"]["code"] == "rpc.unauthorised"
    async with http.ws_connect(running.url, headers=headers) as socket:
        await socket.send_json(body)
        assert ("result" in await socket.receive_json()) is allowed


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Host": "10.1.2.3"}, 200),
        ({"Host": "node.clinic.example:8000"}, 200),
        ({"Host": "attacker.example"}, 403),
        ({"Host": "127.0.0.1.attacker.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "https://portal.example"}, 200),
        ({"Origin": "https://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_what_a_foreign_web_page_could_send_is_refused(
    http: aiohttp.ClientSession, headers: dict[str, str], status: int
) -> None:
    async with served(hosts=["node.clinic.example"], cors_origins=["https://portal.example"]) as running:
        found, answer = await post(http, running, STATUS, **headers)
        assert found == status
        assert ("result" in answer) is (status == 200)
        if status in (200, 403) and "Content-Type" not in headers:
            socket = http.ws_connect(running.url, headers=headers)
            if status == 200:
                async with socket:
                    pass
            else:
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await socket
                assert refused.value.status == 403


async def test_a_page_on_the_list_passes_its_preflight(http: aiohttp.ClientSession) -> None:
    origin = {"Origin": "https://portal.example"}
    async with served(cors_origins=["https://portal.example"]) as running:
        async with http.options(running.url, headers=origin) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == "https://portal.example"
            assert "content-type" in response.headers["Access-Control-Allow-Headers"]
        async with http.post(running.url, json=STATUS, headers=origin) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "https://portal.example"


async def test_get_without_an_upgrade_says_what_to_do(http: aiohttp.ClientSession, running: Running) -> None:
    async with http.get(running.url) as response:
        assert response.status == 426
        assert (await response.json())["error"]["data"]["code"] == "rpc.websocket_needed"


async def test_a_body_beyond_the_limit_is_refused(http: aiohttp.ClientSession) -> None:
    async with served(body_bytes_max=2_000) as running:
        status, answer = await post(http, running, b" " * 2_001)
        assert (status, answer["error"]["data"]["code"]) == (413, "rpc.request_too_large")
        status, _ = await post(http, running, json.dumps(STATUS).encode().ljust(2_000))
        assert status == 200
        async with http.ws_connect(running.url) as socket:
            await socket.send_str(" " * 2_001)
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_a_late_body_is_refused(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "BODY_TIMEOUT_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
    head = (
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    )
    writer.write(head.encode())
    assert b" 408 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_hanging_up_within_a_body_leaves_no_stack_trace(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can do it, as often as he likes: the log is for what the node did wrong."""
    runner = running.server._runner
    assert runner is not None
    server = runner.server
    assert server is not None
    _, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
    writer.write(
        b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    )
    await writer.drain()
    async with asyncio.timeout(10):
        # Once the headers are read, the handler waits for the rest of the body.
        while not server.connections or running.server._silent:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        writer.transport.abort()
        while server.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert caplog.records == []


async def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "HEADERS_TIMEOUT_S", 0.05)
    async with served() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
        writer.write(b"POST /rpc HTTP/1.1\r\nHost: loc")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_one_connection_too_many_is_told_so(http: aiohttp.ClientSession) -> None:
    async with served(connections_max=1) as running:
        async with http.ws_connect(running.url):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
            assert b" 503 " in await reader.readline()
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(10):
            while True:
                # The place is free when the server has seen the close; until then a request may meet a reset.
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.post(running.url, json=STATUS) as response:
                        if response.status == 200:
                            return


async def test_a_socket_answers_out_of_order_and_up_to_its_limit(http: aiohttp.ClientSession) -> None:
    node = FakeNode(hold=True)
    wait = {"jsonrpc": "2.0", "method": "transaction.wait", "params": {"id": ID}}
    async with served(node, connection_in_flight_max=2) as running, http.ws_connect(running.url) as socket:
        await socket.send_json({**wait, "id": "slow"})
        await node.waiting.acquire()
        await socket.send_json({**STATUS, "id": "quick"})
        assert (await socket.receive_json())["id"] == "quick"
        await socket.send_json({**wait, "id": "slow too"})
        await node.waiting.acquire()
        await socket.send_json({**STATUS, "id": "too many"})
        answer = await socket.receive_json()
        assert (answer["id"], answer["error"]["data"]["code"]) == ("too many", "rpc.busy")
        assert answer["error"]["data"]["retry_after_ms"] > 0
        node.let_go.set()
        assert {(await socket.receive_json())["id"] for _ in range(2)} == {"slow", "slow too"}
        await socket.send_json(STATUS)
        assert "result" in await socket.receive_json()


async def test_calls_in_all_are_bounded_too(http: aiohttp.ClientSession) -> None:
    node = FakeNode(hold=True)
    wait = {"jsonrpc": "2.0", "method": "transaction.wait", "params": {"id": ID}, "id": 1}
    async with served(node, in_flight_max=1) as running, http.ws_connect(running.url) as socket:
        await socket.send_json(wait)
        await node.waiting.acquire()
        _, answer = await post(http, running, STATUS)
        assert answer["error"]["data"]["code"] == "rpc.busy"
        node.let_go.set()
        await socket.receive()
        _, answer = await post(http, running, STATUS)
        assert "result" in answer


async def test_binary_frames_are_not_spoken_here(http: aiohttp.ClientSession, running: Running) -> None:
    async with http.ws_connect(running.url) as socket:
        await socket.send_bytes(b"{}")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == aiohttp.WSCloseCode.UNSUPPORTED_DATA


async def test_a_call_that_runs_when_the_node_stops_is_answered(http: aiohttp.ClientSession) -> None:
    node = FakeNode(hold=True)
    async with served(node) as running:
        body = {"jsonrpc": "2.0", "method": "transaction.wait", "params": {"id": ID}, "id": 1}
        call = asyncio.create_task(post(http, running, body))
        await node.waiting.acquire()
        stop = asyncio.create_task(running.server.stop())
        await asyncio.sleep(0)
        node.let_go.set()
        assert (await call)[1]["result"]["height"] == 7
        await stop
        with pytest.raises(aiohttp.ClientConnectorError):
            await post(http, running, STATUS)


async def test_stop_twice_and_before_start_does_nothing(running: Running) -> None:
    await running.server.stop()
    await running.server.stop()


async def test_a_broken_invariant_reaches_who_halts_the_node(
    http: aiohttp.ClientSession, running: Running
) -> None:
    running.node.raises = InvariantBroken("two roots")
    _, answer = await post(http, running, STATUS)
    assert answer["error"]["code"] == -32603
    assert len(running.broken) == 1


def self_signed(folder: Path) -> tuple[str, str]:
    """A certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2000, 1, 1))
        .not_valid_after(datetime.datetime(2100, 1, 1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    return str(folder / "certificate.pem"), str(folder / "key.pem")


async def test_https_where_a_certificate_is_configured(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    node = FakeNode(events_log=[event_at(1, 0)])
    async with served(node, tls_certificate=certificate, tls_key=key) as running:
        url = f"https://localhost:{running.server.port}"
        async with RpcClient(url, tls=ssl.create_default_context(cafile=certificate)) as client:
            assert (await client.status())["height"] == 1
            async with aclosing(client.subscribe()) as stream:
                assert str((await anext(stream)).cursor) == "1.0"
        async with RpcClient(url, timeout_s=0.3) as client:
            with pytest.raises(Refused, match=r"rpc\.(unreachable|timeout)"):
                await client.status()
    with pytest.raises(Refused, match="tls_certificate"):
        async with served(tls_certificate=str(tmp_path / "no.pem"), tls_key=key):
            pass


@settings(max_examples=60)
@given(bodies=st.lists(st.binary(max_size=120), min_size=1, max_size=4))
def test_garbage_over_http_and_sockets_gets_errors_and_the_server_lives(bodies: list[bytes]) -> None:
    async def run() -> None:
        async with served() as running, aiohttp.ClientSession() as http:
            async with http.ws_connect(running.url) as socket:
                for body in bodies:
                    status, answer = await post(http, running, body)
                    assert status in (200, 204)
                    assert answer is None or "error" in answer or isinstance(answer, list)
                    await socket.send_str(body.decode("latin-1"))
                    assert "error" in await socket.receive_json()
            _, answer = await post(http, running, STATUS)
            assert "result" in answer

    asyncio.run(run())
