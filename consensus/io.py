"""The whole surface of the machine: what goes in, what comes out, and what each effect waits for.

The host (node/driver) owns all that touches the world. Its whole loop is:

    replica = Replica(key, context, promise, config, abstain_below)
    effects = replica.step(Started(), now())
    while True:
        for effect in effects:          # strictly in this order
            perform(effect)             # Persist returns only when it is synced: before anything later is performed
        effects = replica.step(next_input(), now())

What each input may lead to: docs/consensus.md, "Transitions".

`step` never blocks, never reads a clock, never raises for what a peer sent. It raises `InvariantBroken` only, and then
the host halts. Inputs that are late or repeated are harmless. One input at a time, from one task.

Sans-IO after etcd-io/raft's Ready and h11; effects with their resumption after circlefin/malachite.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from consilium.consensus.context import HeightContext
from consilium.consensus.evidence import Evidence
from consilium.consensus.messages import Message, VerifiedMessage
from consilium.consensus.promise import Promise
from consilium.ledger.block import Block, CommitCertificate


@dataclass(frozen=True, slots=True)
class Now:
    """`monotonic_ms` moves timers and never goes back; `wall_ms` (since 1970, UTC) dates proposals, and may jump."""

    monotonic_ms: int
    wall_ms: int


class TimerKind(Enum):
    """The three timers. Setting one replaces its earlier setting."""

    VIEW = "view"
    RESEND = "resend"
    HEARTBEAT = "heartbeat"


# Inputs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The first input, once, after construction: re-sends what the promise says was said."""


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message of the replica's height or the next, verified with the validators **of the message's height**.

    The host verifies in a thread. What it cannot verify, because the height is another, becomes `PeerHeight`.
    """

    message: VerifiedMessage


@dataclass(frozen=True, slots=True)
class PeerHeight:
    """The peer with this key works at `height`: told by a message of a height that is not verified here, or by a
    status exchange. Believed only so far that an answer or a catch-up is asked for."""

    peer: bytes
    height: int


@dataclass(frozen=True, slots=True)
class ProposalBuilt:
    """Answers BuildProposal. `batches`: at most BLOCK_BATCHES_MAX digests of distinct verified batches that this
    node holds and that are not yet committed, or none. The machine makes the header."""

    height: int
    view: int
    batches: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BatchesHeld:
    """Answers HoldBatches: every batch of this block is here and verified, and `Persist` can make it durable."""

    block_hash: bytes


@dataclass(frozen=True, slots=True)
class WorkPending:
    """Whether this node holds verified batches (or what is to become one) that no block has committed yet."""

    pending: bool


@dataclass(frozen=True, slots=True)
class Advanced:
    """Answers Decide, or follows a block that came by catch-up: the parent of `context.height` is executed and
    committed. `work_pending` as in WorkPending; `certificate`, the parent's, may show who contradicted himself."""

    context: HeightContext
    work_pending: bool
    certificate: CommitCertificate | None = None


@dataclass(frozen=True, slots=True)
class TimerFired:
    """Answers SetTimer. A fire that was cancelled or replaced meanwhile does nothing."""

    kind: TimerKind


@dataclass(frozen=True, slots=True)
class Censored:
    """A valid batch waits here, and the primary has had it for long: it is to lose its turn."""

    batch: bytes


@dataclass(frozen=True, slots=True)
class VoteFloor:
    """The replica may vote from this height on, as far as its promise allows: what `restart.judge` found. Until then
    `abstain_below` holds. What the promise says at this height is said again."""

    height: int


Input: TypeAlias = (
    Started
    | MessageReceived
    | PeerHeight
    | ProposalBuilt
    | BatchesHeld
    | WorkPending
    | Advanced
    | TimerFired
    | Censored
    | VoteFloor
)


# Effects ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Persist:
    """Sync the promise, with the batches of all its proposals, before performing anything later in the list.

    `promise.votes` is small and new each time. `promise.proposals` are at most two blocks, each written with its
    batches once and found again by hash; what is no longer named may go once the height is decided. Replaces the
    promise before it. A failed sync is fatal. Resumed by: nothing.
    """

    promise: Promise


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to every connected member, observers too, not to this node. May be lost: it is said again."""

    message: Message


@dataclass(frozen=True, slots=True)
class SendTo:
    """Send to the peer with this key, if it is connected."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class SendDecided:
    """Send the peer `Decided` of this committed height, from the store."""

    peer: bytes
    height: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Give TimerFired(kind) once monotonic time reaches `at_ms`. Replaces the timer of this kind."""

    kind: TimerKind
    at_ms: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Forget the timer of this kind."""

    kind: TimerKind


@dataclass(frozen=True, slots=True)
class BuildProposal:
    """This node is primary, and may propose afresh: choose batches, soon (a fraction of a view timeout), and answer
    with ProposalBuilt, once, with no batches too. Void when the height has advanced."""

    height: int
    view: int


@dataclass(frozen=True, slots=True)
class HoldBatches:
    """Get every batch of the block that is missing from these peers, in this order, and from any other; pin them;
    answer with BatchesHeld. Repeated while they are missing. Void when the height has advanced."""

    block: Block
    peers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Decide:
    """The block is final, and its batches are held: execute, commit in one synced write, answer with Advanced."""

    block: Block
    certificate: CommitCertificate


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Peers are ahead: fetch certified blocks from `height` on, the peer `hint` first. Answered by Advanced, if at
    all. `hint` may lie: verify certificates."""

    height: int
    hint: bytes


@dataclass(frozen=True, slots=True)
class Equivocation:
    """A validator contradicted itself; the evidence convinces anybody."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """A validator signed what an honest one would not, or not now. No proof to others. `reason` is for people."""

    validator: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Log, count, and keep evidence."""

    fault: Equivocation | Misbehaviour


Effect: TypeAlias = (
    Persist
    | Broadcast
    | SendTo
    | SendDecided
    | SetTimer
    | CancelTimer
    | BuildProposal
    | HoldBatches
    | Decide
    | CatchUp
    | Report
)
