"""One websocket, of client or server alike: frames, beats, and an end that does not wait for the peer."""

from __future__ import annotations

import asyncio
import socket as sockets
import struct
from typing import Any, Final, Protocol

import aiohttp

from consilium.ledger.errors import PeerFault
from consilium.p2p.frame import GARBAGE_WEIGHT

_LINGER_NOT: Final = struct.pack("ii", 1, 0)
_ENDINGS: Final = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED)


class Socket(Protocol):
    """What aiohttp's two websockets have in common."""

    async def receive(self) -> Any: ...

    async def send_bytes(self, data: bytes) -> None: ...

    async def pong(self, message: bytes = b"") -> None: ...

    async def close(self, *, code: int = 1000) -> bool: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


class Connection:
    """A websocket whose TLS handshake is done."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        # asked for now: asyncio's TLS transport cannot say it once it is closed
        self._raw = socket.get_extra_info("socket")

    async def receive(self) -> bytes | None:
        """The next frame, or None for a beat. ConnectionError at the end; PeerFault for anything else."""
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            frame: bytes = message.data
            return frame
        if message.type is aiohttp.WSMsgType.PONG:
            return None
        if message.type in _ENDINGS:
            raise ConnectionAbortedError("closed by the peer")
        if message.type is aiohttp.WSMsgType.ERROR:
            if isinstance(message.data, aiohttp.WebSocketError):
                raise PeerFault(f"a broken websocket: {message.data}", GARBAGE_WEIGHT)
            raise ConnectionResetError(str(message.data))
        raise PeerFault(f"a websocket message of type {message.type!r}", GARBAGE_WEIGHT)

    async def send(self, frame: bytes) -> None:
        """Send a frame; waits while the peer does not read. OSError or aiohttp.ClientError at the end."""
        await self._socket.send_bytes(frame)

    async def beat(self) -> None:
        """Say that this side lives: an unsolicited pong."""
        await self._socket.pong()

    async def close(self) -> None:
        """End politely: what was sent before arrives. The caller gives the time that this may take."""
        await self._socket.close()

    def hang_up(self, *, reset: bool) -> None:
        """End now, without waiting for the peer; whoever reads or writes wakes up.

        With `reset`, bytes that the peer has not taken are thrown away, by the kernel as well.
        """
        if self._raw is None:
            return
        try:
            if reset:
                self._raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, _LINGER_NOT)
            self._raw.shutdown(sockets.SHUT_RDWR)
        except OSError:
            return  # it has ended by itself

    async def finish(self, timeout_s: float) -> None:
        """Let aiohttp release what it holds for a connection that was hung up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._socket.close()
        except (TimeoutError, OSError, aiohttp.ClientError):
            return  # it was hung up: there is nobody left to be polite to
