"""What a round learns, whom it accuses, and what it will vote for."""

from __future__ import annotations

import msgspec
import pytest

from consilium.consensus.evidence import Evidence, VoteKind, quoted_seals, quotes, verify_evidence
from consilium.consensus.hearing import (
    accuse,
    ask_batches,
    ask_decided,
    compare,
    judge,
    learn,
    settle,
    signers_of,
)
from consilium.consensus.io import Effect, Equivocation, Misbehaviour, Now, Report
from consilium.consensus.limits import ReplicaConfig
from consilium.consensus.messages import (
    Decided,
    sign_commit,
    sign_pre_prepare,
    sign_prepare,
    sign_view_change,
)
from consilium.consensus.round import Phase, Round, open_round
from consilium.ledger.block import Block
from consilium.ledger.errors import InvariantBroken
from tests.unit.consensus.parts import (
    BLOCK,
    CHAIN,
    CONTEXT,
    KEYS,
    OTHER,
    TIME_MS,
    commit_certificate,
    justification,
    prepared,
)

H = CONTEXT.height
NOW = Now(0, TIME_MS)
CONFIG = ReplicaConfig()


def opened() -> Round:
    return open_round(CONTEXT, None, KEYS[1].public, 0, 0)


def accused(effects: list[Effect]) -> list[tuple[bytes, str]]:
    return [
        (effect.fault.validator, effect.fault.reason)
        for effect in effects
        if isinstance(effect, Report) and isinstance(effect.fault, Misbehaviour)
    ]


def test_who_proposes_out_of_turn_is_accused_and_not_counted() -> None:
    here = opened()
    effects = learn(here, sign_pre_prepare(KEYS[2], CHAIN, 0, BLOCK, None), None)
    assert accused(effects) == [(KEYS[2].public, "it proposed when it was not primary")]
    assert here.book.prepares.every() == []


def test_each_fault_is_reported_once() -> None:
    here = opened()
    assert accuse(here, KEYS[2].public, "a reason")
    assert accuse(here, KEYS[2].public, "a reason") == []
    assert accuse(here, KEYS[3].public, "a reason")
    learn(here, sign_prepare(KEYS[2], CHAIN, H, 0, BLOCK.hash), None)
    first = learn(here, sign_prepare(KEYS[2], CHAIN, H, 0, OTHER.hash), None)
    assert [type(e.fault) for e in first if isinstance(e, Report)] == [Equivocation]
    assert learn(here, sign_prepare(KEYS[2], CHAIN, H, 0, OTHER.hash), None) == []


def proofs(effects: list[Effect]) -> list[Evidence]:
    """The evidence that was reported; each piece convinces whoever knows nothing but the chain."""
    found = [
        effect.fault.evidence
        for effect in effects
        if isinstance(effect, Report) and isinstance(effect.fault, Equivocation)
    ]
    for evidence in found:
        verify_evidence(evidence, CHAIN)
    return found


def proved(effects: list[Effect]) -> list[tuple[bytes, VoteKind]]:
    return [(one.validator, VoteKind(one.kind)) for one in proofs(effects)]


def test_a_seal_in_a_certificate_meets_the_other_one_that_was_sent_here() -> None:
    here = opened()
    learn(here, sign_commit(KEYS[0], CHAIN, H, 0, OTHER.hash), None)
    learn(here, sign_commit(KEYS[2], CHAIN, H, 0, BLOCK.hash), None)
    learn(here, sign_commit(KEYS[3], CHAIN, H, 1, OTHER.hash), None)
    certificate = commit_certificate(BLOCK, 0, [0, 2, 3])
    # 2 said the same here, and 3 spoke of another view: only 0 contradicts himself.
    found = compare(here, quotes(Decided(BLOCK, certificate)))
    assert proved(found) == [(KEYS[0].public, VoteKind.COMMIT)]
    assert compare(here, quoted_seals(certificate)) == [], "each fault is reported once"


def test_a_prepare_in_a_view_change_or_a_justification_meets_the_other_one() -> None:
    lock = prepared(BLOCK, 0, [0, 2, 3])
    change = sign_view_change(KEYS[3], CHAIN, H, 1, lock)
    again = justification(1, {0: lock, 1: None, 2: None}, lock.certificate)
    for message in (change, sign_pre_prepare(KEYS[1], CHAIN, 1, BLOCK, again)):
        here = opened()
        learn(here, sign_pre_prepare(KEYS[0], CHAIN, 0, OTHER, None), None)
        assert proved(learn(here, message, None)) == [(KEYS[0].public, VoteKind.PREPARE)]


