"""What broke others, one message or one replica at a time: each test bears the name of the fault it stands for.

Whole councils are in `test_history_views.py`; docs/consensus.md, "What broke others", has the list with what guards.
`scripts/mutants` takes each guard away and shows that its test fails then.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from consilium.consensus.evidence import make_evidence
from consilium.consensus.io import (
    BatchesHeld,
    Broadcast,
    Decide,
    Effect,
    MessageReceived,
    Misbehaviour,
    Now,
    ProposalBuilt,
    Report,
    Started,
    VoteFloor,
    WorkPending,
)
from consilium.consensus.limits import CLOCK_BOUND_MS, ReplicaConfig
from consilium.consensus.messages import (
    Decided,
    Message,
    Prepared,
    PrePrepare,
    Signed,
    decode_message,
    encode_message,
    sign_commit,
    sign_pre_prepare,
    sign_prepare,
    sign_view_change,
    verify_message,
)
from consilium.consensus.promise import no_promise
from consilium.consensus.replica import Replica
from consilium.consensus.restart import NEVER, Answer, Memory, judge, said_in
from consilium.consensus.view_change import mandate
from consilium.ledger.block import HEARTBEAT_MS, Block, Seal
from consilium.ledger.errors import PeerFault, Refused
from consilium.ledger.validators import VALIDATORS_MAX
from tests.simulation.council import Council
from tests.unit.consensus.parts import (
    BATCH,
    BLOCK,
    CHAIN,
    CONTEXT,
    KEYS,
    OTHER,
    TIME_MS,
    VALIDATORS,
    justification,
    prepared,
)

H = CONTEXT.height
NOW = Now(1_000, TIME_MS + 10)


def replica(who: int, abstain_below: int = 0) -> Replica:
    started = Replica(KEYS[who], CONTEXT, None, ReplicaConfig(), abstain_below)
    started.step(Started(), NOW)
    return started


def received(message: Message) -> MessageReceived:
    return MessageReceived(verify_message(message, CHAIN, VALIDATORS))


def said(effects: list[Effect]) -> list[Signed]:
    spoken = [effect.message for effect in effects if isinstance(effect, Broadcast)]
    return [message for message in spoken if not isinstance(message, Decided)]


def accused(effects: list[Effect]) -> list[str]:
    return [e.fault.reason for e in effects if isinstance(e, Report) and isinstance(e.fault, Misbehaviour)]


# Forks --------------------------------------------------------------------------------------------------------------


def test_eip_650_fork_by_seals_of_two_rounds() -> None:
    """EIP-650's commit seals name no round, so seals for a block that was given up and comes back add up (1901.07160).
    Here a seal signs its view, and only the seals of one view make a certificate."""
    backup = replica(1)
    effects = backup.step(received(sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None)), NOW)
    effects += backup.step(BatchesHeld(BLOCK.hash), NOW)
    for view, who in ((0, 0), (1, 2), (2, 3), (3, 0)):
        effects += backup.step(received(sign_commit(KEYS[who], CHAIN, H, view, BLOCK.hash)), NOW)
    assert not any(isinstance(effect, Decide) for effect in effects)
    for who in (2, 3):
        effects += backup.step(received(sign_commit(KEYS[who], CHAIN, H, 3, BLOCK.hash)), NOW)
    (decide,) = [effect for effect in effects if isinstance(effect, Decide)]
    assert decide.certificate.view == 3


def test_eip_650_fork_by_a_forgotten_lock() -> None:
    """In EIP-650 a node that locked could come back without its lock, and a second block was decided at the height.
    Here the certificate is in the promise, goes along with every view change, and binds the next primary."""
    council = Council(4)
    council.start()
    council.deliver(lambda wire: not (type(wire.message).__name__ == "Commit" and wire.target != 0))
    assert [seat.replica.height for seat in council.seats] == [2, 1, 1, 1]
    council.drop()
    council.crash(0)
    for _ in range(20):
        council.wait(500)
        council.drop(lambda wire: type(wire.message).__name__ == "Commit" and wire.message.view == 0)  # type: ignore[union-attr]
        council.deliver()
    assert all(seat.replica.height >= 2 for seat in council.seats[1:])
    assert {seat.chain.entries[1].header.hash for seat in council.seats} == {council.agreed[1]}


def test_cometbft_5668_double_sign_after_restored_state() -> None:
    """A validator whose state was put back to an older copy signed a height again, and otherwise.
    Here it says nothing until a quorum has shown its own votes; one that it does not know makes it silent there."""
    first = sign_prepare(KEYS[3], CHAIN, H, 0, BLOCK.hash)
    copy = no_promise(H)
    restored = Replica(KEYS[3], CONTEXT, copy, ReplicaConfig(), NEVER)
    effects = restored.step(Started(), NOW)
    answers = {key.public: Answer(H - 1) for key in KEYS}
    answers[KEYS[1].public] = Answer(H - 1, (said_in(first),))
    verdict = judge(copy, answers, (VALIDATORS, VALIDATORS))
    assert verdict is not None
    effects += restored.step(VoteFloor(verdict.floor), NOW)
    effects += restored.step(received(sign_pre_prepare(KEYS[0], CHAIN, 0, OTHER, None)), NOW)
    effects += restored.step(BatchesHeld(OTHER.hash), NOW)
    for second in said(effects):
        with pytest.raises(ValueError, match="do not contradict"):
            make_evidence(first, second)
    assert said(effects) == []
    assert verdict.memory is Memory.STALE


# Messages that stopped others ---------------------------------------------------------------------------------------


def test_concord_bft_50_an_invalid_certificate_hides_no_valid_one() -> None:
    """One replica's view change with an invalid certificate made others overlook the valid ones beside it.
    Here it is refused alone, and in a justification only the highest claim needs a proof."""
    lock = prepared(BLOCK, 1)
    forged = Prepared(replace(lock.certificate, signatures=[Seal(i, bytes(64)) for i in range(3)]), BLOCK)
    with pytest.raises(PeerFault):
        received(sign_view_change(KEYS[0], CHAIN, H, 3, forged))
    changes = [
        (0, sign_view_change(KEYS[0], CHAIN, H, 3, prepared(OTHER, 0))),
        (1, sign_view_change(KEYS[1], CHAIN, H, 3, lock)),
        (3, sign_view_change(KEYS[3], CHAIN, H, 3, None)),
    ]
    given = mandate(changes, VALIDATORS.quorum)
    assert given is not None
    assert given.block == BLOCK
    lie = prepared(OTHER, 0, [0, 1])
    reason = justification(3, {0: lie, 1: lock, 3: None}, lock.certificate)
    backup = replica(1)
    backup.step(received(sign_pre_prepare(KEYS[3], CHAIN, 3, BLOCK, reason)), NOW)
    assert [type(one).__name__ for one in said(backup.step(BatchesHeld(BLOCK.hash), NOW))] == ["Prepare"]


@pytest.mark.parametrize("place", [4, 5, VALIDATORS_MAX - 1])
def test_ghsa_p7mv_53f2_4cwj_vote_index_out_of_range(place: int) -> None:
    """A vote whose validator index was no index of the set made every node that received it panic.
    Here votes carry keys; the places in certificates are bounded by their type and compared with the set's size."""
    whole = prepared(BLOCK, 1)
    seals = [*whole.certificate.signatures[:2], replace(whole.certificate.signatures[2], validator=place)]
    wrong = Prepared(replace(whole.certificate, signatures=seals), BLOCK)
    change = sign_view_change(KEYS[3], CHAIN, H, 2, wrong)
    assert decode_message(encode_message(change)) == change
    with pytest.raises(PeerFault):
        received(change)
    reason = justification(1, {0: None, 1: None, 3: None}, None)
    claims = [*reason.claims[:2], replace(reason.claims[2], validator=place)]
    with pytest.raises(PeerFault):
        received(sign_pre_prepare(KEYS[1], CHAIN, 1, BLOCK, replace(reason, claims=claims)))


