"""One WebSocket of the RPC: requests answered as over HTTP, and subscriptions to events.

A subscription is a task that pulls from the node's store and writes to the socket, one event at a time: whoever reads
slowly slows its own pulling, and nothing is queued for it here beside the socket's own bounded buffer. When a single
write cannot finish within the limit, the subscriber is told (`events.dropped` with the last cursor, then a close with
code 1013, "try again later") and, whether it reads that or not, is cut off soon after. It loses nothing: it subscribes
again after its last cursor.

Source: RFC 6455 §7.4.1 and the IANA registry of close codes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from consilium.client.rpc_answers import EventAt
from consilium.client.rpc_values import (
    NOW,
    Cursor,
    CursorText,
    DroppedNotice,
    EventNotice,
    SubscribeResult,
    event_value,
)
from consilium.ledger.errors import Refused
from consilium.node.api import NodeApi
from consilium.node.dispatch import Busy, Caller, Dispatcher
from consilium.node.jsonrpc import encode_notification
from consilium.node.metrics import Metrics

HEARTBEAT_S: Final = 20.0
"""Pings go out so often; a peer that answers none is gone."""
CLOSE_TIMEOUT_S: Final = 5.0
"""How long a dropped peer has to read why."""
LAST_WORD_TIMEOUT_S: Final = 0.1
SEND_BUFFER_BYTES: Final = 256 * 1024
"""What the kernel holds for a peer that does not read: left alone, Linux grows it to several megabytes."""
BUSY_RETRY_MS: Final = 100
INDEX_LAST: Final = 2**31 - 1
"""Greater than the index of any event of a block."""

_log = structlog.get_logger("rpc")


class Gone(Exception):
    """The socket is closed, or is being closed: whoever wanted to write may stop."""


@dataclass(slots=True)
class _Subscription:
    name: str
    after: Cursor
    kinds: frozenset[str] | None
    subject: bytes | None
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the answer that names the subscription has left: no event overtakes it."""
    task: asyncio.Task[None] | None = None


