"""What a round learns from a verified message of its height, and what it says about those who lie.

These functions change the round and return reports; they never vote. docs/consensus.md, "Tallies" and "Evidence".
"""

from __future__ import annotations

from collections.abc import Iterable

from consilium.consensus.context import contradiction, objection
from consilium.consensus.evidence import Evidence, Quote, VoteKind, quotes
from consilium.consensus.io import Effect, Equivocation, HoldBatches, Misbehaviour, Now, Report
from consilium.consensus.limits import ReplicaConfig
from consilium.consensus.messages import Commit, Decided, PreparedCertificate, PrePrepare, Signed
from consilium.consensus.round import Phase, Proposal, Round
from consilium.ledger.block import Block
from consilium.ledger.errors import InvariantBroken


def learn(here: Round, message: Signed, own_key: bytes | None) -> list[Effect]:
    """Count a signed message; notice a quorum of seals; report who was not primary, or contradicted himself."""
    if isinstance(message, PrePrepare) and message.sender != here.context.primary(message.view):
        return accuse(here, message.sender, "it proposed when it was not primary")
    if message.sender != own_key:
        here.heard = message.sender
    evidence = here.book.add(message)
    if isinstance(message, Commit) and here.committed is None:
        here.committed = here.book.committed(message.height, message.view, message.block_hash)
    return [*_expose(here, evidence), *compare(here, quotes(message))]


def compare(here: Round, quoted: Iterable[Quote]) -> list[Effect]:
    """Hold what others are quoted with, in a verified message or certificate of this height, against what they said
    here. So who tells each peer another story is found out wherever two of his stories meet."""
    reports: list[Effect] = []
    for quote in quoted:
        reports += _expose(here, here.book.against(quote))
    return reports


def _expose(here: Round, evidence: Evidence | None) -> list[Effect]:
    if evidence is None:
        return []
    reason = f"contradiction {VoteKind(evidence.kind).name}"
    return [Report(Equivocation(evidence))] if _once(here, evidence.validator, reason) else []


def accuse(here: Round, validator: bytes, reason: str) -> list[Effect]:
    """Report a validator for a reason, once a height."""
    return [Report(Misbehaviour(validator, reason))] if _once(here, validator, reason) else []


def _once(here: Round, validator: bytes, reason: str) -> bool:
    if (validator, reason) in here.reported:
        return False
    here.reported[validator, reason] = None
    return True


def judge(here: Round, now: Now, config: ReplicaConfig) -> tuple[Proposal | None, list[Effect]]:
    """The proposal of this view, if a replica may vote for it now; else who is to blame, if anybody is."""
    primary = here.context.primary(here.view)
    pre_prepare = here.book.pre_prepare(here.view, primary)
    if pre_prepare is None:
        return None, []
    reason = objection(pre_prepare, here.context, now.wall_ms, config)
    if reason is not None:
        return None, accuse(here, primary, reason)
    justification = pre_prepare.justification
    signers = signers_of(here, justification.certificate) if justification is not None else ()
    return Proposal(pre_prepare.block, own=False, holders=(primary, *signers)), []


def settle(here: Round, decided: Decided) -> None:
    """A certificate is in hand: nothing else matters at this height.

    Raises InvariantBroken where the certified header contradicts this replica's chain and state.
    """
    field = contradiction(decided.block, here.context)
    if field is not None:
        raise InvariantBroken(
            f"the certified block {decided.block.hash.hex()} of height {decided.height} contradicts this replica's "
            f"own {field}"
        )
    here.decided = decided
    here.phase = Phase.DECIDING


def ask_batches(here: Round, block: Block, first: tuple[bytes, ...], own_key: bytes | None) -> HoldBatches:
    """Ask for batches: those named first, then everybody who prepared the block."""
    keys = dict.fromkeys((*first, *here.book.preparers(block.hash)))
    return HoldBatches(block, tuple(key for key in keys if key != own_key))


def signers_of(here: Round, certificate: PreparedCertificate | None) -> tuple[bytes, ...]:
    """The keys behind a prepared certificate: they keep its block's batches."""
    if certificate is None:
        return ()
    return tuple(here.context.validators.keys[s.validator] for s in certificate.signatures)


def ask_decided(here: Round, decided: Decided, own_key: bytes | None) -> HoldBatches:
    """Ask for the batches of a decided block: its sealers have them."""
    keys = here.context.validators.keys
    sealers = tuple(keys[seal.validator] for seal in decided.certificate.seals)
    return ask_batches(here, decided.block, sealers, own_key)
