"""Values that the tests of consensus share: real keys, one context, blocks, certificates."""

from __future__ import annotations

import hashlib

from consilium.consensus.context import HeightContext, make_block
from consilium.consensus.messages import (
    Claim,
    Justification,
    Prepared,
    PreparedCertificate,
    prepared_at,
    sign_prepare,
    sign_view_change,
)
from consilium.ledger.block import BLOCK_VERSION, Block, CommitCertificate, Header, Seal, sign_seal
from consilium.ledger.crypto import SigningKey
from consilium.ledger.merkle import EMPTY_ROOT
from consilium.ledger.validators import Validator, ValidatorSet

CHAIN = hashlib.sha256(b"a chain for tests").digest()
TIME_MS = 1_700_000_000_000


def keys_of(count: int) -> list[SigningKey]:
    """Signing keys in the order of their public halves, so that place and validator index agree."""
    keys = [SigningKey(hashlib.sha256(b"key %d" % index).digest()) for index in range(count)]
    return sorted(keys, key=lambda key: key.public)


KEYS = keys_of(4)
STRANGER = SigningKey(hashlib.sha256(b"a stranger").digest())


def set_of(keys: list[SigningKey]) -> ValidatorSet:
    return ValidatorSet([Validator(key.public, bytes(16)) for key in keys])


VALIDATORS = set_of(KEYS)


def context_of(
    validators: ValidatorSet = VALIDATORS, height: int = 7, batches_root: bytes = EMPTY_ROOT, lost: int = 0
) -> HeightContext:
    """A height whose parent was proposed by validator 0 at TIME_MS."""
    parent = Header(
        version=BLOCK_VERSION,
        chain_id=CHAIN,
        height=height - 1,
        parent=bytes(32),
        time_ms=TIME_MS,
        primary=validators.keys[0],
        lost=lost,
        batches_root=batches_root,
        state_root=b"s" * 32,
        receipts_root=b"r" * 32,
        validators_hash=validators.hash,
        next_validators_hash=validators.hash,
        history_root=b"h" * 32,
    )
    return HeightContext(
        height=height,
        chain_id=CHAIN,
        parent=parent,
        validators=validators,
        next_validators_hash=validators.hash,
        state_root=b"S" * 32,
        receipts_root=b"R" * 32,
        history_root=b"H" * 32,
    )


CONTEXT = context_of()
BATCH = hashlib.sha256(b"a batch").digest()
BLOCK = make_block(CONTEXT, [BATCH], TIME_MS + 5, VALIDATORS.keys[0])
OTHER = make_block(CONTEXT, [BATCH], TIME_MS + 6, VALIDATORS.keys[0])


def prepared_certificate(
    block: Block, view: int, signers: list[int], keys: list[SigningKey] = KEYS
) -> PreparedCertificate:
    """Signed by exactly these validators, in this order."""
    seals = [
        Seal(index, sign_prepare(keys[index], CHAIN, block.height, view, block.hash).signature)
        for index in signers
    ]
    return PreparedCertificate(view, block.hash, seals)


def prepared(block: Block, view: int, signers: list[int] | None = None) -> Prepared:
    return Prepared(prepared_certificate(block, view, signers or [0, 1, 2]), block)


def commit_certificate(
    block: Block, view: int, signers: list[int], keys: list[SigningKey] = KEYS
) -> CommitCertificate:
    seals = [Seal(i, sign_seal(keys[i], CHAIN, block.height, view, block.hash)) for i in signers]
    return CommitCertificate(block.height, view, block.hash, seals)


def justification(
    view: int, claims: dict[int, Prepared | None], certificate: PreparedCertificate | None
) -> Justification:
    """Signed claims of these validators, in the order given."""
    signed = []
    for index, what in claims.items():
        change = sign_view_change(KEYS[index], CHAIN, BLOCK.height, view, what)
        signed.append(Claim(index, prepared_at(what), change.signature))
    return Justification(signed, certificate)
