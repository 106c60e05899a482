"""Whether a validator that has just started may speak, and from which height on.

What it said before stands in its promise; but the disk that holds the promise may have been wiped, or restored from an
older copy, and a disk cannot know that of itself. So at *every* start the validator says nothing until a quorum of
validators, its own chain counted, has shown two things: the newest certified block, and the asker's own latest votes
that are known there. Votes are signed by the asker itself, tips are certified: nobody can invent either.

Let `top` be the height of the newest block shown. A vote at height h was made by who had committed h - 1, and whoever
sealed h - 1 had committed h - 2; two quorums share an honest validator: so nothing was said above `top` + 2. (One that
forgot shows less than it had committed: it does not count.) Whoever's memory is gone, or proves stale, is therefore
silent up to there. An intact memory speaks where it left off, so that a
network that stopped as a whole goes on at once.

docs/consensus.md, "Restart", has the argument and what is promised when more than f lose their memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Final

import msgspec

from consilium.consensus.evidence import VoteKind, content, vote_digest, vote_kind
from consilium.consensus.messages import PreparedCertificate, Signed, claim_hash, prepared_at
from consilium.consensus.promise import Promise
from consilium.ledger import codec, crypto
from consilium.ledger.block import (
    CERTIFICATE_BYTES_MAX,
    HEADER_BYTES_MAX,
    CommitCertificate,
    Header,
    check_certified,
)
from consilium.ledger.crypto import Verify
from consilium.ledger.errors import PeerFault, Refused
from consilium.ledger.validators import ValidatorSet

SAID_MAX: Final = 16
"""So many of the asker's votes are shown, the latest: one is enough to prove a memory stale."""
SHOWN_HEIGHTS: Final = 8
"""The certificates of so many heights are searched for the asker's seals."""
SILENT_HEIGHTS: Final = 2
"""Above the newest certified height, nothing was said by anybody beyond so many heights."""
NEVER: Final = codec.UINT_MAX
"""The floor of a replica that has not asked yet."""
REQUEST_BYTES_MAX: Final = 32
STATUS_BYTES_MAX: Final = HEADER_BYTES_MAX + CERTIFICATE_BYTES_MAX + SAID_MAX * 160 + 64


class Said(codec.Wire, frozen=True):
    """A vote of the asker, in short; `content` as `evidence.content`, `signature` the asker's own."""

    kind: Annotated[int, msgspec.Meta(ge=0, le=2)]
    height: codec.Uint
    view: codec.Uint
    content: codec.Bytes32
    signature: codec.Bytes64


class StatusRequest(codec.Wire, frozen=True):
    """What is your tip, and which of my votes do you know? `nonce` comes back."""

    nonce: codec.Bytes16


class Status(codec.Wire, frozen=True):
    """The answer. The certificate is None for the genesis header only. `remembers`: the sender has a promise, and its
    chain reaches as far as that; a node that forgot, or whose chain is behind its own word, shows too low a tip."""

    nonce: codec.Bytes16
    header: Header
    certificate: CommitCertificate | None
    remembers: bool
    said: Annotated[list[Said], msgspec.Meta(max_length=SAID_MAX)]


# What others know of the asker ------------------------------------------------------------------------------------


def said_in(message: Signed) -> Said:
    """A message of the asker, in short."""
    return Said(vote_kind(message), message.height, message.view, content(message), message.signature)


def said_in_seals(certificate: CommitCertificate, place: int | None) -> list[Said]:
    """The asker's seal in a commit certificate; `place` is its index in the validator set of that height."""
    return [
        Said(VoteKind.COMMIT, certificate.height, certificate.view, certificate.block_hash, seal.signature)
        for seal in certificate.seals
        if seal.validator == place
    ]


def said_in_prepared(certificate: PreparedCertificate, height: int, place: int | None) -> list[Said]:
    """The asker's prepare in a prepared certificate, which outlives a restart of whoever holds it."""
    return [
        Said(VoteKind.PREPARE, height, certificate.view, certificate.block_hash, signature.signature)
        for signature in certificate.signatures
        if signature.validator == place
    ]


def latest(said: Iterable[Said]) -> list[Said]:
    """The latest SAID_MAX different votes, the latest first."""
    different = dict.fromkeys(said)
    return sorted(different, key=lambda one: (one.height, one.view, one.kind, one.content), reverse=True)[
        :SAID_MAX
    ]


