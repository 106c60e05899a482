"""A few replicas on a table: no chance, no delays; every message waits until it is delivered or dropped by hand.

Unit tests and scenarios use it. What each replica does is printed in order, with blocks named A, B, C… as they appear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from consilium.consensus.io import (
    Advanced,
    BatchesHeld,
    Broadcast,
    BuildProposal,
    CancelTimer,
    CatchUp,
    Decide,
    Effect,
    Equivocation,
    HoldBatches,
    Input,
    MessageReceived,
    Misbehaviour,
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
from consilium.consensus.limits import ReplicaConfig
from consilium.consensus.messages import (
    Decided,
    Message,
    PrePrepare,
    VerifiedMessage,
    ViewChange,
    verify_message,
)
from consilium.consensus.promise import Promise
from consilium.consensus.replica import Replica
from consilium.ledger.errors import PeerFault
from consilium.ledger.validators import Validator, ValidatorSet
from tests.simulation.chain import CHAIN_ID, Chain, digest_of
from tests.simulation.keys import HashKey, Keyring
from tests.simulation.world import WALL_EPOCH_MS

START_MS = 10_000


@dataclass
class Wire:
    """A message on its way."""

    source: int
    target: int
    message: Message


@dataclass
class Seat:
    """One replica with what its host would keep. `answers`: builds proposals and finds batches by itself."""

    index: int
    key: HashKey
    chain: Chain
    replica: Replica
    promise: Promise | None = None
    pool: dict[bytes, bytes] = field(default_factory=dict)
    timers: dict[TimerKind, int] = field(default_factory=dict)
    asked: list[tuple[int, int]] = field(default_factory=list)
    answers: bool = True
    alive: bool = True
    busy: bool = False
    inputs: list[Input] = field(default_factory=list)
    wall_ms: int = 0
    abstain_below: int = 0


class Council:
    """`count` validators, and `observers` more seats that only follow."""

    def __init__(self, count: int, observers: int = 0, config: ReplicaConfig | None = None) -> None:
        self.config = config or ReplicaConfig()
        self.now_ms = START_MS
        ring = Keyring(count + observers, real=False)
        self.ring = ring
        self.validators = ValidatorSet([Validator(key.public, bytes(16)) for key in ring.keys[:count]])
        order = {key: place for place, key in enumerate(self.validators.keys)}
        keys = sorted(ring.keys[:count], key=lambda key: order[key.public]) + ring.keys[count:]
        self.wires: list[Wire] = []
        self.log: list[str] = []
        self.names: dict[bytes, str] = {}
        self.effects: list[list[Effect]] = [[] for _ in keys]
        self.agreed: dict[int, bytes] = {}
        self.seats: list[Seat] = []
        for index, key in enumerate(keys):
            chain = Chain(self.validators, self._subset, WALL_EPOCH_MS)
            assert isinstance(key, HashKey)
            replica = Replica(key, chain.context(), None, self.config)
            self.seats.append(Seat(index, key, chain, replica))

    def _subset(self, mask: int) -> ValidatorSet:
        keys = [seat.key.public for seat in self.seats if mask >> seat.index & 1]
        return ValidatorSet([Validator(key, bytes(16)) for key in keys])

    # Doing --------------------------------------------------------------------------------------------------------

    def now(self, index: int) -> Now:
        """The clocks of one seat."""
        return Now(self.now_ms, WALL_EPOCH_MS + self.now_ms + self.seats[index].wall_ms)

    def start(self, *indexes: int) -> None:
        """Give `Started` to these seats, or to all."""
        for index in indexes or range(len(self.seats)):
            self.step(index, Started())

    def step(self, index: int, event: Input) -> list[Effect]:
        """One input; its effects are performed, and then, in turn, whatever inputs they led to."""
        seat = self.seats[index]
        seat.inputs.append(event)
        if seat.busy:
            return []
        first: list[Effect] | None = None
        seat.busy = True
        while seat.inputs:
            effects = seat.replica.step(seat.inputs.pop(0), self.now(index))
            first = effects if first is None else first
            self.effects[index] += effects
            for effect in effects:
                self._perform(seat, effect)
        seat.busy = False
        return first or []

    def _perform(self, seat: Seat, effect: Effect) -> None:
        text = self.describe(effect)
        if text:
            self.log.append(f"{seat.index}: {text}")
        match effect:
            case Persist(promise):
                seat.promise = promise
            case Broadcast(message):
                self.wires += [
                    Wire(seat.index, other.index, message) for other in self.seats if other is not seat
                ]
            case SendTo(peer, message):
                self.wires.append(Wire(seat.index, self.seat_of(peer), message))
            case SendDecided(peer, height):
                entry = seat.chain.entries[height]
                if entry.block is not None and entry.certificate is not None:
                    decided = Decided(entry.block, entry.certificate)
                    self.wires.append(Wire(seat.index, self.seat_of(peer), decided))
            case SetTimer(kind, at_ms):
                seat.timers[kind] = at_ms
            case CancelTimer(kind):
                seat.timers.pop(kind, None)
            case BuildProposal(height, view):
                seat.asked.append((height, view))
                if seat.answers:
                    self.build(seat.index)
            case HoldBatches(block, _):
                if all(digest in seat.pool for digest in block.batches):
                    self.step(seat.index, BatchesHeld(block.hash))
            case Decide(block, certificate):
                known = self.agreed.setdefault(block.height, block.hash)
                if known != block.hash:
                    raise AssertionError(f"two blocks are decided at height {block.height}")
                batches = tuple(seat.pool.pop(digest) for digest in block.batches)
                seat.chain.commit(block, certificate, batches)
                self.step(seat.index, Advanced(seat.chain.context(), bool(self.uncommitted(seat))))

    def uncommitted(self, seat: Seat) -> tuple[bytes, ...]:
        """The digests that this seat could propose."""
        return tuple(digest for digest in seat.pool if digest not in seat.chain.committed)

    def build(self, index: int) -> None:
        """Answer the oldest BuildProposal."""
        seat = self.seats[index]
        height, view = seat.asked.pop(0)
        self.step(index, ProposalBuilt(height, view, self.uncommitted(seat)))

    def work(self, batch: str, *indexes: int) -> None:
        """A batch arrives at these seats, or at all."""
        for index in indexes or range(len(self.seats)):
            seat = self.seats[index]
            if seat.alive:
                seat.pool[digest_of(batch.encode())] = batch.encode()
                self.step(index, WorkPending(True))

    def hold(self, index: int) -> None:
        """Tell a seat that it now holds the batches of all that was proposed."""
        for effect in list(self.effects[index]):
            if isinstance(effect, HoldBatches) and all(
                digest in self.seats[index].pool for digest in effect.block.batches
            ):
                self.step(index, BatchesHeld(effect.block.hash))

    def verified(self, message: Message, index: int) -> VerifiedMessage | None:
        """The message as this seat's host verifies it; None where it is of a height that is not verified."""
        seat = self.seats[index]
        if message.height - seat.replica.height not in (0, 1):
            return None
        return verify_message(message, CHAIN_ID, seat.chain.sets[message.height], self.ring.verify)

    def hand(self, source: int, target: int, message: Message) -> None:
        """Deliver one message that needs not be on its way."""
        seat = self.seats[target]
        if not seat.alive:
            return
        try:
            verified = self.verified(message, target)
        except PeerFault as fault:
            self.log.append(f"{target}: refuses the {type(message).__name__} of {source}: {fault.reason}")
            return
        if verified is None:
            self.step(target, PeerHeight(self.seats[source].key.public, message.height))
        else:
            self.step(target, MessageReceived(verified))

    def share(self) -> None:
        """Every live seat gets every batch: dissemination is the mempool's duty, not the protocol's."""
        live = [seat for seat in self.seats if seat.alive]
        for source in live:
            for digest in self.uncommitted(source):
                for target in live:
                    if digest not in target.pool and digest not in target.chain.committed:
                        target.pool[digest] = source.pool[digest]
                        self.step(target.index, WorkPending(True))
                        self.hold(target.index)

    def deliver(self, wanted: Callable[[Wire], bool] = lambda wire: True, limit: int = 10_000) -> int:
        """Deliver what is on its way, oldest first, with what comes of it, until nothing wanted is left."""
        count = 0
        while count < limit:
            wire = next((wire for wire in self.wires if wanted(wire)), None)
            if wire is None:
                return count
            self.wires.remove(wire)
            self.hand(wire.source, wire.target, wire.message)
            count += 1
        raise AssertionError("the messages never end")

    def drop(self, wanted: Callable[[Wire], bool] = lambda wire: True) -> int:
        """Lose what is on its way."""
        kept = [wire for wire in self.wires if not wanted(wire)]
        lost, self.wires = len(self.wires) - len(kept), kept
        return lost

    def wait(self, milliseconds: int) -> None:
        """Let time pass; timers fire in order. Messages stay where they are."""
        end = self.now_ms + milliseconds
        while True:
            due = [
                (at_ms, seat.index, kind.value)
                for seat in self.seats
                if seat.alive
                for kind, at_ms in seat.timers.items()
                if at_ms <= end
            ]
            if not due:
                break
            at_ms, index, name = min(due)
            self.now_ms = max(self.now_ms, at_ms)
            del self.seats[index].timers[TimerKind(name)]
            self.step(index, TimerFired(TimerKind(name)))
        self.now_ms = end

    def crash(self, index: int) -> None:
        """Memory is lost; batches of the promise and of clients stay."""
        seat = self.seats[index]
        seat.alive = False
        seat.timers.clear()
        seat.asked.clear()

    def restart(self, index: int, abstain_below: int = 0) -> None:
        """Start again from the promise."""
        seat = self.seats[index]
        seat.alive = True
        seat.replica = Replica(seat.key, seat.chain.context(), seat.promise, self.config, abstain_below)
        self.step(index, Started())
        self.step(index, WorkPending(bool(self.uncommitted(seat))))

    def seat_of(self, key: bytes) -> int:
        """The index of the seat with this key."""
        return next(seat.index for seat in self.seats if seat.key.public == key)

    # Telling ------------------------------------------------------------------------------------------------------

    def name(self, block_hash: bytes) -> str:
        """A, B, C… in the order in which blocks appear."""
        if block_hash not in self.names:
            number = len(self.names)
            letter = chr(ord("A") + number % 26)
            self.names[block_hash] = letter if number < 26 else f"{letter}{number // 26}"
        return self.names[block_hash]

    def describe_message(self, message: Message) -> str:
        """For example `Prepare 1/0 A`: height, view, block."""
        match message:
            case Decided(block, certificate):
                return f"Decided {block.height}/{certificate.view} {self.name(block.hash)}"
            case ViewChange(height, view, _, prepared, _):
                told = (
                    "nothing"
                    if prepared is None
                    else f"{self.name(prepared.block.hash)} in view {prepared.certificate.view}"
                )
                return f"ViewChange {height}/{view}, prepared {told}"
            case PrePrepare(height, view, _, block, justification, _):
                why = ""
                if justification is not None:
                    signers = ",".join(str(claim.validator) for claim in justification.claims)
                    again = "afresh" if justification.certificate is None else "again"
                    why = f" {again}, justified by {signers}"
                return f"PrePrepare {height}/{view} {self.name(block.hash)}{why}"
            case _:
                return f"{type(message).__name__} {message.height}/{message.view} {self.name(message.block_hash)}"

    def describe(self, effect: Effect) -> str:
        """One line, or nothing for timers."""
        match effect:
            case Persist(promise):
                votes = promise.votes
                said = [
                    *(["view change"] if votes.changed else []),
                    *([f"prepare {self.name(votes.prepare)}"] if votes.prepare else []),
                    *([f"commit {self.name(votes.commit)}"] if votes.commit else []),
                ]
                return f"persists {votes.height}/{votes.view} {' + '.join(said)}"
            case Broadcast(message):
                return f"says {self.describe_message(message)}"
            case SendTo(peer, message):
                return f"tells {self.seat_of(peer)} {self.describe_message(message)}"
            case SendDecided(peer, height):
                return f"tells {self.seat_of(peer)} what was decided at {height}"
            case BuildProposal(height, view):
                return f"builds {height}/{view}"
            case HoldBatches(block, peers):
                asked = ",".join(str(self.seat_of(peer)) for peer in peers)
                return f"gets the batches of {self.name(block.hash)} from {asked or 'nobody'}"
            case Decide(block, certificate):
                sealers = ",".join(str(seal.validator) for seal in certificate.seals)
                return f"DECIDES {block.height} {self.name(block.hash)} in view {certificate.view}, sealed by {sealers}"
            case CatchUp(height, hint):
                return f"catches up from {height}, asking {self.seat_of(hint)}"
            case Report(Equivocation(evidence)):
                return f"has evidence against {self.seat_of(evidence.validator)}"
            case Report(Misbehaviour(validator, reason)):
                return f"accuses {self.seat_of(validator)}: {reason}"
            case _:
                return ""

    def states(self) -> Iterable[str]:
        """Where everybody stands."""
        for seat in self.seats:
            if not seat.alive:
                yield f"{seat.index}: down"
                continue
            replica = seat.replica
            running = ",".join(kind.value for kind in TimerKind if kind in seat.timers)
            yield (
                f"{seat.index}: height {replica.height} view {replica.view} {replica.phase.value}"
                f"{' timers ' + running if running else ''}{'' if replica.votes_here else ' (silent)'}"
            )
