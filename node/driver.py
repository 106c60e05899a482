"""The host loop of consensus: the only caller of `replica.step`, and the only writer of the chain.

Inputs come from three sides: messages that the router verified, blocks that the synchroniser verified, and signals of
this node itself (timers, held batches, new work). Effects are performed strictly in their order; `Persist` and the
commit of a block run in a thread and are awaited, so that nothing is sent before it is durable and the event loop
still turns. The order of things is the one of `consensus/io.py`.

Two queues, both bounded: messages wait in a queue whose fullness holds back the peer that fills it, signals coalesce
by what they say. A fault of this node (`InvariantBroken`, a failed sync) ends the loop, and with it the node; whoever
waits for a block to be committed is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from consilium.consensus.context import HeightContext
from consilium.consensus.evidence import Evidence
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
    Equivocation,
    HoldBatches,
    Input,
    MessageReceived,
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
    VoteFloor,
    WorkPending,
)
from consilium.consensus.messages import Message, ViewChange, encode_message
from consilium.consensus.replica import Replica
from consilium.ledger.errors import InvariantBroken
from consilium.node.company import Company
from consilium.node.complaints import Complaints
from consilium.node.decided import VerifiedDecision
from consilium.node.driver_ports import Clock, Keeper, Outlet
from consilium.node.executor import Commit, Executor
from consilium.node.holding import Holding
from consilium.node.mempool import Mempool
from consilium.node.peer_messages import Kind
from consilium.node.showing import Showing
from consilium.node.sync import Synchroniser
from consilium.node.threads import in_thread
from consilium.p2p.frame import Lane

MESSAGES_QUEUED_MAX: Final = 4_096
STEPS_PER_TURN: Final = 32
"""After so many inputs in one go, everybody else on the event loop has a turn."""
SEAL_DELAY_S: Final = 0.004
"""After a batch the next one waits so long for company. A first one is sealed at once."""
EVIDENCE_KEPT_MAX: Final = 64
SEALS_AT_ONCE_MAX: Final = 8
"""Of our own batches: sealing hashes up to a megabyte on the event loop."""

_log = structlog.get_logger("consilium.driver")


@dataclass(frozen=True, slots=True)
class _Delivery:
    """Consecutive blocks that came by catch-up, and who waits for them."""

    decisions: Sequence[VerifiedDecision]
    done: asyncio.Future[None]


class Driver:
    """See the module. `on_commit` is called on the event loop after each commit."""

    def __init__(
        self,
        *,
        replica: Replica,
        executor: Executor,
        mempool: Mempool,
        keeper: Keeper,
        outlet: Outlet,
        clock: Clock,
        on_commit: Callable[[Commit], None],
        seal_delay_s: float = SEAL_DELAY_S,
    ) -> None:
        self._replica = replica
        self._executor = executor
        self._mempool = mempool
        self._keeper = keeper
        self._outlet = outlet
        self._clock = clock
        self._on_commit = on_commit
        self._seal_delay_s = seal_delay_s
        self.synchroniser: Synchroniser | None = None
        self.on_evidence: Callable[[Evidence], object] | None = None
        self._messages: asyncio.Queue[Input | _Delivery] = asyncio.Queue(maxsize=MESSAGES_QUEUED_MAX)
        self._signals: dict[tuple[object, ...], Input] = {}
        self._wake = asyncio.Event()
        self._timers: dict[TimerKind, asyncio.TimerHandle] = {}
        self._sealing: asyncio.TimerHandle | None = None
        self._sealed_s = 0.0
        self._company = Company()
        self._building: asyncio.TimerHandle | None = None
        self._holding = Holding(mempool, outlet, self._batches_held)
        self._complaints = Complaints(
            mempool.key, mempool, lambda peer, raw: outlet.send(peer, Kind.BATCH, raw, Lane.BULK)
        )
        self._showing = Showing(executor, outlet, self._fail)
        self._failed: BaseException | None = None
        self._work_told = False
        self._ended = False
        self._demanded = (0, 0)
        self.view_changes = 0
        """Views that this node has demanded: each counts once, however often it is said again."""
        self.evidence: list[Equivocation] = []

    # What others may call, on the event loop

    @property
    def context(self) -> HeightContext:
        """The height that is being decided."""
        return self._executor.context

    async def receive(self, message: MessageReceived) -> None:
        """Queue a verified message; waits while the queue is full, which holds back its sender."""
        await self._messages.put(message)
        self._wake.set()

    async def deliver(self, decisions: Sequence[VerifiedDecision]) -> None:
        """Queue verified blocks that follow each other, and wait until they are committed, or found to be old.

        Raises InvariantBroken where the driver ends before.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._messages.put(_Delivery(decisions, done))
        self._wake.set()
        if self._ended:
            self._turn_away()
        await done

    def peer_at(self, peer: bytes, height: int) -> None:
        """A peer works at this height."""
        self._signal(("peer", peer), PeerHeight(peer, height))

    def release(self, floor: int) -> None:
        """The replica may vote from this height on."""
        self._signal(("floor",), VoteFloor(floor))

    def work_arrived(self) -> None:
        """Transactions were admitted: seal them soon."""
        if self._sealing is None:
            loop = asyncio.get_running_loop()
            self._sealing = loop.call_at(max(loop.time(), self._sealed_s + self._seal_delay_s), self._seal)

    def batch_arrived(self) -> None:
        """A batch was added to the mempool: a proposal may have waited for it."""
        self._tell_work()
        self._holding.arrived()

    def tick(self) -> None:
        """About once a second: drop what expired, offer again what peers may have missed, notice censorship."""
        self._mempool.forget_expired(self.context.parent.time_ms)
        for batch in self._mempool.overdue():
            self._outlet.broadcast(Kind.BATCH, batch.raw, Lane.BULK)
        self._look_for_censorship()
        if self._mempool.pending_count:
            self.work_arrived()
        self._tell_work()

    # The loop

    async def run(self) -> None:
        """Until cancelled, or until this node contradicts itself (InvariantBroken)."""
        try:
            self._work_told = self._mempool.has_work
            await self._perform(self._replica.step(Started(), self._clock()))
            if self._work_told:
                await self._step(WorkPending(True))
            steps = 0
            while True:
                item = await self._next()
                if isinstance(item, _Delivery):
                    await self._take(item)
                else:
                    await self._step(item)
                steps += 1
                if steps % STEPS_PER_TURN == 0:
                    await asyncio.sleep(0)
        finally:
            self._end()

    async def _take(self, delivery: _Delivery) -> None:
        new = [one for one in delivery.decisions if one.block.height >= self.context.height]
        try:
            if new and new[0].block.height == self.context.height:
                await self._commit(new)
        except BaseException:
            _refuse(delivery)
            raise
        if not delivery.done.done():
            delivery.done.set_result(None)

    def _end(self) -> None:
        """Nothing is started any more, and nobody waits for what will not come."""
        self._ended = True
        for kind in list(self._timers):
            self._cancel_timer(kind)
        for waiting in (self._sealing, self._building):
            if waiting is not None:
                waiting.cancel()
        self._holding.clear()
        self._showing.cancel()
        self._turn_away()

    def _turn_away(self) -> None:
        while not self._messages.empty():
            item = self._messages.get_nowait()
            if isinstance(item, _Delivery):
                _refuse(item)

    async def _next(self) -> Input | _Delivery:
        while True:
            if self._failed is not None:
                raise self._failed
            if self._signals:
                return self._signals.pop(next(iter(self._signals)))
            if not self._messages.empty():
                return self._messages.get_nowait()
            self._wake.clear()
            await self._wake.wait()

    async def _step(self, item: Input) -> None:
        await self._perform(self._replica.step(item, self._clock()))

    def _signal(self, key: tuple[object, ...], item: Input) -> None:
        self._signals[key] = item
        self._wake.set()

    async def _perform(self, effects: Iterable[Effect]) -> None:
        """In order, but for a decision, which is committed last: committing opens the next height and sets its timers,
        and what stands behind the decision cancels the timers of the height that it ends."""
        decided: Decide | None = None
        for effect in effects:
            match effect:
                case Persist(promise):
                    await in_thread(self._keeper.keep, promise, self._mempool.batch)
                case Broadcast(message):
                    self._count(message)
                    self._outlet.broadcast(Kind.CONSENSUS, encode_message(message), Lane.VOTES)
                case SendTo(peer, message):
                    self._outlet.send(peer, Kind.CONSENSUS, encode_message(message), Lane.VOTES)
                case SetTimer(kind, at_ms):
                    self._set_timer(kind, at_ms)
                case CancelTimer(kind):
                    self._cancel_timer(kind)
                case BuildProposal(height, view):
                    self._build(height, view)
                case HoldBatches():
                    self._holding.start(effect)
                case Decide():
                    decided = effect
                case CatchUp(height, hint):
                    if self.synchroniser is not None:
                        self.synchroniser.hint(hint, height)
                case SendDecided(peer, height):
                    self._showing.show(peer, height)
                case Report(fault):
                    self._report(fault)
        if decided is not None:
            held = [self._mempool.batch(digest) for digest in decided.block.batches]
            batches = tuple(batch for batch in held if batch is not None)
            await self._commit([VerifiedDecision(decided.block, decided.certificate, batches)])

    # Effects

    async def _commit(self, decisions: Sequence[VerifiedDecision]) -> None:
        commits = await in_thread(self._executor.commit_all, decisions)
        for one, done in zip(decisions, commits, strict=True):
            header, pool = one.block.header, self._mempool
            postponed = done.outcome.postponed
            included = [t.id for batch in one.batches for t in batch.transactions if t.id not in postponed]
            pool.committed(one.block.batches, included, header.height, header.time_ms, self._executor.seen)
            pool.take_back(one.batches, postponed, header.time_ms)
            self._on_commit(done)
        self._holding.clear()
        if self._building is not None:
            self._building.cancel()
            self._building = None
        self._company.committed(asyncio.get_running_loop().time())
        self._work_told = self._mempool.has_work
        await self._step(Advanced(self._executor.context, self._work_told, decisions[-1].certificate))
        self._look_for_censorship(decisions[0].block.height)
        if self._mempool.pending_count:
            self.work_arrived()

    def _look_for_censorship(self, last: int = 0) -> None:
        if (late := self._complaints.look(self.context, last)) is not None:
            self._signal(("censored",), Censored(late))

    def _build(self, height: int, view: int) -> None:
        if self._building is not None:
            self._building.cancel()
        loop = asyncio.get_running_loop()
        wait_s = self._company.wait_s(loop.time(), self._mempool.transaction_count) if view == 0 else 0.0
        if wait_s > 0:
            self._building = loop.call_later(wait_s, self._built, height, view)
        else:
            self._built(height, view)

    def _built(self, height: int, view: int) -> None:
        self._building = None
        self._seal()
        self._company.begun(asyncio.get_running_loop().time())
        batches = tuple(self._mempool.choose(self._executor.pace.transactions_max))
        self._signal(("built", height, view), ProposalBuilt(height, view, batches))

    def _seal(self) -> None:
        if self._sealing is not None:
            self._sealing.cancel()
            self._sealing = None
        for _ in range(SEALS_AT_ONCE_MAX):
            batch = self._mempool.seal(self.context.height)
            if batch is None:
                break
            self._sealed_s = asyncio.get_running_loop().time()
            self._outlet.broadcast(Kind.BATCH, batch.raw, Lane.BULK)
        else:
            self.work_arrived()
        self._tell_work()

    def _tell_work(self) -> None:
        if (pending := self._mempool.has_work) != self._work_told:
            self._work_told = pending
            self._signal(("work",), WorkPending(pending))

    def _batches_held(self, block_hash: bytes) -> None:
        self._signal(("held", block_hash), BatchesHeld(block_hash))

    def _fail(self, error: BaseException) -> None:
        self._failed = error
        self._wake.set()

    def _count(self, message: Message) -> None:
        if isinstance(message, ViewChange) and (demanded := (message.height, message.view)) > self._demanded:
            self._demanded = demanded
            self.view_changes += 1

    def _report(self, fault: object) -> None:
        if isinstance(fault, Equivocation):
            if len(self.evidence) < EVIDENCE_KEPT_MAX:
                self.evidence.append(fault)
            if self.on_evidence is not None:
                self.on_evidence(fault.evidence)
            _log.error("validator.equivocated", evidence=repr(fault.evidence)[:500])
        else:
            _log.warning("validator.misbehaved", fault=repr(fault)[:500])

    # Timers

    def _set_timer(self, kind: TimerKind, at_ms: int) -> None:
        self._cancel_timer(kind)
        delay_s = max(0, at_ms - self._clock().monotonic_ms) / 1000
        self._timers[kind] = asyncio.get_running_loop().call_later(
            delay_s, self._signal, ("timer", kind), TimerFired(kind)
        )

    def _cancel_timer(self, kind: TimerKind) -> None:
        handle = self._timers.pop(kind, None)
        if handle is not None:
            handle.cancel()
        self._signals.pop(("timer", kind), None)


def _refuse(delivery: _Delivery) -> None:
    if not delivery.done.done():
        delivery.done.set_exception(InvariantBroken("the driver has ended"))
