"""Fetching from a node what is too large for one JSON value, and handing it over: piece by piece, one in memory."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec

from consilium.client.rpc_transport import bearer, open_session, printable
from consilium.ledger.catalogue import CATALOGUE
from consilium.ledger.errors import Refused

PIECE_TIMEOUT_S: Final = 120.0
PIECE_BYTES: Final = 64 * 1024
REFUSAL_BYTES_MAX: Final = 64 * 1024


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
                    raise _refusal(await response.content.read(REFUSAL_BYTES_MAX), address, response.status)
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


async def upload(
    url: str, path: str, token: str | None, pieces: AsyncIterable[bytes], tls: ssl.SSLContext | None = None
) -> None:
    """Send pieces to be kept under `path`; returns once the node says that they are durable.

    Raises Refused: the node's own codes, `rpc.unreachable`, `rpc.timeout`, `rpc.unauthorised`, `rpc.remote_error`.
    """
    address = stream_url(url, path)
    async with open_session(tls) as session:
        try:
            async with session.put(
                address, data=pieces, headers=bearer(token), allow_redirects=False
            ) as response:
                if response.status == 401:
                    raise Refused("rpc.unauthorised", path)
                if response.status != 201:
                    raise _refusal(await response.content.read(REFUSAL_BYTES_MAX), address, response.status)
        except TimeoutError:
            raise Refused("rpc.timeout", address) from None
        except (aiohttp.ClientError, OSError) as error:
            reason = printable(str(error)) or type(error).__name__
            raise Refused("rpc.unreachable", f"{address}: {reason}") from None


async def put_envelope(url: str, digest: bytes, token: str | None, pieces: AsyncIterable[bytes]) -> None:
    """Keep an envelope of any length in a node's vault. Raises as `upload`."""
    await upload(url, f"/vault/{digest.hex()}", token, pieces)


def get_envelope(url: str, digest: bytes, token: str | None) -> AsyncIterator[bytes]:
    """An envelope of any length from a node's vault, in pieces. Raises as `download`; `vault.unknown`."""
    return download(url, f"/vault/{digest.hex()}", token)


def _refusal(raw: bytes, address: str, status: int) -> Refused:
    """The refusal in an error's body; a code that is unknown here becomes `rpc.remote_error`."""
    try:
        said = msgspec.json.decode(raw, type=_Refusals).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Refused("rpc.remote_error", f"{address}: HTTP {status}")
    if said.code not in CATALOGUE:
        return Refused("rpc.remote_error", f"{address}: {printable(said.detail)}")
    return Refused(said.code, printable(said.detail))


class _Said(msgspec.Struct, frozen=True):
    code: str
    detail: str = ""


class _Refusals(msgspec.Struct, frozen=True):
    error: _Said


def stream_url(url: str, path: str) -> str:
    """Another path of the server that an RPC's URL names."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))
