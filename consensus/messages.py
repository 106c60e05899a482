"""What replicas say to each other, what each message signs, and the one way to a `VerifiedMessage`.

Five messages: PrePrepare, Prepare, Commit, ViewChange, Decided. There is no NewView: a pre-prepare of a view above 0
carries its justification, as in QBFT. The three votes (a pre-prepare is its sender's prepare) and the view change sign
digests of one shape, (tag, chain id, height, view, 32 bytes), so that evidence of two contradicting ones is small.

A view change signs only *what* its sender had prepared (view and block hash); the proof, a prepared certificate, rides
beside the signature. So a justification carries a quorum of signed claims and just one certificate, for the highest
claim: it stays small with 60 validators. A view change that claims without its proof is invalid by itself and is
dropped alone; it can neither be counted nor hide another (docs/consensus.md, "View change").

Sources: Castro & Liskov 1999, §4.2 to §4.4; Moniz 2020 (QBFT, arXiv 2002.03613), justification of proposals.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Final, TypeAlias

import msgspec

from consilium.ledger import codec, crypto
from consilium.ledger.block import (
    Block,
    CommitCertificate,
    Seal,
    check_block_form,
    check_certified,
    seal_digest,
)
from consilium.ledger.crypto import Digest, SigningKey, Tag, Verify
from consilium.ledger.errors import PeerFault, Refused
from consilium.ledger.validators import VALIDATORS_MAX, ValidatorSet

MESSAGE_BYTES_MAX: Final = 24 * 1024
"""The largest is a justified pre-prepare of 60 validators; it fits one frame."""

_PREPARE_TAG: Final = Tag("consilium/prepare/1")
_VIEW_CHANGE_TAG: Final = Tag("consilium/view-change/1")
_CLAIM_TAG: Final = Tag("consilium/claim/1")


class PreparedCertificate(codec.Wire, frozen=True):
    """Exactly a quorum of prepare signatures of one view, sorted by validator; the primary's is its pre-prepare's."""

    view: codec.Uint
    block_hash: codec.Bytes32
    signatures: Annotated[list[Seal], msgspec.Meta(min_length=1, max_length=VALIDATORS_MAX)]


class Prepared(codec.Wire, frozen=True):
    """A prepared block with its proof: what must be proposed again."""

    certificate: PreparedCertificate
    block: Block


class PreparedAt(codec.Wire, frozen=True):
    """The claim to have prepared a block in a view, without proof."""

    view: codec.Uint
    block_hash: codec.Bytes32


class Claim(codec.Wire, frozen=True):
    """One validator's view change, reduced to what it signed."""

    validator: Annotated[int, msgspec.Meta(ge=0, lt=VALIDATORS_MAX)]
    prepared: PreparedAt | None
    signature: codec.Bytes64


class Justification(codec.Wire, frozen=True):
    """Exactly a quorum of claims, sorted by validator, and the certificate of the highest one among them, if any."""

    claims: Annotated[list[Claim], msgspec.Meta(min_length=1, max_length=VALIDATORS_MAX)]
    certificate: PreparedCertificate | None


class PrePrepare(codec.Wire, frozen=True, tag=1):
    """The primary of (height, view) proposes `block`; its signature is over the prepare digest: it is a vote.

    `justification` is None in view 0 and only there.
    """

    height: codec.Uint
    view: codec.Uint
    sender: codec.Bytes32
    block: Block
    justification: Justification | None
    signature: codec.Bytes64

    @property
    def block_hash(self) -> Digest:
        """The proposed block's hash."""
        return self.block.hash


class Prepare(codec.Wire, frozen=True, tag=2):
    """`sender` accepted the proposal of this view, and keeps it and its batches durably."""

    height: codec.Uint
    view: codec.Uint
    sender: codec.Bytes32
    block_hash: codec.Bytes32
    signature: codec.Bytes64


class Commit(codec.Wire, frozen=True, tag=3):
    """`sender` saw a quorum prepare the block in this view; `signature` is its seal."""

    height: codec.Uint
    view: codec.Uint
    sender: codec.Bytes32
    block_hash: codec.Bytes32
    signature: codec.Bytes64


class ViewChange(codec.Wire, frozen=True, tag=4):
    """`sender` has left all views below `view`, and gives the highest block it had prepared, with the proof."""

    height: codec.Uint
    view: codec.Uint
    sender: codec.Bytes32
    prepared: Prepared | None
    signature: codec.Bytes64


class Decided(codec.Wire, frozen=True, tag=5):
    """A decided block with its certificate, for a replica that is one height or a few behind. Signed by no sender."""

    block: Block
    certificate: CommitCertificate

    @property
    def height(self) -> int:
        """The block's height."""
        return self.block.height


Signed: TypeAlias = PrePrepare | Prepare | Commit | ViewChange
"""What one validator signs, for one height and view."""
Message: TypeAlias = PrePrepare | Prepare | Commit | ViewChange | Decided