def test_ghsa_p7mv_53f2_4cwj_no_index_is_longer_than_its_type() -> None:
    """The same, one step earlier: a place that no set can have is refused where the bytes are read."""
    whole = prepared(BLOCK, 1)
    for place in (VALIDATORS_MAX, 255, 2**63 - 1):
        seals = [*whole.certificate.signatures[:2], replace(whole.certificate.signatures[2], validator=place)]
        wrong = Prepared(replace(whole.certificate, signatures=seals), BLOCK)
        with pytest.raises(Refused):
            decode_message(encode_message(sign_view_change(KEYS[3], CHAIN, H, 2, wrong)))


@pytest.mark.parametrize("count", [1, 2, 4, VALIDATORS_MAX])
def test_ghsa_hrhf_2vcr_ghch_more_signatures_than_validators(count: int) -> None:
    """A bit array whose length did not fit its content halted the nodes that worked with it.
    Here there is none: a certificate is a list of exactly a quorum of signatures, counted before any is looked at."""
    whole = prepared(BLOCK, 1, [0, 1, 2, 3]).certificate
    seals = [*whole.signatures, *(Seal(place, bytes(64)) for place in range(4, VALIDATORS_MAX))][:count]
    wrong = Prepared(replace(whole, signatures=seals), BLOCK)
    with pytest.raises(PeerFault):
        received(sign_view_change(KEYS[3], CHAIN, H, 2, wrong))