def test_a_claim_in_a_justification_meets_the_other_view_change() -> None:
    lock = prepared(BLOCK, 0, [0, 2, 3])
    here = opened()
    learn(here, sign_view_change(KEYS[2], CHAIN, H, 1, lock), None)
    free = justification(1, {0: None, 1: None, 2: None}, None)
    found = learn(here, sign_pre_prepare(KEYS[1], CHAIN, 1, BLOCK, free), None)
    assert proved(found) == [(KEYS[2].public, VoteKind.VIEW_CHANGE)]


def test_who_is_quoted_with_what_he_said_is_not_accused() -> None:
    here = opened()
    lock = prepared(BLOCK, 0, [0, 2, 3])
    for place in (0, 2, 3):
        learn(here, sign_prepare(KEYS[place], CHAIN, H, 0, BLOCK.hash), None)
        learn(here, sign_commit(KEYS[place], CHAIN, H, 0, BLOCK.hash), None)
    learn(here, sign_view_change(KEYS[2], CHAIN, H, 1, lock), None)
    again = justification(1, {0: lock, 1: None, 2: lock}, lock.certificate)
    assert learn(here, sign_pre_prepare(KEYS[1], CHAIN, 1, BLOCK, again), None) == []
    assert compare(here, quoted_seals(commit_certificate(BLOCK, 0, [0, 2, 3]))) == []


def test_a_quorum_of_seals_is_noticed_and_kept() -> None:
    here = opened()
    for key in KEYS[:2]:
        learn(here, sign_commit(key, CHAIN, H, 1, BLOCK.hash), None)
    assert here.committed is None
    learn(here, sign_commit(KEYS[3], CHAIN, H, 1, BLOCK.hash), None)
    assert here.committed is not None
    assert (here.committed.view, here.committed.block_hash) == (1, BLOCK.hash)


def test_only_others_are_heard() -> None:
    here = opened()
    learn(here, sign_prepare(KEYS[1], CHAIN, H, 0, BLOCK.hash), KEYS[1].public)
    assert here.heard is None
    learn(here, sign_prepare(KEYS[2], CHAIN, H, 0, BLOCK.hash), KEYS[1].public)
    assert here.heard == KEYS[2].public


def test_a_good_proposal_is_taken_up_with_those_who_hold_its_batches() -> None:
    here = opened()
    assert judge(here, NOW, CONFIG) == (None, [])
    learn(here, sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None), None)
    proposal, reports = judge(here, NOW, CONFIG)
    assert reports == []
    assert proposal is not None
    assert (proposal.block, proposal.own, proposal.holders) == (BLOCK, False, (KEYS[0].public,))
    here.enter(1, Phase.AWAITING)
    lock = prepared(BLOCK, 0, [0, 2, 3])
    again = justification(1, {0: lock, 1: None, 2: None}, lock.certificate)
    learn(here, sign_pre_prepare(KEYS[1], CHAIN, 1, BLOCK, again), None)
    proposal, _ = judge(here, NOW, CONFIG)
    assert proposal is not None
    assert proposal.holders == tuple(KEYS[place].public for place in (1, 0, 2, 3))


def test_a_bad_proposal_is_the_primarys_fault() -> None:
    here = opened()
    header = msgspec.structs.replace(BLOCK.header, receipts_root=bytes(32))
    learn(here, sign_pre_prepare(KEYS[0], CHAIN, 0, Block(header, BLOCK.batches), None), None)
    proposal, reports = judge(here, NOW, CONFIG)
    assert proposal is None
    assert accused(reports) == [(KEYS[0].public, "its proposal contradicts the chain in receipts_root")]


def test_a_certificate_settles_the_height_or_breaks_the_replica() -> None:
    here = opened()
    decided = Decided(BLOCK, commit_certificate(BLOCK, 2, [1, 2, 3]))
    settle(here, decided)
    assert (here.phase, here.decided) == (Phase.DECIDING, decided)
    asked = ask_decided(here, decided, KEYS[1].public)
    assert asked.peers == (KEYS[2].public, KEYS[3].public)
    header = msgspec.structs.replace(BLOCK.header, history_root=bytes(32))
    wrong = Block(header, BLOCK.batches)
    with pytest.raises(InvariantBroken, match="history_root"):
        settle(opened(), Decided(wrong, commit_certificate(wrong, 0, [0, 1, 2])))


def test_batches_are_asked_of_each_holder_once_and_never_of_oneself() -> None:
    here = opened()
    for key in KEYS:
        learn(here, sign_prepare(key, CHAIN, H, 0, BLOCK.hash), None)
    asked = ask_batches(here, BLOCK, (KEYS[3].public, KEYS[3].public), KEYS[1].public)
    assert asked.peers == (KEYS[3].public, KEYS[0].public, KEYS[2].public)
    assert signers_of(here, None) == ()
