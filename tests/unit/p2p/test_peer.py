"""Which of two links stays, and a link on a websocket that the test controls."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import permutations
from typing import Any

import aiohttp
import pytest

from consilium.ledger.errors import PeerFault
from consilium.p2p.connection import Connection
from consilium.p2p.frame import Chunker, Lane, Message
from consilium.p2p.metrics import MeshMetrics
from consilium.p2p.peer import Link, Peer
from consilium.p2p.policy import MeshPolicy

LOW, HIGH = bytes(32), bytes([255]) * 32
LIMITS = {1: 1_000}
TIMEOUT_S = 10.0


class ScriptedSocket:
    """A websocket whose other end is the test."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[Any] = asyncio.Queue(100)
        self.sent: list[bytes] = []
        self.beats = 0
        self.event = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.closed = False

    async def receive(self) -> Any:
        return await self.incoming.get()

    async def send_bytes(self, data: bytes) -> None:
        await self.writable.wait()
        self.sent.append(data)
        self.event.set()

    async def pong(self, message: bytes = b"") -> None:
        self.beats += 1
        self.event.set()

    async def close(self, *, code: int = 1000) -> bool:
        self.closed = True
        return True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def feed(self, kind: aiohttp.WSMsgType, data: Any = b"") -> None:
        self.incoming.put_nowait(aiohttp.WSMessage(kind, data, None))


@pytest.fixture
def socket() -> ScriptedSocket:
    return ScriptedSocket()


def make_peer(policy: MeshPolicy) -> Peer:
    return Peer(HIGH, None, policy, MeshMetrics())


def make_link(peer: Peer, initiator: bytes, policy: MeshPolicy, socket: ScriptedSocket | None = None) -> Link:
    connection = Connection(socket or ScriptedSocket())
    return Link(connection, peer.ports[Lane.VOTES], initiator=initiator, limits=LIMITS, policy=policy)


async def test_both_ends_keep_the_same_link_in_whatever_order_they_see_them(fast: MeshPolicy) -> None:
    for order in permutations([LOW, HIGH]):
        peer = make_peer(fast)
        for initiator in order:
            peer.adopt(make_link(peer, initiator, fast))
        link = peer.ports[Lane.VOTES].link
        assert link is not None
        assert link.initiator == LOW


async def test_of_two_links_of_the_same_end_the_newer_stays(fast: MeshPolicy) -> None:
    for initiator in (LOW, HIGH):
        peer = make_peer(fast)
        old, new = make_link(peer, initiator, fast), make_link(peer, initiator, fast)
        assert peer.adopt(old)
        assert peer.adopt(new)
        peer.release(old)  # ends later, and must not free its successor's place
        assert peer.ports[Lane.VOTES].link is new
        assert not peer.ports[Lane.VOTES].vacant.is_set()
        peer.release(new)
        assert peer.ports[Lane.VOTES].vacant.is_set()


async def test_a_link_beats_when_it_has_nothing_to_say(fast: MeshPolicy, socket: ScriptedSocket) -> None:
    peer = make_peer(fast)
    running = asyncio.create_task(make_link(peer, LOW, replace(fast, beat_s=0.01), socket).run())
    async with asyncio.timeout(TIMEOUT_S):
        while socket.beats < 3:
            socket.event.clear()
            await socket.event.wait()
    running.cancel()
    await asyncio.wait({running})
    assert socket.closed


async def test_a_link_sends_what_is_in_the_outbox_in_order(fast: MeshPolicy, socket: ScriptedSocket) -> None:
    peer = make_peer(fast)
    link = make_link(peer, LOW, fast, socket)
    sent = [Message(1, bytes([number])) for number in range(5)]
    for message in sent:
        peer.ports[Lane.VOTES].outbox.put(message)
    running = asyncio.create_task(link.run())
    async with asyncio.timeout(TIMEOUT_S):
        while len(socket.sent) < 5:
            socket.event.clear()
            await socket.event.wait()
    chunker = Chunker()
    assert socket.sent == [frame for message in sent for frame in chunker.frames(*message)]
    link.close("enough", reset=False)
    assert await asyncio.wait_for(running, TIMEOUT_S) == "enough"


