"""Accepting: from a TCP connection to a websocket of a known key, before anybody is trusted with anything.

The listening socket is accepted from by hand rather than by `create_server`, for three reasons: each
connection gets the TLS context of that moment, so members can change; handshakes are counted before they cost
anything, by host (`places`) and, once TLS has shown it, by key; and one deadline covers everything from TCP to
welcome. A caller too many takes the place of another whose key is not known yet; a key too many is closed at once.
An honest node dials again.

aiohttp's low-level server speaks HTTP on the finished TLS connection. Its handler makes the websocket only
after the peer's key was judged, hands it over, and stays until the link ends.
"""

from __future__ import annotations

import asyncio
import random
import socket as sockets
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import aiohttp
import structlog
from aiohttp import web

from consilium.ledger.errors import PeerFault
from consilium.p2p import tls
from consilium.p2p.connection import Connection
from consilium.p2p.frame import FRAME_BYTES_MAX, GARBAGE_WEIGHT
from consilium.p2p.metrics import MeshMetrics
from consilium.p2p.places import Places
from consilium.p2p.policy import Address, MeshPolicy

BACKLOG: Final = 128
ACCEPTS_PER_TURN_MAX: Final = 16
"""So that strangers who come fast do not fill the system's backlog while the event loop is busy."""
ACCEPT_PAUSE_S: Final = 0.5
"""How long to wait when the system has no descriptor left for another connection."""
FAILURES_SAID_EVERY_S: Final = 10.0
"""Of handshakes that fail one is logged in so long, with how many were not; all are counted."""
REQUEST_LINE_BYTES_MAX: Final = 1_024
REQUEST_HEADERS_MAX: Final = 32

_log = structlog.get_logger("consilium.p2p")


Serve = Callable[[], Awaitable[None]]
"""Runs a welcomed link until it ends."""


@dataclass(frozen=True)
class Host:
    """What the listener asks of the mesh."""

    authorize: Callable[[bytes], bool]
    """Whether this key may connect now."""
    greet: Callable[[bytes, Connection], Awaitable[Serve | None]]
    """Read the hello and answer it. None when the peer was refused; PeerFault when it was no hello."""
    fault: Callable[[bytes, PeerFault], None]
    """Score a peer."""


