"""The replica as its host sees it: what each input does, and what no input can make it do."""

from __future__ import annotations

import random

import msgspec
import pytest

from consilium.consensus.io import (
    Advanced,
    BatchesHeld,
    Broadcast,
    BuildProposal,
    CancelTimer,
    Decide,
    Effect,
    Equivocation,
    HoldBatches,
    MessageReceived,
    Now,
    Persist,
    ProposalBuilt,
    Report,
    SendDecided,
    SendTo,
    SetTimer,
    Started,
    TimerFired,
    TimerKind,
    WorkPending,
)
from consilium.consensus.limits import ReplicaConfig
from consilium.consensus.messages import (
    Commit,
    Decided,
    Prepare,
    PrePrepare,
    ViewChange,
    sign_commit,
    sign_pre_prepare,
    sign_prepare,
    sign_view_change,
    verify_message,
)
from consilium.consensus.promise import no_promise, promise_prepare
from consilium.consensus.replica import Replica
from consilium.consensus.round import Phase
from consilium.ledger.block import Block, check_certified
from consilium.ledger.errors import InvariantBroken
from tests.simulation.chain import CHAIN_ID
from tests.simulation.council import Council
from tests.unit.consensus.parts import (
    BLOCK,
    CHAIN,
    CONTEXT,
    KEYS,
    OTHER,
    STRANGER,
    TIME_MS,
    VALIDATORS,
    commit_certificate,
    context_of,
    prepared,
)

NOW = Now(1_000, TIME_MS + 10)
CONFIG = ReplicaConfig()


def replica(who: int | None = 1, **more: object) -> Replica:
    key = None if who is None else KEYS[who]
    return Replica(key, CONTEXT, None, CONFIG, **more)  # type: ignore[arg-type]


def received(message: object) -> MessageReceived:
    return MessageReceived(verify_message(message, CHAIN, VALIDATORS))  # type: ignore[arg-type]


def said(effects: list[Effect]) -> list[str]:
    return [type(effect.message).__name__ for effect in effects if isinstance(effect, Broadcast)]


# The normal case, one replica at a time -----------------------------------------------------------------------------


def test_the_primary_asks_its_host_builds_persists_and_only_then_speaks() -> None:
    primary = replica(0)
    assert primary.step(Started(), NOW) == [SetTimer(TimerKind.HEARTBEAT, 1_000 + 30_000 - 10)]
    asked = primary.step(WorkPending(True), NOW)
    assert BuildProposal(CONTEXT.height, 0) in asked
    effects = primary.step(ProposalBuilt(CONTEXT.height, 0, (b"b" * 32,)), NOW)
    assert [type(effect) for effect in effects[:2]] == [Persist, Broadcast]
    (message,) = [effect.message for effect in effects if isinstance(effect, Broadcast)]
    assert isinstance(message, PrePrepare)
    assert message.block.header.time_ms == NOW.wall_ms
    assert message.block.batches == [b"b" * 32]


def test_a_backup_votes_only_when_it_holds_the_batches() -> None:
    backup = replica(1)
    backup.step(Started(), NOW)
    effects = backup.step(received(sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None)), NOW)
    assert HoldBatches(BLOCK, (KEYS[0].public,)) in effects
    assert said(effects) == []
    assert backup.phase is Phase.HOLDING
    assert said(backup.step(BatchesHeld(b"x" * 32), NOW)) == []
    effects = backup.step(BatchesHeld(BLOCK.hash), NOW)
    assert isinstance(effects[0], Persist)
    assert effects[0].promise == promise_prepare(no_promise(CONTEXT.height), 0, BLOCK)
    assert said(effects) == ["Prepare"]


def test_a_decision_needs_no_own_vote_but_the_block_and_its_batches() -> None:
    backup = replica(1)
    backup.step(Started(), NOW)
    for key in (KEYS[0], KEYS[2], KEYS[3]):
        effects = backup.step(received(sign_commit(key, CHAIN, CONTEXT.height, 5, BLOCK.hash)), NOW)
        assert not any(isinstance(effect, Decide) for effect in effects)
    effects = backup.step(received(sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None)), NOW)
    assert backup.phase is Phase.DECIDING
    assert HoldBatches(BLOCK, (KEYS[0].public, KEYS[2].public, KEYS[3].public)) in effects
    (decide,) = [e for e in backup.step(BatchesHeld(BLOCK.hash), NOW) if isinstance(e, Decide)]
    assert decide.certificate.view == 5
    check_certified(BLOCK.header, decide.certificate, VALIDATORS)


