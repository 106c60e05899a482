"""A peer: two websockets, one a lane, their boxes, and the record of its faults.

Each lane has one link at a time, and each link a reader and a writer. The reader puts frames together and
waits while the inbox is full; a worker (see `mesh`) hands the inbox to the host, one message after the other.
The writer empties the outbox, a frame at a time.

Liveness is one-sided, by unsolicited pongs (RFC 6455 section 5.5.3: a unidirectional heartbeat): whoever has
nothing to send says so every `beat_s`. A peer from which nothing comes for `silence_timeout_s` *while this
side is reading* is gone: stopped, cut off, or asleep. So a node that is busy handling, and for that reason
does not read, neither looks dead (its beats go on) nor takes its peers for dead (it is not listening). A peer
that lives but takes nothing off the wire for `stall_timeout_s` is closed too: its outbox is memory of ours.

All three are watched by one timer a link (`Pulse`): a vote is a few microseconds of work, and to set and cancel a
timeout for each frame that is read and each that is written takes longer than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp

from consilium.p2p.box import Inbox, Outbox
from consilium.p2p.connection import Connection
from consilium.p2p.frame import Chunker, Lane, Message, Reassembler
from consilium.p2p.metrics import LaneMetrics, MeshMetrics, PeerStatus
from consilium.p2p.pace import Pace
from consilium.p2p.policy import Address, MeshPolicy
from consilium.p2p.score import Score

FRAMES_PER_TURN_MAX: Final = 32
"""After so many frames in one go, everybody else on the event loop has a turn."""


LAST_LOOK_S: Final = 0.05
"""Who seems to be gone is looked at once more after so long: where this process itself stood still, what the peer said
meanwhile has arrived and is read first."""


class Port:
    """One lane of one peer: its boxes, and the link that serves it, if any."""

    def __init__(self, lane: Lane, policy: MeshPolicy, metrics: LaneMetrics) -> None:
        limits = policy.lane(lane)
        self.lane = lane
        self.metrics = metrics
        self.outbox = Outbox(
            limits.outbox_messages_max,
            limits.outbox_bytes_max,
            drops_oldest=lane is Lane.VOTES,
            metrics=metrics,
        )
        self.inbox = Inbox(limits.inbox_messages_max, limits.inbox_bytes_max)
        self.pace = Pace(limits.messages_per_s_max)
        self.link: Link | None = None
        self.vacant = asyncio.Event()
        self.vacant.set()
        self.wake = asyncio.Event()
        """Set when a dialler that waits should look again: a new address."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.links = 0


