"""The load generator: WebSockets that hand in prepared calls and take the time until each is answered.

`transaction.commit` answers when all transactions of the call are durable at the node that was asked, so the answer is
the commit notice. In a *closed loop* each client has one call outstanding; in an *open loop* calls leave at their
times whatever became of the earlier ones, and latency counts from the time at which a call was due, not from when it
could leave. Everything dear (signing, base64) was done before; what is left is measured as the generator's own cost.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from scripts.benchmark.workload import Request

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
CALL_TIMEOUT_MS: Final = 60_000
RECONNECT_S: Final = 0.05
REFUSAL_PAUSE_S: Final = 0.25
_ACCEPTED: Final = b'"committed":{'
_OK: Final = b'"code":"ok"'


@dataclass(slots=True)
class Answered:
    """One answered call: when it was due and when the answer came (s, monotonic), and what it held."""

    due_s: float
    done_s: float
    committed: int
    refused: int


@dataclass(slots=True)
class Tally:
    """All that clients saw in a round."""

    answers: list[Answered] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    """Calls whose connection broke: their transactions may be committed all the same."""
    failed: int = 0
    """Transactions that the ledger refused: a load that does nothing measures nothing."""

    def take(self, due_s: float, raw: bytes, count: int) -> int:
        """Count the answer to a call of `count` transactions. Returns how many of them were not taken."""
        committed = raw.count(_ACCEPTED)
        if raw.count(_OK) != committed:
            self.failed += committed - raw.count(_OK)
        if committed != count:
            self._name_refusals(raw, count)
        self.answers.append(Answered(due_s, time.perf_counter(), committed, count - committed))
        return count - committed

    def _name_refusals(self, raw: bytes, count: int) -> None:
        answer = json.loads(raw)
        if "error" in answer:
            code = answer["error"]["data"]["code"]
            self.codes[code] = self.codes.get(code, 0) + count
            return
        for one in answer["result"]["results"]:
            if "committed" not in one:
                code = one.get("error", {}).get("code", "undecided")
                self.codes[code] = self.codes.get(code, 0) + 1


class Client:
    """One client on one WebSocket, with its own prepared calls."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, requests: Sequence[Request], tally: Tally
    ) -> None:
        self._session = session
        self._url = url
        self._requests = list(reversed(requests))
        self._tally = tally
        self._number = 0
        self._waiting: dict[int, tuple[float, int]] = {}

    @property
    def exhausted(self) -> bool:
        """Whether all prepared calls were used."""
        return not self._requests

    async def closed(self, stop: asyncio.Event) -> None:
        """One call after the other until `stop`, across lost connections."""
        while not stop.is_set() and self._requests:
            asked = False
            try:
                async with self._connect() as socket:
                    while not stop.is_set() and self._requests:
                        request = self._requests.pop()
                        due_s, asked = time.perf_counter(), True
                        await socket.send_str(self._frame(request))
                        message = await socket.receive()
                        if message.type is not aiohttp.WSMsgType.TEXT:
                            raise ConnectionError("closed")
                        asked = False
                        if self._tally.take(due_s, message.data, request.count):
                            await asyncio.sleep(REFUSAL_PAUSE_S)
            except (aiohttp.ClientError, OSError):
                self._tally.lost += asked  # a node that is down is dialled again and again
                await asyncio.sleep(RECONNECT_S)

    async def open(self, stop: asyncio.Event, every_s: float, first_s: float) -> None:
        """A call each `every_s`, the first at `first_s` (monotonic), until `stop`; then the answers that are due.

        A connection that breaks ends it, and raises: the rest of what was offered here is not offered elsewhere.
        """
        try:
            await self._open(stop, every_s, first_s)
        finally:
            self._tally.lost += len(self._waiting)
            self._waiting.clear()

    async def _open(self, stop: asyncio.Event, every_s: float, due_s: float) -> None:
        async with self._connect() as socket:
            reader = asyncio.create_task(self._read(socket))
            while not stop.is_set() and self._requests:
                wait_s = due_s - time.perf_counter()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                request = self._requests.pop()
                text = self._frame(request)
                self._waiting[self._number] = (due_s, request.count)
                await socket.send_str(text)
                due_s += every_s
            while self._waiting and not reader.done():
                await asyncio.wait([reader], timeout=RECONNECT_S)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def _connect(self) -> aiohttp.client._WSRequestContextManager:
        return self._session.ws_connect(
            self._url, compress=0, max_msg_size=ANSWER_BYTES_MAX, decode_text=False, autoping=True
        )

    def _frame(self, request: Request) -> str:
        self._number += 1
        return f'{request.frame},"timeout_ms":{CALL_TIMEOUT_MS}}},"id":{self._number}}}'

    async def _read(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            raw = message.data
            number = int(raw[raw.rindex(b'"id":') + 5 :].split(b",")[0].rstrip(b"}"))
            due_s, count = self._waiting.pop(number)
            self._tally.take(due_s, raw, count)
