"""What is too large for one JSON value: a backup of the node, over plain HTTP, in pieces.

    GET /backup     the node's backup (docs/backup.md)

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

from consilium.ledger.errors import InvariantBroken

PIECE_TIMEOUT_S: Final = 60.0
BACKUP_PATH: Final = "/backup"
BACKUPS_AT_ONCE: Final = 1

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
            return await send(request, self._make(), self._on_broken)


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
    except (TimeoutError, ConnectionError) as error:
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