class Pulse:
    """When a link last read and wrote, and the one timer that looks at it. `reading_s` and `sending_s` are since when
    (s, the loop's clock) a wait for the peer goes on, None where there is none; `beat` is called when this side has
    said nothing for `beat_s`, `ended` with the reason when the peer is gone.
    """

    __slots__ = (
        "_beat",
        "_doubted",
        "_ended",
        "_loop",
        "_policy",
        "_said_s",
        "_timer",
        "reading_s",
        "sending_s",
    )

    def __init__(
        self, policy: MeshPolicy, beat: Callable[[], object], ended: Callable[[str], object]
    ) -> None:
        self._policy = policy
        self._beat = beat
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._said_s = self._loop.time()
        self.reading_s: float | None = None
        self.sending_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._doubted = False

    def start(self) -> None:
        """Look from now on, until `stop`."""
        self._look()

    def stop(self) -> None:
        """Look no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wait_to_read(self) -> None:
        """A read begins."""
        self.reading_s = self._loop.time()

    def wait_to_send(self) -> None:
        """A write begins."""
        self.sending_s = self._loop.time()

    def sent(self) -> None:
        """A write is through."""
        if self.sending_s is not None:
            self._said_s = self.sending_s
        self.sending_s = None

    def _look(self) -> None:
        policy, now_s = self._policy, self._loop.time()
        silent_s = (now_s if self.reading_s is None else self.reading_s) + policy.silence_timeout_s
        stalled_s = (now_s if self.sending_s is None else self.sending_s) + policy.stall_timeout_s
        if silent_s <= now_s or stalled_s <= now_s:
            if not self._doubted:
                self._doubted = True
                self._timer = self._loop.call_later(LAST_LOOK_S, self._look)
                return
            self._timer = None
            self._ended("silent" if silent_s <= now_s else "stalled")
            return
        self._doubted = False
        if self._said_s + policy.beat_s <= now_s:
            self._said_s = now_s
            self._beat()
        due_s = min(silent_s, stalled_s, self._said_s + policy.beat_s)
        self._timer = self._loop.call_at(due_s, self._look)


class Link:
    """One websocket, from welcome to end. `initiator` is the key of the node that dialled."""

    def __init__(
        self,
        connection: Connection,
        port: Port,
        *,
        initiator: bytes,
        limits: Mapping[int, int],
        policy: MeshPolicy,
    ) -> None:
        self.initiator = initiator
        self.port = port
        self._connection = connection
        self._policy = policy
        self._reassembler = Reassembler(limits)
        self._closing = asyncio.get_running_loop().create_future()
        self._pulse = Pulse(policy, self._beat, self._gone)
        self._beat_due = False

    def close(self, reason: str, *, reset: bool) -> None:
        """End the link now. `run` returns soon after."""
        if not self._closing.done():
            self._closing.set_result(reason)
            self._connection.hang_up(reset=reset)

    async def run(self) -> str:
        """Read and write until the link ends; return why. PeerFault when the peer's frames ended it."""
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        self._pulse.start()
        try:
            await asyncio.wait({reader, writer, self._closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._pulse.stop()
            by_us = self._closing.done() and not (reader.done() or writer.done())
            self.close("ended", reset=reader.done() or writer.done())
            reader.cancel()
            writer.cancel()
            await asyncio.wait({reader, writer})
            await self._connection.finish(self._policy.close_timeout_s)
        if by_us:  # how reader and writer ended of that says nothing
            return str(self._closing.result())
        ended = [task for task in (reader, writer) if not task.cancelled()]
        for task in ended:
            if (error := task.exception()) is not None:
                raise error
        return ended[0].result() if ended else str(self._closing.result())

    def _beat(self) -> None:
        self._beat_due = True
        self.port.outbox.nudge()

    def _gone(self, reason: str) -> None:
        self.close(reason, reset=True)

    async def _read(self) -> str:
        port, pulse, receive = self.port, self._pulse, self._connection.receive
        frames = 0
        while True:
            pulse.wait_to_read()
            try:
                frame = await receive()
            except (OSError, aiohttp.ClientError) as error:
                return f"lost: {error}"
            pulse.reading_s = None
            if frame is None:
                continue  # a beat
            port.metrics.frames_in += 1
            port.metrics.bytes_in += len(frame)
            port.bytes_in += len(frame)
            message = self._reassembler.feed(frame)
            if message is not None:
                port.metrics.messages_in += 1
                await port.inbox.put(message)
            frames += 1
            if frames % FRAMES_PER_TURN_MAX == 0:
                await asyncio.sleep(0)

    async def _write(self) -> str:
        chunker, pulse = Chunker(), self._pulse
        outbox = self.port.outbox
        try:
            while not self._closing.done():
                message = outbox.take()
                if message is not None:
                    self._beat_due = False
                    await self._write_message(chunker, message)
                elif self._beat_due:
                    self._beat_due = False
                    pulse.wait_to_send()
                    await self._connection.beat()
                    pulse.sent()
                else:
                    await outbox.ready()
        except (OSError, aiohttp.ClientError) as error:
            return f"lost: {error}"
        return "closed"

    async def _write_message(self, chunker: Chunker, message: Message) -> None:
        port, pulse = self.port, self._pulse
        for frame in chunker.frames(message.kind, message.body):
            pulse.wait_to_send()
            await self._connection.send(frame)
            pulse.sent()
            port.metrics.frames_out += 1
            port.metrics.bytes_out += len(frame)
            port.bytes_out += len(frame)
            if port.lane is Lane.BULK:
                await asyncio.sleep(0)  # a long message must not keep votes from the event loop
        port.metrics.messages_out += 1


class Peer:
    """One member of the network, connected or not."""

    def __init__(self, key: bytes, address: Address | None, policy: MeshPolicy, metrics: MeshMetrics) -> None:
        self.key = key
        self.address = address
        self.score = Score(policy)
        self.ports = tuple(Port(lane, policy, metrics.lane(lane)) for lane in Lane)
        self.connected_at_s: float | None = None

    @property
    def connected(self) -> bool:
        """Whether both lanes are open."""
        return all(port.link is not None for port in self.ports)

    def wake(self) -> None:
        """Have both lanes dialled now, if they are vacant and may be."""
        for port in self.ports:
            port.wake.set()

    def adopt(self, link: Link) -> bool:
        """Make the link the one of its lane; False when a better one is there.

        Both ends judge alike, whichever of two links they see first. Of links dialled by different ends the
        one that the lower key dialled stays. Of links dialled by the same end the newer stays: it would not
        have dialled if the older one lived.
        """
        port = link.port
        current = port.link
        if current is not None:
            if current.initiator != link.initiator and current.initiator < link.initiator:
                return False
            current.close("replaced", reset=False)
        port.link = link
        port.links += 1
        port.vacant.clear()
        return True

    def release(self, link: Link) -> bool:
        """The link has ended: free what waits for it. False when another has taken its place."""
        port = link.port
        if port.link is not link:
            return False
        port.link = None
        port.outbox.clear()
        port.vacant.set()
        return True

    def disconnect(self, reason: str, *, reset: bool) -> None:
        """End all links, and forget what was received and not yet handled."""
        for port in self.ports:
            port.inbox.clear()
            if port.link is not None:
                port.link.close(reason, reset=reset)

    def status(self, now_s: float) -> PeerStatus:
        """What an operator sees of the peer."""
        return PeerStatus(
            key=self.key,
            address=self.address,
            connected=self.connected,
            connected_s=0.0 if self.connected_at_s is None else now_s - self.connected_at_s,
            score=self.score.value(now_s),
            banned_s=self.score.banned_s(now_s),
            bytes_in=sum(port.bytes_in for port in self.ports),
            bytes_out=sum(port.bytes_out for port in self.ports),
            outbox_bytes=sum(port.outbox.held_bytes for port in self.ports),
            reconnects=sum(max(0, port.links - 1) for port in self.ports),
        )
