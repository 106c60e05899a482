"""The votes of one height: bounded tallies, what a quorum of them proves, and who contradicted himself.

A tally keeps, of each validator, at most one vote a view and VOTES_PER_VALIDATOR_MAX views, the highest: so a validator
can push out its own votes only, and memory does not depend on what is sent. The first vote stays; a second one for the
same view with another content is evidence. Views are numbers that a liar may choose freely; nothing here is indexed or
sized by them (docs/consensus.md, "Tallies").
"""

from __future__ import annotations

from typing import Generic, TypeVar

from consilium.consensus.evidence import Evidence, Quote, VoteKind, against_quote, content, make_evidence
from consilium.consensus.limits import VOTES_PER_VALIDATOR_MAX
from consilium.consensus.messages import (
    Commit,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Signed,
    ViewChange,
)
from consilium.ledger.block import Block, CommitCertificate, Seal
from consilium.ledger.validators import ValidatorSet

_M = TypeVar("_M", PrePrepare, Prepare, Commit, ViewChange)


class Tally(Generic[_M]):
    """One kind of vote at one height."""

    __slots__ = ("_validators", "_votes")

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._votes: list[dict[int, _M]] = [{} for _ in validators.keys]

    def add(self, vote: _M) -> Evidence | None:
        """Count a verified vote, once. Returns evidence when its sender voted otherwise in this view before."""
        index = self._validators.index(vote.sender)
        if index is None:
            return None
        votes = self._votes[index]
        known = votes.get(vote.view)
        if known is not None:
            return make_evidence(known, vote) if content(known) != content(vote) else None
        votes[vote.view] = vote
        if len(votes) > VOTES_PER_VALIDATOR_MAX:
            del votes[min(votes)]
        return None

    def at(self, view: int) -> list[tuple[int, _M]]:
        """The votes of a view, each with its validator's index, sorted by it."""
        return [(index, votes[view]) for index, votes in enumerate(self._votes) if view in votes]

    def of(self, index: int, view: int) -> _M | None:
        """This validator's vote in this view."""
        return self._votes[index].get(view)

    def highest(self) -> list[int]:
        """Of each validator that voted, its highest view."""
        return [max(votes) for votes in self._votes if votes]

    def every(self) -> list[_M]:
        """All kept votes, by validator, then in the order they came."""
        return [vote for votes in self._votes for vote in votes.values()]


class VoteBook:
    """All verified messages of one height that still matter."""

    __slots__ = ("changes", "commits", "pre_prepares", "prepares", "validators")

    def __init__(self, validators: ValidatorSet) -> None:
        self.validators = validators
        self.pre_prepares: Tally[PrePrepare] = Tally(validators)
        self.prepares: Tally[Prepare] = Tally(validators)
        self.commits: Tally[Commit] = Tally(validators)
        self.changes: Tally[ViewChange] = Tally(validators)

    def add(self, message: Signed) -> Evidence | None:
        """Count a message whose signature and, for a pre-prepare, whose sender's turn was checked."""
        match message:
            case PrePrepare(height, view, sender, block, _, signature):
                self.pre_prepares.add(message)
                return self.prepares.add(Prepare(height, view, sender, block.hash, signature))
            case Prepare():
                return self.prepares.add(message)
            case Commit():
                return self.commits.add(message)
            case ViewChange():
                return self.changes.add(message)

    def against(self, quote: Quote) -> Evidence | None:
        """Evidence, where a validator is quoted with something else than it said here."""
        match quote.kind:
            case VoteKind.PREPARE:
                return against_quote(self.prepares.of(quote.validator, quote.view), quote)
            case VoteKind.COMMIT:
                return against_quote(self.commits.of(quote.validator, quote.view), quote)
            case VoteKind.VIEW_CHANGE:
                return against_quote(self.changes.of(quote.validator, quote.view), quote)

    def pre_prepare(self, view: int, primary: bytes) -> PrePrepare | None:
        """The first pre-prepare that this primary sent for the view."""
        index = self.validators.index(primary)
        return None if index is None else self.pre_prepares.of(index, view)

    def votes_of(self, validator: bytes) -> list[Prepare | Commit | ViewChange]:
        """All kept votes of one validator; a pre-prepare as the prepare that it is."""
        index = self.validators.index(validator)
        if index is None:
            return []
        tallies = (self.prepares, self.commits, self.changes)
        return [vote for tally in tallies for vote in tally.every() if vote.sender == validator]

    def prepared(self, view: int, block_hash: bytes) -> PreparedCertificate | None:
        """The certificate, once a quorum prepared this block in this view."""
        signatures = _quorum(self.prepares.at(view), block_hash, self.validators.quorum)
        return None if signatures is None else PreparedCertificate(view, block_hash, signatures)

    def committed(self, height: int, view: int, block_hash: bytes) -> CommitCertificate | None:
        """The certificate, once a quorum sealed this block in this view."""
        seals = _quorum(self.commits.at(view), block_hash, self.validators.quorum)
        return None if seals is None else CommitCertificate(height, view, block_hash, seals)

    def preparers(self, block_hash: bytes) -> list[bytes]:
        """Who prepared this block in any view, and so keeps its batches; by validator."""
        keys: dict[bytes, None] = {}
        for vote in self.prepares.every():
            if vote.block_hash == block_hash:
                keys[vote.sender] = None
        return list(keys)

    def block(self, block_hash: bytes) -> Block | None:
        """The block with this hash, if a kept pre-prepare or view change carries it."""
        for pre_prepare in self.pre_prepares.every():
            if pre_prepare.block.hash == block_hash:
                return pre_prepare.block
        for change in self.changes.every():
            if change.prepared is not None and change.prepared.certificate.block_hash == block_hash:
                return change.prepared.block
        return None

    def wanted(self, count: int) -> int:
        """The highest view that at least `count` validators want to be in or above; 0 when fewer want any."""
        views = sorted(self.changes.highest(), reverse=True)
        return views[count - 1] if len(views) >= count else 0


def _quorum(
    votes: list[tuple[int, Prepare]] | list[tuple[int, Commit]], block_hash: bytes, quorum: int
) -> list[Seal] | None:
    """Exactly a quorum of signatures for the block, of the lowest validators, sorted; or None."""
    agreeing = [Seal(index, vote.signature) for index, vote in votes if vote.block_hash == block_hash]
    return agreeing[:quorum] if len(agreeing) >= quorum else None
