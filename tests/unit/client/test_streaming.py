"""Long downloads and uploads: what ends early did not end well, and a node's refusal keeps its code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from consilium.client import streaming
from consilium.client.streaming import download, get_envelope, put_envelope, stream_url, upload
from consilium.ledger.errors import Refused

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    """A server that does this with whatever it is asked; its RPC's URL."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/rpc"
    finally:
        await runner.cleanup()


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for one in given:
        yield one


async def code_of(url: str) -> str:
    with pytest.raises(Refused) as refused:
        async for _ in download(url, "/backup", "t"):
            pass
    return refused.value.code


def test_streams_are_beside_the_rpc() -> None:
    assert stream_url("https://a:7/rpc", "/vault/00") == "https://a:7/vault/00"


async def test_bytes_go_out_and_come_back_with_the_token() -> None:
    kept: dict[str, bytes] = {}
    seen: list[str] = []

    async def vault(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization", ""))
        if request.method == "PUT":
            kept[request.path] = await request.read()
            return web.Response(status=201)
        return web.Response(body=kept[request.path])

    digest = b"d" * 32
    async with answering(vault) as url:
        await put_envelope(url, digest, "secret", pieces(b"one", b"two" * 100_000))
        found = b"".join([one async for one in get_envelope(url, digest, None)])
    assert found == b"one" + b"two" * 100_000
    assert list(kept) == [f"/vault/{digest.hex()}"]
    assert seen == ["Bearer secret", ""]


async def test_a_nodes_refusal_keeps_its_code_and_others_do_not() -> None:
    for status, body, code in (
        (404, b'{"error": {"code": "vault.unknown", "detail": "x"}}', "vault.unknown"),
        (404, b'{"error": {"code": "made.up", "detail": "x"}}', "rpc.remote_error"),
        (500, b"<html>", "rpc.remote_error"),
        (302, b"", "rpc.remote_error"),
        (401, b"", "rpc.unauthorised"),
    ):

        async def refusing(
            _: web.BaseRequest, status: int = status, body: bytes = body
        ) -> web.StreamResponse:
            return web.Response(status=status, body=body, headers={"Location": "http://127.0.0.1:9/"})

        async with answering(refusing) as url:
            assert await code_of(url) == code
            with pytest.raises(Refused) as refused:
                await upload(url, "/vault/00", None, pieces(b"x"))
            assert refused.value.code == code


async def test_what_breaks_off_is_no_end() -> None:
    async def breaking(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with answering(breaking) as url:
        assert await code_of(url) == "rpc.unreachable"
    assert await code_of("http://127.0.0.1:9/rpc") == "rpc.unreachable"


async def test_a_node_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "PIECE_TIMEOUT_S", 0.05)
    over = asyncio.Event()

    async def silent(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await over.wait()
        return response

    async with answering(silent) as url:
        assert await code_of(url) == "rpc.timeout"
        over.set()
