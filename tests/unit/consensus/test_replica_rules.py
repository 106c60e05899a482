"""The replica's small rules, each at its edge: how long, how many, how soon."""

from __future__ import annotations

from consilium.consensus.context import make_block
from consilium.consensus.io import (
    Advanced,
    BatchesHeld,
    Broadcast,
    BuildProposal,
    CatchUp,
    Censored,
    Decide,
    Effect,
    HoldBatches,
    MessageReceived,
    Now,
    PeerHeight,
    SendDecided,
    SetTimer,
    Started,
    TimerFired,
    TimerKind,
    VoteFloor,
    WorkPending,
)
from consilium.consensus.limits import CENSORED_HEIGHTS, CENSORED_MAX, ReplicaConfig
from consilium.consensus.messages import (
    Message,
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
from tests.unit.consensus.parts import (
    BLOCK,
    CHAIN,
    CONTEXT,
    KEYS,
    TIME_MS,
    VALIDATORS,
    context_of,
    justification,
    prepared,
)

H = CONTEXT.height
NOW = Now(1_000, TIME_MS + 10)
CONFIG = ReplicaConfig()


def replica(who: int = 1) -> Replica:
    started = Replica(KEYS[who], CONTEXT, None, CONFIG)
    started.step(Started(), NOW)
    return started


def received(message: Message) -> MessageReceived:
    return MessageReceived(verify_message(message, CHAIN, VALIDATORS))


def changes(effects: list[Effect]) -> list[int]:
    """The views that a view change was said for."""
    spoken = [effect.message for effect in effects if isinstance(effect, Broadcast)]
    return [message.view for message in spoken if isinstance(message, ViewChange)]


def batch(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_for_a_censored_batch_a_view_change_is_demanded_at_so_many_heights() -> None:
    backup = replica()
    demanded = changes(backup.step(Censored(batch(1)), NOW))
    for later in range(1, 2 * CENSORED_HEIGHTS):
        demanded += changes(backup.step(Advanced(context_of(height=H + later), False), NOW))
    assert demanded == [1] * CENSORED_HEIGHTS


def test_only_so_many_censored_batches_are_remembered() -> None:
    backup = replica()
    for number in range(3 * CENSORED_MAX):
        backup.step(Censored(batch(number)), NOW)
    assert list(backup._censored) == [batch(number) for number in range(CENSORED_MAX)]


def test_the_primary_demands_nothing_of_itself() -> None:
    assert changes(replica(0).step(Censored(batch(1)), NOW)) == []


def test_late_votes_of_the_height_before_are_answered_only_after_a_while() -> None:
    """They were on their way when it was decided; who is still there a little later did not hear of it."""
    backup = replica()
    backup.step(Advanced(context_of(height=H + 1), False), NOW)
    vote = received(sign_prepare(KEYS[2], CHAIN, H, 0, BLOCK.hash))
    soon = CONFIG.resend_first_ms // 2
    assert backup.step(vote, Now(1_000 + soon - 1, NOW.wall_ms)) == []
    assert SendDecided(KEYS[2].public, H) in backup.step(vote, Now(1_000 + soon, NOW.wall_ms))


def test_who_is_two_heights_behind_is_answered_at_once() -> None:
    backup = replica()
    backup.step(Advanced(context_of(height=H + 2), False), NOW)
    vote = received(sign_prepare(KEYS[2], CHAIN, H, 0, BLOCK.hash))
    assert SendDecided(KEYS[2].public, H) in backup.step(vote, NOW)


def test_a_peer_one_height_ahead_is_waited_for_and_one_further_ahead_is_asked() -> None:
    """Whoever is one height behind gets the decision told; the host fetches only what is further away."""
    backup, peer = replica(), KEYS[2].public
    assert not any(isinstance(one, CatchUp) for one in backup.step(PeerHeight(peer, H + 1), NOW))
    assert CatchUp(H, peer) in backup.step(PeerHeight(peer, H + 2), NOW)


def test_a_resend_asks_whoever_is_one_height_ahead() -> None:
    backup, peer = replica(), KEYS[2].public
    backup.step(PeerHeight(peer, H + 1), NOW)
    later = Now(NOW.monotonic_ms + CONFIG.resend_first_ms, NOW.wall_ms)
    assert CatchUp(H, peer) in backup.step(TimerFired(TimerKind.RESEND), later)


def test_each_decided_height_takes_one_failure_off_the_view_timer() -> None:
    """So it falls back as quickly as blocks are decided, and not at once in a network that has become slow."""
    backup = replica()
    for who in (2, 3):
        effects = backup.step(received(sign_view_change(KEYS[who], CHAIN, H, 3, None)), NOW)
    assert changes(effects) == [3]
    timeouts = []
    for later in range(1, 6):
        effects = backup.step(Advanced(context_of(height=H + later), True), NOW)
        timeouts += [
            effect.at_ms - NOW.monotonic_ms
            for effect in effects
            if isinstance(effect, SetTimer) and effect.kind is TimerKind.VIEW
        ]
    assert timeouts == [1_350, 900, 600, 600, 600]


def test_what_is_decided_and_held_is_announced_in_the_same_step() -> None:
    """Nothing else may come for a while: the host must not wait for the next message to learn of it."""
    backup = replica()
    backup.step(received(sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None)), NOW)
    backup.step(BatchesHeld(BLOCK.hash), NOW)
    for who in (0, 2, 3):
        effects = backup.step(received(sign_commit(KEYS[who], CHAIN, H, 0, BLOCK.hash)), NOW)
    assert any(isinstance(effect, Decide) for effect in effects)


def test_a_justified_proposal_of_a_later_view_is_taken_up_in_the_same_step() -> None:
    backup, lock = replica(2), prepared(BLOCK, 0)
    reason = justification(1, {0: lock, 1: None, 3: None}, lock.certificate)
    effects = backup.step(received(sign_pre_prepare(KEYS[1], CHAIN, 1, BLOCK, reason)), NOW)
    assert (backup.view, backup.phase) == (1, Phase.HOLDING)
    assert any(isinstance(effect, HoldBatches) for effect in effects)


def test_a_peer_at_the_same_height_is_nothing_to_act_on() -> None:
    backup = replica()
    assert backup.step(PeerHeight(KEYS[2].public, H), NOW) == []


def test_who_may_not_vote_asks_those_that_do_whether_it_is_behind() -> None:
    silent = Replica(KEYS[1], CONTEXT, None, CONFIG, abstain_below=H + 5)
    silent.step(Started(), NOW)
    silent.step(received(sign_prepare(KEYS[2], CHAIN, H, 0, BLOCK.hash)), NOW)
    later = Now(NOW.monotonic_ms + CONFIG.resend_first_ms, NOW.wall_ms)
    assert CatchUp(H, KEYS[2].public) in silent.step(TimerFired(TimerKind.RESEND), later)


def test_what_was_promised_for_a_height_is_said_again_when_it_is_reached() -> None:
    """The chain lost its tail, the promise did not: the others may still wait for this vote."""
    following = context_of(height=H + 1)
    block = make_block(following, [batch(1)], TIME_MS + 5, VALIDATORS.keys[0])
    backup = Replica(KEYS[1], CONTEXT, promise_prepare(no_promise(H + 1), 0, block), CONFIG)
    backup.step(Started(), NOW)
    spoken = [
        one.message for one in backup.step(Advanced(following, False), NOW) if isinstance(one, Broadcast)
    ]
    assert spoken == [sign_prepare(KEYS[1], CHAIN, H + 1, 0, block.hash)]


def test_a_primary_of_view_1_proposes_nothing_before_a_quorum_wants_that_very_view() -> None:
    """Two want view 1 and one view 2: a quorum wants 1 or more, and there is no justification of view 1 yet."""
    primary = replica(1)
    effects = primary.step(WorkPending(True), NOW)
    effects += primary.step(TimerFired(TimerKind.VIEW), Now(1_600, NOW.wall_ms))
    for key, view in ((KEYS[2], 1), (KEYS[3], 2)):
        effects += primary.step(received(sign_view_change(key, CHAIN, H, view, None)), NOW)
    assert (primary.phase, primary.view) == (Phase.AWAITING, 1)
    assert not any(isinstance(effect, BuildProposal) for effect in effects)
    effects = primary.step(received(sign_view_change(KEYS[0], CHAIN, H, 1, None)), NOW)
    assert BuildProposal(H, 1) in effects


def test_whom_a_silent_replica_heard_at_its_height_is_not_taken_to_be_ahead_at_the_next() -> None:
    silent = Replica(KEYS[1], CONTEXT, None, CONFIG, abstain_below=H + 9)
    silent.step(Started(), NOW)
    effects = silent.step(received(sign_prepare(KEYS[2], CHAIN, H, 0, BLOCK.hash)), NOW)
    effects += silent.step(VoteFloor(H + 9), NOW)
    assert any(isinstance(effect, SetTimer) and effect.kind is TimerKind.RESEND for effect in effects)
    effects = silent.step(Advanced(context_of(height=H + 1), False), NOW)
    assert not any(isinstance(effect, SetTimer) and effect.kind is TimerKind.RESEND for effect in effects)
