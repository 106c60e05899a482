"""One half of a divided council during one view: what its hosts say reaches each other and nobody else.

There is no clock. A view begins when the timers of the last one fire: whoever has decided begins its next height,
whoever has not says again what it said, and then leaves its view if its view timer runs. What was said is delivered hop
by hop until nobody has anything to say, or the view is cut short. So all hosts go through the views in lockstep, and
their own rules alone make them change the view, ask for what they missed, or stay. A host decides at most one height
a view by itself: it executes the block until the view's end.

Source: Bano et al. 2020, "Twins: BFT Systems Made Robust", arXiv 2004.10617.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from consilium.consensus.io import (
    Advanced,
    BatchesHeld,
    Broadcast,
    BuildProposal,
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
    ProposalBuilt,
    Report,
    SendDecided,
    SendTo,
    Started,
    TimerFired,
    TimerKind,
    WorkPending,
)
from consilium.consensus.limits import ReplicaConfig
from consilium.consensus.messages import (
    Commit,
    Decided,
    Message,
    Prepare,
    VerifiedMessage,
    verify_message,
)
from consilium.consensus.replica import Replica
from consilium.ledger.block import check_certified
from consilium.ledger.errors import InvariantBroken, PeerFault, Refused
from consilium.ledger.validators import Validator, ValidatorSet
from tests.simulation.chain import CHAIN_ID, Chain, digest_of
from tests.simulation.keys import Keyring
from tests.simulation.twins.portrait import Painter, Portrait
from tests.simulation.twins.snapshot import date_back, duplicate
from tests.simulation.world import WALL_EPOCH_MS

VIEW_MS: Final = 1_000
"""How long a view lasts: every timer that was set in it has expired at its end."""
CONFIG: Final = ReplicaConfig(
    view_timeout_ms=VIEW_MS, view_timeout_max_ms=VIEW_MS, resend_first_ms=VIEW_MS, resend_ms=VIEW_MS
)
START_MS: Final = 10_000
HOPS_MAX: Final = 60
"""Three times what the longest view takes: beyond it, somebody talks without end."""


class Cut(Enum):
    """What of a view is lost inside the halves. Two-way halves alone treat all hosts of a half alike."""

    WHOLE = "whole"
    """Nothing."""
    UNSEALED = "unsealed"
    """All seals: everybody is prepared and has sealed, nobody knows it."""
    ONE_DECIDES = "one-decides"
    """All seals but those to one host of the half."""
    ONE_PREPARES = "one-prepares"
    """All prepares but those to one host of the half; a pre-prepare, a prepare too, is heard by all."""


class Violated(Exception):
    """A property failed: `what` names it."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(f"{what}: {detail}")
        self.what = what


class Council:
    """`nodes` validators; each of `twinned` (their places) has a second host with the same key."""

    def __init__(self, nodes: int, twinned: tuple[int, ...]) -> None:
        self.ring = Keyring(nodes, real=False)
        self.validators = ValidatorSet([Validator(key.public, bytes(16)) for key in self.ring.keys])
        places = [*range(nodes), *twinned]
        by_public = {key.public: key for key in self.ring.keys}
        self.keys = [by_public[self.validators.keys[place]] for place in places]
        self.labels = [str(place) for place in range(nodes)] + [f"{place}'" for place in twinned]
        self.honest = tuple(place not in twinned for place in places)
        """By host. Twins run honest code, but as one validator they lie."""
        self.texts: dict[bytes, bytes] = {}
        self.equivocations = 0

    def subset(self, mask: int) -> ValidatorSet:
        """The validator set never changes here."""
        raise AssertionError(f"nobody asked for the validators {mask:b}")

    def begin(self, host: int) -> Host:
        """A host before its first view."""
        chain = Chain(self.validators, self.subset, WALL_EPOCH_MS)
        return Host(host, Replica(self.keys[host], chain.context(), None, CONFIG), chain)


