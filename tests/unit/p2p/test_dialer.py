"""Dialling a node that is not what it should be, and the waiting between attempts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import PeerFault
from consilium.p2p import tls
from consilium.p2p.dialer import Backoff, Dialer
from consilium.p2p.frame import Lane
from consilium.p2p.handshake import Verdict, welcome
from consilium.p2p.policy import Address, MeshPolicy
from consilium.p2p.tls import Credentials

CHAIN = bytes(range(32))
ONE, TWO = SigningKey(bytes([1]) * 32), SigningKey(bytes([2]) * 32)


@asynccontextmanager
async def server(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], context: ssl.SSLContext
) -> AsyncIterator[Address]:
    made = web.Server(handler, access_log=None)
    listening = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0, ssl=context)
    yield Address("127.0.0.1", listening.sockets[0].getsockname()[1])
    listening.close()
    await made.shutdown(0.5)


async def dial(address: Address, policy: MeshPolicy) -> bool:
    dialer = Dialer(CHAIN, policy)
    try:
        connection = await dialer.dial(
            TWO.public, address, Credentials(ONE).client_context(TWO.public), Lane.VOTES
        )
        if connection is not None:
            connection.hang_up(reset=True)
            await connection.finish(1.0)
        return connection is not None
    finally:
        await dialer.close()


def answering(*frames: bytes) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """A node that says these things to any hello."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False, compress=False)
        await socket.prepare(request)
        await socket.receive()
        for frame in frames:
            await socket.send_bytes(frame)
        await socket.receive()
        return socket

    return handler


def trusting() -> ssl.SSLContext:
    return Credentials(TWO).server_context([ONE.public])


async def test_a_welcome_is_a_connection(fast: MeshPolicy) -> None:
    async with server(answering(welcome(CHAIN, Verdict.ACCEPTED)), trusting()) as address:
        assert await dial(address, fast)


@pytest.mark.parametrize("verdict", [Verdict.WRONG_CHAIN, Verdict.WRONG_VERSION, Verdict.DUPLICATE])
async def test_any_other_verdict_is_none(fast: MeshPolicy, verdict: Verdict) -> None:
    async with server(answering(welcome(bytes(32), verdict)), trusting()) as address:
        assert not await dial(address, fast)


@pytest.mark.parametrize(
    "frame",
    [b"", b"hello?", bytes(70_000), welcome(bytes(32), Verdict.ACCEPTED)],
    ids=lambda frame: frame[:8].hex(),
)
async def test_a_welcome_that_is_none_is_a_fault(fast: MeshPolicy, frame: bytes) -> None:
    async with server(answering(frame), trusting()) as address:
        with pytest.raises(PeerFault):
            await dial(address, fast)


async def test_who_says_nothing_costs_a_timeout(fast: MeshPolicy) -> None:
    async with server(answering(), trusting()) as address:
        assert not await dial(address, replace(fast, dial_timeout_s=0.2))


async def test_nobody_listens(fast: MeshPolicy) -> None:
    async with server(answering(), trusting()) as address:
        pass
    assert not await dial(address, fast)


async def test_another_member_at_the_address_is_not_spoken_to(fast: MeshPolicy) -> None:
    asked = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request)
        return web.Response()

    other = Credentials(SigningKey(bytes([3]) * 32)).server_context([ONE.public])
    async with server(handler, other) as address:
        assert not await dial(address, fast)
    assert asked == []


async def test_a_key_that_the_member_vouched_for_is_not_the_member(fast: MeshPolicy, tmp_path: Path) -> None:
    stranger = Ed25519PrivateKey.from_private_bytes(bytes([3]) * 32)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(tls.node_name(TWO.public))
        .public_key(stranger.public_key())
        .serial_number(7)
        .not_valid_before(tls.NOT_BEFORE)
        .not_valid_after(tls.NOT_AFTER)
        .sign(Ed25519PrivateKey.from_private_bytes(TWO.seed), None)
    )
    shown = tmp_path / "shown.pem"
    shown.write_bytes(
        leaf.public_bytes(Encoding.PEM)
        + stranger.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = trusting()
    context.load_cert_chain(shown)
    async with server(answering(welcome(CHAIN, Verdict.ACCEPTED)), context) as address:
        assert not await dial(address, fast)


async def test_a_redirect_is_not_followed(fast: MeshPolicy) -> None:
    asked = []

    async def target(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request)
        return web.Response()

    async with server(target, trusting()) as elsewhere:

        async def handler(_: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=302, headers={"Location": f"https://{elsewhere}/secret"})

        async with server(handler, trusting()) as address:
            assert not await dial(address, fast)
    assert asked == []


def test_backoff_doubles_with_jitter_up_to_its_limit() -> None:
    policy = MeshPolicy(backoff_first_s=0.1, backoff_max_s=1.0)
    backoff = Backoff(policy)
    for top_s in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        assert top_s / 2 <= backoff.next_s() <= top_s
    backoff.reset()
    assert backoff.next_s() <= 0.1
    drawn = set()
    for _ in range(20):
        backoff.reset()
        drawn.add(backoff.next_s())
    assert len(drawn) > 1, "without jitter all nodes dial in step"
