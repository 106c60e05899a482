"""What the host tells the machine about a height, and what a header at that height must therefore be.

All but three things in a header are determined by the parent and its execution: the batches, the time and who proposed
first are the primary's to choose. So the machine checks headers by itself, and never asks the host whether a block is
valid. Contents of batches are not judged here: what they do is decided at execution, equally everywhere.

docs/consensus.md, "Headers".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consilium.consensus.limits import ReplicaConfig
from consilium.consensus.messages import PrePrepare
from consilium.ledger.block import BLOCK_VERSION, HEARTBEAT_MS, Block, Header, batches_root
from consilium.ledger.merkle import EMPTY_ROOT
from consilium.ledger.validators import ValidatorSet, lost_after, primary

CERTIFYING_HEIGHT: Final = 1
"""The first block certifies genesis and may always be empty."""


@dataclass(frozen=True, slots=True)
class HeightContext:
    """Everything about `height` that follows from the parent and its execution.

    `state_root` and `receipts_root` are of the parent's execution; `history_root` is over all headers up to and
    including the parent; `validators` vote at this height, `next_validators_hash` names those of the next.
    """

    height: int
    chain_id: bytes
    parent: Header
    validators: ValidatorSet
    next_validators_hash: bytes
    state_root: bytes
    receipts_root: bytes
    history_root: bytes

    @property
    def parent_lost(self) -> int:
        """The parent's mask of lost turns; a mask over another validator set says nothing about this one."""
        return self.parent.lost if self.parent.validators_hash == self.validators.hash else 0

    @property
    def owes_certificate(self) -> bool:
        """Whether the parent changed state that only this height's header certifies."""
        return self.height == CERTIFYING_HEIGHT or self.parent.batches_root != EMPTY_ROOT

    @property
    def heartbeat_due_ms(self) -> int:
        """Wall time from which a block without batches is due, however idle the chain."""
        return self.parent.time_ms + HEARTBEAT_MS

    def primary(self, view: int) -> bytes:
        """The key of the primary of `view`."""
        return primary(self.validators, self.height, view, self.parent.primary, self.parent_lost)

    def may_be_empty(self, time_ms: int) -> bool:
        """Whether a block without batches is valid at this block time."""
        return self.owes_certificate or time_ms >= self.heartbeat_due_ms


def make_block(context: HeightContext, batches: list[bytes], time_ms: int, proposer: bytes) -> Block:
    """The block that `proposer` proposes afresh with these batches at this time."""
    header = Header(
        version=BLOCK_VERSION,
        chain_id=context.chain_id,
        height=context.height,
        parent=context.parent.hash,
        time_ms=time_ms,
        primary=proposer,
        lost=lost_after(
            context.validators, context.height, context.parent.primary, context.parent_lost, proposer
        ),
        batches_root=batches_root(batches),
        state_root=context.state_root,
        receipts_root=context.receipts_root,
        validators_hash=context.validators.hash,
        next_validators_hash=context.next_validators_hash,
        history_root=context.history_root,
    )
    return Block(header, batches)


def contradiction(block: Block, context: HeightContext) -> str | None:
    """Which field of the header contradicts this replica's own chain and state, or None.

    A proposal with a contradiction is invalid; a *certified* block with one means that this replica's state is wrong.
    """
    header = block.header
    if header.primary not in context.validators:
        return "primary"
    expected = make_block(context, block.batches, header.time_ms, header.primary).header
    for name in header.__struct_fields__:
        if getattr(header, name) != getattr(expected, name):
            return name
    if header.time_ms <= context.parent.time_ms:
        return "time_ms"
    if not block.batches and not context.may_be_empty(header.time_ms):
        return "batches_root"
    return None


TOO_EARLY: Final = "its time lies beyond the clock bound"
TOO_LATE: Final = "its time lies too far in the past"


def untimely(block: Block, context: HeightContext, wall_ms: int, config: ReplicaConfig) -> str | None:
    """Why a *fresh* proposal's time is refused now, or None. Re-proposals and certified blocks are never asked.

    The least time after the parent is never too early: where the parent's own time lies ahead of the clock (many
    clocks ran fast, and were put right), the chain goes on by steps of a millisecond instead of waiting.
    """
    time_ms = block.header.time_ms
    if time_ms > max(wall_ms + config.clock_bound_ms, context.parent.time_ms + 1):
        return TOO_EARLY
    if time_ms < wall_ms - config.proposal_age_max_ms:
        return TOO_LATE
    return None


def proposal_time(context: HeightContext, wall_ms: int) -> int:
    """The time of a fresh proposal: the clock, but always after the parent."""
    return max(wall_ms, context.parent.time_ms + 1)


def objection(
    pre_prepare: PrePrepare, context: HeightContext, wall_ms: int, config: ReplicaConfig
) -> str | None:
    """Why a replica must not vote for this verified proposal, at least not now; or None.

    What a certificate demands is the block of an earlier view: only what follows from the chain is asked of it. Whoever
    proposes afresh must propose in its own name, and at a time that this replica's clock agrees with.
    """
    block, justification = pre_prepare.block, pre_prepare.justification
    field = contradiction(block, context)
    if field is not None:
        return f"its proposal contradicts the chain in {field}"
    if justification is not None and justification.certificate is not None:
        return None
    if block.header.primary != pre_prepare.sender:
        return "it proposed another's block afresh"
    return untimely(block, context, wall_ms, config)
