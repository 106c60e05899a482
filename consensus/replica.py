"""The replica: a value-in, value-out machine. `step(input, now)` returns the effects that the host performs in order.

Inputs only change what is known; then `_transition` is asked, again and again, whether one of the protocol's
transitions is enabled by what is known, until none is. So no order of arrival can miss one, and every legal transition
stands in that one function. No vote is made but through `promise.py`, and none leaves but behind its `Persist`.

The protocol: docs/consensus.md. Source: Castro & Liskov 1999, §4.2 (normal case), §4.4 (view changes), §4.5.2 (timers).
"""

from __future__ import annotations

from consilium.consensus import speech
from consilium.consensus.context import HeightContext, make_block, proposal_time
from consilium.consensus.evidence import quoted_seals, quotes
from consilium.consensus.hearing import ask_batches, ask_decided, compare, judge, learn, settle, signers_of
from consilium.consensus.io import (
    Advanced,
    BatchesHeld,
    Broadcast,
    BuildProposal,
    Censored,
    Decide,
    Effect,
    Input,
    MessageReceived,
    Now,
    PeerHeight,
    Persist,
    ProposalBuilt,
    Started,
    TimerFired,
    TimerKind,
    VoteFloor,
    WorkPending,
)
from consilium.consensus.limits import CENSORED_HEIGHTS, CENSORED_MAX, ReplicaConfig
from consilium.consensus.messages import (
    Decided,
    Message,
    PreparedCertificate,
    PrePrepare,
    Signed,
    VerifiedMessage,
    ViewChange,
)
from consilium.consensus.neighbours import Neighbours
from consilium.consensus.promise import (
    Promise,
    promise_commit,
    promise_prepare,
    promise_view_change,
)
from consilium.consensus.round import Phase, Proposal, open_round
from consilium.consensus.timers import Standing, Timers
from consilium.consensus.view_change import Mandate, mandate
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import InvariantBroken