def test_a_decided_block_is_announced_once() -> None:
    backup = replica(1)
    backup.step(Started(), NOW)
    backup.step(BatchesHeld(BLOCK.hash), NOW)
    decided = received(Decided(BLOCK, commit_certificate(BLOCK, 0, [0, 2, 3])))
    effects = [*backup.step(decided, NOW), *backup.step(decided, NOW), *backup.step(WorkPending(True), NOW)]
    assert sum(isinstance(effect, Decide) for effect in effects) == 1


def test_a_certified_block_that_contradicts_this_replica_halts_it() -> None:
    header = msgspec.structs.replace(BLOCK.header, state_root=b"?" * 32)
    wrong = Block(header, BLOCK.batches)
    backup = replica(1)
    backup.step(Started(), NOW)
    with pytest.raises(InvariantBroken, match="state_root"):
        backup.step(received(Decided(wrong, commit_certificate(wrong, 0, [0, 2, 3]))), NOW)


# Inputs that must change nothing ------------------------------------------------------------------------------------


def test_what_the_host_builds_unasked_or_for_another_view_is_not_used() -> None:
    primary = replica(0)
    primary.step(Started(), NOW)
    assert said(primary.step(ProposalBuilt(CONTEXT.height, 0, (b"b" * 32,)), NOW)) == []
    primary.step(WorkPending(True), NOW)
    for height, view in ((CONTEXT.height + 1, 0), (CONTEXT.height, 1)):
        assert said(primary.step(ProposalBuilt(height, view, (b"b" * 32,)), NOW)) == []
    assert said(primary.step(ProposalBuilt(CONTEXT.height, 0, (b"b" * 32,)), NOW)) == ["PrePrepare"]
    assert said(primary.step(ProposalBuilt(CONTEXT.height, 0, (b"c" * 32,)), NOW)) == []


def test_a_fire_that_was_not_set_or_comes_early_does_nothing() -> None:
    backup = replica(1)
    backup.step(Started(), NOW)
    assert backup.step(TimerFired(TimerKind.VIEW), NOW) == []
    backup.step(WorkPending(True), NOW)
    early = backup.step(TimerFired(TimerKind.VIEW), Now(1_599, NOW.wall_ms))
    assert early == [SetTimer(TimerKind.VIEW, 1_600)]
    assert said(backup.step(TimerFired(TimerKind.VIEW), Now(1_600, NOW.wall_ms))) == ["ViewChange"]


def test_a_message_verified_with_another_set_is_ignored() -> None:
    backup = replica(1)
    backup.step(Started(), NOW)
    message = verify_message(sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None), CHAIN, VALIDATORS)
    stale = object.__new__(type(message))
    stale.message, stale.validators_hash = message.message, bytes(32)  # type: ignore[assignment]
    assert backup.step(MessageReceived(stale), NOW) == []
    assert backup.phase is Phase.AWAITING


def test_an_advance_to_no_higher_height_is_ignored() -> None:
    backup = replica(1)
    backup.step(Started(), NOW)
    assert backup.step(Advanced(CONTEXT, True), NOW) == []
    backup.step(Advanced(context_of(height=9), False), NOW)
    assert backup.height == 9
    assert backup.step(Advanced(context_of(height=8), False), NOW) == []


@pytest.mark.parametrize("fetched", [False, True], ids=["shown by a peer", "fetched by the host"])
def test_a_certificate_that_was_not_made_here_shows_who_told_others_something_else(fetched: bool) -> None:
    backup = replica(1)
    backup.step(Started(), NOW)
    backup.step(received(sign_commit(KEYS[0], CHAIN, CONTEXT.height, 0, OTHER.hash)), NOW)
    certificate = commit_certificate(BLOCK, 0, [0, 2, 3])
    if fetched:
        effects = backup.step(Advanced(context_of(height=CONTEXT.height + 1), False, certificate), NOW)
    else:
        effects = backup.step(received(Decided(BLOCK, certificate)), NOW)
    (fault,) = [effect.fault for effect in effects if isinstance(effect, Report)]
    assert isinstance(fault, Equivocation)
    assert fault.evidence.validator == KEYS[0].public