class Session:
    """One accepted WebSocket, until it closes. `in_flight_max` and `subscriptions_max` are per connection."""

    def __init__(
        self,
        connection: web.WebSocketResponse,
        transport: asyncio.Transport,
        dispatcher: Dispatcher,
        api: NodeApi,
        metrics: Metrics,
        *,
        privileged: bool,
        in_flight_max: int,
        subscriptions_max: int,
        slow_timeout_s: float,
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._dispatcher = dispatcher
        self._api = api
        self._metrics = metrics
        self._privileged = privileged
        self._in_flight_max = in_flight_max
        self._subscriptions_max = subscriptions_max
        self._slow_timeout_s = slow_timeout_s
        self._requests: set[asyncio.Task[None]] = set()
        self._subscriptions: dict[str, _Subscription] = {}
        self._named = 0
        self._closing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until the peer or the node closes. Every task of the session has ended when this returns."""
        plain = self._transport.get_extra_info("socket")
        if plain is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        try:
            await self._receive()
        finally:
            tasks = [*self._requests, *(s.task for s in self._subscriptions.values() if s.task is not None)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._closing is not None:
                await self._closing
                # What is written is flushed until then; what the peer has not read by then, it will not: a transport
                # that waits for it holds memory.
                asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)

    async def close(self, code: str, detail: str, close_code: int) -> None:
        """Tell every subscription why and where it stood, then close. At once where it is closing already."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(code, detail, close_code))
        await asyncio.shield(self._closing)

    def _newest(self) -> Cursor:
        return Cursor(int(self._api.status()["height"]), INDEX_LAST)

    def open(self, after: str, kinds: frozenset[str] | None, subject: bytes | None) -> _Subscription:
        """Open a subscription. Raises Refused where the connection has enough of them."""
        if len(self._subscriptions) >= self._subscriptions_max:
            raise Refused(
                "rpc.too_many_subscriptions", f"{self._subscriptions_max} are open on this connection"
            )
        start = self._newest() if after == NOW else Cursor.parse(after)
        self._named += 1
        subscription = _Subscription(str(self._named), start, kinds, subject)
        self._subscriptions[subscription.name] = subscription
        subscription.task = asyncio.create_task(self._pump(subscription))
        return subscription

    async def end(self, name: str) -> bool:
        """End one: when this returns, none of its events comes any more. False where there is none of that name."""
        found = self._subscriptions.pop(name, None)
        if found is None or found.task is None:
            return False
        found.task.cancel()
        await asyncio.gather(found.task, return_exceptions=True)
        return True

    async def _receive(self) -> None:
        async for message in self._connection:
            if message.type is not WSMsgType.TEXT:
                await self.close("rpc.invalid_request", "text frames only", WSCloseCode.UNSUPPORTED_DATA)
                return
            refuse: Refused | None = None
            if len(self._requests) >= self._in_flight_max:
                detail = f"{self._in_flight_max} requests are unanswered on this connection"
                refuse = Busy("rpc.busy", detail, BUSY_RETRY_MS)
            task = asyncio.create_task(self._answer(message.data, refuse))
            if refuse is not None:
                # Not counted, so not left behind either: the next frame is read when this refusal is written.
                await task
                continue
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)

    async def _answer(self, raw: bytes, refuse: Refused | None) -> None:
        subscriber = _Subscriber(self)
        answer = await self._dispatcher.answer(raw, Caller(self._privileged, subscriber), refuse=refuse)
        with contextlib.suppress(Gone):
            if answer is not None:
                await self._send(answer)
        for subscription in subscriber.opened:
            subscription.answered.set()

    async def _pump(self, subscription: _Subscription) -> None:
        await subscription.answered.wait()
        self._metrics.subscriptions(1)
        events = self._api.subscribe(subscription.after, subscription.kinds, subscription.subject)
        code, detail = "rpc.shutting_down", ""
        try:
            async for found in events:
                await self._send(_notice(subscription.name, found))
                subscription.after = found.cursor
        except Gone:
            return
        except Refused as refusal:
            code, detail = refusal.code, refusal.detail
        except Exception as error:  # noqa: BLE001 - a bug in the node must end this stream aloud, and is logged
            _log.error("subscription_failed", exc_info=error)
            code = "rpc.internal"
        finally:
            self._subscriptions.pop(subscription.name, None)
            self._metrics.subscriptions(-1)
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()
        with contextlib.suppress(Gone):
            await self._send(_dropped(subscription, code, detail))

    async def _send(self, frame: bytes) -> None:
        """Write one text frame. Raises Gone where the peer is, or is too slow and therefore dropped."""
        if self._closing is not None or self._connection.closed:
            raise Gone
        try:
            async with asyncio.timeout(self._slow_timeout_s):
                await self._connection.send_frame(frame, WSMsgType.TEXT)
        except TimeoutError:
            if self._subscriptions:
                self._metrics.slow_subscriber()
            _log.warning("rpc_peer_too_slow", subscriptions=len(self._subscriptions))
            detail = f"a write did not finish within {self._slow_timeout_s:g} s"
            await self.close("rpc.slow_subscriber", detail, WSCloseCode.TRY_AGAIN_LATER)
            raise Gone from None
        except ConnectionError:
            raise Gone from None

    async def _close(self, code: str, detail: str, close_code: int) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(LAST_WORD_TIMEOUT_S):
                for subscription in list(self._subscriptions.values()):
                    await self._connection.send_frame(_dropped(subscription, code, detail), WSMsgType.TEXT)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._connection.close(code=close_code, message=code.encode(), drain=False)


class _Subscriber:
    """The subscriptions that one message opens: their events wait for the answer to that message."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.opened: list[_Subscription] = []

    async def subscribe(
        self, after: str, kinds: frozenset[str] | None, subject: bytes | None
    ) -> SubscribeResult:
        subscription = self._session.open(after, kinds, subject)
        self.opened.append(subscription)
        return SubscribeResult(subscription.name, CursorText(subscription.after))

    async def unsubscribe(self, subscription: str) -> bool:
        return await self._session.end(subscription)


def _notice(name: str, found: EventAt) -> bytes:
    notice = EventNotice(name, CursorText(found.cursor), event_value(found.event))
    return encode_notification("events.event", notice)


def _dropped(subscription: _Subscription, code: str, detail: str) -> bytes:
    cause, remedy = Refused(code).entry
    cursor = CursorText(subscription.after)
    notice: Any = DroppedNotice(subscription.name, cursor, code, cause, remedy, detail)
    return encode_notification("events.dropped", notice)
