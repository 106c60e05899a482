"""Dialling: from an address to a welcomed link, and how long to wait after a failure."""

from __future__ import annotations

import asyncio
import random
import ssl
from typing import Final, NoReturn

import aiohttp
import structlog
from yarl import URL

from consilium.ledger.errors import PeerFault
from consilium.p2p import tls
from consilium.p2p.connection import Connection
from consilium.p2p.frame import FRAME_BYTES_MAX, GARBAGE_WEIGHT, Lane
from consilium.p2p.handshake import Verdict, hello, read_welcome
from consilium.p2p.policy import PROTOCOL_VERSION, Address, MeshPolicy

PATH: Final = "/"

_log = structlog.get_logger("consilium.p2p")


class Backoff:
    """Waiting times that double up to a limit; each is drawn from its upper half, so that nodes do not dial
    in step.
    """

    def __init__(self, policy: MeshPolicy) -> None:
        self._policy = policy
        self._next_s = policy.backoff_first_s

    def next_s(self) -> float:
        """How long to wait now."""
        wait_s = self._next_s * random.uniform(0.5, 1.0)
        self._next_s = min(self._next_s * 2, self._policy.backoff_max_s)
        return wait_s

    def reset(self) -> None:
        """Start again from the shortest."""
        self._next_s = self._policy.backoff_first_s


class Dialer:
    """An HTTP client that makes websockets to given keys."""

    def __init__(self, chain_id: bytes, policy: MeshPolicy) -> None:
        self._chain_id = chain_id
        self._policy = policy
        tracing = aiohttp.TraceConfig()
        tracing.on_request_redirect.append(_refuse_redirect)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=len(Lane) * policy.peers_max, force_close=True, use_dns_cache=False
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=policy.dial_timeout_s),
            max_line_size=1_024,
            max_field_size=1_024,
            trust_env=False,
            trace_configs=[tracing],
        )

    async def close(self) -> None:
        """End every connection."""
        await self._session.close()

    async def dial(
        self, key: bytes, address: Address, context: ssl.SSLContext, lane: Lane
    ) -> Connection | None:
        """Connect, compare the key, say hello. None when the peer cannot be reached or did not accept.

        PeerFault when the node that has this key says what no honest node says.
        """
        connection: Connection | None = None
        welcomed = False
        try:
            async with asyncio.timeout(self._policy.dial_timeout_s):
                socket = await self._connect(address, context)
                connection = Connection(socket)
                if tls.peer_key(socket.get_extra_info("ssl_object")) != key:
                    _log.warning("p2p.wrong_key", address=str(address), expected=key.hex())
                    return None
                welcomed = await self._greet(connection, key, lane)
                return connection if welcomed else None
        except TimeoutError:
            _log.info("p2p.dial_failed", address=str(address), error="timeout")
        except (OSError, aiohttp.ClientError) as error:
            _log.info("p2p.dial_failed", address=str(address), error=str(error))
        finally:
            if connection is not None and not welcomed:
                connection.hang_up(reset=True)
                await connection.finish(self._policy.close_timeout_s)
        return None

    async def _connect(
        self, address: Address, context: ssl.SSLContext
    ) -> aiohttp.ClientWebSocketResponse[bool]:
        return await self._session.ws_connect(
            URL.build(scheme="wss", host=address.host, port=address.port, path=PATH),
            ssl=context,
            autoping=False,
            compress=0,
            max_msg_size=FRAME_BYTES_MAX + 1,  # aiohttp refuses what is not shorter
            decode_text=False,
            timeout=aiohttp.ClientWSTimeout(ws_close=self._policy.close_timeout_s),
        )

    async def _greet(self, connection: Connection, key: bytes, lane: Lane) -> bool:
        await connection.send(hello(self._chain_id, lane))
        raw = await connection.receive()
        if raw is None:
            raise PeerFault("a beat before the welcome", GARBAGE_WEIGHT)
        answer = read_welcome(raw)
        if answer.verdict == Verdict.ACCEPTED:
            if answer.version != PROTOCOL_VERSION or answer.chain_id != self._chain_id:
                raise PeerFault("accepted for another chain or version", GARBAGE_WEIGHT)
            return True
        if answer.verdict != Verdict.DUPLICATE:
            _log.warning(
                "p2p.not_welcome",
                peer=key.hex(),
                verdict=answer.verdict,
                version=answer.version,
                chain=answer.chain_id.hex(),
            )
        return False


async def _refuse_redirect(*_: object) -> NoReturn:
    """A peer must not make this node send requests elsewhere."""
    raise aiohttp.ClientPayloadError("a peer answered with a redirect")
