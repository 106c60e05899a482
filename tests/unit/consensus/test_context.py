"""Headers: every field that is determined is checked, and time is judged for fresh proposals only."""

from __future__ import annotations

import msgspec
import pytest

from consilium.consensus.context import (
    TOO_EARLY,
    TOO_LATE,
    contradiction,
    make_block,
    objection,
    proposal_time,
    untimely,
)
from consilium.consensus.limits import CLOCK_BOUND_MS, PROPOSAL_AGE_MAX_MS, ReplicaConfig
from consilium.consensus.messages import sign_pre_prepare
from consilium.ledger.block import HEARTBEAT_MS, Block, Header
from consilium.ledger.validators import PRIMARY_HEIGHTS
from tests.unit.consensus.parts import (
    BATCH,
    BLOCK,
    CHAIN,
    CONTEXT,
    KEYS,
    STRANGER,
    TIME_MS,
    VALIDATORS,
    context_of,
    justification,
    keys_of,
    prepared,
    set_of,
)

CONFIG = ReplicaConfig()


def test_what_the_primary_makes_is_accepted() -> None:
    assert contradiction(BLOCK, CONTEXT) is None


FREE = {"time_ms"}


@pytest.mark.parametrize("field", [name for name in Header.__struct_fields__ if name not in FREE])
def test_every_determined_field_is_checked(field: str) -> None:
    value = getattr(BLOCK.header, field)
    wrong = value + 1 if isinstance(value, int) else bytes(31) + b"x"
    header = msgspec.structs.replace(BLOCK.header, **{field: wrong})
    assert contradiction(Block(header, BLOCK.batches), CONTEXT) == field


def test_a_proposer_that_is_no_validator_is_named() -> None:
    header = msgspec.structs.replace(BLOCK.header, primary=STRANGER.public)
    assert contradiction(Block(header, BLOCK.batches), CONTEXT) == "primary"


def test_whoever_was_passed_over_has_lost_its_turn() -> None:
    block = make_block(CONTEXT, [BATCH], TIME_MS + 5, KEYS[2].public)
    assert block.header.lost == 0b0011
    assert contradiction(block, CONTEXT) is None


def test_time_must_pass() -> None:
    for time_ms in (TIME_MS, TIME_MS - 1):
        assert contradiction(make_block(CONTEXT, [BATCH], time_ms, KEYS[0].public), CONTEXT) == "time_ms"


def test_empty_blocks_are_valid_only_where_something_calls_for_them() -> None:
    empty = make_block(CONTEXT, [], TIME_MS + 5, KEYS[0].public)
    assert contradiction(empty, CONTEXT) == "batches_root"
    due = make_block(CONTEXT, [], TIME_MS + HEARTBEAT_MS, KEYS[0].public)
    assert contradiction(due, CONTEXT) is None
    early = make_block(CONTEXT, [], TIME_MS + HEARTBEAT_MS - 1, KEYS[0].public)
    assert contradiction(early, CONTEXT) == "batches_root"
    after_work = context_of(batches_root=b"w" * 32)
    assert contradiction(make_block(after_work, [], TIME_MS + 5, KEYS[0].public), after_work) is None
    first = context_of(height=1)
    assert contradiction(make_block(first, [], TIME_MS + 5, KEYS[0].public), first) is None


def test_lost_turns_of_another_set_count_for_nothing() -> None:
    grown = set_of(keys_of(5))
    before = context_of(lost=0b0110)
    changed = type(before)(
        height=PRIMARY_HEIGHTS,
        chain_id=CHAIN,
        parent=before.parent,
        validators=grown,
        next_validators_hash=grown.hash,
        state_root=bytes(32),
        receipts_root=bytes(32),
        history_root=bytes(32),
    )
    assert before.parent_lost == 0b0110
    assert changed.parent_lost == 0


def test_a_fresh_proposals_time_is_bounded_on_both_sides() -> None:
    def at(time_ms: int) -> str | None:
        return untimely(make_block(CONTEXT, [BATCH], time_ms, KEYS[0].public), CONTEXT, wall, CONFIG)

    wall = TIME_MS + 1_000_000
    assert at(wall) is None
    assert at(wall + CLOCK_BOUND_MS) is None
    assert at(wall + CLOCK_BOUND_MS + 1) == TOO_EARLY
    assert at(wall - PROPOSAL_AGE_MAX_MS) is None
    assert at(wall - PROPOSAL_AGE_MAX_MS - 1) == TOO_LATE


def test_the_least_time_after_a_parent_ahead_of_the_clock_is_never_too_early() -> None:
    wall = TIME_MS - 3_600_000
    assert proposal_time(CONTEXT, wall) == TIME_MS + 1
    least = make_block(CONTEXT, [BATCH], TIME_MS + 1, KEYS[0].public)
    assert untimely(least, CONTEXT, wall, CONFIG) is None
    more = make_block(CONTEXT, [BATCH], TIME_MS + 2, KEYS[0].public)
    assert untimely(more, CONTEXT, wall, CONFIG) == TOO_EARLY


def test_a_proposal_again_is_never_asked_for_its_time() -> None:
    hours_later = TIME_MS + 7_200_000
    lock = prepared(BLOCK, 0)
    again = sign_pre_prepare(
        KEYS[1], CHAIN, 1, BLOCK, justification(1, {0: lock, 1: None, 2: None}, lock.certificate)
    )
    assert objection(again, CONTEXT, hours_later, CONFIG) is None
    fresh = sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None)
    assert objection(fresh, CONTEXT, hours_later, CONFIG) == TOO_LATE
    assert objection(fresh, CONTEXT, TIME_MS, CONFIG) is None


def test_a_fresh_proposal_must_be_in_the_primarys_own_name() -> None:
    free = justification(1, {0: None, 1: None, 2: None}, None)
    borrowed = sign_pre_prepare(KEYS[1], CHAIN, 1, BLOCK, free)
    assert objection(borrowed, CONTEXT, TIME_MS, CONFIG) == "it proposed another's block afresh"
    own = make_block(CONTEXT, [BATCH], TIME_MS + 5, KEYS[1].public)
    assert objection(sign_pre_prepare(KEYS[1], CHAIN, 1, own, free), CONTEXT, TIME_MS, CONFIG) is None


def test_a_proposal_that_contradicts_the_chain_is_named_by_its_field() -> None:
    header = msgspec.structs.replace(BLOCK.header, state_root=bytes(32))
    wrong = sign_pre_prepare(KEYS[0], CHAIN, 0, Block(header, BLOCK.batches), None)
    assert objection(wrong, CONTEXT, TIME_MS, CONFIG) == "its proposal contradicts the chain in state_root"


def test_primaries_follow_each_other_by_view() -> None:
    assert [CONTEXT.primary(view) for view in range(5)] == [*VALIDATORS.keys, VALIDATORS.keys[0]]