class _Envelope(codec.Wire, frozen=True):
    message: Message


def encode_message(message: Message) -> bytes:
    """The message's canonical bytes, at most MESSAGE_BYTES_MAX."""
    return codec.encode(_Envelope(message))


def decode_message(raw: bytes) -> Message:
    """Decode any message. Raises Refused `codec.*`. Nothing is verified yet."""
    return codec.decode(raw, _Envelope, MESSAGE_BYTES_MAX).message


# What is signed ---------------------------------------------------------------------------------------------------


def prepare_digest(chain_id: bytes, height: int, view: int, block_hash: bytes) -> Digest:
    """What a pre-prepare and a prepare sign."""
    return _PREPARE_TAG.digest(chain_id, height.to_bytes(8, "big"), view.to_bytes(8, "big"), block_hash)


def claim_hash(prepared: PreparedAt | None) -> Digest:
    """What a view change says was prepared, in 32 bytes."""
    if prepared is None:
        return _CLAIM_TAG.digest(b"\x00")
    return _CLAIM_TAG.digest(b"\x01", prepared.view.to_bytes(8, "big"), prepared.block_hash)


def view_change_digest(chain_id: bytes, height: int, view: int, claim: bytes) -> Digest:
    """What a view change for `view` signs; `claim` is its `claim_hash`."""
    return _VIEW_CHANGE_TAG.digest(chain_id, height.to_bytes(8, "big"), view.to_bytes(8, "big"), claim)


def prepared_at(prepared: Prepared | None) -> PreparedAt | None:
    """The claim that a proof supports."""
    if prepared is None:
        return None
    return PreparedAt(prepared.certificate.view, prepared.certificate.block_hash)


def sign_pre_prepare(
    key: SigningKey, chain_id: bytes, view: int, block: Block, justification: Justification | None
) -> PrePrepare:
    """The pre-prepare of `key` for `block` in `view`."""
    signature = key.sign(prepare_digest(chain_id, block.height, view, block.hash))
    return PrePrepare(block.height, view, key.public, block, justification, signature)


def sign_prepare(key: SigningKey, chain_id: bytes, height: int, view: int, block_hash: bytes) -> Prepare:
    """The prepare of `key`."""
    signature = key.sign(prepare_digest(chain_id, height, view, block_hash))
    return Prepare(height, view, key.public, block_hash, signature)


def sign_commit(key: SigningKey, chain_id: bytes, height: int, view: int, block_hash: bytes) -> Commit:
    """The commit of `key`: its signature is a seal (ledger/block.py)."""
    signature = key.sign(seal_digest(chain_id, height, view, block_hash))
    return Commit(height, view, key.public, block_hash, signature)


def sign_view_change(
    key: SigningKey, chain_id: bytes, height: int, view: int, prepared: Prepared | None
) -> ViewChange:
    """The view change of `key` to `view`."""
    signature = key.sign(view_change_digest(chain_id, height, view, claim_hash(prepared_at(prepared))))
    return ViewChange(height, view, key.public, prepared, signature)


# Verification -----------------------------------------------------------------------------------------------------


class VerifiedMessage:
    """A message all of whose signatures, nested ones too, were checked against the set with `validators_hash`.

    Only `verify_message` makes one.
    """

    __slots__ = ("message", "validators_hash")

    def __init__(self, message: Message, validators_hash: Digest, *, _proof: object) -> None:
        if _proof is not _PROOF:
            raise TypeError("a VerifiedMessage is made by verify_message only")
        self.message: Message = message
        self.validators_hash: Digest = validators_hash

    def __repr__(self) -> str:
        return f"VerifiedMessage({type(self.message).__name__})"


_PROOF: Final = object()


def verify_message(
    message: Message, chain_id: bytes, validators: ValidatorSet, verify: Verify = crypto.verify
) -> VerifiedMessage:
    """Check all that needs no state but the validator set of the message's height.

    Costs one signature check for a vote, up to two quorums of them for a pre-prepare: call it from a thread. Raises
    PeerFault, which concerns the peer that delivered the message, not the validator that it names.
    """
    try:
        match message:
            case Decided(block, certificate):
                check_block_form(block)
                if block.header.chain_id != chain_id:
                    raise PeerFault("a decided block of another chain")
                check_certified(block.header, certificate, validators, verify)
            case PrePrepare():
                _verify_pre_prepare(message, chain_id, validators, verify)
            case Prepare(height, view, sender, block_hash, signature):
                _verify_vote(
                    sender, prepare_digest(chain_id, height, view, block_hash), signature, validators, verify
                )
            case Commit(height, view, sender, block_hash, signature):
                _verify_vote(
                    sender, seal_digest(chain_id, height, view, block_hash), signature, validators, verify
                )
            case ViewChange():
                _verify_view_change(message, chain_id, validators, verify)
    except Refused as refusal:
        raise PeerFault(f"{type(message).__name__}: {refusal}") from None
    return VerifiedMessage(message, validators.hash, _proof=_PROOF)


