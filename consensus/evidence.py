"""Evidence: two contradicting signatures of one validator, small enough to be kept and shown to anybody.

An honest validator signs at most one content for each (kind, height, view), whatever crashes between; two are proof of
a fault, to whoever has the validator set of that height. A vote need not come from its sender: certificates and
justifications quote the votes of others, and these count as much. See docs/consensus.md, "Evidence".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

import msgspec

from consilium.consensus.messages import (
    Commit,
    Decided,
    Message,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Signed,
    ViewChange,
    claim_hash,
    prepare_digest,
    prepared_at,
    view_change_digest,
)
from consilium.ledger import codec, crypto
from consilium.ledger.block import CommitCertificate, seal_digest
from consilium.ledger.crypto import Digest, Verify
from consilium.ledger.errors import Refused

EVIDENCE_BYTES_MAX: Final = 512


class VoteKind(IntEnum):
    """What was signed twice. A pre-prepare is a prepare."""

    PREPARE = 0
    COMMIT = 1
    VIEW_CHANGE = 2


class Evidence(codec.Wire, frozen=True):
    """`validator` signed two contents for one (kind, height, view). The smaller content comes first."""

    kind: Annotated[int, msgspec.Meta(ge=0, le=2)]
    height: codec.Uint
    view: codec.Uint
    validator: codec.Bytes32
    first: codec.Bytes32
    first_signature: codec.Bytes64
    second: codec.Bytes32
    second_signature: codec.Bytes64


@dataclass(frozen=True, slots=True)
class Quote:
    """A vote inside somebody else's message. `validator` is its place in the validator set of the message's height,
    `content` as the function of this name says it."""

    kind: VoteKind
    view: int
    validator: int
    content: Digest
    signature: bytes


def quotes(message: Message) -> Iterator[Quote]:
    """All votes that a message quotes; `verify_message` has checked each of their signatures."""
    match message:
        case PrePrepare(_, view, _, _, justification) if justification is not None:
            for claim in justification.claims:
                said = claim_hash(claim.prepared)
                yield Quote(VoteKind.VIEW_CHANGE, view, claim.validator, said, claim.signature)
            if justification.certificate is not None:
                yield from _prepares(justification.certificate)
        case ViewChange() if message.prepared is not None:
            yield from _prepares(message.prepared.certificate)
        case Decided():
            yield from quoted_seals(message.certificate)


def quoted_seals(certificate: CommitCertificate) -> Iterator[Quote]:
    """The votes behind a commit certificate."""
    block_hash = Digest(certificate.block_hash)
    for seal in certificate.seals:
        yield Quote(VoteKind.COMMIT, certificate.view, seal.validator, block_hash, seal.signature)


def _prepares(certificate: PreparedCertificate) -> Iterator[Quote]:
    block_hash = Digest(certificate.block_hash)
    for one in certificate.signatures:
        yield Quote(VoteKind.PREPARE, certificate.view, one.validator, block_hash, one.signature)


def vote_kind(message: Signed) -> VoteKind:
    """Which promise the message makes."""
    match message:
        case PrePrepare() | Prepare():
            return VoteKind.PREPARE
        case Commit():
            return VoteKind.COMMIT
        case ViewChange():
            return VoteKind.VIEW_CHANGE


def content(message: Signed) -> Digest:
    """The 32 bytes that must not differ between two messages of one kind, height, view and sender."""
    if isinstance(message, ViewChange):
        return claim_hash(prepared_at(message.prepared))
    return Digest(message.block_hash)


def vote_digest(kind: VoteKind, chain_id: bytes, height: int, view: int, signed: bytes) -> Digest:
    """What a vote of this kind with this content signs."""
    match kind:
        case VoteKind.PREPARE:
            return prepare_digest(chain_id, height, view, signed)
        case VoteKind.COMMIT:
            return seal_digest(chain_id, height, view, signed)
        case VoteKind.VIEW_CHANGE:
            return view_change_digest(chain_id, height, view, signed)


def make_evidence(one: Signed, other: Signed) -> Evidence:
    """Evidence from two contradicting verified messages. Raises ValueError where they do not contradict."""
    kind = vote_kind(one)
    if (kind, one.height, one.view, one.sender) != (
        vote_kind(other),
        other.height,
        other.view,
        other.sender,
    ) or content(one) == content(other):
        raise ValueError("the two messages do not contradict each other")
    return _evidence(one, content(other), other.signature)


def against_quote(said: Signed | None, quote: Quote) -> Evidence | None:
    """Evidence from what a validator said here, of the quote's kind, height and view, and what it is quoted with."""
    if said is None or content(said) == quote.content:
        return None
    return _evidence(said, quote.content, quote.signature)


def _evidence(one: Signed, other: Digest, signature: bytes) -> Evidence:
    first, second = sorted(((content(one), one.signature), (other, signature)))
    return Evidence(vote_kind(one), one.height, one.view, one.sender, *first, *second)


def verify_evidence(evidence: Evidence, chain_id: bytes, verify: Verify = crypto.verify) -> None:
    """Check evidence against nothing but the chain id. Raises Refused `evidence.invalid`.

    Whether `validator` was one at `height` is for the caller to ask.
    """
    if evidence.first >= evidence.second:
        raise Refused("evidence.invalid", "the two contents are equal, or not in order")
    for signed, signature in (
        (evidence.first, evidence.first_signature),
        (evidence.second, evidence.second_signature),
    ):
        digest = vote_digest(VoteKind(evidence.kind), chain_id, evidence.height, evidence.view, signed)
        if not verify(evidence.validator, digest, signature):
            raise Refused("evidence.invalid", "a signature does not verify")