# What the asker makes of it ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What one validator showed, verified: the height of its tip, votes of the asker, and whether it remembers."""

    tip: int
    said: tuple[Said, ...] = ()
    remembers: bool = True

    def after(self, earlier: Answer | None) -> Answer:
        """This one, with the votes that the same validator showed before."""
        if earlier is None:
            return self
        return Answer(self.tip, tuple(latest([*self.said, *earlier.said])), self.remembers)


def verify_status(
    status: Status,
    asker: bytes,
    chain_id: bytes,
    sets: Sequence[ValidatorSet],
    verify: Verify = crypto.verify,
) -> Answer | None:
    """Check an answer. `sets` are the validator set that sealed the asker's own tip, and the two that its chain names
    next.

    None where the tip is sealed by a set that is not among them: the asker must catch up first, and ask again. An older
    block by one of these sets is fine, whatever its height. Raises PeerFault for what no honest peer sends.
    """
    header, certificate = status.header, status.certificate
    if header.chain_id != chain_id:
        raise PeerFault("a status of another chain")
    for one in status.said:
        digest = vote_digest(VoteKind(one.kind), chain_id, one.height, one.view, one.content)
        if not verify(asker, digest, one.signature):
            raise PeerFault("a status with a vote that the asker never made")
    if (certificate is None) != (header.height == 0):
        raise PeerFault("a status whose tip is not certified")
    if certificate is not None:
        known = next((one for one in sets if one.hash == header.validators_hash), None)
        if known is None:
            return None
        try:
            check_certified(header, certificate, known, verify)
        except Refused as refusal:
            raise PeerFault(f"a status: {refusal}") from None
    return Answer(header.height, tuple(status.said), status.remembers)


def covers(promise: Promise | None, said: Said) -> bool:
    """Whether the promise accounts for this vote: it names it, or is beyond where such a vote could be made."""
    if promise is None:
        return False
    votes = promise.votes
    if (said.height, said.view) < (votes.height, votes.view):
        return True
    if (said.height, said.view) > (votes.height, votes.view):
        return False
    match VoteKind(said.kind):
        case VoteKind.PREPARE:
            return votes.prepare == said.content
        case VoteKind.COMMIT:
            return votes.commit == said.content
        case VoteKind.VIEW_CHANGE:
            # After the seal the promise has forgotten what was prepared when the view changed.
            claimed = claim_hash(prepared_at(promise.prepared))
            return votes.changed and (votes.commit is not None or claimed == said.content)


class Memory(Enum):
    """What a promise is worth."""

    INTACT = "intact"
    """Nobody knows a vote that it does not account for."""
    STALE = "stale"
    """Votes were made that it does not know: an older copy."""
    LOST = "lost"
    """There is none, and the network has begun."""
    FOUNDING = "founding"
    """There is none, and nobody knows of a block or of a vote of this validator: the network begins."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The replica may vote from height `floor` on. `top` is the newest certified height that was shown."""

    memory: Memory
    floor: int
    top: int


def judge(
    promise: Promise | None, answers: Mapping[bytes, Answer], sets: Sequence[ValidatorSet]
) -> Verdict | None:
    """The rule. None while a quorum of one of the sets has not answered.

    `answers` are by key, the asker's own among them (what its own chain shows); `sets` those of the height that the
    asker is at, and of the next. Answers of others than validators, and of validators that forgot, can only make it
    more careful: they are not of the quorum, but where the network begins, and nobody has anything to remember.
    """
    top = max((answer.tip for answer in answers.values()), default=0)
    said = [one for answer in answers.values() for one in answer.said]
    founding = promise is None and top == 0 and not said
    counted = [key for key, answer in answers.items() if answer.remembers or founding]
    for validators in sets:
        if sum(1 for key in validators.keys if key in counted) < validators.quorum:
            return None
    if founding:
        return Verdict(Memory.FOUNDING, 1, top)
    if promise is not None and all(covers(promise, one) for one in said):
        # What is certified is never voted on again, and a truncated chain catches up with its own promise first.
        return Verdict(Memory.INTACT, max(top + 1, promise.height), top)
    silent = [top + SILENT_HEIGHTS, *(one.height for one in said)]
    if promise is None:
        return Verdict(Memory.LOST, max(silent) + 1, top)
    return Verdict(Memory.STALE, max(*silent, promise.height) + 1, top)