def test_a_certificate_of_another_height_says_nothing_of_this_one() -> None:
    backup = replica(1)
    backup.step(Started(), NOW)
    backup.step(received(sign_commit(KEYS[0], CHAIN, CONTEXT.height, 0, OTHER.hash)), NOW)
    header = msgspec.structs.replace(BLOCK.header, height=CONTEXT.height + 1)
    later = commit_certificate(Block(header, BLOCK.batches), 0, [0, 2, 3])
    effects = backup.step(Advanced(context_of(height=CONTEXT.height + 2), False, later), NOW)
    assert not any(isinstance(effect, Report) for effect in effects)


@pytest.mark.parametrize(
    "silent",
    [
        replica(None),
        Replica(STRANGER, CONTEXT, None, CONFIG),
        replica(1, abstain_below=CONTEXT.height + 1),
        Replica(KEYS[1], CONTEXT, promise_prepare(no_promise(CONTEXT.height + 2), 0, BLOCK), CONFIG),
    ],
    ids=["no key", "no validator", "abstaining", "promised above"],
)
def test_who_may_not_speak_never_does_but_decides(silent: Replica) -> None:
    effects = silent.step(Started(), NOW)
    effects += silent.step(WorkPending(True), NOW)
    effects += silent.step(received(sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None)), NOW)
    effects += silent.step(BatchesHeld(BLOCK.hash), NOW)
    for later in range(1, 20):
        for kind in TimerKind:
            effects += silent.step(TimerFired(kind), Now(1_000 * later, NOW.wall_ms))
    assert said(effects) == []
    assert not any(isinstance(effect, Persist) for effect in effects)
    for key in (KEYS[0], KEYS[2], KEYS[3]):
        effects += silent.step(received(sign_commit(key, CHAIN, CONTEXT.height, 0, BLOCK.hash)), NOW)
    assert any(isinstance(effect, Decide) for effect in effects)


def test_a_replica_speaks_again_above_the_height_it_abstained_below() -> None:
    backup = replica(1, abstain_below=9)
    backup.step(Started(), NOW)
    assert not backup.votes_here
    backup.step(Advanced(context_of(height=9), True), NOW)
    assert backup.votes_here


# View changes -------------------------------------------------------------------------------------------------------


def test_a_replica_that_left_a_view_never_votes_in_it_again() -> None:
    backup = replica(1)
    backup.step(Started(), NOW)
    backup.step(WorkPending(True), NOW)
    backup.step(TimerFired(TimerKind.VIEW), Now(1_600, NOW.wall_ms))
    effects = backup.step(received(sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None)), NOW)
    effects += backup.step(BatchesHeld(BLOCK.hash), NOW)
    assert said(effects) == []


def test_a_locked_block_is_named_in_every_later_view_change() -> None:
    council = Council(4)
    council.start()
    council.deliver(lambda wire: isinstance(wire.message, PrePrepare))
    council.deliver(lambda wire: isinstance(wire.message, Prepare))
    council.drop()
    for _ in range(4):
        council.wait(3_000)
        changes = [wire.message for wire in council.wires if isinstance(wire.message, ViewChange)]
        assert changes
        assert all(change.prepared is not None for change in changes)
        council.deliver(lambda wire: isinstance(wire.message, ViewChange))
        council.drop()


# Whole councils -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 10])
def test_every_size_decides_with_all_and_with_f_fewer(count: int) -> None:
    council = Council(count)
    down = council.validators.f
    for index in range(down):
        council.crash(index)
    council.start(*range(down, count))
    for _ in range(20):
        council.deliver()
        council.wait(500)
    council.work("b1", *range(down, count))
    council.deliver()
    assert all(council.seats[index].replica.height == 4 for index in range(down, count))


def test_one_fewer_than_a_quorum_decides_nothing() -> None:
    for count in (2, 3, 4, 5, 6, 7):
        council = Council(count)
        live = council.validators.quorum - 1
        council.start(*range(live))
        for index in range(live, count):
            council.crash(index)
        for _ in range(20):
            council.deliver()
            council.wait(500)
        assert council.agreed == {}


def test_a_newcomer_with_an_empty_disk_joins_and_the_primary_can_be_removed() -> None:
    """Two heights after the decision the new set votes; the removed primary follows as an observer."""
    council = Council(4, observers=1)
    council.start()
    council.deliver()
    council.work(f"set:{0b11110}:")
    for _ in range(10):
        council.deliver()
        council.wait(300)
    council.work("b2")
    for _ in range(10):
        council.deliver()
        council.wait(300)
    heights = [seat.replica.height for seat in council.seats]
    assert len(set(heights)) == 1
    assert [seat.replica.votes_here for seat in council.seats] == [False, True, True, True, True]
    last = council.seats[1].chain.entries[-1]
    assert last.certificate is not None
    assert last.header.primary != council.seats[0].key.public
    assert council.seats[4].key.public in council.seats[1].chain.sets[-1]


