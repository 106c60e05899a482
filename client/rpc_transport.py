"""JSON-RPC 2.0 as a client speaks it: requests out, answers in, errors turned into `Refused`.

What a node sends is as foreign as any input: answers are bounded before they are read, typed as they are decoded, and
a message for people is made printable before it can reach a terminal.

Source: JSON-RPC 2.0 specification, www.jsonrpc.org/specification.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import ssl
from typing import Any, Final, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec

from consilium.client.rpc_values import ErrorData, decode_json, encode_json
from consilium.ledger.catalogue import CATALOGUE
from consilium.ledger.errors import Refused

ANSWER_BYTES_MAX: Final = 96 * 1024 * 1024
INLINE_BYTES_MAX: Final = 512 * 1024
"""A larger body is written in pieces, so that the event loop turns meanwhile."""
CONNECT_TIMEOUT_S: Final = 5.0
CONNECTIONS_MAX: Final = 64
HEARTBEAT_S: Final = 20.0
IN_FLIGHT_MAX: Final = 32
RPC_PATH: Final = "/rpc"

Socket: TypeAlias = "aiohttp.ClientWebSocketResponse[Literal[False]]"
"""A WebSocket that gives out text as bytes."""

_T = TypeVar("_T")


class RemoteRefusal(Refused):
    """A node's refusal, with the code of its catalogue; `retry_after_ms` where waiting helps."""

    def __init__(self, code: str, detail: str, retry_after_ms: int | None = None) -> None:
        super().__init__(code, detail)
        self.retry_after_ms = retry_after_ms


class ConnectionLost(Exception):
    """No answer: the node could not be reached, or went away. `sent` says that it may have got the request."""

    def __init__(self, url: str, reason: str, *, sent: bool) -> None:
        self.url = url
        self.reason = reason
        self.sent = sent
        super().__init__(url, reason, sent)


