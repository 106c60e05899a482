"""The host loop: durable before sent, no input lost, nobody left waiting, and a fault of this node is its end."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest

from consilium.consensus.io import (
    BatchesHeld,
    Broadcast,
    BuildProposal,
    CancelTimer,
    CatchUp,
    Censored,
    Decide,
    Equivocation,
    MessageReceived,
    Misbehaviour,
    PeerHeight,
    Persist,
    ProposalBuilt,
    Report,
    SendDecided,
    SendTo,
    SetTimer,
    TimerFired,
    TimerKind,
    WorkPending,
)
from consilium.consensus.limits import CENSORED_HEIGHTS, ReplicaConfig
from consilium.consensus.messages import (
    Decided,
    PrePrepare,
    decode_message,
    encode_message,
    sign_prepare,
    sign_view_change,
    verify_message,
)
from consilium.consensus.promise import no_promise
from consilium.ledger import codec
from consilium.ledger.batch import Batch, seal_batch
from consilium.ledger.block import HEARTBEAT_MS
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import InvariantBroken
from consilium.node import driver as drivers
from consilium.node import showing
from consilium.node.complaints import PASS_ON_HEIGHTS, UNDECIDED_HEIGHTS_MAX
from consilium.node.decided import VerifiedDecision, verify_decided
from consilium.node.executor import Commit
from consilium.node.mempool import OVERDUE_TICKS
from consilium.node.peer_messages import Kind, Tip
from tests.unit.node.harness import START_MS, VALID_MS, Harness, HostedNode, kv_of, until
from tests.unit.node.hosting import running, scripted


def admit(node: HostedNode, count: int = 1) -> list[bytes]:
    harness = node.harness
    ids: list[bytes] = []
    for _ in range(count):
        one = harness.transaction(harness.wallets[0], valid_until=node.clock.wall_ms + VALID_MS)
        node.mempool.admit(one, node.executor.store.tip.time_ms)
        ids.append(one.id)
    node.driver.work_arrived()
    return ids


def vote(four: Harness, height: int = 1, sender: int = 1) -> MessageReceived:
    message = sign_prepare(four.keys[sender], four.chain_id, height, 0, bytes(32))
    return MessageReceived(verify_message(message, four.chain_id, four.validators))


# --- a chain of one validator ---------------------------------------------------------------------------------------


async def test_one_validator_decides_alone(solo: Harness) -> None:
    node = HostedNode(solo)
    async with running(node):
        await until(lambda: len(node.commits) == 1)  # certifies genesis
        (one,) = admit(node)
        await until(lambda: len(node.commits) == 3)  # the block, and the one that certifies it
        assert node.executor.store.place_of(one) is not None
        assert [commit.block.height for commit in node.commits] == [1, 2, 3]
        assert node.mempool.transaction_count == 0
    assert node.commits[1].outcome.transactions[0].id == one


async def test_an_idle_chain_stands_still_until_the_heartbeat_is_due(solo: Harness) -> None:
    node = HostedNode(solo, config=ReplicaConfig(resend_first_ms=1, resend_ms=2))

    def committed(commit: Commit) -> None:
        node.commits.append(commit)
        node.clock.wall_ms = commit.block.header.time_ms + HEARTBEAT_MS - 5

    node.driver._on_commit = committed
    async with running(node):
        await until(lambda: len(node.commits) == 1)
        await asyncio.sleep(0.05)
        assert node.height == 1
        node.clock.wall_ms += 10
        await until(lambda: len(node.commits) == 2)
    assert node.commits[1].block.batches == []


async def test_many_transactions_are_sealed_a_few_batches_at_a_time(
    solo: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drivers, "SEALS_AT_ONCE_MAX", 1)
    monkeypatch.setattr("consilium.node.mempool.BATCH_TRANSACTIONS_MAX", 2)
    node = HostedNode(solo)
    async with running(node):
        ids = admit(node, 7)
        await until(lambda: all(node.executor.store.place_of(one) for one in ids))
    assert len(node.outlet.sent(Kind.BATCH)) == 4


async def test_what_a_block_has_no_weight_for_goes_into_later_ones(
    solo: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if state made each dearer than its body tells: the proposal fits, the execution does not."""
    node = HostedNode(solo)
    each = node.executor.weigh(solo.transaction(solo.wallets[0]).value.operations[0])
    monkeypatch.setattr("consilium.ledger.execution.BLOCK_WEIGHT_MAX", 3 * each)
    async with running(node):
        ids = admit(node, 7)
        await until(lambda: sum(len(one.outcome.transactions) for one in node.commits) == 7)
    assert all(node.executor.store.place_of(one) for one in ids)
    assert [len(one.outcome.transactions) for one in node.commits[:3]] == [3, 3, 1]
    assert [len(one.outcome.postponed) for one in node.commits[:3]] == [4, 1, 0]


