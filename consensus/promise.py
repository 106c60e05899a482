"""The promise: what a replica has said at one height, and so may never contradict, crash or not.

The host makes it durable before any vote leaves (`io.Persist`), and gives it back at the next start. It has two parts,
because they change at different pace: `Votes` is small and written with each vote; the proposals it names, with their
batches, are large and written once each. A certificate can only lead back to a block that a quorum keeps: therefore
proposals are durable *before* the vote for them (docs/consensus.md, "Durable before sent").
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.consensus.messages import Prepared, PreparedCertificate
from consilium.ledger import codec
from consilium.ledger.block import BLOCK_BYTES_MAX, CERTIFICATE_BYTES_MAX, Block
from consilium.ledger.errors import InvariantBroken

VOTES_BYTES_MAX: Final = CERTIFICATE_BYTES_MAX + 256
PROPOSALS_MAX: Final = 2
"""What was voted for last, and what was prepared last, where they differ."""
PROMISE_BYTES_MAX: Final = VOTES_BYTES_MAX + PROPOSALS_MAX * BLOCK_BYTES_MAX + 16


class Votes(codec.Wire, frozen=True):
    """What was said last at `height`.

    `view`: the replica has left every view below it for good. `changed`: it has sent the view change to `view`.
    `prepare`, `commit`: the block it voted for in `view`. `prepared`: the highest certificate it has, of any view.
    """

    height: codec.Uint
    view: codec.Uint
    changed: bool
    prepare: codec.Bytes32 | None
    commit: codec.Bytes32 | None
    prepared: PreparedCertificate | None


class Promise(codec.Wire, frozen=True):
    """`proposals` holds exactly the blocks that `votes` names, each once; their batches are kept beside them."""

    votes: Votes
    proposals: Annotated[list[Block], msgspec.Meta(max_length=PROPOSALS_MAX)]

    @property
    def height(self) -> int:
        """The one height it speaks of."""
        return self.votes.height

    def proposal(self, block_hash: bytes) -> Block | None:
        """The kept block with this hash."""
        for block in self.proposals:
            if block.hash == block_hash:
                return block
        return None

    @property
    def prepared(self) -> Prepared | None:
        """The highest prepared certificate with its block."""
        certificate = self.votes.prepared
        if certificate is None:
            return None
        block = self.proposal(certificate.block_hash)
        if block is None:
            raise InvariantBroken("the promise names a prepared block that it does not keep")
        return Prepared(certificate, block)


def no_promise(height: int) -> Promise:
    """Nothing said yet at this height."""
    return Promise(Votes(height, 0, False, None, None, None), [])


# Each of these is the only way to make a vote. They refuse to contradict: the state machine never asks for it, and if
# it ever did, halting is better than lying.


def promise_prepare(promise: Promise, view: int, block: Block) -> Promise:
    """Vote for `block` in `view`, as its primary or after its pre-prepare. Raises InvariantBroken."""
    votes = promise.votes
    if view < votes.view or (view == votes.view and votes.prepare is not None):
        raise InvariantBroken(f"a second prepare at height {votes.height}, view {view}")
    changed = votes.changed and view == votes.view
    said = Votes(votes.height, view, changed, block.hash, None, votes.prepared)
    return _with_proposals(promise, said, block)


def promise_commit(promise: Promise, certificate: PreparedCertificate) -> Promise:
    """Seal the block that was prepared in the view of the vote before. Raises InvariantBroken."""
    votes = promise.votes
    if (certificate.view, certificate.block_hash) != (votes.view, votes.prepare) or votes.commit is not None:
        raise InvariantBroken(f"a commit that contradicts the prepare at height {votes.height}")
    said = Votes(votes.height, votes.view, votes.changed, votes.prepare, certificate.block_hash, certificate)
    return _with_proposals(promise, said, None)


def promise_view_change(promise: Promise, view: int) -> Promise:
    """Leave every view below `view`. Raises InvariantBroken."""
    votes = promise.votes
    if view <= votes.view:
        raise InvariantBroken(f"a view change back to view {view} at height {votes.height}")
    said = Votes(votes.height, view, True, None, None, votes.prepared)
    return _with_proposals(promise, said, None)


def _with_proposals(promise: Promise, votes: Votes, block: Block | None) -> Promise:
    named = [votes.prepare, votes.prepared.block_hash if votes.prepared is not None else None]
    kept: list[Block] = []
    for candidate in [*([block] if block is not None else []), *promise.proposals]:
        if candidate.hash in named and all(candidate.hash != other.hash for other in kept):
            kept.append(candidate)
    return Promise(votes, kept)


def decode_votes(raw: bytes) -> Votes:
    """The small record. Raises Refused `codec.*`."""
    return codec.decode(raw, Votes, VOTES_BYTES_MAX)
