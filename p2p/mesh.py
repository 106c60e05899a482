"""The mesh: a node's connections to all other members, kept up while both sides want them.

The host gives members, addresses and a handler; the mesh dials, accepts, backs off, scores and drops. What it
promises:

- `handler(key, kind, body)` is awaited for each message, in the order in which the peer sent it, one at a
time per peer
  and lane. While it runs, that lane's inbox fills, then TCP, then the peer's outbox: nobody else waits.
- PeerFault from the handler lowers the peer's score, and bans it when there were too many. Refused counts as
a small
  fault: bytes from a peer must not stop the node. Anything else is a bug of this node: the mesh stops, and
  `run` raises.
- `send` never waits: it queues, or says no. Nothing is queued for a peer that is not connected.
- A message may be lost with its connection. Nothing is repeated, and nothing arrives twice.
- However many messages a peer sends, the rest of the node keeps its turns: they are handed on at a pace.

Either end may dial, so that one reachable address of two is enough. The end with the lower key dials at once,
the other one only if the lane is still vacant after `grace_s`; should both succeed, the lower key's link
stays (`Peer.adopt`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import structlog

from consilium.ledger.crypto import KEY_BYTES, SigningKey
from consilium.ledger.errors import PeerFault, Refused
from consilium.p2p.connection import Connection
from consilium.p2p.dialer import Backoff, Dialer
from consilium.p2p.frame import GARBAGE_WEIGHT, KIND_MAX, Lane, Message, check_limits
from consilium.p2p.handshake import Verdict, judge, read_hello, welcome
from consilium.p2p.listener import Host, Listener, Serve
from consilium.p2p.metrics import MeshMetrics, PeerStatus
from consilium.p2p.peer import Link, Peer, Port
from consilium.p2p.policy import Address, MeshPolicy
from consilium.p2p.tls import Credentials

__all__ = ["Address", "Lane", "Mesh", "MeshPolicy", "PeerStatus"]

CHAIN_ID_BYTES: Final = 32
REFUSED_WEIGHT: Final = 5
MESSAGES_PER_TURN_MAX: Final = 16
"""After so many messages of one lane in one go, everybody else on the event loop has a turn."""

Handler = Callable[[bytes, int, bytes], Awaitable[None]]

_log = structlog.get_logger("consilium.p2p")


class Mesh:
    """See the module. Use from one event loop: `start`, then `run` beside the node's other tasks, then
    `stop`.
    """

    def __init__(
        self,
        *,
        key: SigningKey,
        chain_id: bytes,
        members: Mapping[bytes, Address | None],
        listen: Address,
        limits: Mapping[int, int],
        handler: Handler,
        policy: MeshPolicy | None = None,
    ) -> None:
        """`members` are Ed25519 keys with the address to dial, if known; `limits` says how long a body of
        each kind may be, in bytes. This node's own key among the members is ignored. ValueError for what
        cannot be.
        """
        if len(chain_id) != CHAIN_ID_BYTES:
            raise ValueError(f"a chain id has {CHAIN_ID_BYTES} bytes, not {len(chain_id)}")
        self.key = key.public
        self.policy = policy or MeshPolicy()
        self.metrics = MeshMetrics()
        self._chain_id = chain_id
        self._limits = check_limits(limits)
        self._handler = handler
        self._listen = listen
        self._credentials = Credentials(key)
        self._server_context: ssl.SSLContext | None = None
        self._members = self._checked(members)
        self._peers: dict[bytes, Peer] = {}
        self._tasks: dict[bytes, list[asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._listener: Listener | None = None
        self._dialer: Dialer | None = None
        self._main: asyncio.Task[None] | None = None

    # life

    async def start(self) -> None:
        """Listen, and begin to dial. OSError when the address cannot be listened on."""
        if self._main is not None:
            raise RuntimeError("a mesh starts once")
        host = Host(authorize=self._authorized, greet=self._greet, fault=self.fault)
        self._listener = Listener(self._listen, self._context, host, self.policy, self.metrics)
        self._dialer = Dialer(self._chain_id, self.policy)
        started = asyncio.Event()
        self._main = asyncio.create_task(self._live(self._listener, self._dialer, started), name="p2p.mesh")
        waiter = asyncio.create_task(started.wait())
        await asyncio.wait({self._main, waiter}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if self._main.done():
            await self._main

    async def run(self) -> None:
        """Return after `stop`; raise when the mesh dies of an error of its own or of the handler."""
        if self._main is None:
            raise RuntimeError("the mesh was not started")
        await asyncio.shield(self._main)

    async def stop(self) -> None:
        """Close every connection, and the listening socket. What the mesh may have died of, only `run` tells."""
        self._stopping.set()
        if self._main is not None:
            await asyncio.wait({self._main})

    @property
    def port(self) -> int:
        """The TCP port that is listened on; the system's choice when port 0 was asked for."""
        if self._listener is None:
            raise RuntimeError("the mesh was not started")
        return self._listener.port

    async def _live(self, listener: Listener, dialer: Dialer, started: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                accepting = group.create_task(listener.run(group), name="p2p.accept")
                self.set_members(self._members)
                started.set()
                await self._stopping.wait()
                accepting.cancel()
                for key in list(self._peers):
                    self._remove(key, "stopping", reset=False)
                listener.cancel()
        finally:
            self._group = None
            self._peers.clear()
            self._notify()
            await dialer.close()
            await listener.close()

    # sending

    def send(self, peer_key: bytes, kind: int, body: bytes, lane: Lane) -> bool:
        """Queue a message for a peer. False when it is not connected on that lane, or its bulk outbox is
        full.

        True is no promise that it arrives. ValueError when the kind is unknown here or the body beyond its
        limit.
        """
        message = self._message(kind, body)
        peer = self._peers.get(peer_key)
        return peer is not None and self._put(peer, message, lane)

    def broadcast(self, kind: int, body: bytes, lane: Lane) -> int:
        """Queue a message for every connected peer; returns for how many. ValueError as `send`."""
        message = self._message(kind, body)
        return sum(self._put(peer, message, lane) for peer in self._peers.values())

    def _message(self, kind: int, body: bytes) -> Message:
        limit = self._limits.get(kind)
        if limit is None or not 0 <= kind <= KIND_MAX:
            raise ValueError(f"kind {kind} is not among this mesh's limits")
        if len(body) > limit:
            raise ValueError(f"a body of {len(body)} bytes; the limit of kind {kind} is {limit}")
        return Message(kind, body)

    @staticmethod
    def _put(peer: Peer, message: Message, lane: Lane) -> bool:
        port = peer.ports[lane]
        return port.link is not None and port.outbox.put(message)

    # looking

    def connected(self) -> frozenset[bytes]:
        """The keys of the peers whose two lanes are both open."""
        return frozenset(key for key, peer in self._peers.items() if peer.connected)

    def peers(self) -> list[PeerStatus]:
        """Every other member, sorted by key."""
        now_s = asyncio.get_running_loop().time()
        return [self._peers[key].status(now_s) for key in sorted(self._peers)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is asked again whenever a peer connects, goes or is scored."""
        while not condition():
            await self._changed.wait()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # steering

    def set_members(self, members: Mapping[bytes, Address | None]) -> None:
        """From now on these are the members. Who is no longer one is disconnected at once."""
        self._members = self._checked(members)
        self._server_context = None
        if self._group is None:
            return
        for key in [key for key in self._peers if key not in self._members]:
            self._remove(key, "no longer a member", reset=True)
        for key, address in self._members.items():
            peer = self._peers.get(key)
            if peer is None:
                peer = Peer(key, address, self.policy, self.metrics)
                self._peers[key] = peer
                self._tasks[key] = [
                    self._group.create_task(task)
                    for port in peer.ports
                    for task in (self._work(peer, port), self._keep(peer, port))
                ]
            elif peer.address != address:
                peer.address = address
                peer.wake()
        self._notify()

    def fault(self, key: bytes, fault: PeerFault) -> None:
        """Score a peer: by the mesh itself, or by the host for what it found out later."""
        peer = self._peers.get(key)
        if peer is None:
            return
        self.metrics.faults += 1
        _log.warning("p2p.fault", peer=key.hex(), reason=fault.reason, weight=fault.weight)
        if peer.score.fault(fault.weight, asyncio.get_running_loop().time()):
            self.metrics.bans += 1
            _log.warning("p2p.banned", peer=key.hex())
            peer.disconnect("banned", reset=True)
        self._notify()

    def _checked(self, members: Mapping[bytes, Address | None]) -> dict[bytes, Address | None]:
        others = {key: address for key, address in members.items() if key != self.key}
        if len(others) > self.policy.peers_max:
            raise ValueError(f"{len(others)} peers; the limit is {self.policy.peers_max}")
        for key in others:
            if len(key) != KEY_BYTES:
                raise ValueError(f"a member's key has {KEY_BYTES} bytes, not {len(key)}")
        return others

    def _remove(self, key: bytes, reason: str, *, reset: bool) -> None:
        peer = self._peers.pop(key)
        peer.disconnect(reason, reset=reset)
        for task in self._tasks.pop(key):
            task.cancel()

    # peers' tasks

    async def _work(self, peer: Peer, port: Port) -> None:
        """Hand one lane's messages to the host, at the lane's pace."""
        loop = asyncio.get_running_loop()
        handled = 0
        while True:
            kind, body = await port.inbox.get()
            if not self._authorized(peer.key):
                continue
            wait_s = port.pace.wait_s(loop.time())
            handled += 1
            if wait_s or handled % MESSAGES_PER_TURN_MAX == 0:
                await asyncio.sleep(wait_s)
            try:
                await self._handler(peer.key, kind, body)
            except PeerFault as fault:
                self.fault(peer.key, fault)
            except Refused as refusal:
                self.fault(peer.key, PeerFault(f"refused: {refusal.code}", REFUSED_WEIGHT))

    async def _keep(self, peer: Peer, port: Port) -> None:
        """Keep one lane connected, from this side."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(self.policy)
        context = self._credentials.client_context(peer.key)
        grace_s = self.policy.grace_s if self.key > peer.key else 0.0
        while True:
            await port.vacant.wait()
            port.wake.clear()
            if peer.address is None:
                await port.wake.wait()
                backoff.reset()
                continue
            wait_s = peer.score.banned_s(loop.time()) or grace_s
            if wait_s and (await _woken(port, wait_s) or not port.vacant.is_set()):
                continue
            began_s = loop.time()
            await self._dial(peer, port, peer.address, context)
            if loop.time() - began_s > self.policy.stable_s:
                backoff.reset()
            if await _woken(port, backoff.next_s()):
                backoff.reset()

    async def _dial(self, peer: Peer, port: Port, address: Address, context: ssl.SSLContext) -> None:
        """One attempt; when it succeeds, the whole life of the link."""
        if self._dialer is None or not self._authorized(peer.key):
            return
        try:
            connection = await self._dialer.dial(peer.key, address, context, port.lane)
        except PeerFault as fault:
            self.fault(peer.key, fault)
            connection = None
        if connection is None:
            self.metrics.dial_failures += 1
            return
        link = Link(connection, port, initiator=self.key, limits=self._limits, policy=self.policy)
        if self._authorized(peer.key) and peer.adopt(link):
            await self._serve(peer, link)
        else:
            connection.hang_up(reset=False)
            await connection.finish(self.policy.close_timeout_s)

    async def _greet(self, key: bytes, connection: Connection) -> Serve | None:
        """Answer the hello of a peer that dialled, whose key is known and authorized."""
        raw = await connection.receive()
        if raw is None:
            raise PeerFault("a beat before the hello", GARBAGE_WEIGHT)
        hello = read_hello(raw)
        verdict = judge(hello, self._chain_id)
        peer = self._peers.get(key)
        if peer is None or not self._authorized(key):
            return None
        port = peer.ports[hello.lane]
        link = Link(connection, port, initiator=key, limits=self._limits, policy=self.policy)
        if verdict is Verdict.ACCEPTED and not peer.adopt(link):
            verdict = Verdict.DUPLICATE
        try:
            await connection.send(welcome(self._chain_id, verdict))
        except BaseException:
            peer.release(link)
            raise
        if verdict is Verdict.ACCEPTED:
            return partial(self._serve, peer, link)
        if verdict is not Verdict.DUPLICATE:
            _log.warning("p2p.unwelcome", peer=key.hex(), verdict=verdict.name, version=hello.version)
        return None

    async def _serve(self, peer: Peer, link: Link) -> None:
        """The life of an adopted link."""
        loop = asyncio.get_running_loop()
        self.metrics.connects += 1
        self.metrics.reconnects += link.port.links > 1
        if peer.connected and peer.connected_at_s is None:
            peer.connected_at_s = loop.time()
        self._notify()
        reason = "cancelled"
        try:
            reason = await link.run()
        except PeerFault as fault:
            reason = fault.reason
            self.fault(peer.key, fault)
        finally:
            self.metrics.disconnects += 1
            peer.release(link)
            if not peer.connected:
                peer.connected_at_s = None
            self._notify()
            _log.info("p2p.link_ended", peer=peer.key.hex(), lane=link.port.lane.name, reason=reason)

    def _authorized(self, key: bytes) -> bool:
        """Whether this key may connect and be heard now."""
        peer = self._peers.get(key)
        return peer is not None and not peer.score.banned_s(asyncio.get_running_loop().time())

    def _context(self) -> ssl.SSLContext:
        """The TLS context for whoever dials this node now."""
        if self._server_context is None:
            self._server_context = self._credentials.server_context(self._members)
        return self._server_context


async def _woken(port: Port, timeout_s: float) -> bool:
    """Wait; True when something changed meanwhile that makes it worth dialling at once."""
    try:
        async with asyncio.timeout(timeout_s):
            await port.wake.wait()
    except TimeoutError:
        return False
    return True