def _verify_vote(
    sender: bytes, digest: Digest, signature: bytes, validators: ValidatorSet, verify: Verify
) -> None:
    if sender not in validators:
        raise PeerFault("a vote of no validator")
    if not verify(sender, digest, signature):
        raise PeerFault("a vote whose signature does not verify")


def _verify_pre_prepare(
    message: PrePrepare, chain_id: bytes, validators: ValidatorSet, verify: Verify
) -> None:
    check_block_form(message.block)
    if message.block.height != message.height or message.block.header.chain_id != chain_id:
        raise PeerFault("a pre-prepare of a block of another height or chain")
    if (message.justification is None) != (message.view == 0):
        raise PeerFault("a pre-prepare is justified in every view but the first")
    digest = prepare_digest(chain_id, message.height, message.view, message.block_hash)
    _verify_vote(message.sender, digest, message.signature, validators, verify)
    if message.justification is not None:
        verify_justification(
            message.justification, chain_id, message.height, message.view, validators, verify
        )
        required = message.justification.certificate
        if required is not None and required.block_hash != message.block_hash:
            raise PeerFault("a pre-prepare of another block than its justification demands")


def _verify_view_change(
    message: ViewChange, chain_id: bytes, validators: ValidatorSet, verify: Verify
) -> None:
    if message.view == 0:
        raise PeerFault("a view change to view 0")
    claim = prepared_at(message.prepared)
    digest = view_change_digest(chain_id, message.height, message.view, claim_hash(claim))
    _verify_vote(message.sender, digest, message.signature, validators, verify)
    if message.prepared is None:
        return
    block, certificate = message.prepared.block, message.prepared.certificate
    check_block_form(block)
    if block.height != message.height or block.header.chain_id != chain_id:
        raise PeerFault("a view change with a block of another height or chain")
    if block.hash != certificate.block_hash or certificate.view >= message.view:
        raise PeerFault("a view change whose certificate is for another block, or for no earlier view")
    verify_prepared_certificate(certificate, chain_id, message.height, validators, verify)


def verify_prepared_certificate(
    certificate: PreparedCertificate, chain_id: bytes, height: int, validators: ValidatorSet, verify: Verify
) -> None:
    """Exactly a quorum of valid prepare signatures, sorted. Raises PeerFault."""
    _check_indexes([s.validator for s in certificate.signatures], validators)
    digest = prepare_digest(chain_id, height, certificate.view, certificate.block_hash)
    for signature in certificate.signatures:
        if not verify(validators.keys[signature.validator], digest, signature.signature):
            raise PeerFault("a prepared certificate with a signature that does not verify")


def verify_justification(
    justification: Justification,
    chain_id: bytes,
    height: int,
    view: int,
    validators: ValidatorSet,
    verify: Verify,
) -> None:
    """A quorum of claims for exactly this view, and the highest one proven (docs/consensus.md, "View change").

    All claims of the highest view must name the block of the certificate. Lower claims need no proof: they change
    nothing. Raises PeerFault.
    """
    _check_indexes([claim.validator for claim in justification.claims], validators)
    highest: PreparedAt | None = None
    for claim in justification.claims:
        if claim.prepared is not None:
            if claim.prepared.view >= view:
                raise PeerFault("a claim to have prepared in no earlier view")
            if highest is None or claim.prepared.view > highest.view:
                highest = claim.prepared
    certificate = justification.certificate
    if highest is None:
        if certificate is not None:
            raise PeerFault("a certificate that no claim names")
    elif certificate is None or certificate.view != highest.view:
        raise PeerFault("the highest claim comes without its certificate")
    else:
        for claim in justification.claims:
            named = claim.prepared
            if (
                named is not None
                and named.view == highest.view
                and named.block_hash != certificate.block_hash
            ):
                raise PeerFault("the highest claims name different blocks")
    for claim in justification.claims:
        digest = view_change_digest(chain_id, height, view, claim_hash(claim.prepared))
        if not verify(validators.keys[claim.validator], digest, claim.signature):
            raise PeerFault("a claim whose signature does not verify")
    if certificate is not None:
        verify_prepared_certificate(certificate, chain_id, height, validators, verify)


def _check_indexes(indexes: list[int], validators: ValidatorSet) -> None:
    if len(indexes) != validators.quorum:
        raise PeerFault(f"{len(indexes)} signatures where exactly {validators.quorum} are due")
    if any(later <= earlier for earlier, later in itertools.pairwise(indexes)):
        raise PeerFault("signatures are not sorted by validator, or one signs twice")
    if indexes[-1] >= validators.n:
        raise PeerFault(f"validator {indexes[-1]} of {validators.n}")