def test_a_lagging_replica_is_answered_with_the_decided_block() -> None:
    council = Council(4)
    council.start()
    council.drop(lambda wire: wire.target == 3)
    council.deliver(lambda wire: wire.target != 3)
    council.drop()
    council.wait(650)
    council.deliver()
    assert any(isinstance(e, SendDecided) for seat in range(3) for e in council.effects[seat])
    assert council.seats[3].replica.height == 2


def test_each_height_has_its_own_timers() -> None:
    """A deadline of the height before must not cut short the first view of the next."""
    backup = replica(1)
    backup.step(Started(), NOW)
    assert SetTimer(TimerKind.VIEW, 1_600) in backup.step(WorkPending(True), NOW)
    effects = backup.step(Advanced(context_of(height=8), True), Now(1_500, NOW.wall_ms))
    assert CancelTimer(TimerKind.VIEW) in effects
    assert effects.index(CancelTimer(TimerKind.VIEW)) < effects.index(SetTimer(TimerKind.VIEW, 2_100))
    assert said(backup.step(TimerFired(TimerKind.VIEW), Now(1_600, NOW.wall_ms))) == []


def test_who_changes_the_view_of_what_is_decided_is_told() -> None:
    """The host may take long to commit: a peer that still waits for this height gets the certificate meanwhile."""
    backup = replica(1)
    backup.step(Started(), NOW)
    decided = Decided(BLOCK, commit_certificate(BLOCK, 0, [0, 2, 3]))
    backup.step(received(decided), NOW)
    change = received(sign_view_change(KEYS[3], CHAIN, CONTEXT.height, 1, None))
    assert SendTo(KEYS[3].public, decided) in backup.step(change, NOW)
    assert backup.step(received(sign_prepare(KEYS[2], CHAIN, CONTEXT.height, 1, BLOCK.hash)), NOW) == []


# Any order of anything ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_votes_are_durable_before_they_leave_and_never_contradict(seed: int) -> None:
    """Random deliveries, losses, crashes and time: checked on the bare effects, not by the simulator's checkers."""
    rng = random.Random(seed)
    council = Council(rng.choice((1, 2, 3, 4, 5, 7)))
    council.start()
    names = iter(range(10_000))
    for _ in range(400):
        choice = rng.randrange(20)
        if choice < 13 and council.wires:
            wire = rng.choice(council.wires)
            if rng.randrange(10):
                council.wires.remove(wire)
            if rng.randrange(12):
                council.hand(wire.source, wire.target, wire.message)
        elif choice < 15:
            council.wait(rng.choice((10, 100, 700)))
        elif choice < 16:
            council.work(f"b{next(names)}", *rng.sample(range(len(council.seats)), 1))
        elif choice < 17:
            council.share()
        elif choice < 18:
            victim = rng.randrange(len(council.seats))
            council.crash(victim)
            council.restart(victim)
    for index, seat in enumerate(council.seats):
        votes: dict[tuple[str, int, int], bytes] = {}
        kept = no_promise(0)
        for effect in council.effects[index]:
            if isinstance(effect, Persist):
                assert effect.promise.height >= kept.height
                kept = effect.promise
            if not isinstance(effect, Broadcast):
                continue
            message = effect.message
            assert not isinstance(message, Decided)
            assert kept.votes.height == message.height
            assert kept.votes.view == message.view
            match message:
                case ViewChange():
                    assert kept.votes.changed
                    assert message.prepared == kept.prepared
                    kind, content = "change", repr(message.prepared).encode()
                case Commit():
                    assert kept.votes.commit == message.block_hash
                    kind, content = "commit", message.block_hash
                case _:
                    assert kept.votes.prepare == message.block_hash
                    assert kept.proposal(message.block_hash) is not None
                    kind, content = "prepare", message.block_hash
            assert votes.setdefault((kind, message.height, message.view), content) == content
            assert message.sender == seat.key.public


def test_the_surface_uses_the_chain_of_the_context() -> None:
    council = Council(1)
    council.start()
    entry = council.seats[0].chain.entries[1]
    assert entry.header.chain_id == CHAIN_ID
    assert prepared(BLOCK, 0).block == BLOCK