class _Admission:
    """One accepted connection, shared by the task that admits it and the HTTP handler that upgrades it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.authorized: asyncio.Future[None] = loop.create_future()
        self.socket: asyncio.Future[web.WebSocketResponse] = loop.create_future()
        self.over = asyncio.Event()


class Listener:
    """One listening TCP socket."""

    def __init__(
        self,
        address: Address,
        context: Callable[[], ssl.SSLContext],
        host: Host,
        policy: MeshPolicy,
        metrics: MeshMetrics,
    ) -> None:
        self._context = context
        self._host = host
        self._policy = policy
        self._metrics = metrics
        self._silent_until_s = 0.0
        self._unsaid = 0
        self._admissions: dict[object, _Admission] = {}
        self._places: Places[asyncio.Task[None]] = Places(
            policy.handshakes_max, policy.handshakes_per_host_max, policy.handshakes_fair, random.choice
        )
        self._handshakes: Counter[bytes] = Counter()
        """In progress, by key."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._untouched: set[sockets.socket] = set()
        """Accepted, while their tasks have not begun: one that is cancelled before it begins closes nothing."""
        self._server = web.Server(
            self._upgrade,
            access_log=None,
            keepalive_timeout=policy.handshake_timeout_s,
            max_line_size=REQUEST_LINE_BYTES_MAX,
            max_field_size=REQUEST_LINE_BYTES_MAX,
            max_headers=REQUEST_HEADERS_MAX,
            read_bufsize=FRAME_BYTES_MAX,
        )
        family = sockets.AF_INET6 if ":" in address.host else sockets.AF_INET
        self._socket = sockets.create_server((address.host, address.port), family=family, backlog=BACKLOG)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Accept until cancelled; each connection is a task of the group.

        A reader callback, not `sock_accept`: that loses a connection unclosed when it is cancelled in the wrong moment.
        """
        loop = asyncio.get_running_loop()
        while True:
            failed: asyncio.Future[OSError] = loop.create_future()
            loop.add_reader(self._socket, self._accept, group, failed)
            try:
                error = await failed
            finally:
                loop.remove_reader(self._socket)
            _log.warning("p2p.accept_failed", error=str(error))
            await asyncio.sleep(ACCEPT_PAUSE_S)

    def _accept(self, group: asyncio.TaskGroup, failed: asyncio.Future[OSError]) -> None:
        for _ in range(ACCEPTS_PER_TURN_MAX):
            try:
                raw, name = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # out of descriptors
                if not failed.done():
                    failed.set_result(error)
                return
            self._let_in(group, raw, name[0])

    def _let_in(self, group: asyncio.TaskGroup, raw: sockets.socket, host: str) -> None:
        raw.setblocking(False)
        self._untouched.add(raw)
        task = group.create_task(self._admit(raw, host), name="p2p.admit")
        self._tasks.add(task)
        task.add_done_callback(partial(self._admitted, raw))
        if (displaced := self._places.enter(host, task)) is not None:
            self._metrics.handshakes_displaced += 1
            displaced.cancel()

    def cancel(self) -> None:
        """Give up every connection that was accepted."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Stop listening, and end what aiohttp still holds. All tasks have ended before."""
        self._socket.close()
        await self._server.shutdown(self._policy.close_timeout_s)

    def _admitted(self, raw: sockets.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places.leave(task)
        if raw in self._untouched:
            self._untouched.discard(raw)
            raw.close()

    def _failed(self, event: str, host: str, reason: str) -> None:
        """Count it, and say so now and then: strangers do not fill the disk with lines about them."""
        self._metrics.handshake_failures += 1
        now_s = asyncio.get_running_loop().time()
        if now_s < self._silent_until_s:
            self._unsaid += 1
            return
        _log.warning(event, host=host, reason=reason, unsaid=self._unsaid)
        self._silent_until_s, self._unsaid = now_s + FAILURES_SAID_EVERY_S, 0

    async def _admit(self, raw: sockets.socket, host: str) -> None:
        self._untouched.discard(raw)
        admission = _Admission()
        protocol = self._server()
        self._admissions[protocol] = admission
        transport: asyncio.Transport | None = None
        key: bytes | None = None
        serve: Serve | None = None
        try:
            try:
                async with asyncio.timeout(self._policy.handshake_timeout_s):
                    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                        lambda: protocol, raw, ssl=self._context()
                    )
                    key = tls.peer_key(transport.get_extra_info("ssl_object"))
                    self._leave_place()
                    serve = await self._greet(key, admission)
            except (TimeoutError, OSError, aiohttp.ClientError) as error:
                self._failed("p2p.handshake_failed", host, str(error) or "timeout")
            except PeerFault as fault:
                self._failed("p2p.handshake_refused", host, fault.reason)
                if key is not None:
                    self._host.fault(key, fault)
            if serve is not None:
                await serve()
        finally:
            del self._admissions[protocol]
            admission.authorized.cancel()
            admission.socket.cancel()
            admission.over.set()
            if transport is not None:
                transport.abort()

    async def _greet(self, key: bytes, admission: _Admission) -> Serve | None:
        if not self._host.authorize(key) or self._handshakes[key] >= self._policy.handshakes_per_peer_max:
            self._metrics.handshakes_refused += 1
            return None
        self._handshakes[key] += 1
        try:
            admission.authorized.set_result(None)
            connection = Connection(await admission.socket)
            try:
                serve = await self._host.greet(key, connection)
            except BaseException:
                connection.hang_up(reset=True)
                raise
            if serve is None:
                self._metrics.handshakes_refused += 1
                await connection.close()  # so that the answer arrives before the connection ends
            return serve
        finally:
            self._handshakes[key] -= 1
            if not self._handshakes[key]:
                del self._handshakes[key]

    async def _upgrade(self, request: web.BaseRequest) -> web.StreamResponse:
        """aiohttp's handler: one websocket per connection, and nothing else."""
        admission = self._admissions.get(request.protocol)
        if admission is None or admission.socket.done():
            raise web.HTTPBadRequest
        try:
            await admission.authorized
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise web.HTTPForbidden from None
        response = web.WebSocketResponse(
            timeout=self._policy.close_timeout_s,
            autoping=False,
            compress=False,
            max_msg_size=FRAME_BYTES_MAX + 1,  # aiohttp refuses what is not shorter
            writer_limit=FRAME_BYTES_MAX,
            decode_text=False,
        )
        try:
            await response.prepare(request)
        except web.HTTPException:
            if not admission.socket.done():
                admission.socket.set_exception(PeerFault("a request that is no websocket", GARBAGE_WEIGHT))
            raise
        if not admission.socket.done():
            admission.socket.set_result(response)
            await admission.over.wait()
        return response

    def _leave_place(self) -> None:
        """This task's caller is known by key: no newcomer takes its place any more."""
        if (task := asyncio.current_task()) is not None:
            self._places.leave(task)
