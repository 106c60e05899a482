"""The node's face over HTTP: JSON-RPC 2.0 at `/rpc` (POST, or a WebSocket), `/healthz`, `/metrics`.

Everything from outside is bounded before it is looked at: connections, time to the first headers, bytes and time of a
body, messages, requests in flight. Three things keep a web page in the institution's own browser from using the node
behind its user's back: a body must be `application/json` (a cross-site form cannot say so), an `Origin` must be on
the list, and the `Host` must be an IP address, a loopback name or on the list, which defeats a foreign name that was
made to resolve here. Privileged methods need the bearer token even on loopback: other users share it.

Source: fetch.spec.whatwg.org (CORS); RFC 9110 (HTTP), RFC 6455 (WebSocket), RFC 6750 (bearer tokens).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog
from aiohttp import WSCloseCode, hdrs, web

from consilium.client.rpc_values import encode_json
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.node.api import NodeApi
from consilium.node.config_sections import RpcSection
from consilium.node.dispatch import Busy, Caller, Dispatcher, Method
from consilium.node.jsonrpc import refusal_response
from consilium.node.metrics import CONTENT_TYPE, Metrics
from consilium.node.rpc_methods import METHODS
from consilium.node.streams import Route
from consilium.node.subscriptions import CLOSE_TIMEOUT_S, HEARTBEAT_S, Session

PATH: Final = "/rpc"
HEADERS_TIMEOUT_S: Final = 10.0
"""A connection that has not sent a whole first request's headers by then is closed."""
KEEPALIVE_TIMEOUT_S: Final = 60.0
BODY_TIMEOUT_S: Final = 60.0
WRITE_TIMEOUT_S: Final = 60.0
SHUTDOWN_TIMEOUT_S: Final = 5.0
BACKLOG: Final = 128
BUSY_RETRY_MS: Final = 1_000
PREFLIGHT_AGE_S: Final = 600
LOOPBACK_NAMES: Final = frozenset({"localhost", "ip6-localhost"})

_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = structlog.get_logger("rpc")