class _Error(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""
    data: ErrorData | None = None


class Answer(msgspec.Struct, frozen=True):
    """A response, or a notification (`method`); which of both shows by `method`."""

    jsonrpc: str = ""
    id: str | int | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: _Error | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw()


_numbers = itertools.count(1)


def request(method: str, params: dict[str, Any]) -> tuple[int, bytes]:
    """A request's id and its bytes."""
    number = next(_numbers)
    return number, encode_json({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


def decode_answer(raw: bytes, url: str) -> Answer:
    """Decode what a node sent. Raises Refused `rpc.remote_error`."""
    try:
        return decode_json(raw, Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("rpc.remote_error", f"{url}: what it sent is no JSON-RPC") from None


def result_of(answer: Answer, number: int, kind: type[_T], url: str) -> _T:
    """The result of a call, decoded. Raises Refused: the node's own code, or `rpc.remote_error`."""
    if answer.error is not None:
        raise refusal_of(answer.error)
    if answer.id != number or not bytes(answer.result):
        raise Refused("rpc.remote_error", f"{url}: the answer is to no request of ours")
    try:
        return decode_json(answer.result, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("rpc.remote_error", f"{url}: {printable(str(error))}") from None


def refusal_of(error: _Error) -> RemoteRefusal:
    """The refusal that an error object stands for; a code that is unknown here becomes `rpc.remote_error`."""
    data = error.data
    if data is None or data.code not in CATALOGUE:
        code = f"{data.code}: " if data is not None else ""
        return RemoteRefusal("rpc.remote_error", printable(f"{code}{error.message} ({error.code})"))
    return RemoteRefusal(data.code, printable(data.detail), data.retry_after_ms)


def printable(text: str) -> str:
    """A foreign text without control characters: it may end on a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:2_000])


def rpc_url(address: str) -> str:
    """`http(s)://host:port/rpc` from that or from less: `host:port`, or a URL without a path. Raises Refused."""
    parts = urlsplit(address if "://" in address else f"http://{address}")
    try:
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or parts.username is not None:
        raise Refused("rpc.unreachable", f"{printable(address)} is no address of a node, http://host:port")
    path = parts.path if parts.path.strip("/") else RPC_PATH
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def open_session(tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """An aiohttp session for calls and sockets: no cookies, no compression, no proxies from the environment."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, ssl=tls if tls is not None else True),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        headers={"Accept-Encoding": "identity"},
    )


def bearer(token: str | None) -> dict[str, str]:
    """The header that a token goes in."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}


async def post(session: aiohttp.ClientSession, url: str, body: bytes, token: str | None) -> bytes:
    """One HTTP exchange. Raises ConnectionLost, or Refused where the answer is too large or no answer."""
    headers = {"Content-Type": "application/json", **bearer(token)}
    data = body if len(body) <= INLINE_BYTES_MAX else io.BytesIO(body)
    try:
        async with session.post(url, data=data, headers=headers, allow_redirects=False) as response:
            raw = await _bounded(response, url)
            if response.content_type != "application/json":
                if response.status >= 500:
                    raise ConnectionLost(url, f"HTTP {response.status}", sent=False)
                raise Refused("rpc.remote_error", f"{url}: HTTP {response.status}, not JSON")
            return raw
    except aiohttp.ClientConnectorError as error:
        raise ConnectionLost(url, printable(str(error.os_error)), sent=False) from None
    except (aiohttp.ClientError, OSError) as error:
        reason = printable(str(error)) or type(error).__name__
        raise ConnectionLost(url, reason, sent=True) from None


async def _bounded(response: aiohttp.ClientResponse, url: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            response.close()
            raise Refused("rpc.remote_error", f"{url}: an answer of more than {ANSWER_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)


async def open_socket(session: aiohttp.ClientSession, url: str, token: str | None) -> Socket:
    """A WebSocket to a node. Raises ConnectionLost, or Refused where the node refuses the upgrade."""
    try:
        async with asyncio.timeout(2 * CONNECT_TIMEOUT_S):
            return await session.ws_connect(
                url,
                headers=bearer(token),
                heartbeat=HEARTBEAT_S,
                max_msg_size=ANSWER_BYTES_MAX,
                compress=0,
                decode_text=False,
            )
    except aiohttp.WSServerHandshakeError as error:
        if error.status >= 500:
            raise ConnectionLost(url, f"HTTP {error.status}", sent=False) from None
        raise Refused("rpc.remote_error", f"{url}: HTTP {error.status} to the upgrade") from None
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        reason = printable(str(error)) or type(error).__name__
        raise ConnectionLost(url, reason, sent=False) from None


class RpcSocket:
    """Many calls at a time over one WebSocket: an async context manager, for programs that submit in bulk.

    It does not reconnect: a lost connection fails the calls that wait, with ConnectionLost.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str | None) -> None:
        self._session = session
        self._url = url
        self._token = token
        self._socket: Socket | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def __aenter__(self) -> RpcSocket:
        self._socket = await open_socket(self._session, self._url, self._token)
        self._reader = asyncio.create_task(self._read(self._socket))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            await self._socket.close()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def call(self, method: str, params: dict[str, Any], kind: type[_T], timeout_s: float) -> _T:
        """One call. Raises Refused, `rpc.timeout` among others, and ConnectionLost."""
        if self._socket is None or self._reader is None or self._reader.done():
            raise ConnectionLost(self._url, "the socket is not open", sent=False)
        async with self._room:
            number, body = request(method, params)
            answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._waiting[number] = answer
            try:
                async with asyncio.timeout(timeout_s):
                    await self._socket.send_frame(body, aiohttp.WSMsgType.TEXT)
                    return result_of(await answer, number, kind, self._url)
            except TimeoutError:
                raise Refused("rpc.timeout", f"{method} at {self._url} within {timeout_s:g} s") from None
            except ConnectionError as error:
                raise ConnectionLost(self._url, printable(str(error)), sent=True) from None
            finally:
                del self._waiting[number]

    async def _read(self, socket: Socket) -> None:
        reason = "the connection was closed"
        try:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                answer = decode_answer(message.data, self._url)
                waiting = self._waiting.get(answer.id) if isinstance(answer.id, int) else None
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        except Refused as refusal:
            reason = str(refusal)
            await socket.close()
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionLost(self._url, reason, sent=True))