async def test_what_another_sealed_and_a_block_postponed_stays_pending_here(
    solo: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sealed it may let it rest: a client that gave it to two nodes is not let down by the honest one."""
    monkeypatch.setattr("consilium.node.mempool.SEALED_AHEAD_MAX", 0)  # nothing is sealed here
    node = HostedNode(solo)
    each = node.executor.weigh(solo.transaction(solo.wallets[0]).value.operations[0])
    monkeypatch.setattr("consilium.ledger.execution.BLOCK_WEIGHT_MAX", each)
    done, postponed = (
        solo.transaction(solo.wallets[0], valid_until=node.clock.wall_ms + VALID_MS) for _ in range(2)
    )
    for one in (done, postponed):
        node.mempool.admit(one, node.executor.store.tip.time_ms)
    other = seal_batch(SigningKey(bytes(32)), solo.chain_id, 1, [done, postponed])
    node.mempool.add_batch(other, 0)
    async with running(node):
        node.driver.batch_arrived()
        await until(lambda: node.executor.store.place_of(done.id) is not None)
        await until(lambda: not node.mempool.knows(done.id))
    assert node.executor.store.place_of(postponed.id) is None
    assert node.mempool.knows(postponed.id)


async def test_every_vote_is_durable_before_it_is_sent(four: Harness) -> None:
    """The primary's pre-prepare and, with the others' votes, its commit: each behind the promise that names it."""
    node = HostedNode(four, index=primary_index(four))
    async with running(node):
        await until(lambda: node.outlet.sent(Kind.CONSENSUS))
        proposal = decode_message(node.outlet.sent(Kind.CONSENSUS)[0])
        assert isinstance(proposal, PrePrepare)
        for sender in range(4):
            if four.keys[sender].public != node.key.public:
                message = sign_prepare(four.keys[sender], four.chain_id, 1, 0, proposal.block_hash)
                verified = verify_message(message, four.chain_id, four.validators)
                await node.driver.receive(MessageReceived(verified))
        await until(lambda: len(node.outlet.sent(Kind.CONSENSUS)) >= 2)
    said: list[tuple[str, Any]] = [
        (entry[0], decode_message(entry[3])) if entry[0] == "broadcast" else (entry[0], entry[3])
        for entry in node.log
        if entry[0] == "kept" or entry[2] == Kind.CONSENSUS
    ]
    assert [(how, type(what).__name__) for how, what in said[:4]] == [
        ("kept", "Promise"),
        ("broadcast", "PrePrepare"),
        ("kept", "Promise"),
        ("broadcast", "Commit"),
    ]
    assert said[0][1].votes.prepare == proposal.block_hash
    assert said[2][1].votes.commit == proposal.block_hash


def primary_index(harness: Harness) -> int:
    return harness.validators.index(harness.executor().context.primary(0)) or 0


# --- effects, one by one --------------------------------------------------------------------------------------------


async def test_effects_are_performed_in_their_order(four: Harness) -> None:
    message = sign_prepare(four.keys[0], four.chain_id, 1, 0, bytes(32))
    node, _ = scripted(
        four,
        Started=[
            Broadcast(message),
            Persist(no_promise(1)),
            SendTo(four.keys[1].public, message),
            Persist(no_promise(1)),
        ],
    )
    node.outlet.peers = frozenset([four.keys[1].public])
    async with running(node):
        await until(lambda: len(node.log) == 4)
    assert [entry[0] for entry in node.log] == ["broadcast", "kept", "send", "kept"]
    assert node.log[0][3] == encode_message(message)


async def test_a_promise_that_cannot_be_kept_ends_the_node_and_nothing_is_sent(four: Harness) -> None:
    message = sign_prepare(four.keys[0], four.chain_id, 1, 0, bytes(32))
    node, _ = scripted(four, Started=[Persist(no_promise(1)), Broadcast(message)])

    class Broken:
        def keep(self, promise: object, batches: object) -> None:
            raise InvariantBroken("the disk is gone")

    node.driver._keeper = Broken()
    with pytest.raises(InvariantBroken, match="the disk is gone"):
        await node.driver.run()
    assert node.log == []


async def test_timers_fire_replace_and_are_cancelled(solo: Harness) -> None:
    node, machine = scripted(
        solo,
        Started=[
            SetTimer(TimerKind.VIEW, 1_000 + 10),
            SetTimer(TimerKind.RESEND, 1_000),
            SetTimer(TimerKind.HEARTBEAT, 1_000),
            SetTimer(TimerKind.HEARTBEAT, 10_000_000),
            CancelTimer(TimerKind.RESEND),
        ],
    )
    async with running(node):
        await until(lambda: machine.of(TimerFired))
        await asyncio.sleep(0.02)
        assert machine.of(TimerFired) == [TimerFired(TimerKind.VIEW)]
        pending = node.driver._timers[TimerKind.HEARTBEAT]
    assert pending.cancelled()  # nothing fires after the end


async def test_a_cancelled_timer_that_fired_already_does_not_reach_the_machine(solo: Harness) -> None:
    node, machine = scripted(solo, PeerHeight=[CancelTimer(TimerKind.VIEW)])
    node.driver.peer_at(b"p" * 32, 3)
    node.driver._signal(("timer", TimerKind.VIEW), TimerFired(TimerKind.VIEW))
    async with running(node):
        await until(lambda: machine.of(PeerHeight))
        await asyncio.sleep(0.01)
    assert machine.of(TimerFired) == []


async def test_a_proposal_is_built_of_what_waits(four: Harness) -> None:
    node, machine = scripted(four, Started=[BuildProposal(1, 0)])
    batch = four.batch([four.transaction(four.wallets[0])], author=1)
    node.mempool.add_batch(batch, 1)
    one = four.transaction(four.wallets[0])
    node.mempool.admit(one, START_MS)
    async with running(node):
        await until(lambda: machine.of(ProposalBuilt))
    (built,) = machine.of(ProposalBuilt)
    own = codec.decode(node.outlet.sent(Kind.BATCH)[0], Batch, 1 << 20)
    assert built == ProposalBuilt(1, 0, (batch.digest, own.digest()))


async def test_catching_up_is_a_hint_for_the_synchroniser(four: Harness) -> None:
    node, _ = scripted(four, Started=[CatchUp(5, b"h" * 32)])
    hints: list[tuple[bytes, int]] = []

    class Sync:
        def hint(self, peer: bytes, height: int) -> None:
            hints.append((peer, height))

    node.driver.synchroniser = Sync()  # type: ignore[assignment]
    async with running(node):
        await until(lambda: hints)
    assert hints == [(b"h" * 32, 5)]


async def test_a_peer_that_lags_is_sent_the_certificate_and_then_told_the_tip(four: Harness) -> None:
    peer = four.keys[1].public
    node, _ = scripted(four, PeerHeight=[SendDecided(peer, 1), SendDecided(peer, 1), SendDecided(peer, 9)])
    four.commit(node.executor, [four.batch([four.transaction(four.wallets[0])])])
    async with running(node):
        node.driver.peer_at(peer, 1)
        await until(lambda: len(node.outlet.sent(Kind.TIP, peer)) == 2)
        await until(lambda: not node.driver._showing.tasks)
    (raw,) = node.outlet.sent(Kind.CONSENSUS, peer)
    shown = decode_message(raw)
    assert isinstance(shown, Decided)
    assert shown.height == 1
    tip = node.executor.store.tip
    assert node.outlet.sent(Kind.TIP, peer) == [codec.encode(Tip(1, tip.block_hash))] * 2
    assert node.outlet.sent(Kind.BLOCKS, peer) == []


async def test_a_store_that_cannot_serve_ends_the_node(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, _ = scripted(four, Started=[SendDecided(four.keys[1].public, 1)])

    four.commit(node.executor)

    def broken(height: int) -> Decided:
        raise InvariantBroken("a part of height 1 is not in the store")

    monkeypatch.setattr(node.executor, "decided", broken)
    with pytest.raises(InvariantBroken, match="height 1"):
        await asyncio.wait_for(node.driver.run(), 10)


async def test_only_so_many_peers_are_served_at_a_time(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "SERVES_AT_ONCE_MAX", 2)
    node, _ = scripted(four, Started=[SendDecided(bytes([number]) * 32, 1) for number in range(5)])
    four.commit(node.executor)
    go = threading.Event()
    asked: list[int] = []

    def slow(height: int) -> None:
        asked.append(height)
        go.wait(10)

    monkeypatch.setattr(node.executor, "decided", slow)
    async with running(node):
        await until(lambda: len(asked) == 2)
        assert len(node.driver._showing.tasks) == 2
        go.set()
        await until(lambda: not node.driver._showing.tasks)
    assert len(asked) == 2


async def test_evidence_is_kept_and_bounded(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "EVIDENCE_KEPT_MAX", 2)
    fault = Report(Equivocation(evidence="two votes"))  # type: ignore[arg-type]
    node, machine = scripted(
        four, Started=[fault, Report(Misbehaviour(b"v" * 32, "late")), fault, fault], PeerHeight=[]
    )
    async with running(node):
        node.driver.peer_at(b"p" * 32, 1)
        await until(lambda: machine.of(PeerHeight))
    assert len(node.driver.evidence) == 2


# --- inputs: none is lost, none is doubled --------------------------------------------------------------------------


async def test_signals_coalesce_to_the_newest_and_lose_no_kind(four: Harness) -> None:
    node, machine = scripted(four)
    driver = node.driver
    driver.peer_at(b"a" * 32, 5)
    driver.peer_at(b"b" * 32, 6)
    driver.peer_at(b"a" * 32, 9)
    driver._batches_held(b"x" * 32)
    driver._batches_held(b"y" * 32)
    driver._build(1, 0)
    driver._build(1, 1)
    driver._signal(("work",), WorkPending(True))
    driver._signal(("work",), WorkPending(False))
    async with running(node):
        await until(lambda: len(machine.inputs) >= 8)
        await asyncio.sleep(0.01)
    assert machine.of(PeerHeight) == [PeerHeight(b"a" * 32, 9), PeerHeight(b"b" * 32, 6)]
    assert machine.of(BatchesHeld) == [BatchesHeld(b"x" * 32), BatchesHeld(b"y" * 32)]
    assert machine.of(ProposalBuilt) == [ProposalBuilt(1, 0, ()), ProposalBuilt(1, 1, ())]
    assert machine.of(WorkPending) == [WorkPending(False)]


async def test_a_signal_that_comes_while_its_like_is_handled_is_not_lost(four: Harness) -> None:
    node, machine = scripted(four, PeerHeight=[Persist(no_promise(1))])
    inside, go = threading.Event(), threading.Event()

    class Slow:
        def keep(self, promise: object, batches: object) -> None:
            inside.set()
            go.wait(10)

    node.driver._keeper = Slow()
    async with running(node):
        node.driver.peer_at(b"a" * 32, 5)
        await until(inside.is_set)
        node.driver.peer_at(b"a" * 32, 6)
        go.set()
        await until(lambda: len(machine.of(PeerHeight)) == 2)
    assert machine.of(PeerHeight) == [PeerHeight(b"a" * 32, 5), PeerHeight(b"a" * 32, 6)]


async def test_messages_keep_their_order_behind_signals(four: Harness) -> None:
    node, machine = scripted(four)
    votes = [vote(four, sender=sender) for sender in (1, 2, 3)]
    for one in votes:
        await node.driver.receive(one)
    node.driver.peer_at(b"a" * 32, 5)
    async with running(node):
        await until(lambda: len(machine.inputs) == 5)
    assert machine.inputs[1:] == [PeerHeight(b"a" * 32, 5), *votes]


async def test_a_full_inbox_holds_its_sender_back(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "MESSAGES_QUEUED_MAX", 2)
    node, machine = scripted(four)
    for _ in range(2):
        await node.driver.receive(vote(four))
    late = asyncio.create_task(node.driver.receive(vote(four, sender=3)))
    await asyncio.sleep(0.01)
    assert not late.done()
    async with running(node):
        await late
        await until(lambda: len(machine.of(MessageReceived)) == 3)


async def test_a_flood_of_messages_leaves_turns_to_others(four: Harness) -> None:
    node, machine = scripted(four)
    one = vote(four)
    for _ in range(drivers.MESSAGES_QUEUED_MAX):
        await node.driver.receive(one)
    seen: list[int] = []

    async def watch() -> None:
        while len(machine.of(MessageReceived)) < drivers.MESSAGES_QUEUED_MAX:
            seen.append(len(machine.inputs))
            await asyncio.sleep(0)

    async with running(node):
        await asyncio.wait_for(watch(), 20)
    steps = [later - earlier for earlier, later in itertools.pairwise(seen)]
    # The first turn has one input more: Started, before the loop begins.
    assert drivers.STEPS_PER_TURN <= max(steps) <= drivers.STEPS_PER_TURN + 1


# --- blocks that come by catch-up -----------------------------------------------------------------------------------


def decisions(harness: Harness, count: int) -> list[VerifiedDecision]:
    """Consecutive decided blocks, made on another node."""
    other = harness.executor()
    made = []
    for _ in range(count):
        batch = harness.batch([harness.transaction(harness.wallets[0])])
        decided = harness.decide(other.context, [batch])
        made.append(verify_decided(decided, other.context))
        other.commit(decided.block, decided.certificate, [batch])
    return made


async def test_delivered_blocks_are_committed_in_order(four: Harness) -> None:
    node = HostedNode(four, index=None)
    async with running(node):
        for decision in decisions(four, 3):
            await asyncio.wait_for(node.driver.deliver([decision]), 10)
            assert node.height == decision.block.height
    assert [commit.block.height for commit in node.commits] == [1, 2, 3]
    assert node.replica.height == 4


async def test_the_same_block_twice_ends_both_waits(four: Harness) -> None:
    node = HostedNode(four, index=None)
    first, _ = decisions(four, 2)
    async with running(node):
        both = asyncio.gather(node.driver.deliver([first]), node.driver.deliver([first]))
        await asyncio.wait_for(both, 10)
        await asyncio.wait_for(node.driver.deliver([first]), 10)  # and an old one
    assert [commit.block.height for commit in node.commits] == [1]


async def test_a_wait_that_was_given_up_harms_nobody(four: Harness) -> None:
    node = HostedNode(four, index=None)
    first, second = decisions(four, 2)
    abandoned = asyncio.create_task(node.driver.deliver([first]))
    await asyncio.sleep(0)
    abandoned.cancel()
    async with running(node):
        await asyncio.wait_for(node.driver.deliver([second]), 10)
    assert node.height == 2


async def test_a_contradiction_ends_the_driver_and_all_waits(four: Harness) -> None:
    node = HostedNode(four, index=None)
    first, second = decisions(four, 2)
    kv_of(node.executor).fail_next_write = True
    waits = [asyncio.create_task(node.driver.deliver([one])) for one in (first, second)]
    with pytest.raises(InvariantBroken, match="told to fail"):
        await asyncio.wait_for(node.driver.run(), 10)
    for wait in waits:
        with pytest.raises(InvariantBroken, match="has ended"):
            await asyncio.wait_for(wait, 10)
    with pytest.raises(InvariantBroken, match="has ended"):
        await asyncio.wait_for(node.driver.deliver([first]), 10)
    assert node.commits == []


async def test_being_stopped_ends_all_waits(four: Harness) -> None:
    node = HostedNode(four, index=None)
    first, second = decisions(four, 2)
    async with running(node):
        await node.driver.deliver([first])
    with pytest.raises(InvariantBroken, match="has ended"):
        await asyncio.wait_for(node.driver.deliver([second]), 10)


async def test_being_stopped_waits_for_a_write_that_runs(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stops the driver closes the store next: nothing may still be writing to it."""
    node = HostedNode(four, index=None)
    first, _ = decisions(four, 2)
    commit = node.executor.commit
    inside, go = threading.Event(), threading.Event()

    def slow(*given: object, **more: object) -> object:
        inside.set()
        go.wait(10)
        return commit(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(node.executor, "commit", slow)
    run = asyncio.create_task(node.driver.run())
    delivering = asyncio.create_task(node.driver.deliver([first]))
    await until(inside.is_set)
    run.cancel()
    await asyncio.sleep(0.02)
    assert not run.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert node.height == 1
    with pytest.raises(InvariantBroken):
        await delivering


async def test_a_decision_without_its_batches_ends_the_node(four: Harness) -> None:
    batch = four.batch([four.transaction(four.wallets[0])], author=1)
    decided = four.decide(four.executor().context, [batch])
    node, _ = scripted(four, Started=[Decide(decided.block, decided.certificate)])
    with pytest.raises(InvariantBroken, match="without its batches"):
        await asyncio.wait_for(node.driver.run(), 10)


# --- the tick -------------------------------------------------------------------------------------------------------


async def test_the_tick_forgets_offers_again_and_notices_censorship(four: Harness) -> None:
    node, machine = scripted(four, index=1)
    node.mempool.admit(four.transaction(four.wallets[0], valid_until=START_MS + 5), START_MS)
    lost = four.batch([four.transaction(four.wallets[0])], author=2)
    node.mempool.add_batch(lost, 1)
    async with running(node):
        for _ in range(2):
            node.driver.tick()
            for _ in range(PASS_ON_HEIGHTS + 1):
                four.commit(node.executor, time_ms=node.executor.store.tip.time_ms + 1)
        node.mempool.admit(four.transaction(four.wallets[0]), node.executor.store.tip.time_ms)
        node.driver.tick()
        await until(lambda: machine.of(Censored))
        await until(lambda: node.outlet.sent(Kind.BATCH))
        assert node.mempool.pending_count == 0
        (own,) = node.outlet.sent(Kind.BATCH)
        for _ in range(OVERDUE_TICKS + 1):
            node.driver.tick()
        assert node.outlet.sent(Kind.BATCH) == [own, own]
        assert node.outlet.sent(Kind.BATCH, four.keys[primary_index(four)].public) == [lost.raw]
    assert machine.of(Censored)[0] == Censored(lost.digest)


async def test_censorship_is_noticed_by_heights_however_fast_they_pass(four: Harness) -> None:
    """Nobody's clock strikes here: demands of those who looked once a second would not meet within a few heights."""
    node, machine = scripted(four, index=1)
    lost = four.batch([four.transaction(four.wallets[0])], author=2)
    node.mempool.add_batch(lost, 1)
    passing = decisions(four, UNDECIDED_HEIGHTS_MAX)
    async with running(node):
        for decision in passing[: 2 * PASS_ON_HEIGHTS - 1]:
            await asyncio.wait_for(node.driver.deliver([decision]), 10)
        assert machine.of(Censored) == []
        for decision in passing[2 * PASS_ON_HEIGHTS - 1 : -CENSORED_HEIGHTS]:
            await asyncio.wait_for(node.driver.deliver([decision]), 10)
        await until(lambda: machine.of(Censored))
    assert set(machine.of(Censored)) == {Censored(lost.digest)}


async def test_a_demand_for_a_view_counts_once_however_often_it_is_said(four: Harness) -> None:
    def demand(view: int) -> Broadcast:
        return Broadcast(sign_view_change(four.keys[0], four.chain_id, 1, view, None))

    node, _ = scripted(four, Started=[demand(1), demand(1), demand(2), demand(1)])
    async with running(node):
        await until(lambda: len(node.outlet.sent(Kind.CONSENSUS)) == 4)
        assert node.driver.view_changes == 2
