"""What is too large for one JSON value: backups and large envelopes, over plain HTTP, in pieces.

    GET /backup           the node's backup (docs/backup.md)
    PUT /vault/{digest}   an envelope of any length; 201 with its digest and length once it is durable
    GET /vault/{digest}   an envelope; 404 where it is not here

For the bearer of the node's token only; the RPC's server has checked that, and host and origin, before a handler
here runs. Pieces are made in a thread and written one by one, each within its time: a client that stops reading holds
one piece and is then cut off. What ends early ends with a broken connection, never with a good one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, NamedTuple

import structlog
from aiohttp import web

from consilium.client.envelope import HEAD_LENGTH_BYTES, parse_head
from consilium.client.sealing_streams import head_length
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.node.threads import entered
from consilium.storage.vault import EnvelopeStore

PIECE_TIMEOUT_S: Final = 60.0
BACKUP_PATH: Final = "/backup"
BACKUPS_AT_ONCE: Final = 1
VAULT_PATH: Final = "/vault/{digest:[0-9a-f]{64}}"
STREAMS_AT_ONCE: Final = 16
BUFFER_BYTES: Final = 1024 * 1024
_STATUSES: Final = {
    "vault.unknown": 404,
    "vault.behind": 503,
    "vault.deleted": 410,
    "vault.oversized": 413,
    "vault.unavailable": 503,
    "rpc.timeout": 408,
    "rpc.internal": 500,
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = structlog.get_logger("consilium.streams")


class Route(NamedTuple):
    """A path beside the RPC."""

    method: str
    path: str
    handler: Handler


class BackupStream:
    """Hands out backups, one at a time."""

    def __init__(
        self, make: Callable[[], Iterator[bytes]], on_broken: Callable[[InvariantBroken], None]
    ) -> None:
        self._make = make
        self._on_broken = on_broken
        self._free = asyncio.Semaphore(BACKUPS_AT_ONCE)

    @property
    def routes(self) -> tuple[Route, ...]:
        """What the RPC's server serves."""
        return (Route("GET", BACKUP_PATH, self._get),)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        async with self._free:
            # Whoever has the token can fetch all of it: the log says when somebody did.
            _log.warning("backup.handed_out", by=request.remote)
            return await send(request, self._make(), self._on_broken)


class VaultStreams:
    """Takes in and hands out envelopes in pieces: memory holds a piece or two of each, whatever their length."""

    def __init__(self, vault: EnvelopeStore, on_broken: Callable[[InvariantBroken], None]) -> None:
        self._vault = vault
        self._on_broken = on_broken
        self._free = asyncio.Semaphore(STREAMS_AT_ONCE)

    @property
    def routes(self) -> tuple[Route, ...]:
        """What the RPC's server serves."""
        return (Route("PUT", VAULT_PATH, self._put), Route("GET", VAULT_PATH, self._get))

    async def _get(self, request: web.Request) -> web.StreamResponse:
        digest = bytes.fromhex(request.match_info["digest"])
        async with self._free:
            try:
                pieces = await asyncio.to_thread(self._vault.read, digest)
            except Refused as refusal:
                return refused(refusal)
            if pieces is None:
                return refused(Refused("vault.unknown", digest.hex()))
            _log.info("vault.handed_out", digest=digest.hex(), by=request.remote)
            return await send(request, pieces, self._on_broken)

    async def _put(self, request: web.Request) -> web.StreamResponse:
        digest = bytes.fromhex(request.match_info["digest"])
        async with self._free:
            try:
                size = await self._receive(request, digest)
            except Refused as refusal:
                return refused(refusal)
            except TimeoutError:
                return refused(Refused("rpc.timeout", f"no data within {PIECE_TIMEOUT_S:g} s"))
            except InvariantBroken as broken:
                self._on_broken(broken)
                return refused(Refused("rpc.internal", "the disk failed"))
        return web.json_response({"digest": digest.hex(), "bytes": size}, status=201)

    async def _receive(self, request: web.Request, digest: bytes) -> int:
        checked = False
        buffer = bytearray()
        async with entered(lambda: self._vault.receive(digest)) as incoming:
            while True:
                async with asyncio.timeout(PIECE_TIMEOUT_S):
                    piece = await request.content.readany()
                buffer += piece
                if not checked:
                    checked = _is_envelope(buffer)
                if piece and (not checked or len(buffer) < BUFFER_BYTES):
                    continue
                if not checked:
                    raise Refused("sealing.damaged", "the envelope ends before its head does")
                await asyncio.to_thread(incoming.write, bytes(buffer))
                buffer.clear()
                if not piece:
                    return await asyncio.to_thread(incoming.finish)


def _is_envelope(beginning: bytearray) -> bool:
    """Whether the head is there, and one; False while it cannot be seen yet. Raises Refused `sealing.*`, `codec.*`."""
    end = head_length(bytes(beginning[:HEAD_LENGTH_BYTES]))
    if end is None or len(beginning) < end:
        return False
    parse_head(bytes(beginning[HEAD_LENGTH_BYTES:end]))
    return True


def refused(refusal: Refused) -> web.Response:
    """A refusal as JSON, with the HTTP status that fits it best."""
    status = _STATUSES.get(refusal.code, 400)
    entry = refusal.entry
    said = {"code": refusal.code, "detail": refusal.detail, "cause": entry.cause, "remedy": entry.remedy}
    return web.json_response({"error": said}, status=status)


async def send(
    request: web.Request, pieces: Iterator[bytes], on_broken: Callable[[InvariantBroken], None]
) -> web.StreamResponse:
    """Write pieces, made in threads, as one response."""
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    try:
        await response.prepare(request)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            async with asyncio.timeout(PIECE_TIMEOUT_S):
                await response.write(piece)
        async with asyncio.timeout(PIECE_TIMEOUT_S):
            await response.write_eof()
    except (TimeoutError, ConnectionError, Refused) as error:
        _log.warning("stream.cut", path=request.path, reason=type(error).__name__)
        _cut(request)
    except InvariantBroken as broken:
        _cut(request)
        on_broken(broken)
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            await asyncio.to_thread(close)
    return response


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