@dataclass
class Host:
    """A replica with what its node keeps. `decided` waits for the end of the view; `halted`: a twin that found itself
    in contradiction (an honest one that does is a violation)."""

    index: int
    replica: Replica
    chain: Chain
    decided: Decide | None = None
    started: bool = False
    halted: bool = False

    def copy(self) -> Host:
        """Another host in the same state."""
        chain = self.chain.rewound(self.chain.tip)
        return Host(self.index, duplicate(self.replica), chain, self.decided, self.started, self.halted)

    def portrait(self, painter: Painter) -> Portrait:
        """Its state, to be compared."""
        entries = [
            (e.block.header, e.certificate) for e in self.chain.entries[1:] if e.block and e.certificate
        ]
        if self.halted:
            # Nothing comes from it any more but certified blocks.
            return painter.portrait(["halted", self.index], entries, self.chain.tip)
        state = [self.index, self.started, self.decided, self.replica]
        return painter.portrait(state, entries, self.chain.tip)

    def blocks(self) -> tuple[bytes, ...]:
        """The hashes of what it has decided, from height 1 on."""
        committed = tuple(entry.header.hash for entry in self.chain.entries[1:])
        return committed if self.decided is None else (*committed, self.decided.block.hash)


@dataclass(frozen=True, slots=True)
class Fetch:
    """A host asks the hosts with this key for certified blocks."""

    height: int
    hint: bytes


Said: TypeAlias = tuple[int, bytes | None, Message | Fetch]
"""Who says it, the key of whom it is for (None: everybody), and what."""