def test_ghsa_r3r4_g7hq_pq4f_parts_that_are_not_the_blocks() -> None:
    """A part of a block under a wrong index was taken for good; the true one found its place taken, and all stalled.
    Here a relayed pre-prepare whose list of batches is not the signed header's is refused, and the true one counts."""
    true = sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None)
    backup = replica(1)
    for batches in ([], [BATCH, BATCH], [bytes(32)], [BATCH, bytes(32)]):
        relayed = replace(true, block=Block(BLOCK.header, batches))
        with pytest.raises(PeerFault):
            backup.step(received(relayed), NOW)
    backup.step(received(true), NOW)
    assert [type(one).__name__ for one in said(backup.step(BatchesHeld(BLOCK.hash), NOW))] == ["Prepare"]


# A leader that accepts what followers refuse ------------------------------------------------------------------------


@pytest.mark.parametrize("leader_ms", [-3_600_000, -CLOCK_BOUND_MS - 1, -1, 0, 1, 5_000, HEARTBEAT_MS])
@pytest.mark.parametrize("skew_ms", [-CLOCK_BOUND_MS, 0, CLOCK_BOUND_MS])
def test_a_leader_proposes_only_what_followers_accept(leader_ms: int, skew_ms: int) -> None:
    """Leaders that judged by other rules than followers proposed, again and again, what nobody voted for.
    Here both make the header with one function, and every time that a leader may choose is one that followers take."""
    leader, follower = replica(0), replica(1)
    now = Now(1_000, TIME_MS + leader_ms)
    leader.step(WorkPending(True), now)
    (proposal,) = said(leader.step(ProposalBuilt(H, 0, (BATCH,)), now))
    assert isinstance(proposal, PrePrepare)
    there = Now(1_000, now.wall_ms + skew_ms)
    effects = follower.step(received(proposal), there)
    effects += follower.step(BatchesHeld(proposal.block_hash), there)
    assert accused(effects) == []
    assert [type(one).__name__ for one in said(effects)] == ["Prepare"]


def test_a_leader_asked_too_early_proposes_nothing() -> None:
    """The same for the empty block: a leader that finds no batches must not propose what followers hold for undue."""
    leader, follower = replica(0), replica(1)
    leader.step(WorkPending(True), NOW)
    assert said(leader.step(ProposalBuilt(H, 0, ()), NOW)) == []
    due = Now(2_000, TIME_MS + HEARTBEAT_MS)
    leader.step(WorkPending(True), due)
    (proposal,) = said(leader.step(ProposalBuilt(H, 0, ()), due))
    effects = follower.step(received(proposal), due)
    assert accused(effects) == []
    assert [type(one).__name__ for one in said(effects)] == ["Prepare"]