class Replica:
    """One validator, or an observer (`key` None, or no validator's), at one height after the other.

    `promise`: what the host last persisted, or None. `abstain_below`: the replica follows and decides, but says
    nothing, at lower heights (HOUSE: restart); neither does it below the height that its promise speaks of.
    """

    def __init__(
        self,
        key: SigningKey | None,
        context: HeightContext,
        promise: Promise | None,
        config: ReplicaConfig,
        abstain_below: int = 0,
    ) -> None:
        self._key = key
        self._config = config
        self._promised = promise
        self._abstain_below = max(abstain_below, promise.height if promise is not None else 0)
        self._neighbours = Neighbours()
        self._timers = Timers()
        self._censored: dict[bytes, int] = {}
        self._work = False
        self._effects: list[Effect] = []
        self._round = open_round(context, promise, self._own_key, 0, 0)

    # What the host may look at ----------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        """The height it works at."""
        return self._round.context.height

    @property
    def view(self) -> int:
        """The view it is in, or wants to be in."""
        return self._round.view

    @property
    def phase(self) -> Phase:
        """Where it stands in it."""
        return self._round.phase

    @property
    def votes_here(self) -> bool:
        """Whether it is a validator of this height that may speak."""
        return (
            self._key is not None
            and self._key.public in self._round.context.validators
            and self.height >= self._abstain_below
        )

    @property
    def primary(self) -> bytes:
        """The primary of the current view."""
        return self._round.context.primary(self._round.view)

    def heard_from(self, key: bytes) -> list[Signed]:
        """The votes of a validator that are known here, of this height and the next."""
        return [*self._round.book.votes_of(key), *self._neighbours.kept_of(key)]

    # Inputs -------------------------------------------------------------------------------------------------------

    def step(self, event: Input, now: Now) -> list[Effect]:
        """Take one input; return what the host must do, in this order. Raises InvariantBroken only."""
        match event:
            case Started():
                self._round.opened_ms = now.monotonic_ms
                self._say_again()
            case MessageReceived(verified):
                self._receive(verified, now)
            case PeerHeight(peer, height):
                self._hear_height(peer, height, now)
            case ProposalBuilt(height, view, batches):
                self._take_built(height, view, list(batches), now)
            case BatchesHeld(block_hash):
                self._round.held[block_hash] = None
            case WorkPending(pending):
                self._work = pending
            case Advanced(context, work_pending, certificate):
                if certificate is not None and certificate.height == self.height:
                    self._effects += compare(self._round, quoted_seals(certificate))
                self._advance(context, work_pending, now)
            case TimerFired(kind):
                self._take_timer(kind, now)
            case Censored(batch):
                if len(self._censored) < CENSORED_MAX:
                    self._censored[batch] = self.height + CENSORED_HEIGHTS
            case VoteFloor(height):
                self._abstain_below = max(height, self._promised.height if self._promised is not None else 0)
                self._say_again()
        while self._transition(now):
            pass
        self._keep_time(now)
        effects, self._effects = self._effects, []
        return effects

    def _receive(self, verified: VerifiedMessage, now: Now) -> None:
        message, here = verified.message, self._round
        if message.height == self.height:
            if verified.validators_hash == here.context.validators.hash:
                self._take(message)
                if here.decided is not None and isinstance(message, ViewChange):
                    self._effects += self._neighbours.undecided(message.sender, here.decided, now)
        elif not isinstance(message, Decided):
            if message.height == self.height + 1:
                self._neighbours.keep(message.sender, verified)
            self._hear_height(message.sender, message.height, now)

    def _take(self, message: Message) -> None:
        """Learn from a verified message of this height."""
        here = self._round
        if not isinstance(message, Decided):
            self._effects += learn(here, message, self._own_key)
        elif here.decided is None:
            self._effects += compare(here, quotes(message))
            self._settle(message)

    def _hear_height(self, peer: bytes, height: int, now: Now) -> None:
        if height < self.height:
            # The last votes of a height that has just been decided are late, and their senders are not behind.
            just_opened = now.monotonic_ms < self._round.opened_ms + self._config.resend_first_ms // 2
            if height < self.height - 1 or not just_opened:
                self._effects += self._neighbours.behind(peer, height, now)
        elif height > self.height:
            self._neighbours.ahead(peer, height)
            self._effects += self._neighbours.catch_up(self.height, self.height + 1, now)

    def _take_built(self, height: int, view: int, batches: list[bytes], now: Now) -> None:
        here = self._round
        if not here.building or (height, view) != (self.height, here.view):
            return
        here.building = False
        given = self._mandate()
        if here.phase is not Phase.AWAITING or (given is not None and given.block is not None):
            return
        time_ms = proposal_time(here.context, now.wall_ms)
        if not batches and not here.context.may_be_empty(time_ms):
            self._work = False  # The host found nothing to propose: it says WorkPending when that changes.
            return
        block = make_block(here.context, batches, time_ms, self.primary)
        here.held[block.hash] = None
        self._hold(Proposal(block, True, given.justification if given is not None else None))

    def _take_timer(self, kind: TimerKind, now: Now) -> None:
        fired, again = self._timers.fired(kind, now.monotonic_ms)
        self._effects += again
        if not fired:
            return
        if kind is TimerKind.VIEW:
            self._change_view(self._round.view + 1)
        elif kind is TimerKind.RESEND:
            self._round.resent = True
            self._say_again()
            self._effects += self._neighbours.catch_up(self.height, self.height, now)

    def _advance(self, context: HeightContext, work_pending: bool, now: Now) -> None:
        if context.height <= self.height:
            return
        self._effects += self._timers.restart()
        self._work = work_pending
        self._censored = {batch: until for batch, until in self._censored.items() if until > context.height}
        failures = max(0, self._round.failures - 1)
        self._round = open_round(context, self._promised, self._own_key, failures, now.monotonic_ms)
        self._say_again()
        for message in self._neighbours.advance(context.height, context.validators.hash):
            self._take(message)

    # Transitions --------------------------------------------------------------------------------------------------

    def _transition(self, now: Now) -> bool:
        """Make the first transition that what is known enables; False when none is. (docs/consensus.md)"""
        here, book = self._round, self._round.book
        if here.decided is not None:
            return self._announce(here.decided)
        if here.committed is not None:
            block = here.find_block(here.committed.block_hash)
            if block is not None:
                self._settle(Decided(block, here.committed))
                return True
        higher = self._justified_above()
        if higher is not None:
            here.enter(higher.view, Phase.AWAITING)
            return True
        if not self.votes_here:
            return False
        wanted = book.wanted(here.context.validators.weak_quorum)
        if wanted > here.view:
            self._change_view(wanted)
            return True
        match here.phase:
            case Phase.CHANGING if (
                book.wanted(here.context.validators.quorum) >= here.view
                or book.pre_prepare(here.view, self.primary) is not None
            ):
                here.phase = Phase.AWAITING
            case Phase.AWAITING if self._is_primary:
                return self._propose(now)
            case Phase.AWAITING if self._censored and here.view == 0:
                self._change_view(1)
            case Phase.AWAITING:
                return self._accept(now)
            case Phase.HOLDING if here.proposal is not None and here.holds(here.proposal.block):
                self._vote(here.proposal)
            case Phase.PREPARING if (
                here.block_hash is not None
                and (prepared := book.prepared(here.view, here.block_hash)) is not None
            ):
                self._commit(prepared)
            case _:
                return False
        return True

    def _justified_above(self) -> PrePrepare | None:
        """The highest pre-prepare of a later view: its justification shows that a quorum went there."""
        above = [p for p in self._round.book.pre_prepares.every() if p.view > self._round.view]
        return max(above, key=lambda p: p.view, default=None)

    def _propose(self, now: Now) -> bool:
        """As primary: propose again what must be, or ask the host for batches when a block is due."""
        here = self._round
        given = self._mandate()
        if here.view > 0 and given is None:
            return False
        if given is not None and given.block is not None:
            holders = signers_of(here, given.justification.certificate)
            self._hold(Proposal(given.block, True, given.justification, holders))
            return True
        due = self._work or here.context.may_be_empty(proposal_time(here.context, now.wall_ms))
        if due and not here.building:
            here.building = True
            self._effects.append(BuildProposal(self.height, here.view))
        return False

    def _accept(self, now: Now) -> bool:
        """As backup: take up the proposal of this view, if it may be voted for now."""
        proposal, reports = judge(self._round, now, self._config)
        self._effects += reports
        if proposal is not None:
            self._hold(proposal)
        return proposal is not None

    def _hold(self, proposal: Proposal) -> None:
        here = self._round
        here.proposal = proposal
        here.phase = Phase.HOLDING
        if not here.holds(proposal.block):
            self._effects.append(ask_batches(here, proposal.block, proposal.holders, self._own_key))

    def _settle(self, decided: Decided) -> None:
        here = self._round
        settle(here, decided)
        if not here.holds(decided.block):
            self._effects.append(ask_decided(here, decided, self._own_key))

    def _announce(self, decided: Decided) -> bool:
        here = self._round
        if here.announced or not here.holds(decided.block):
            return False
        here.announced = True
        for batch in decided.block.batches:
            self._censored.pop(batch, None)
        self._effects.append(Decide(decided.block, decided.certificate))
        return True

    # Speaking -----------------------------------------------------------------------------------------------------

    def _vote(self, proposal: Proposal) -> None:
        """The proposal and its batches are here: promise them, then prepare. The primary's vote is its pre-prepare."""
        here = self._round
        self._persist(promise_prepare(here.promise, here.view, proposal.block))
        here.phase = Phase.PREPARING
        self._say(speech.prepare(here, self._signing_key))

    def _commit(self, certificate: PreparedCertificate) -> None:
        """A quorum prepared: promise the certificate, then seal."""
        here = self._round
        self._persist(promise_commit(here.promise, certificate))
        here.phase = Phase.COMMITTING
        self._say(speech.commit(here, self._signing_key))

    def _change_view(self, view: int) -> None:
        """Leave every view below `view`, and say so with what was prepared."""
        here = self._round
        if not self.votes_here or here.decided is not None:
            return
        self._persist(promise_view_change(here.promise, view))
        here.enter(view, Phase.CHANGING)
        self._say(speech.view_change(here, self._signing_key))

    def _persist(self, promise: Promise) -> None:
        self._round.promise = promise
        self._effects.append(Persist(promise))

    def _say(self, message: Signed) -> None:
        self._take(message)
        self._effects.append(Broadcast(message))

    def _say_again(self) -> None:
        """Repeat all that was said in this view, and ask again for what is missing: no lost message stalls a height."""
        here = self._round
        if here.decided is not None:
            if not here.announced:
                self._effects.append(ask_decided(here, here.decided, self._own_key))
            return
        said = speech.everything(here, self._signing_key) if self.votes_here else []
        for message in said:
            self._say(message)
        if not said and here.heard is not None:
            # Others vote, and this replica cannot: perhaps what it lacks is decided long since.
            self._neighbours.ahead(here.heard, self.height + 1)
        if here.phase is Phase.HOLDING and here.proposal is not None:
            self._effects.append(ask_batches(here, here.proposal.block, here.proposal.holders, self._own_key))

    def _keep_time(self, now: Now) -> None:
        standing = Standing(self.votes_here, self._is_primary, self._work, self._neighbours.any_ahead())
        self._effects += self._timers.keep(self._round, standing, now, self._config)

    # Small questions ----------------------------------------------------------------------------------------------

    @property
    def _own_key(self) -> bytes | None:
        return None if self._key is None else self._key.public

    @property
    def _is_primary(self) -> bool:
        return self.primary == self._own_key

    @property
    def _signing_key(self) -> SigningKey:
        if self._key is None:
            raise InvariantBroken("an observer was asked to vote")
        return self._key

    def _mandate(self) -> Mandate | None:
        here = self._round
        if here.view == 0:
            return None
        return mandate(here.book.changes.at(here.view), here.context.validators.quorum)