@dataclass
class Half:
    """Some hosts of a council, during one view. `now_ms` never moves in it."""

    council: Council
    hosts: list[Host]
    cut: Cut
    now_ms: int = START_MS
    _said: list[Said] = field(default_factory=list)
    _verified: dict[int, VerifiedMessage] = field(default_factory=dict)

    def run(self) -> None:
        """From one rest to the next. Raises Violated."""
        for host in self.hosts:
            self._open(host)
        for _ in range(HOPS_MAX):
            if not self._said:
                return
            self._hop()
        raise Violated("endless", f"hosts {[self._label(host) for host in self.hosts]} talk without end")

    def rest(self, by_ms: int = VIEW_MS) -> None:
        """Let the view be over: the same moment is the beginning of the next."""
        for host in self.hosts:
            date_back(host.replica, self.now_ms, by_ms)

    def _open(self, host: Host) -> None:
        if host.halted:
            return
        if not host.started:
            host.started = True
            self._step(host, WorkPending(True))
            self._step(host, Started())
        elif host.decided is not None:
            decided, host.decided = host.decided, None
            self._commit(host, Decided(decided.block, decided.certificate))
            self._step(host, Advanced(host.chain.context(), True))
        else:
            self._step(host, TimerFired(TimerKind.RESEND))
            self._step(host, TimerFired(TimerKind.VIEW))

    def _hop(self) -> None:
        """Deliver all that was said. Hosts hear the two proposals of twins in different orders."""
        said, self._said = self._said, []
        for place, host in enumerate(self.hosts):
            heard = [one for one in said if self._hears(host, one)]
            for source, _, message in heard if place % 2 == 0 else reversed(heard):
                if host.halted:
                    break
                self._hand(source, host, message)
        self._verified.clear()

    def _hears(self, host: Host, said: Said) -> bool:
        source, target, message = said
        if source == host.index:
            return False
        if isinstance(message, Fetch):
            return False if target is None else self.council.keys[host.index].public == target
        if target is not None and self.council.keys[host.index].public != target:
            return False
        match self.cut:
            case Cut.UNSEALED:
                return not isinstance(message, Commit)
            case Cut.ONE_DECIDES if isinstance(message, Commit):
                return host.index == self._one()
            case Cut.ONE_PREPARES if isinstance(message, Prepare):
                return host.index == self._one()
        return True

    def _one(self) -> int:
        """The last honest host of this half: it is primary later than the others."""
        honest = [host.index for host in self.hosts if self.council.honest[host.index]]
        return honest[-1] if honest else self.hosts[0].index

    def _hand(self, source: int, host: Host, message: Message | Fetch) -> None:
        sender = self.council.keys[source].public
        if isinstance(message, Fetch):
            asker = next(other for other in self.hosts if other.index == source)
            self._serve(host, asker, message.height)
        elif message.height - host.replica.height not in (0, 1):
            self._step(host, PeerHeight(sender, message.height))
        elif (verified := self._verify(source, message)) is not None:
            self._step(host, MessageReceived(verified))

    def _verify(self, source: int, message: Message) -> VerifiedMessage | None:
        known = self._verified.get(id(message))
        if known is not None:
            return known
        try:
            verified = verify_message(message, CHAIN_ID, self.council.validators, self.council.ring.verify)
        except PeerFault as fault:
            # Twins run honest code too: nobody here says what does not verify.
            raise Violated(
                "admission", f"{self.council.labels[source]} says what is refused: {fault}"
            ) from None
        self._verified[id(message)] = verified
        return verified

    def _serve(self, host: Host, asker: Host, height: int) -> None:
        """Catching up: the asker verifies and commits the certified blocks that the host has."""
        if asker.halted or height > host.chain.tip or asker.chain.tip >= host.chain.tip:
            return
        if asker.decided is not None and asker.decided.block.hash != host.blocks()[asker.chain.tip]:
            raise Violated("agreement", f"what host {self._label(asker)} gets is not what it decided")
        for entry in host.chain.entries[asker.chain.tip + 1 :]:
            if entry.block is not None and entry.certificate is not None:
                self._commit(asker, Decided(entry.block, entry.certificate))
        asker.decided = None
        self._step(asker, Advanced(asker.chain.context(), True))

    def _commit(self, host: Host, decided: Decided) -> None:
        block, certificate = decided.block, decided.certificate
        if host.chain.tip + 1 != block.height or host.chain.context().parent.hash != block.header.parent:
            raise Violated("agreement", f"what host {self._label(host)} gets is of another chain")
        host.chain.commit(block, certificate, tuple(self.council.texts[digest] for digest in block.batches))

    def _step(self, host: Host, event: Input) -> None:
        inputs = [event]
        while inputs and not host.halted:
            try:
                effects = host.replica.step(inputs.pop(0), Now(self.now_ms, WALL_EPOCH_MS))
            except InvariantBroken as broken:
                if self.council.honest[host.index]:
                    raise Violated("invariant", f"host {self._label(host)}: {broken}") from None
                host.halted = True
                return
            for effect in effects:
                inputs += self._perform(host, effect)

    def _perform(self, host: Host, effect: Effect) -> list[Input]:
        """Do it; returns what the host answers."""
        match effect:
            case Broadcast(message):
                self._said.append((host.index, None, message))
            case SendTo(peer, message):
                self._said.append((host.index, peer, message))
            case SendDecided(peer, height):
                entry = host.chain.entries[height]
                if entry.block is not None and entry.certificate is not None:
                    self._said.append((host.index, peer, Decided(entry.block, entry.certificate)))
            case CatchUp(height, hint):
                self._said.append((host.index, hint, Fetch(height, hint)))
            case BuildProposal(height, view):
                # Of its own host, height and view: so twins never propose the same.
                text = b"%d.%d.%d" % (host.index, height, view)
                self.council.texts[digest_of(text)] = text
                return [ProposalBuilt(height, view, (digest_of(text),))]
            case HoldBatches(block, _):
                # Spreading batches is the mempool's duty: everybody has all of them.
                return [BatchesHeld(block.hash)]
            case Decide():
                self._check_certificate(host, effect)
                host.decided = effect
            case Report(Equivocation(evidence)):
                self.council.equivocations += 1
                place = self.council.validators.index(evidence.validator)
                if place is None or self.council.honest[place]:
                    raise Violated(
                        "evidence", f"host {self._label(host)} has evidence against validator {place}"
                    )
            case Report(Misbehaviour(validator, reason)):
                place = self.council.validators.index(validator)
                if place is None or self.council.honest[place]:
                    raise Violated(
                        "evidence", f"host {self._label(host)} accuses validator {place}: {reason}"
                    )
        return []

    def _check_certificate(self, host: Host, decide: Decide) -> None:
        try:
            check_certified(
                decide.block.header, decide.certificate, self.council.validators, self.council.ring.verify
            )
        except Refused as refusal:
            raise Violated("certificate", f"host {self._label(host)}: {refusal}") from None

    def _label(self, host: Host) -> str:
        return self.council.labels[host.index]


def check_agreement(council: Council, hosts: list[tuple[bytes, ...]]) -> None:
    """No two hosts decided different blocks at one height; twins are asked too: certificates bind everybody."""
    longest = max(hosts, key=len)
    for index, blocks in enumerate(hosts):
        if blocks != longest[: len(blocks)]:
            height = next(
                h for h, (one, other) in enumerate(zip(blocks, longest, strict=False), 1) if one != other
            )
            other = council.labels[hosts.index(longest)]
            raise Violated(
                "agreement",
                f"hosts {council.labels[index]} and {other} decide differently at height {height}",
            )