async def test_beats_are_life_and_silence_is_death(fast: MeshPolicy, socket: ScriptedSocket) -> None:
    peer = make_peer(fast)
    running = asyncio.create_task(make_link(peer, LOW, replace(fast, silence_timeout_s=1.0), socket).run())
    for _ in range(15):
        await asyncio.sleep(0.1)  # together more than the silence that would be death
        socket.feed(aiohttp.WSMsgType.PONG)
    assert not running.done()
    assert await asyncio.wait_for(running, TIMEOUT_S) == "silent"


async def test_who_spoke_while_this_side_stood_still_is_not_silent(
    fast: MeshPolicy, socket: ScriptedSocket
) -> None:
    peer = make_peer(fast)
    link = make_link(peer, LOW, replace(fast, silence_timeout_s=0.2), socket)
    running = asyncio.create_task(link.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert link._pulse.reading_s is not None
    frame = next(Chunker().frames(1, b"x"))
    asyncio.get_running_loop().call_later(0.1, socket.feed, aiohttp.WSMsgType.BINARY, frame)
    time.sleep(0.3)  # noqa: ASYNC251 - a process that gets no processor stands still just so
    assert (await asyncio.wait_for(peer.ports[Lane.VOTES].inbox.get(), TIMEOUT_S)).body == b"x"
    assert not link._closing.done()
    assert await asyncio.wait_for(running, TIMEOUT_S) == "silent"


async def test_waiting_for_the_host_is_not_silence_of_the_peer(
    fast: MeshPolicy, socket: ScriptedSocket
) -> None:
    peer = make_peer(fast)
    inbox = peer.ports[Lane.VOTES].inbox
    running = asyncio.create_task(make_link(peer, LOW, replace(fast, silence_timeout_s=0.1), socket).run())
    chunker = Chunker()
    for number in range(65):  # the inbox holds 64
        socket.feed(aiohttp.WSMsgType.BINARY, next(chunker.frames(1, bytes([number]))))
    await asyncio.sleep(0.4)
    assert not running.done()
    assert len(inbox) == 64
    assert [(await inbox.get()).body[0] for _ in range(65)] == list(range(65))
    assert await asyncio.wait_for(running, TIMEOUT_S) == "silent"


async def test_who_does_not_read_is_closed(fast: MeshPolicy, socket: ScriptedSocket) -> None:
    peer = make_peer(fast)
    socket.writable.clear()
    peer.ports[Lane.VOTES].outbox.put(Message(1, b"x"))
    link = make_link(peer, LOW, replace(fast, stall_timeout_s=0.1), socket)
    assert await asyncio.wait_for(link.run(), TIMEOUT_S) == "stalled"


@pytest.mark.parametrize(
    ("kind", "data", "fault"),
    [
        (aiohttp.WSMsgType.TEXT, b"hi", True),
        (aiohttp.WSMsgType.PING, b"", True),
        (aiohttp.WSMsgType.BINARY, b"short", True),
        (aiohttp.WSMsgType.ERROR, aiohttp.WebSocketError(1009, "too big"), True),
        (aiohttp.WSMsgType.ERROR, ConnectionResetError("gone"), False),
        (aiohttp.WSMsgType.CLOSE, 1000, False),
        (aiohttp.WSMsgType.CLOSED, None, False),
    ],
)
async def test_how_a_link_ends(
    fast: MeshPolicy, socket: ScriptedSocket, kind: aiohttp.WSMsgType, data: Any, fault: bool
) -> None:
    peer = make_peer(fast)
    socket.feed(kind, data)
    running = make_link(peer, LOW, fast, socket).run()
    if fault:
        with pytest.raises(PeerFault):
            await asyncio.wait_for(running, TIMEOUT_S)
    else:
        assert (await asyncio.wait_for(running, TIMEOUT_S)).startswith("lost")
    assert socket.closed


async def test_a_bug_in_a_link_is_not_swallowed(fast: MeshPolicy, socket: ScriptedSocket) -> None:
    peer = make_peer(fast)
    socket.feed(aiohttp.WSMsgType.BINARY, 7)  # no bytes: cannot happen
    with pytest.raises(TypeError):
        await asyncio.wait_for(make_link(peer, LOW, fast, socket).run(), TIMEOUT_S)
