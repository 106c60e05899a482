"""Fetching from a node what is too large for one JSON value, piece by piece; memory holds a piece at a time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from consilium.client.rpc_transport import bearer, open_session, printable
from consilium.ledger.errors import Refused

PIECE_TIMEOUT_S: Final = 120.0
PIECE_BYTES: Final = 64 * 1024


async def download(
    url: str, path: str, token: str | None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[bytes]:
    """The pieces of what a node has under `path`; `url` is its RPC's.

    Raises Refused `rpc.unreachable` where the connection breaks (nothing that ends early ends well), `rpc.timeout`,
    `rpc.unauthorised`, `rpc.remote_error`.
    """
    address = stream_url(url, path)
    async with open_session(tls) as session:
        try:
            async with session.get(address, headers=bearer(token), allow_redirects=False) as response:
                if response.status == 401:
                    raise Refused("rpc.unauthorised", path)
                if response.status != 200:
                    raise Refused("rpc.remote_error", f"{address}: HTTP {response.status}")
                while True:
                    async with asyncio.timeout(PIECE_TIMEOUT_S):
                        piece = await response.content.read(PIECE_BYTES)
                    if not piece:
                        return
                    yield piece
        except TimeoutError:
            raise Refused("rpc.timeout", f"{address}: no data for {PIECE_TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            reason = printable(str(error)) or type(error).__name__
            raise Refused("rpc.unreachable", f"{address}: {reason}") from None


def stream_url(url: str, path: str) -> str:
    """Another path of the server that an RPC's URL names."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))