class RpcServer:
    """The RPC of one node. `start` listens and returns the port; `stop` lets running calls finish for a while."""

    def __init__(
        self,
        api: NodeApi,
        section: RpcSection,
        token: str,
        *,
        metrics: Metrics,
        on_broken: Callable[[InvariantBroken], None],
        methods: Mapping[str, Method] = METHODS,
        streams: Sequence[Route] = (),
    ) -> None:
        self._api = api
        self._streams = streams
        self._section = section
        self._token = token.encode()
        self._metrics = metrics
        self._dispatcher = Dispatcher(
            api,
            methods,
            metrics=metrics,
            in_flight_max=section.in_flight_max,
            batch_requests_max=section.batch_requests_max,
            on_broken=on_broken,
        )
        self._sessions: set[Session] = set()
        self._silent: set[Any] = set()
        """Connections that have not sent a whole first request yet."""
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> int:
        """Listen, and return the port. Raises OSError where the address is taken, Refused for bad TLS files."""
        app = web.Application(middlewares=[self._guard], client_max_size=self._section.body_bytes_max)
        app.router.add_post(PATH, self._post)
        app.router.add_get(PATH, self._socket, allow_head=False)
        app.router.add_options(PATH, self._preflight)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._exposition)
        for route in self._streams:
            app.router.add_route(route.method, route.path, self._for_the_institution(route.handler))
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=KEEPALIVE_TIMEOUT_S,
            shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            auto_decompress=False,
        )
        await self._runner.setup()
        self._listener = await asyncio.get_running_loop().create_server(
            self._accept, self._section.host, self._section.port, ssl=self._tls(), backlog=BACKLOG
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        return self.port

    async def stop(self) -> None:
        """Accept nothing more, tell subscribers, let running calls finish within SHUTDOWN_TIMEOUT_S, close."""
        if self._listener is not None:
            self._listener.close()
        closing = [
            session.close("rpc.shutting_down", "", WSCloseCode.GOING_AWAY) for session in self._sessions
        ]
        await asyncio.gather(*closing, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        self._listener = self._runner = None

    def _tls(self) -> ssl.SSLContext | None:
        if not self._section.tls_certificate:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._section.tls_certificate, self._section.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise Refused("config.invalid_value", f"[rpc] tls_certificate, tls_key: {error}") from None
        return context

    def _accept(self) -> asyncio.Protocol:
        """A protocol for a new connection: aiohttp's, or one that says *full*."""
        server = self._runner.server if self._runner is not None else None
        if server is None or len(server.connections) >= self._section.connections_max:
            return _Full()
        protocol = server()
        self._silent.add(protocol)
        asyncio.get_running_loop().call_later(HEADERS_TIMEOUT_S, self._hurry, protocol)
        self._metrics.rpc_connections(len(server.connections) + 1)
        return protocol

    def _hurry(self, protocol: Any) -> None:
        if protocol in self._silent and protocol.transport is not None:
            protocol.transport.abort()
        self._silent.discard(protocol)

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Who may speak at all: see the module's theory."""
        self._silent.discard(request.protocol)
        server = self._runner.server if self._runner is not None else None
        self._metrics.rpc_connections(len(server.connections) if server is not None else 0)
        if request.path == "/healthz":
            return await handler(request)
        try:
            self._check_host(request)
            origin = self._check_origin(request)
        except Refused as refusal:
            return _refusal(refusal, 403)
        response = await handler(request)
        if origin is not None and not response.prepared:
            response.headers.update(_cors(origin))
        return await self._written(request, response)

    async def _written(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        """Write the response out within its time: a client that does not read holds memory no longer."""
        if isinstance(response, web.WebSocketResponse):
            return response
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:  # the client is gone: nobody waits for the answer
            pass
        return response

    def _check_host(self, request: web.Request) -> None:
        host = request.host.strip().lower()
        name = host[1 : host.find("]")] if host.startswith("[") else host.rsplit(":", 1)[0]
        if name in LOOPBACK_NAMES or name in self._section.hosts or "*" in self._section.hosts:
            return
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise Refused("rpc.forbidden_host", f"Host: {name[:100]}; see rpc.hosts") from None

    def _check_origin(self, request: web.Request) -> str | None:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or "*" in self._section.cors_origins or origin in self._section.cors_origins:
            return origin
        raise Refused("rpc.forbidden_host", f"Origin: {origin[:100]}; see rpc.cors_origins")

    def _privileged(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)

    def _for_the_institution(self, handler: _Handler) -> _Handler:
        async def checked(request: web.Request) -> web.StreamResponse:
            if not self._privileged(request):
                return _refusal(Refused("rpc.unauthorised", f"{request.path} needs the node's token"), 401)
            return await handler(request)

        return checked

    async def _post(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json" or hdrs.CONTENT_ENCODING in request.headers:
            return _refusal(Refused("rpc.unsupported_media", f"Content-Type: {request.content_type}"), 415)
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            detail = f"at most {self._section.body_bytes_max} bytes"
            return _refusal(Refused("rpc.request_too_large", detail), 413)
        except TimeoutError:
            return _refusal(
                Refused("rpc.timeout", f"the body did not arrive within {BODY_TIMEOUT_S:g} s"), 408
            )
        except ConnectionError:
            # Whoever hangs up in the middle of a body gets no answer, and no stack trace in the log either.
            return web.Response(status=400)
        answer = await self._dispatcher.answer(raw, Caller(self._privileged(request)))
        if answer is None:
            return web.Response(status=204)
        return web.Response(body=answer, content_type="application/json")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S,
            heartbeat=HEARTBEAT_S,
            compress=False,
            max_msg_size=self._section.body_bytes_max,
            decode_text=False,
        )
        if not socket.can_prepare(request):
            upgrade = _refusal(
                Refused("rpc.websocket_needed", "GET /rpc is for WebSockets; POST JSON instead"), 426
            )
            upgrade.headers[hdrs.UPGRADE] = "websocket"
            return upgrade
        transport = request.transport
        if self._listener is None or transport is None:
            return _refusal(Busy("rpc.shutting_down", "", BUSY_RETRY_MS), 503)
        await socket.prepare(request)
        session = Session(
            socket,
            transport,
            self._dispatcher,
            self._api,
            self._metrics,
            privileged=self._privileged(request),
            in_flight_max=self._section.connection_in_flight_max,
            subscriptions_max=self._section.subscriptions_max,
            slow_timeout_s=self._section.slow_subscriber_timeout_ms / 1_000,
        )
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)
        return socket

    async def _preflight(self, request: web.Request) -> web.StreamResponse:
        headers = {
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": "authorization, content-type",
            "Access-Control-Max-Age": str(PREFLIGHT_AGE_S),
        }
        return web.Response(status=204, headers=headers)

    async def _health(self, request: web.Request) -> web.StreamResponse:
        healthy, reason = self._api.healthy()
        body = msgspec.json.encode({"healthy": healthy, "reason": reason})
        return web.Response(status=200 if healthy else 503, body=body, content_type="application/json")

    async def _exposition(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._metrics.exposition(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})


class _Full(asyncio.Protocol):
    """One connection too many: it is told so, and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            with contextlib.suppress(OSError):
                transport.write(_FULL)
        transport.close()


def _refusal(refusal: Refused, status: int) -> web.Response:
    """A refusal before any request was read: a JSON-RPC error with a null id."""
    return web.Response(
        status=status, body=encode_json(refusal_response(refusal, None)), content_type="application/json"
    )


def _cors(origin: str) -> dict[str, str]:
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
