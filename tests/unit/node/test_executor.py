"""From a decided block to a committed one: nothing that contradicts is written, and a restart changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.ledger import codec
from consilium.ledger.block import BLOCK_PAYLOAD_BYTES_MAX, Block
from consilium.ledger.errors import InvariantBroken
from consilium.ledger.transaction import VALIDITY_MAX_MS
from consilium.node import executor as executors
from consilium.node.decided import VerifiedDecision
from consilium.node.executor import Executor, SeenWindow
from consilium.node.peer_messages import (
    BLOCKS_BYTES_MAX,
    BLOCKS_PER_RESPONSE_MAX,
    BLOCKS_RESPONSE_BYTES,
    Blocks,
    decided_bytes,
)
from consilium.storage.kv import MemoryKV, Write
from tests.unit.node.harness import BLOCK_MS, START_MS, Harness, kv_of


def same(one: Executor, other: Executor) -> bool:
    """Whether two executors would go on alike."""
    return (
        one.context == other.context
        and one.seen._ids.keys() == other.seen._ids.keys()
        and [*one.seen._blocks] == [*other.seen._blocks]
        and one.store.tip == other.store.tip
    )


# --- contradictions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    ["state_root", "receipts_root", "history_root", "parent", "chain_id", "next_validators_hash"],
)
def test_a_certified_header_that_contradicts_this_node_halts_it_with_nothing_written(
    solo: Harness, field: str
) -> None:
    executor = solo.executor()
    solo.commit(executor)
    before = (executor.store.tip, executor.context)
    decided = solo.decide(executor.context)
    header = msgspec.structs.replace(decided.block.header, **{field: b"\x07" * 32})
    block = Block(header, [])
    with pytest.raises(InvariantBroken):
        executor.commit(block, solo.certificate(block), [])
    assert (executor.store.tip, executor.context) == before


def test_a_block_without_its_batches_is_not_committed(solo: Harness) -> None:
    executor = solo.executor()
    batch = solo.batch([solo.transaction(solo.wallets[0])])
    other = solo.batch([solo.transaction(solo.wallets[0])])
    decided = solo.decide(executor.context, [batch])
    for given_batches in ([], [other], [batch, other]):
        with pytest.raises(InvariantBroken):
            executor.commit(decided.block, decided.certificate, given_batches)
    assert executor.store.tip.height == 0


def test_a_height_cannot_be_committed_twice(solo: Harness) -> None:
    executor = solo.executor()
    decided = solo.decide(executor.context)
    executor.commit(decided.block, decided.certificate, [])
    with pytest.raises(InvariantBroken):
        executor.commit(decided.block, decided.certificate, [])


def test_a_disk_that_fails_halts(solo: Harness) -> None:
    executor = solo.executor()
    kv_of(executor).fail_next_write = True
    with pytest.raises(InvariantBroken):
        solo.commit(executor)
    assert executor.context.height == 1


# --- heights --------------------------------------------------------------------------------------------------------


def test_who_votes_is_known_for_this_height_and_the_next(four: Harness) -> None:
    executor = four.executor()
    four.commit(executor)
    assert executor.validators_at(1) is None
    assert executor.validators_at(2) == four.validators
    assert executor.validators_at(3) == four.validators
    assert executor.validators_at(4) is None
    assert executor.context.height == 2


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([1, BLOCK_MS, VALIDITY_MAX_MS - 1, VALIDITY_MAX_MS])),
        min_size=1,
        max_size=7,
    )
)
def test_a_restart_at_any_height_goes_on_as_if_nothing_had_been(plan: list[tuple[int, int]]) -> None:
    solo = Harness(1)
    executor = solo.executor()
    kv = kv_of(executor)
    assert same(executor, solo.executor(kv))
    for count, step_ms in plan:
        time_ms = executor.store.tip.time_ms + step_ms
        transactions = [solo.transaction(solo.wallets[0], valid_until=time_ms + 1 + n) for n in range(count)]
        batches = [solo.batch(transactions)] if transactions else []
        done = solo.commit(executor, batches, time_ms=time_ms)
        assert len(done.outcome.transactions) == count
        reopened = solo.executor(kv.crash())
        assert same(executor, reopened)
    # The next block of both is the same block.
    assert solo.decide(executor.context).block == solo.decide(solo.executor(kv.crash()).context).block


# --- the window of ids ----------------------------------------------------------------------------------------------


def test_the_window_forgets_at_the_exact_edge() -> None:
    window = SeenWindow()
    window.add(START_MS, [b"a"])
    window.add(START_MS + VALIDITY_MAX_MS - 1, [b"b"])
    assert b"a" in window
    window.add(START_MS + VALIDITY_MAX_MS, [b"c"])
    assert b"a" not in window
    assert b"b" in window
    assert len(window) == 2


def test_an_id_counts_once_as_long_as_it_could_be_included(solo: Harness) -> None:
    """Included as early as possible, repeated as late as possible: never executed twice."""
    executor = solo.executor()
    first_ms = START_MS + BLOCK_MS
    one = solo.transaction(solo.wallets[0], valid_until=first_ms + VALIDITY_MAX_MS)
    done = solo.commit(executor, [solo.batch([one])], time_ms=first_ms)
    assert [t.id for t in done.outcome.transactions] == [one.id]
    late = solo.commit(executor, [solo.batch([one])], time_ms=first_ms + VALIDITY_MAX_MS - 1)
    assert late.outcome.skipped == ((one.id, "transaction.duplicate"),)
    after = solo.commit(executor, [solo.batch([one])], time_ms=first_ms + VALIDITY_MAX_MS)
    assert after.outcome.skipped == ((one.id, "transaction.expired"),)
    assert after.outcome.transactions == ()


def test_the_window_survives_a_restart_at_its_edge(solo: Harness) -> None:
    executor = solo.executor()
    kv = kv_of(executor)
    first_ms = START_MS + BLOCK_MS
    one = solo.transaction(solo.wallets[0], valid_until=first_ms + VALIDITY_MAX_MS)
    solo.commit(executor, [solo.batch([one])], time_ms=first_ms)
    solo.commit(executor, time_ms=first_ms + VALIDITY_MAX_MS - 2)
    reopened = solo.executor(kv.crash())
    again = solo.commit(reopened, [solo.batch([one])], time_ms=first_ms + VALIDITY_MAX_MS - 1)
    assert again.outcome.skipped == ((one.id, "transaction.duplicate"),)


# --- blocks for those who lag ---------------------------------------------------------------------------------------


def blocks_in(raw: bytes | None) -> list[int]:
    assert raw is not None
    assert len(raw) <= BLOCKS_BYTES_MAX
    return [one.block.height for one in codec.decode(raw, Blocks, BLOCKS_BYTES_MAX).blocks]


def test_blocks_are_served_from_the_first_on(solo: Harness) -> None:
    executor = solo.executor()
    for _ in range(3):
        solo.commit(executor, [solo.batch([solo.transaction(solo.wallets[0])])])
    assert blocks_in(executor.encoded_blocks(2, 64)) == [2, 3]
    assert blocks_in(executor.encoded_blocks(0, 2)) == [1]
    assert blocks_in(executor.encoded_blocks(1, 2)) == [1, 2]
    assert executor.encoded_blocks(4, 64) is None
    assert executor.encoded_blocks(2**63 - 1, 64) is None


def test_a_response_holds_so_many_blocks_at_most(solo: Harness) -> None:
    executor = solo.executor()
    for _ in range(BLOCKS_PER_RESPONSE_MAX + 3):
        solo.commit(executor)
    assert blocks_in(executor.encoded_blocks(2, 10_000)) == list(range(2, BLOCKS_PER_RESPONSE_MAX + 2))


def test_every_response_fits_its_message(solo: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large blocks follow small ones: several stay below the limit of several, one goes alone."""
    executor = solo.executor()
    sizes = []
    for count in (3, 3, 3, 9, 1):
        transactions = [
            solo.transaction(solo.wallets[0], valid_until=executor.store.tip.time_ms + 60_000)
            for _ in range(count)
        ]
        solo.commit(executor, [solo.batch(transactions)])
        (one,) = codec.decode(
            executor.encoded_blocks(executor.store.tip.height, 1) or b"", Blocks, BLOCKS_BYTES_MAX
        ).blocks
        sizes.append(decided_bytes(one))
        assert len(codec.encode(one)) <= sizes[-1]
    monkeypatch.setattr(executors, "BLOCKS_RESPONSE_BYTES", sum(sizes[:3]))
    assert blocks_in(executor.encoded_blocks(1, 64)) == [1, 2, 3]
    monkeypatch.setattr(executors, "BLOCKS_RESPONSE_BYTES", sum(sizes[:3]) - 1)
    assert blocks_in(executor.encoded_blocks(1, 64)) == [1, 2]
    monkeypatch.setattr(executors, "BLOCKS_RESPONSE_BYTES", sizes[3] - 1)
    assert blocks_in(executor.encoded_blocks(4, 64)) == [4]
    assert BLOCKS_BYTES_MAX > BLOCKS_RESPONSE_BYTES + BLOCK_PAYLOAD_BYTES_MAX


def test_blocks_together_are_durable_by_one_sync(solo: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    source, executor = solo.executor(), solo.executor()
    decisions = []
    for _ in range(5):
        batch = solo.batch([solo.transaction(solo.wallets[0])])
        decided = solo.decide(source.context, [batch])
        source.commit(decided.block, decided.certificate, [batch])
        decisions.append(VerifiedDecision(decided.block, decided.certificate, (batch,)))
    store = kv_of(executor)
    synced: list[bool] = []
    write = MemoryKV.write

    def noting(own: MemoryKV, writes: Sequence[Write], *, sync: bool) -> None:
        synced.append(sync)
        write(own, writes, sync=sync)

    monkeypatch.setattr(MemoryKV, "write", noting)
    commits = executor.commit_all(decisions)
    assert [one.block.height for one in commits] == [1, 2, 3, 4, 5]
    assert synced == [False, False, False, False, True]
    assert executor.context == source.context
    assert store.unsynced_writes == 0
