"""A simulated node: the product's driver, router, pool, execution, stores, catch-up and duties, on a loop of their own.

What stands in is the edge: the mesh (packets on the fake network), the disk, the clocks, and the process's life. The
host may die before any effect: before a packet leaves, before a timer is set, before a write of either store.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, events
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from consilium.consensus.evidence import Evidence
from consilium.consensus.io import Censored, Now
from consilium.consensus.messages import Decided, Message, ViewChange, encode_message
from consilium.consensus.replica import Replica
from consilium.consensus.restart import NEVER
from consilium.ledger import codec
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import InvariantBroken, PeerFault, Refused
from consilium.ledger.transaction import Operation, Transaction, Verified
from consilium.node.clerk import SAY_TIMEOUT_S, Clerk
from consilium.node.driver import Driver
from consilium.node.duties import KINDS, Duties
from consilium.node.executor import Commit
from consilium.node.mempool import Mempool, MempoolLimits
from consilium.node.opening import refill
from consilium.node.peer_messages import Kind, Tip
from consilium.node.promises import PromiseKeeper, recall
from consilium.node.router import Router
from consilium.node.sync import Synchroniser
from consilium.node.voices import Voices
from consilium.p2p.frame import Lane
from tests.simulation.disk import SYNC_MS, Copy, Disk
from tests.simulation.founding import contracts, opened
from tests.simulation.loop import HostLoop, Killed, Rest
from tests.simulation.world import WALL_EPOCH_MS

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

TICK_S = 1.0
COPY_IN = 3
"""One commit in so many is followed by a backup."""
INBOX_MAX = 512


@dataclass(frozen=True, slots=True)
class Packet:
    """One message from one life of a host to one life of another."""

    kind: int
    body: bytes
    lane: Lane


class HostClerk(Clerk):
    """The product's clerk, with the host's own pool instead of a service that clients share."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def institution(self) -> bytes:
        return self._host.cluster.clients.institutions[self._host.index]

    async def say(self, said: Operation) -> str:
        """As Clerk."""
        host = self._host
        transaction = host.cluster.clients.sign(host.index, said, host.executor.store.tip.time_ms)
        decided: Future[str] = asyncio.get_running_loop().create_future()
        host.awaited[transaction.id] = decided
        try:
            host.admit(transaction)
            async with asyncio.timeout(SAY_TIMEOUT_S):
                return await decided
        except TimeoutError:
            return "rpc.timeout"
        except Refused as refusal:
            return refusal.code
        finally:
            host.awaited.pop(transaction.id, None)


