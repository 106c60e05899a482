"""Header, block, seal and commit certificate.

A header names the ordered batches by their root and carries the roots of its **parent's** execution, so agreement on
a block never waits for its own execution. The view is outside the hash: a block that is proposed again in a later
view is the same block. A seal does sign the view, and a certificate names one view: seals of different views must
never add up, or two blocks could be certified at one height (docs/consensus.md, "Seals").

Certificates differ from node to node (any quorum will do) and are never part of agreed bytes.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Final

import msgspec

from consilium.ledger import codec
from consilium.ledger.crypto import Digest, SigningKey, Tag, Verify, verify
from consilium.ledger.errors import Refused
from consilium.ledger.merkle import merkle_root
from consilium.ledger.validators import VALIDATORS_MAX, ValidatorSet

BLOCK_VERSION: Final = 1
BLOCK_BATCHES_MAX: Final = 64
BLOCK_PAYLOAD_BYTES_MAX: Final = 4 * 1024 * 1024
BLOCK_TRANSACTIONS_MAX: Final = 4_096
"""A block whose batches pass one of these two together is never prepared by an honest replica."""
HEADER_BYTES_MAX: Final = 1_024
BLOCK_BYTES_MAX: Final = HEADER_BYTES_MAX + BLOCK_BATCHES_MAX * 40
CERTIFICATE_BYTES_MAX: Final = 128 + VALIDATORS_MAX * 80
HEARTBEAT_MS: Final = 30_000
"""An idle chain makes an empty block when so much time has passed since the last one: block time must never freeze."""

_HEADER_TAG: Final = Tag("consilium/header/1")
_SEAL_TAG: Final = Tag("consilium/seal/1")

ZERO_DIGEST: Final = Digest(bytes(32))


class Header(codec.Wire, frozen=True):
    """Times are milliseconds since 1970 (UTC). `lost` is a bit mask over the validators, in the order of keys.

    `state_root` and `receipts_root` certify the parent's execution; `history_root` is the RFC 6962 root over the
    hashes of all earlier headers, genesis first.
    """

    version: codec.Uint
    chain_id: codec.Bytes32
    height: codec.Uint
    parent: codec.Bytes32
    time_ms: codec.Uint
    primary: codec.Bytes32
    lost: codec.Uint
    batches_root: codec.Bytes32
    state_root: codec.Bytes32
    receipts_root: codec.Bytes32
    validators_hash: codec.Bytes32
    next_validators_hash: codec.Bytes32
    history_root: codec.Bytes32

    @property
    def hash(self) -> Digest:
        """The block's hash: 32 bytes."""
        return _HEADER_TAG.digest(codec.encode(self))


class Block(codec.Wire, frozen=True):
    """A header and the digests of its batches, in their order of execution."""

    header: Header
    batches: Annotated[list[codec.Bytes32], msgspec.Meta(max_length=BLOCK_BATCHES_MAX)]

    @property
    def hash(self) -> Digest:
        """The header's hash: it commits to the batches."""
        return self.header.hash

    @property
    def height(self) -> int:
        """The header's height."""
        return self.header.height


def batches_root(batches: list[bytes]) -> Digest:
    """The RFC 6962 root over a block's batch digests."""
    return merkle_root(batches)


def decode_block(raw: bytes) -> Block:
    """Decode a block and check that its header commits to its batches, without repetition. Raises Refused."""
    block = codec.decode(raw, Block, BLOCK_BYTES_MAX)
    check_block_form(block)
    return block


def check_block_form(block: Block) -> None:
    """What can be checked of a block without state. Raises Refused `block.malformed`."""
    if block.header.version != BLOCK_VERSION:
        raise Refused("block.malformed", f"block version {block.header.version}; known: {BLOCK_VERSION}")
    if len({*block.batches}) != len(block.batches):
        raise Refused("block.malformed", "a batch is named twice")
    if batches_root(block.batches) != block.header.batches_root:
        raise Refused("block.malformed", "the batches root does not match the batches")


def seal_digest(chain_id: bytes, height: int, view: int, block_hash: bytes) -> Digest:
    """What a commit vote signs."""
    return _SEAL_TAG.digest(chain_id, height.to_bytes(8, "big"), view.to_bytes(8, "big"), block_hash)


def sign_seal(key: SigningKey, chain_id: bytes, height: int, view: int, block_hash: bytes) -> bytes:
    """A seal: 64 bytes."""
    return key.sign(seal_digest(chain_id, height, view, block_hash))


def verify_seal(key: bytes, chain_id: bytes, height: int, view: int, block_hash: bytes, seal: bytes) -> bool:
    """Whether `key` sealed this block in this view."""
    return verify(key, seal_digest(chain_id, height, view, block_hash), seal)


class Seal(codec.Wire, frozen=True):
    """`validator` is the index in the validator set of the certificate's height."""

    validator: Annotated[int, msgspec.Meta(ge=0, lt=VALIDATORS_MAX)]
    signature: codec.Bytes64


class CommitCertificate(codec.Wire, frozen=True):
    """Exactly a quorum of valid seals of one view, sorted by validator: proof that the block is decided."""

    height: codec.Uint
    view: codec.Uint
    block_hash: codec.Bytes32
    seals: Annotated[list[Seal], msgspec.Meta(min_length=1, max_length=VALIDATORS_MAX)]


def verify_certificate(
    certificate: CommitCertificate, chain_id: bytes, validators: ValidatorSet, verify: Verify = verify
) -> None:
    """Check a certificate against the validator set of its height. Raises Refused `certificate.invalid`."""
    indexes = [seal.validator for seal in certificate.seals]
    if len(indexes) != validators.quorum:
        raise Refused(
            "certificate.invalid", f"{len(indexes)} seals; exactly {validators.quorum} make a certificate"
        )
    if any(later <= earlier for earlier, later in itertools.pairwise(indexes)):
        raise Refused("certificate.invalid", "the seals are not sorted by validator, or one seals twice")
    if indexes[-1] >= validators.n:
        raise Refused("certificate.invalid", f"validator {indexes[-1]} of {validators.n}")
    digest = seal_digest(chain_id, certificate.height, certificate.view, certificate.block_hash)
    for seal in certificate.seals:
        if not verify(validators.keys[seal.validator], digest, seal.signature):
            raise Refused("certificate.invalid", f"the seal of validator {seal.validator} does not verify")


def check_certified(
    header: Header, certificate: CommitCertificate, validators: ValidatorSet, verify: Verify = verify
) -> None:
    """Check that the certificate is for this header, by its validator set. Raises Refused `certificate.invalid`."""
    if certificate.height != header.height or certificate.block_hash != header.hash:
        raise Refused("certificate.invalid", "the certificate is for another block")
    if header.validators_hash != validators.hash:
        raise Refused("certificate.invalid", "the header names another validator set")
    verify_certificate(certificate, header.chain_id, validators, verify)
