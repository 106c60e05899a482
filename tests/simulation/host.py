"""A simulated node: the real replica, and a host that performs its effects on the fake disk and network.

The host is what node/driver is in the product: it feeds one input at a time and performs effects in order, waiting
for each sync. A crash may fall before any effect; then memory is gone, and the disk has what was synced.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from consilium.consensus.io import (
    Advanced,
    BatchesHeld,
    Broadcast,
    BuildProposal,
    CancelTimer,
    CatchUp,
    Censored,
    Decide,
    Effect,
    HoldBatches,
    Input,
    MessageReceived,
    Now,
    PeerHeight,
    Persist,
    ProposalBuilt,
    Report,
    SendDecided,
    SendTo,
    SetTimer,
    Started,
    TimerFired,
    TimerKind,
    WorkPending,
)
from consilium.consensus.messages import (
    Decided,
    Message,
    decode_message,
    encode_message,
)
from consilium.consensus.replica import Replica
from consilium.consensus.restart import NEVER, Status
from consilium.ledger.block import Block, CommitCertificate, check_block_form, check_certified
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import InvariantBroken, PeerFault, Refused
from tests.simulation.chain import Disk, digest_of
from tests.simulation.recall import Recall
from tests.simulation.world import WALL_EPOCH_MS

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

BACKLOG_MAX = 400
BLOCK_BATCHES_PROPOSED = 4
FETCH_MAX = 10
STATUS_EVERY_MS = 2_000
ANNOUNCE_EVERY_MS = 700


class Host:
    """One node. Subclasses lie (attackers.py)."""

    honest = True

    def __init__(self, cluster: Cluster, index: int, key: SigningKey, disk: Disk) -> None:
        self.cluster, self.index, self.key, self.disk = cluster, index, key, disk
        self.world = cluster.world
        self.clock_ms = 0
        """How far the wall clock is off."""
        self.monotonic_offset = 1_000 * (index + 1)
        self.alive = False
        self.paused = False
        self.life = 0
        self.sync_ms = (0, 2)
        self.crash_in: int | None = None
        """Crash before the so-many-th effect from now."""
        self.restart_in_ms = 500
        self._backlog: deque[Callable[[], None]] = deque()
        self.reset_memory()

    def reset_memory(self) -> None:
        """What a crash takes."""
        self.pool: dict[bytes, bytes] = dict(self.disk.batches)
        self.inbox: deque[Input | Callable[[], None]] = deque()
        self.busy = False
        self.timers: dict[TimerKind, int] = {}
        self.held_asks: dict[bytes, int] = {}
        self.awaiting: dict[bytes, Block] = {}
        self.executing = False
        self.work = False

    # Life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, or start again, from the disk."""
        self.life += 1
        self.alive = True
        self.reset_memory()
        self.note(f"starts at tip {self.disk.chain.tip}")
        self.recall = Recall(self)
        self.replica = Replica(
            self.key, self.disk.chain.context(), self.disk.promise, self.cluster.config, abstain_below=NEVER
        )
        self.feed(Started())
        self.tell_work()
        self.later(1, self.recall.ask)
        self.later(self.world.rng.randint(1, STATUS_EVERY_MS), self.tell_status)
        self.later(self.world.rng.randint(1, ANNOUNCE_EVERY_MS), self.announce)

    def crash(self) -> None:
        """SIGKILL: unsynced writes may or may not have reached the disk."""
        if not self.alive:
            return
        self.note("crashes")
        self.life += 1
        self.alive = False
        self.crash_in = None
        self._backlog.clear()
        if self.disk.writing is not None and self.world.rng.randrange(2):
            self.write_promise()
        self.disk.writing = None

    def lose_memory(self, heights: int | None) -> None:
        """While down: the disk is restored from a copy that is so many heights old, or wiped."""
        self.note(f"finds its disk {'wiped' if heights is None else f'{heights} heights back'}")
        chain = self.disk.chain
        self.disk.chain = chain.rewound(0 if heights is None else max(0, chain.tip - heights))
        self.disk.promise = None if heights is None else self.disk.copies.get(self.disk.chain.tip)
        self.disk.writing = None
        self.disk.batches = {}
        if self.disk.promise is not None:
            self.disk.batches = dict(self.disk.copied_batches.get(self.disk.chain.tip, {}))

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True
        self.note("is paused")

    def resume(self) -> None:
        """SIGCONT: everything that waited happens now."""
        self.note("resumes")
        self.paused = False
        while self._backlog and not self.paused:
            self._backlog.popleft()()

    def later(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Do something later in this life."""
        life = self.life

        def run() -> None:
            if self.life != life or not self.alive:
                return
            if self.paused:
                if len(self._backlog) < BACKLOG_MAX:
                    self._backlog.append(run)
            else:
                action()

        self.world.after(delay_ms, run)

    def note(self, text: str) -> None:
        self.world.note(f"{self.index:>2} {text}")

    def clock(self) -> Now:
        now = self.world.now
        return Now(now + self.monotonic_offset, WALL_EPOCH_MS + now + self.clock_ms)

    # The driver's loop --------------------------------------------------------------------------------------------

    def feed(self, event: Input | Callable[[], None]) -> None:
        """Give the replica an input, or do something that must not fall between effects, when it is its turn."""
        self.inbox.append(event)
        if not self.busy:
            self.drain()

    def drain(self) -> None:
        while self.inbox and self.alive and not self.busy:
            event = self.inbox.popleft()
            if callable(event):
                event()
                continue
            try:
                effects = self.replica.step(event, self.clock())
            except InvariantBroken as broken:
                self.cluster.checkers.broken(self, str(broken))
                self.crash()
                return
            self.perform(effects, 0)

    def perform(self, effects: list[Effect], start: int) -> None:
        """Perform effects in order. Stays busy over a sync, so that no input is taken before the rest is done."""
        self.busy = True
        for place in range(start, len(effects)):
            if self.crash_in is not None:
                self.crash_in -= 1
                if self.crash_in < 0:
                    self.world.after(self.restart_in_ms, self.cluster.starter(self))
                    self.crash()
                    return
            effect = effects[place]
            if isinstance(effect, Persist):
                self.disk.writing = effect.promise
                delay = self.world.rng.randint(*self.sync_ms)
                if delay:
                    self.later(delay, partial(self.synced, effects, place + 1))
                    return
                self.write_promise()
            else:
                self.effect(effect)
        self.busy = False

    def synced(self, effects: list[Effect], rest: int) -> None:
        self.write_promise()
        self.perform(effects, rest)
        if not self.busy:
            self.drain()

    def write_promise(self) -> None:
        promise = self.disk.writing
        if promise is None:
            return
        for block in promise.proposals:
            for digest in block.batches:
                if digest not in self.pool and digest not in self.disk.batches:
                    self.cluster.checkers.fail(
                        "durable", f"host {self.index} promises a block without its batches"
                    )
                else:
                    self.disk.batches.setdefault(digest, self.pool.get(digest, b""))
        self.disk.promise = promise
        self.disk.writing = None
        self.disk.backup(self.world.rng.randrange(3) == 0)

    def effect(self, effect: Effect) -> None:
        match effect:
            case Broadcast(message):
                self.broadcast(message)
            case SendTo(peer, message):
                self.send_to(peer, message)
            case SendDecided(peer, height):
                entry = self.disk.chain.entries[height] if height <= self.disk.chain.tip else None
                if entry is not None and entry.block is not None and entry.certificate is not None:
                    self.send_to(peer, Decided(entry.block, entry.certificate))
            case SetTimer(kind, at_ms):
                self.timers[kind] = at_ms
                self.later(
                    max(0, at_ms - self.world.now - self.monotonic_offset),
                    lambda: self.fire(kind, at_ms),
                )
            case CancelTimer(kind):
                self.timers.pop(kind, None)
            case BuildProposal(height, view):
                self.later(self.world.rng.randint(0, 10), lambda: self.build(height, view))
            case HoldBatches(block, peers):
                self.hold(block, peers)
            case Decide(block, certificate):
                self.decide(block, certificate)
            case CatchUp(height, hint):
                self.cluster.send(self, hint, ("fetch", height))
            case Report(fault):
                self.note(f"reports {fault!r:.100}")
                self.cluster.checkers.on_report(self, fault)

    def fire(self, kind: TimerKind, at_ms: int) -> None:
        if self.timers.get(kind) == at_ms:
            del self.timers[kind]
            self.feed(TimerFired(kind))

    # Sending ------------------------------------------------------------------------------------------------------

    def broadcast(self, message: Message) -> None:
        if self.honest:
            self.cluster.checkers.on_send(self, message)
        raw = encode_message(message)
        self.note(f"says {describe(message)}")
        for target in range(len(self.cluster.hosts)):
            if target != self.index:
                self.cluster.network.send(self.index, target, ("message", raw))

    def send_to(self, peer: bytes, message: Message) -> None:
        self.cluster.send(self, peer, ("message", encode_message(message)))

    # Batches, proposals, blocks -----------------------------------------------------------------------------------

    def admit(self, batch: bytes) -> None:
        """A client's batch arrives here."""
        self.disk.batches[digest_of(batch)] = batch
        self.learn(batch)
        for target in range(len(self.cluster.hosts)):
            if target != self.index:
                self.cluster.network.send(self.index, target, ("batch", batch))

    def learn(self, batch: bytes) -> None:
        self.pool[digest_of(batch)] = batch
        for block in list(self.awaiting.values()):
            self.try_held(block)
        self.tell_work()

    def uncommitted(self) -> list[bytes]:
        committed = self.disk.chain.committed
        return [digest for digest in self.pool if digest not in committed]

    def tell_work(self) -> None:
        pending = any(digest not in self.disk.chain.committed for digest in self.pool)
        if pending != self.work:
            self.work = pending
            self.feed(WorkPending(pending))

    def build(self, height: int, view: int) -> None:
        self.feed(ProposalBuilt(height, view, tuple(self.uncommitted()[:BLOCK_BATCHES_PROPOSED])))

    def hold(self, block: Block, peers: tuple[bytes, ...]) -> None:
        if self.try_held(block):
            return
        self.awaiting[block.hash] = block
        turn = self.held_asks.get(block.hash, 0)
        self.held_asks[block.hash] = turn + 1
        missing = tuple(digest for digest in block.batches if digest not in self.pool)
        for offset in range(min(2, len(peers))):
            self.cluster.send(self, peers[(turn + offset) % len(peers)], ("want", missing))

    def try_held(self, block: Block) -> bool:
        if any(digest not in self.pool for digest in block.batches):
            return False
        self.awaiting.pop(block.hash, None)
        self.feed(BatchesHeld(block.hash))
        return True

    def decide(self, block: Block, certificate: CommitCertificate) -> None:
        if self.executing:
            self.cluster.checkers.fail("driver", f"host {self.index} is told to decide twice")
        self.executing = True
        self.later(
            self.world.rng.randint(0, 8),
            lambda: self.feed(partial(self.commit_decided, block, certificate)),
        )

    def commit_decided(self, block: Block, certificate: CommitCertificate) -> None:
        self.executing = False
        if block.height == self.disk.chain.tip + 1:
            self.commit(block, certificate, tuple(self.pool[digest] for digest in block.batches))

    def commit(self, block: Block, certificate: CommitCertificate, batches: tuple[bytes, ...]) -> None:
        if self.honest:
            self.cluster.checkers.on_commit(self, block, certificate)
        self.disk.chain.commit(block, certificate, batches)
        self.note(f"commits {block.height} {block.hash.hex()[:8]} with {len(batches)} batches")
        for digest in block.batches:
            self.pool.pop(digest, None)
            self.disk.batches.pop(digest, None)
        self.awaiting.clear()
        self.held_asks.clear()
        self.work = bool(self.uncommitted())
        self.inbox.appendleft(Advanced(self.disk.chain.context(), self.work))

    # Receiving ----------------------------------------------------------------------------------------------------

    def deliver(self, source: int, packet: object) -> None:
        """A packet arrives."""
        if not self.alive:
            return
        if self.paused:
            if len(self._backlog) < BACKLOG_MAX:
                self._backlog.append(lambda: self.deliver(source, packet))
            return
        match packet:
            case ("message", bytes(raw)):
                self.receive(source, raw)
            case ("tip", int(height)):
                self.feed(PeerHeight(self.cluster.keys[source].public, height + 1))
            case ("batch", bytes(batch)):
                if digest_of(batch) not in self.disk.chain.committed:
                    self.learn(batch)
            case ("want", tuple(digests)):
                for digest in digests:
                    found = self.pool.get(digest) or self.committed_batch(digest)
                    if found is not None:
                        self.cluster.network.send(self.index, source, ("batch", found))
            case ("fetch", int(height)):
                entries = self.disk.chain.entries[max(height, 1) : height + FETCH_MAX]
                if entries:
                    blocks = tuple((e.block, e.certificate, e.batches) for e in entries)
                    self.cluster.network.send(self.index, source, ("blocks", blocks))
            case ("status?",):
                self.recall.answer(source)
            case ("status", Status() as status):
                self.feed(partial(self.recall.take, self.cluster.keys[source].public, status))
            case ("blocks", tuple(blocks)):
                self.feed(partial(self.sync, blocks))

    def committed_batch(self, digest: bytes) -> bytes | None:
        height = self.disk.chain.committed.get(digest)
        if height is None:
            return None
        entry = self.disk.chain.entries[height]
        for batch in entry.batches:
            if digest_of(batch) == digest:
                return batch
        return None

    def receive(self, source: int, raw: bytes) -> None:
        try:
            message = decode_message(raw)
            ahead = message.height - self.replica.height
            if ahead not in (0, 1):
                self.feed(PeerHeight(self.cluster.keys[source].public, message.height))
                return
            sets = self.disk.chain.sets
            if message.height >= len(sets):
                return
            verified = self.cluster.verify(raw, message, sets[message.height])
        except (PeerFault, Refused) as fault:
            self.cluster.checkers.on_peer_fault(self, source, str(fault))
            return
        self.feed(MessageReceived(verified))

    def sync(
        self, blocks: tuple[tuple[Block | None, CommitCertificate | None, tuple[bytes, ...]], ...]
    ) -> None:
        for block, certificate, batches in blocks:
            chain = self.disk.chain
            if block is None or certificate is None or block.height != chain.tip + 1 or self.executing:
                continue
            try:
                check_block_form(block)
                check_certified(block.header, certificate, chain.sets[block.height], self.cluster.ring.verify)
            except Refused:
                return
            if [digest_of(batch) for batch in batches] != block.batches:
                return
            self.commit(block, certificate, batches)

    # Periodic -----------------------------------------------------------------------------------------------------

    def tell_status(self) -> None:
        for target in range(len(self.cluster.hosts)):
            if target != self.index:
                self.cluster.network.send(self.index, target, ("tip", self.disk.chain.tip))
        self.later(STATUS_EVERY_MS, self.tell_status)

    def announce(self) -> None:
        """Say uncommitted batches again: dissemination is the mempool's duty."""
        for digest in self.uncommitted()[:8]:
            for target in range(len(self.cluster.hosts)):
                if target != self.index:
                    self.cluster.network.send(self.index, target, ("batch", self.pool[digest]))
        self.later(ANNOUNCE_EVERY_MS, self.announce)

    def complain(self, batch: bytes) -> None:
        """The batch waited too long."""
        if digest_of(batch) in self.pool:
            self.feed(Censored(digest_of(batch)))


def describe(message: Message) -> str:
    """A message in a few words."""
    match message:
        case Decided(block, certificate):
            return f"decided {block.height}/{certificate.view} {block.hash.hex()[:8]}"
        case _ if hasattr(message, "block_hash"):
            return f"{type(message).__name__} {message.height}/{message.view} {message.block_hash.hex()[:8]}"
        case _:
            prepared = message.prepared
            told = "-" if prepared is None else f"{prepared.certificate.view}:{prepared.block.hash.hex()[:8]}"
            return f"ViewChange {message.height}/{message.view} prepared {told}"
