"""A stream of events that survives its connections: none is missed, none comes twice.

The node sends each event with its cursor. The stream remembers the last cursor that it gave out, and subscribes after
it whenever a connection is lost, at whichever node answers; cursors mean the same at all of them. What a node repeats
nevertheless is dropped by its cursor. A node that lags behind the cursor sends nothing until it has caught up.

The application's pace is the stream's: events are read from the socket one by one as they are asked for. An
application that pauses for long is dropped by the node, and connected again when it goes on.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

import aiohttp
import msgspec

from consilium.client.rpc_answers import EventAt
from consilium.client.rpc_transport import (
    Answer,
    ConnectionLost,
    Socket,
    decode_answer,
    open_socket,
    printable,
    request,
    result_of,
)
from consilium.client.rpc_values import (
    NOW,
    Cursor,
    DroppedNotice,
    EventNotice,
    SubscribeResult,
    decode_json,
    event_of,
)
from consilium.ledger.catalogue import CATALOGUE
from consilium.ledger.errors import Refused

ANSWER_TIMEOUT_S: Final = 20.0
RETRY_MIN_S: Final = 0.05
RETRY_MAX_S: Final = 2.0
CLOSE_TIMEOUT_S: Final = 0.5
TRANSIENT: Final = frozenset(
    {"rpc.busy", "rpc.internal", "rpc.shutting_down", "rpc.slow_subscriber", "rpc.timeout"}
)
"""Reasons to connect again; any other refusal is the application's to hear."""


async def follow(
    session: aiohttp.ClientSession,
    urls: Sequence[str],
    after: Cursor | str | None,
    kinds: Sequence[str] | None,
    subject: bytes | None,
    give_up_s: float,
    monotonic: Callable[[], float],
) -> AsyncGenerator[EventAt, None]:
    """All events after the cursor, for ever. Raises Refused: `rpc.unreachable` after `give_up_s` without any node."""
    stream = _Stream(session, after, kinds, subject)
    heard = monotonic()
    delay_s = RETRY_MIN_S
    for url in itertools.cycle(urls):
        subscribed = stream.subscribed
        try:
            async with aclosing(stream.at(url)) as found:
                async for event in found:
                    yield event
        except ConnectionLost as lost:
            reason = f"{lost.url}: {lost.reason}"
        except Refused as refusal:
            if refusal.code not in TRANSIENT:
                raise
            reason = str(refusal)
        if stream.subscribed > subscribed:
            heard, delay_s = monotonic(), RETRY_MIN_S
        if monotonic() - heard >= give_up_s:
            raise Refused("rpc.unreachable", f"for {give_up_s:g} s; at last {reason}")
        await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
        delay_s = min(2 * delay_s, RETRY_MAX_S)


class _Stream:
    """What outlives a connection: the filter, and the last cursor given out."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        after: Cursor | str | None,
        kinds: Sequence[str] | None,
        subject: bytes | None,
    ) -> None:
        self._session = session
        self._after = after
        self._last = after if isinstance(after, Cursor) else Cursor(-1, -1)
        self._params: dict[str, Any] = {}
        self.subscribed = 0
        """How often a node took the subscription."""
        if kinds is not None:
            self._params["kinds"] = list(kinds)
        if subject is not None:
            self._params["subject"] = subject.hex()

    async def at(self, url: str) -> AsyncGenerator[EventAt, None]:
        """Events over one connection. Raises ConnectionLost when it ends, Refused where the node says why."""
        socket = await open_socket(self._session, url, None)
        try:
            name = await self._subscribe(socket, url)
            while True:
                answer = await _receive(socket, url, None)
                if answer.method == "events.dropped":
                    notice = _params(answer, DroppedNotice, url)
                    raise _refusal(notice)
                if answer.method != "events.event":
                    continue
                found = _params(answer, EventNotice, url)
                cursor = Cursor.parse(found.cursor)
                if found.subscription == name and cursor > self._last:
                    self._last = cursor
                    self._after = cursor
                    yield EventAt(cursor, event_of(found.event))
        finally:
            await _close(socket)

    async def _subscribe(self, socket: Socket, url: str) -> str:
        params = dict(self._params)
        if self._after is not None:
            params["after"] = str(self._after)
        number, body = request("events.subscribe", params)
        try:
            await socket.send_frame(body, aiohttp.WSMsgType.TEXT)
        except ConnectionError as error:
            raise ConnectionLost(url, printable(str(error)), sent=True) from None
        answer = await _receive(socket, url, ANSWER_TIMEOUT_S)
        result = result_of(answer, number, SubscribeResult, url)
        if self._after == NOW:
            # From here on a reconnect must not skip what was committed meanwhile.
            self._after = self._last = Cursor.parse(result.after)
        self.subscribed += 1
        return result.subscription


async def _receive(socket: Socket, url: str, timeout_s: float | None) -> Answer:
    """The next message. A silent peer is found out by the socket's heartbeat."""
    try:
        message = await socket.receive(timeout_s)
    except TimeoutError:
        raise ConnectionLost(url, "no answer to the subscription", sent=False) from None
    if message.type is aiohttp.WSMsgType.TEXT:
        return decode_answer(message.data, url)
    raise ConnectionLost(url, f"closed with {socket.close_code}", sent=True)


async def _close(socket: Socket) -> None:
    """Close, but do not wait for a peer that does not answer."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await socket.close()
    except TimeoutError:
        return


def _params(answer: Answer, kind: Any, url: str) -> Any:
    try:
        return decode_json(answer.params, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("rpc.remote_error", f"{url}: {printable(str(error))}") from None


def _refusal(notice: DroppedNotice) -> Refused:
    if notice.code in CATALOGUE:
        return Refused(notice.code, printable(notice.detail))
    return Refused("rpc.remote_error", printable(f"{notice.code}: {notice.detail}"))
