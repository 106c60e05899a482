"""The host loop between two blocks: what was admitted is sealed, again and again, and others are told."""

from __future__ import annotations

import asyncio
import threading

import pytest

from consilium.consensus.io import (
    Advanced,
    Broadcast,
    HoldBatches,
    ProposalBuilt,
    SendDecided,
    SetTimer,
    Started,
    TimerKind,
    WorkPending,
)
from consilium.consensus.messages import sign_prepare
from consilium.node.decided import verify_decided
from consilium.node.peer_messages import Kind
from tests.unit.node.harness import START_MS, VALID_MS, Harness, until
from tests.unit.node.hosting import running, scripted


async def test_what_comes_after_a_proposal_was_built_is_sealed_too(four: Harness) -> None:
    """Building seals ahead of the delay; the delay must begin anew for whatever comes next."""
    node, _ = scripted(four)
    node.mempool.admit(four.transaction(four.wallets[0]), START_MS)
    async with running(node):
        node.driver.work_arrived()
        node.driver._build(1, 0)
        assert len(node.outlet.sent(Kind.BATCH)) == 1
        later = four.transaction(four.wallets[0], valid_until=START_MS + VALID_MS)
        node.mempool.admit(later, START_MS)
        node.driver.work_arrived()
        await until(lambda: len(node.outlet.sent(Kind.BATCH)) == 2)


async def test_a_first_transaction_is_sealed_at_once_and_the_next_waits_for_company(four: Harness) -> None:
    node, _ = scripted(four)
    node.driver._seal_delay_s = 60.0
    async with running(node):
        node.mempool.admit(four.transaction(four.wallets[0]), START_MS)
        node.driver.work_arrived()
        await until(lambda: len(node.outlet.sent(Kind.BATCH)) == 1)
        node.mempool.admit(four.transaction(four.wallets[0]), START_MS)
        began_s = asyncio.get_running_loop().time()
        node.driver.work_arrived()
        assert node.driver._sealing is not None
        assert node.driver._sealing.when() > began_s + 1


async def test_a_small_block_after_another_waits_for_who_was_answered_by_that(four: Harness) -> None:
    node, machine = scripted(four)
    async with running(node):
        node.driver._company.committed(asyncio.get_running_loop().time() + 1_000)
        node.driver._build(1, 0)
        waiting = node.driver._building
        assert waiting is not None
        node.driver._build(1, 1)  # a view that was demanded waits for nobody
        await until(lambda: machine.of(ProposalBuilt))
    assert waiting.cancelled()
    assert machine.of(ProposalBuilt) == [ProposalBuilt(1, 1, ())]


async def test_a_batch_may_arrive_before_the_loop_runs(four: Harness) -> None:
    node, machine = scripted(four)
    node.mempool.add_batch(four.batch([four.transaction(four.wallets[0])], author=1), 1)
    node.driver.batch_arrived()
    async with running(node):
        await until(lambda: machine.of(WorkPending))
    assert machine.of(WorkPending)[0] == WorkPending(True)


async def test_the_machine_hears_at_once_of_a_batch_that_arrives(four: Harness) -> None:
    """Not with the next tick: a primary would propose it a second late."""
    node, machine = scripted(four)
    async with running(node):
        await until(lambda: machine.of(Started))
        assert machine.of(WorkPending) == []
        node.mempool.add_batch(four.batch([four.transaction(four.wallets[0])], author=1), 1)
        node.driver.batch_arrived()
        await until(lambda: machine.of(WorkPending))
    assert machine.of(WorkPending) == [WorkPending(True)]


async def test_a_timer_is_set_for_its_time_and_a_late_one_for_now(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, _ = scripted(four)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with monkeypatch.context() as still:
        still.setattr(loop, "time", lambda: began)
        now_ms = node.clock().monotonic_ms
        node.driver._set_timer(TimerKind.VIEW, now_ms + 1_000_000)
        node.driver._set_timer(TimerKind.RESEND, now_ms - 1)
    due = {kind: handle.when() - began for kind, handle in node.driver._timers.items()}
    for handle in node.driver._timers.values():
        handle.cancel()
    assert due == {
        TimerKind.VIEW: pytest.approx(1_000.0, abs=1e-6),
        TimerKind.RESEND: pytest.approx(0, abs=1e-6),
    }


async def test_the_end_stops_all_that_was_under_way(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a driver that has ended may run later: what it works on is closed next."""
    batch = four.batch([four.transaction(four.wallets[0])], author=1)
    missing = four.decide(four.executor().context, [batch]).block
    node, _ = scripted(
        four,
        Started=[
            HoldBatches(missing, ()),
            SendDecided(four.keys[1].public, 1),
            SetTimer(TimerKind.VIEW, 10**9),
        ],
    )
    go = threading.Event()
    four.commit(node.executor)
    monkeypatch.setattr(node.executor, "decided", lambda height: go.wait(10) and None)
    node.driver._seal_delay_s = 60.0
    node.driver._sealed_s = asyncio.get_running_loop().time()
    async with running(node):
        node.driver.work_arrived()
        await until(lambda: node.driver._showing.tasks and node.driver._timers)
        serving, sealing = list(node.driver._showing.tasks), node.driver._sealing
    assert sealing is not None
    assert sealing.cancelled()
    assert node.driver._timers == {}
    assert node.driver._holding._retry is None
    go.set()
    await asyncio.gather(*serving, return_exceptions=True)
    assert all(task.cancelled() for task in serving)


async def test_a_vote_is_no_demand_for_a_view(four: Harness) -> None:
    vote = Broadcast(sign_prepare(four.keys[0], four.chain_id, 1, 0, bytes(32)))
    node, _ = scripted(four, Started=[vote])
    async with running(node):
        await until(lambda: node.outlet.sent(Kind.CONSENSUS))
        assert node.driver.view_changes == 0


async def test_after_a_commit_the_machine_hears_of_the_work_that_is_left(four: Harness) -> None:
    """Were it still told of what has just been committed, every backup's view timer would run on an idle chain."""
    node, machine = scripted(four)
    other = four.executor()
    batch = four.batch([four.transaction(four.wallets[0])], author=1)
    decision = verify_decided(four.decide(other.context, [batch]), other.context)
    node.mempool.add_batch(batch, 1)
    async with running(node):
        node.driver.batch_arrived()
        await until(lambda: machine.of(WorkPending))
        await asyncio.wait_for(node.driver.deliver([decision]), 20)
    (advanced,) = machine.of(Advanced)
    assert isinstance(advanced, Advanced)
    assert not advanced.work_pending
