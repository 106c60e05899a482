"""The state of one height in one replica: what was heard, what was said, and which step of the protocol it is at.

Only `replica.py` changes it. It lives from the moment the parent is committed until the next block is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from consilium.consensus.context import HeightContext
from consilium.consensus.limits import FAILURES_MAX
from consilium.consensus.messages import Decided, Justification
from consilium.consensus.promise import Promise, no_promise
from consilium.consensus.votes import VoteBook
from consilium.ledger.block import Block, CommitCertificate
from consilium.ledger.errors import InvariantBroken


class Phase(Enum):
    """Where a replica stands in its view. docs/consensus.md, "Phases", has the picture."""

    CHANGING = "changing"
    """Has left the views below; waits until a quorum has."""
    AWAITING = "awaiting"
    """In the view; no acceptable proposal yet."""
    HOLDING = "holding"
    """Accepted a proposal; gathers its batches. Has not voted."""
    PREPARING = "preparing"
    """Has voted for the proposal."""
    COMMITTING = "committing"
    """Has seen a quorum prepare, and has sealed."""
    DECIDING = "deciding"
    """Has a commit certificate, of any view; gathers batches if need be, then waits for the host."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What this replica votes for in its view. `own` where it is the primary; then `justification` goes with it."""

    block: Block
    own: bool
    justification: Justification | None = None
    holders: tuple[bytes, ...] = ()
    """Who has the batches: the primary, then those who signed the prepared certificate."""


@dataclass(slots=True)
class Round:
    """One height. `failures` counts the views that failed recently, over heights: it sets the view timer."""

    context: HeightContext
    book: VoteBook
    promise: Promise
    failures: int
    opened_ms: int
    """Monotonic time at which it began."""
    view: int
    phase: Phase = Phase.AWAITING
    proposal: Proposal | None = None
    building: bool = False
    """BuildProposal was asked for in this view, and not answered."""
    committed: CommitCertificate | None = None
    """Made of the seals that came; the block may still be unknown."""
    decided: Decided | None = None
    announced: bool = False
    """Decide was given to the host."""
    held: dict[bytes, None] = field(default_factory=dict)
    heard: bytes | None = None
    """Who voted last at this height."""
    resent: bool = False
    reported: dict[tuple[bytes, str], None] = field(default_factory=dict)
    """Each fault of each validator is reported once a height."""

    @property
    def block_hash(self) -> bytes | None:
        """The hash of the proposal in hand."""
        return None if self.proposal is None else self.proposal.block.hash

    def find_block(self, block_hash: bytes) -> Block | None:
        """The block with this hash, from whatever was heard or promised."""
        if self.proposal is not None and self.proposal.block.hash == block_hash:
            return self.proposal.block
        return self.promise.proposal(block_hash) or self.book.block(block_hash)

    def holds(self, block: Block) -> bool:
        """Whether every batch of the block is here."""
        return not block.batches or block.hash in self.held

    def enter(self, view: int, phase: Phase) -> None:
        """Start a view afresh."""
        self.failures = min(self.failures + view - self.view, FAILURES_MAX)
        self.view = view
        self.phase = phase
        self.proposal = None
        self.building = False


def open_round(
    context: HeightContext, kept: Promise | None, own_key: bytes | None, failures: int, opened_ms: int
) -> Round:
    """The state of a new height: empty, or where the promise left it. Raises InvariantBroken for a broken promise."""
    promise = kept if kept is not None and kept.height == context.height else no_promise(context.height)
    said = promise.votes
    here = Round(context, VoteBook(context.validators), promise, failures, opened_ms, view=said.view)
    for block in promise.proposals:
        here.held[block.hash] = None
    if said.prepare is not None:
        voted = promise.proposal(said.prepare)
        if voted is None:
            raise InvariantBroken("the promise names a proposal that it does not keep")
        here.proposal = Proposal(voted, own=context.primary(said.view) == own_key)
        here.phase = Phase.PREPARING if said.commit is None else Phase.COMMITTING
    elif said.changed:
        here.phase = Phase.CHANGING
    return here
