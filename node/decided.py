"""Blocks that peers say are decided, and how they are checked.

A block is believed only for its certificate: a quorum of seals by the validator set of its height, which our own chain
names. Everything else in it is checked against that: the form, the batches' digests, every client signature. Signatures
need nothing of the chain, so they are checked ahead (`open_decided`); what needs the chain is cheap, and comes in order
(`check_run`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from consilium.consensus.context import HeightContext
from consilium.ledger.batch import VerifiedBatch, verify_batch
from consilium.ledger.block import (
    BLOCK_PAYLOAD_BYTES_MAX,
    BLOCK_TRANSACTIONS_MAX,
    Block,
    CommitCertificate,
    Header,
    check_block_form,
    check_certified,
)
from consilium.ledger.errors import PeerFault, Refused
from consilium.ledger.validators import ValidatorSet
from consilium.ledger.weight import BLOCK_WEIGHT_MAX
from consilium.node.peer_messages import DecidedBlock

FAULT_WEIGHT: Final = 50

Held = Callable[[bytes], VerifiedBatch | None]
"""Gives batches that were verified here before, by digest: nothing is verified twice."""


def nothing_held(digest: bytes) -> VerifiedBatch | None:
    """Where no batches are at hand."""
    return None


@dataclass(frozen=True, slots=True)
class VerifiedDecision:
    """A block with everything in it checked: ready to be committed."""

    block: Block
    certificate: CommitCertificate
    batches: tuple[VerifiedBatch, ...]
    sealers: bytes = b""
    """The hash of the validator set that its seals were checked against; empty where they were not checked."""


def open_decided(decided: DecidedBlock, chain_id: bytes, held: Held = nothing_held) -> VerifiedDecision:
    """Check everything but that it is decided, and where: the form, the batches, every signature of a client.

    Costs a verify per transaction: use a thread. Raises PeerFault for what no honest peer sends.
    """
    block = decided.block
    try:
        check_block_form(block)
        if block.header.chain_id != chain_id:
            raise PeerFault("a block of another chain", FAULT_WEIGHT)
        if len(decided.batches) != len(block.batches):
            raise PeerFault("the batches are not those of the block", FAULT_WEIGHT)
        batches = tuple(
            _verified(raw, held(digest), chain_id)
            for digest, raw in zip(block.batches, decided.batches, strict=True)
        )
    except Refused as refusal:
        raise PeerFault(f"a decided block does not check: {refusal}", FAULT_WEIGHT) from None
    if [batch.digest for batch in batches] != block.batches:
        raise PeerFault("the batches are not those of the block", FAULT_WEIGHT)
    return VerifiedDecision(block, decided.certificate, batches)


def open_some(
    blocks: Sequence[DecidedBlock], chain_id: bytes, held: Held, validators: ValidatorSet
) -> tuple[list[VerifiedDecision], PeerFault | None]:
    """`open_decided` of several blocks, up to the first fault, which is given back; seals that the given set made are
    checked as well, so that nobody waits for it later."""
    found: list[VerifiedDecision] = []
    for decided in blocks:
        try:
            one = open_decided(decided, chain_id, held)
        except PeerFault as fault:
            return found, fault
        if one.block.header.validators_hash == validators.hash:
            try:
                check_certified(one.block.header, one.certificate, validators)
            except Refused as refusal:
                return found, PeerFault(f"a decided block does not check: {refusal}", FAULT_WEIGHT)
            one = replace(one, sealers=validators.hash)
        found.append(one)
    return found, None


def sealed_by(decision: VerifiedDecision, validators: ValidatorSet) -> bool:
    """Whether its seals were checked already, against this set."""
    return decision.sealers == validators.hash


def check_run(decisions: Sequence[VerifiedDecision], context: HeightContext) -> list[VerifiedDecision]:
    """Of opened blocks that begin at the context's height: those that are decided, as far as this chain can tell.

    The set that votes at the context's height votes at the following ones as long as each header hands over to it; with
    the first that does not, the run ends, since the set after it is known once that block is executed. Costs a verify
    per seal. Raises PeerFault where the first one is not decided.
    """
    found: list[VerifiedDecision] = []
    parent, validators = context.parent, context.validators
    for decision in decisions:
        try:
            _check_decided(decision, parent, validators)
        except PeerFault:
            if found:
                break
            raise
        found.append(decision)
        parent = decision.block.header
        if parent.next_validators_hash != validators.hash:
            break
    return found


def _check_decided(decision: VerifiedDecision, parent: Header, validators: ValidatorSet) -> None:
    header = decision.block.header
    if header.height != parent.height + 1 or header.parent != parent.hash:
        raise PeerFault(f"the block does not follow ours at height {parent.height}", FAULT_WEIGHT)
    if sealed_by(decision, validators):
        return
    try:
        check_certified(header, decision.certificate, validators)
    except Refused as refusal:
        raise PeerFault(f"a decided block does not check: {refusal}", FAULT_WEIGHT) from None


def verify_decided(
    decided: DecidedBlock, context: HeightContext, held: Held = nothing_held
) -> VerifiedDecision:
    """All of it, of one block at the context's height. Raises PeerFault."""
    (verified,) = check_run([open_decided(decided, context.chain_id, held)], context)
    return verified


def _verified(raw: bytes, held: VerifiedBatch | None, chain_id: bytes) -> VerifiedBatch:
    return held if held is not None and held.raw == raw else verify_batch(raw, chain_id)


def payload_within_limits(batches: tuple[VerifiedBatch, ...], weight: int) -> bool:
    """Whether a proposal's batches, with this weight, together keep the limits of a block."""
    return (
        weight <= BLOCK_WEIGHT_MAX
        and sum(len(batch.raw) for batch in batches) <= BLOCK_PAYLOAD_BYTES_MAX
        and sum(len(batch.transactions) for batch in batches) <= BLOCK_TRANSACTIONS_MAX
    )