class Host:
    """One node. Subclasses lie (attackers.py)."""

    honest = True

    def __init__(self, cluster: Cluster, index: int, key: SigningKey) -> None:
        self.cluster, self.index, self.key = cluster, index, key
        self.world = cluster.world
        self.disk = Disk(cluster.founding.rows, self.effect)
        self.clock_ms = 0
        """How far the wall clock is off."""
        self.clock_drift = 0
        """Thousandths by which it runs fast."""
        self.alive = False
        self.life = 0
        self.sync_ms = SYNC_MS
        self.crash_in: int | None = None
        """Crash before the so-many-th effect from now."""
        self.crash_after: type[Message] | None = None
        """Crash after it said such a thing."""
        self.restart_in_ms = 500
        self.forget: Callable[[], None] | None = None
        """What happens to the disk when it dies before an effect."""
        self.acts = 0
        """How often a liar lied."""
        self.waiting: tuple[tuple[int, int, int], int] | None = None
        """In which life, height and view it waits for batches, and since when."""
        self.asked_ms = 0
        """When it last asked for batches, or found nobody to ask."""
        self.admitted: dict[bytes, tuple[int, int]] = {}
        """Of each transaction that was admitted: in which life, and until which block time it is good."""
        self.loop = self._new_loop()

    # Life ---------------------------------------------------------------------------------------------------------

    def _new_loop(self) -> HostLoop:
        offset_ms = 1_000 * (self.index + 1)
        return HostLoop(self.world, offset_ms, self.failed, self._sync_delay, self.effect)  # type: ignore[abstract]

    def start(self) -> None:
        """Start, or start again, from the disk."""
        if self.alive:
            return
        self.life += 1
        self.alive = True
        self.loop = self._new_loop()
        self.loop.enter(self._boot)

    def _boot(self) -> None:
        cluster = self.cluster
        chain_id = cluster.founding.chain_id
        self.inbox: dict[tuple[int, Lane], deque[Packet]] = {}
        self.awaited: dict[bytes, Future[str]] = {}
        self.executor = executor = opened(self.disk.chain, chain_id)
        self.voices = Voices(self, executor)
        promise, promised = recall(self.disk.promises, chain_id)
        first = (self.life * 1_000_000 + self.world.now) * 1_000
        self.mempool = self.new_pool(first)
        refill(self.mempool, executor, promise, promised)
        self.replica = Replica(self.key, executor.context, promise, cluster.config, abstain_below=NEVER)
        keeper = self.new_keeper()
        self.driver = Driver(
            replica=self.replica,
            executor=executor,
            mempool=self.mempool,
            keeper=keeper,
            outlet=self,
            clock=self.clock,
            on_commit=self.committed,
        )
        self.synchroniser = Synchroniser(
            send=self._send_bulk,
            connected=self.connected,
            context=lambda: executor.context,
            deliver=self.driver.deliver,
            fault=self._fault,
            held=self.mempool.batch,
        )
        self.driver.synchroniser = self.synchroniser
        self.router = Router(
            chain_id=chain_id,
            driver=self.driver,
            executor=executor,
            mempool=self.mempool,
            synchroniser=self.synchroniser,
            send=self._send_bulk,
        )
        self.duties = Duties(
            key=self.key,
            validates=True,
            chain_id=chain_id,
            promise=promise,
            executor=executor,
            replica=self.replica,
            driver=self.driver,
            mesh=self,
            synchroniser=self.synchroniser,
            clerk=HostClerk(self),
            members_changed=lambda: None,
            remember=lambda promised: keeper.keep(promised, self.mempool.batch),
        )
        self.driver.on_evidence = self._saw
        self.note("starts at tip", executor.store.tip.height)
        cluster.checkers.on_start(self)
        for work in (self.driver.run(), self.synchroniser.run(), self.duties.run(), self._tick()):
            self.loop.create_task(work).add_done_callback(self._ended)

    def new_pool(self, first_sequence: int) -> Mempool:
        """Empty."""
        return Mempool(
            self.key, self.cluster.founding.chain_id, MempoolLimits(), first_sequence, contracts().weight
        )

    def new_keeper(self) -> PromiseKeeper:
        """On this disk."""
        return PromiseKeeper(self.disk.promises)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.driver.tick()
            tip = self.executor.store.tip
            self.broadcast_body(Kind.TIP, codec.encode(Tip(tip.height, tip.block_hash)), Lane.VOTES)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """A task of the node ended by itself: so does the node."""
        if not self.loop.dead and not task.cancelled() and (error := task.exception()) is not None:
            self.failed(error)

    def _saw(self, evidence: Evidence) -> None:
        """The replica saw a validator contradict itself."""
        self.cluster.checkers.on_evidence(self, evidence)
        self.duties.saw(evidence)

    def failed(self, error: BaseException) -> None:
        """Something was raised that ends the node."""
        if isinstance(error, Killed) or self.loop.dead:
            return
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, InvariantBroken):
            self.note("halts:", str(error))
            self.cluster.checkers.broken(self, str(error))
            self.crash()
        elif self.world.failure is None:
            self.world.failure = error

    def effect(self) -> None:
        """Something is about to leave a mark: a node that is to die before it does."""
        if self.disk.writes_max is not None:
            self.disk.writes_max -= 1
            if self.disk.writes_max < 0:
                raise Killed
            return
        if not self.alive:
            raise Killed
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                self._die()

    def _die(self) -> None:
        """Here and now; and what its disk forgets with it."""
        self.world.after(self.restart_in_ms, self.start)
        self.cluster.bites["crash-at-effect"] += 1
        self.crash()
        if self.forget is not None:
            self.forget()
            self.forget = None
        raise Killed

    def crash(self) -> None:
        """SIGKILL: writes that were under way may or may not have reached the disk, in part or whole."""
        if not self.alive:
            return
        self.note("crashes")
        self.alive = False
        self.crash_in, self.crash_after = None, None
        self.life += 1
        rng = self.world.rng
        running = events._get_running_loop()
        for work in self.loop.kill():
            if rng.randrange(2):
                self.disk.writes_max = rng.randint(1, 3)
                try:
                    work()
                except Killed:
                    pass
                finally:
                    self.disk.writes_max = None
        events._set_running_loop(running)
        self.disk.crash(rng)

    def pause(self) -> None:
        """SIGSTOP."""
        self.note("is paused")
        self.loop.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        if self.loop.paused:
            self.note("resumes")
            self.loop.resume()

    @property
    def paused(self) -> bool:
        return self.loop.paused

    def _sync_delay(self) -> int:
        return self.world.rng.randint(*self.sync_ms)

    def note(self, *parts: Any) -> None:
        self.world.note(self.index, *parts)

    def clock(self) -> Now:
        """Both clocks."""
        now = self.world.now
        wall = WALL_EPOCH_MS + now + self.clock_ms + now * self.clock_drift // 1000
        return Now(now + 1_000 * (self.index + 1), wall)

    @property
    def speaks(self) -> bool:
        """Whether it would vote where it is a validator: since its last start it was found to remember."""
        verdict = self.duties.restart.verdict if self.life else None
        return verdict is not None and self.executor.context.height >= verdict.floor

    @property
    def tip(self) -> int:
        """The greatest committed height."""
        return self.executor.store.tip.height if self.life else 0

    def committed(self, commit: Commit) -> None:
        """The driver committed a block."""
        if self.honest:
            self.cluster.checkers.on_commit(self, commit, commit.before)
        block = commit.block
        self.note("commits", block.height, block.hash, "with", len(block.batches), "batches")
        for leaf, transaction in zip(commit.outcome.leaves, commit.outcome.transactions, strict=True):
            decided = self.awaited.get(transaction.id)
            if decided is not None and not decided.done():
                decided.set_result("ok" if b"\xa2ok" in leaf[:40] else "refused")
        self.duties.committed(commit)
        self.voices.committed()
        if self.world.rng.randrange(COPY_IN) == 0:
            self.disk.copy(block.height)

    # The mesh: `driver_ports.Outlet` --------------------------------------------------------------------------------

    def connected(self) -> frozenset[bytes]:
        """Whom a connection could be kept to."""
        reachable = self.cluster.reachable(self.index)
        if not reachable:
            self.asked_ms = self.world.now
        return reachable

    def broadcast(self, kind: int, body: bytes, lane: Lane) -> int:
        """As the mesh's."""
        self.effect()
        if kind == Kind.CONSENSUS:
            self.speak(self.cluster.decoded(body), body)
        else:
            self.broadcast_body(kind, body, lane)
        return len(self.cluster.hosts) - 1

    def send(self, peer_key: bytes, kind: int, body: bytes, lane: Lane) -> bool:
        """As the mesh's."""
        self.effect()
        target = self.cluster.index_of.get(peer_key)
        if target is None or target == self.index:
            return False
        if kind == Kind.BATCH_REQUEST:
            self.asked_ms = self.world.now
        self.cluster.network.send(self.index, target, Packet(kind, body, lane))
        return True

    def _send_bulk(self, peer: bytes, kind: int, body: bytes) -> bool:
        return self.send(peer, kind, body, Lane.BULK)

    def broadcast_body(self, kind: int, body: bytes, lane: Lane) -> None:
        """To whom the product says it, without an effect of its own."""
        packet, network, index = Packet(kind, body, lane), self.cluster.network, self.index
        heard = self.voices.voters() if kind in (Kind.CONSENSUS, Kind.BATCH) else None
        for target in range(len(self.cluster.hosts)):
            if target != index and (heard is None or self.cluster.keys[target].public in heard):
                network.send(index, target, packet)

    def speak(self, message: Message, body: bytes | None = None) -> None:
        """Say a message of consensus to everybody."""
        if self.honest:
            self.cluster.checkers.on_send(self, message)
        self.note("says", *describe(message))
        self.broadcast_body(Kind.CONSENSUS, encode_message(message) if body is None else body, Lane.VOTES)
        if self.crash_after is not None and isinstance(message, self.crash_after):
            self._die()

    # What comes -----------------------------------------------------------------------------------------------------

    def deliver(self, source: int, from_life: int, life: int, packet: Packet) -> None:
        """A packet arrives that was sent to this life of the host: connections end with the process."""
        if self.honest:
            self.cluster.checkers.on_packet(self)
        if life == self.life and self.alive and not self.loop.crowded:
            self.loop.enter(self._arrive, source, from_life, packet)

    def _arrive(self, source: int, from_life: int, packet: Packet) -> None:
        """One at a time of each peer and lane, as the mesh hands them on. Once its sender runs again, what it sent in
        an earlier life has come by a connection that its new one replaced."""
        sender = self.cluster.hosts[source]
        if sender.alive and sender.life != from_life:
            return
        place = (source, packet.lane)
        waiting = self.inbox.get(place)
        if waiting is not None:
            if len(waiting) < INBOX_MAX:
                waiting.append(packet)
            return
        coroutine = self.receive(source, packet)
        try:
            waits_for = coroutine.send(None)
        except StopIteration:
            return
        self.inbox[place] = deque()
        self.loop.create_task(self._go_on(place, coroutine, waits_for)).add_done_callback(self._ended)

    async def _go_on(self, place: tuple[int, Lane], coroutine: Coroutine[Any, Any, None], first: Any) -> None:
        await Rest(coroutine, first)
        waiting = self.inbox[place]
        while waiting:
            await self.receive(place[0], waiting.popleft())
        del self.inbox[place]

    async def receive(self, source: int, packet: Packet) -> None:
        """Handle one packet, as the product's wiring does."""
        peer = self.cluster.keys[source].public
        try:
            if packet.kind in KINDS:
                await self.duties.handle(peer, packet.kind, packet.body)
            else:
                await self.router.handle(peer, packet.kind, packet.body)
        except (PeerFault, Refused) as fault:
            self.cluster.checkers.on_peer_fault(self, source, str(fault))

    def _fault(self, peer: bytes, fault: PeerFault) -> None:
        self.cluster.checkers.on_peer_fault(self, self.cluster.index_of[peer], str(fault))

    # Clients --------------------------------------------------------------------------------------------------------

    def submit(self, transaction: Verified[Transaction]) -> None:
        """A client's transaction arrives; it may be refused."""
        if self.alive:
            self.loop.enter(self._submit, transaction)

    def _submit(self, transaction: Verified[Transaction]) -> None:
        try:
            self.admit(transaction)
        except Refused as refusal:
            self.note("refuses", transaction.id, refusal.code)

    def admit(self, transaction: Verified[Transaction]) -> None:
        """As the product's service does. Raises Refused."""
        if transaction.id in self.executor.seen:
            raise Refused("transaction.duplicate", "it is in a block already")
        self.executor.refuse_unauthorised(transaction)
        self.mempool.admit(transaction, self.executor.store.tip.time_ms)
        self.admitted[transaction.id] = self.life, transaction.value.valid_until
        self.note("admits", transaction.id)
        self.driver.work_arrived()

    def complain(self) -> bool:
        """It finds itself censored, rightly or not. Whether it had anything to complain of."""
        if not self.alive or self.paused or not (waiting := self.mempool.choose()):
            return False
        self.loop.enter(self.driver._signal, ("censored",), Censored(waiting[0]))
        return True

    # Amnesia --------------------------------------------------------------------------------------------------------

    def lose_memory(self, how: str) -> None:
        """While down: the disk is wiped, restored from an older copy, or its chain truncated."""
        copies = self.disk.copies
        if how == "wiped" or not copies:
            self.note("finds its disk wiped")
            self.disk.wipe()
            return
        copy: Copy = copies[self.world.rng.randrange(len(copies))]
        self.note("finds its", "disk" if how == "restored" else "chain", "as at height", copy.tip)
        if how == "restored":
            self.disk.restore(copy)
            self.cluster.checkers.on_restored(self)
        else:
            self.disk.truncate(copy)


def describe(message: Message) -> tuple[Any, ...]:
    """A message in a few words."""
    name = type(message).__name__
    if isinstance(message, Decided):
        return name, message.height, message.certificate.view, message.block.hash
    if isinstance(message, ViewChange):
        prepared = message.prepared
        return name, message.height, message.view, "-" if prepared is None else prepared.block.hash
    return name, message.height, message.view, message.block_hash
