"""The two bounded queues of a lane: what waits to be sent, and what waits to be handled.

Both are bounded in messages and in bytes. A full outbox never makes its caller wait. On the votes lane it
drops the oldest: votes are repeated by their sender's timers, and a newer one says more. On the bulk lane it
refuses the newest: who asked for bulk asks again, and the caller is told. A full inbox makes the reader wait,
and so, through TCP, the peer: nothing that has arrived is dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque

from consilium.p2p.frame import Message
from consilium.p2p.metrics import LaneMetrics


class Outbox:
    """Messages for one peer on one lane, in order."""

    def __init__(
        self, messages_max: int, bytes_max: int, *, drops_oldest: bool, metrics: LaneMetrics
    ) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._drops_oldest = drops_oldest
        self._metrics = metrics
        self._queue: deque[Message] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()

    @property
    def held_bytes(self) -> int:
        """Bytes of all bodies in the queue."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, message: Message) -> bool:
        """Queue a message. False when the lane refuses it."""
        size = len(message.body)
        if size > self._bytes_max:
            self._metrics.refused += 1
            return False
        while len(self._queue) >= self._messages_max or self._bytes + size > self._bytes_max:
            if not self._drops_oldest:
                self._metrics.refused += 1
                return False
            self._bytes -= len(self._queue.popleft().body)
            self._metrics.dropped += 1
        self._queue.append(message)
        self._bytes += size
        self._ready.set()
        return True

    def take(self) -> Message | None:
        """The oldest message, or None."""
        if not self._queue:
            self._ready.clear()
            return None
        message = self._queue.popleft()
        self._bytes -= len(message.body)
        if not self._queue:
            self._ready.clear()
        return message

    async def ready(self) -> None:
        """Wait until there is a message, or until `nudge`."""
        await self._ready.wait()

    def nudge(self) -> None:
        """Wake whoever waits in `ready`, message or not."""
        self._ready.set()

    def clear(self) -> None:
        """Drop everything: the peer is gone."""
        self._metrics.dropped += len(self._queue)
        self._queue.clear()
        self._bytes = 0
        self._ready.clear()


class Inbox:
    """Messages of one peer on one lane that wait for the handler: one producer, one consumer."""

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._queue: deque[Message] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()
        self._space = asyncio.Event()

    @property
    def held_bytes(self) -> int:
        """Bytes of all bodies in the queue."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._queue)

    async def put(self, message: Message) -> None:
        """Queue a message, as soon as there is space. A message longer than the whole box enters it alone."""
        while self._full(len(message.body)):
            self._space.clear()
            await self._space.wait()
        self._queue.append(message)
        self._bytes += len(message.body)
        self._ready.set()

    async def get(self) -> Message:
        """The oldest message, as soon as there is one."""
        while not self._queue:
            self._ready.clear()
            await self._ready.wait()
        message = self._queue.popleft()
        self._bytes -= len(message.body)
        self._space.set()
        return message

    def clear(self) -> None:
        """Drop everything: the peer is to be heard no longer."""
        self._queue.clear()
        self._bytes = 0
        self._space.set()

    def _full(self, size: int) -> bool:
        if len(self._queue) >= self._messages_max:
            return True
        return bool(self._queue) and self._bytes + size > self._bytes_max
