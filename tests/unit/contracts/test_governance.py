"""Governance: who validates is decided by those who do, and nothing that would lock the network is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.consensus.evidence import Evidence
from consilium.contracts import ballot, governance, identity, words
from consilium.contracts.ballot import (
    AddValidator,
    AdmitInstitution,
    ReinstateInstitution,
    RemoveValidator,
    ReportEvidence,
    Returned,
    SuspendInstitution,
    VoteCounted,
)
from consilium.ledger import codec
from consilium.ledger.execution import OperationContext, Outcome, ReceiptLeaf
from consilium.ledger.genesis import FOUNDER
from consilium.ledger.state import Overlay
from consilium.ledger.validators import Validator, ValidatorSet
from tests.unit.contracts import world as w
from tests.unit.contracts.world import Actor, World

FOUNDERS = [w.actor(f"founder {number}") for number in range(4)]
A, B, C, D = FOUNDERS
NEW_NODE = w.actor("a new node")
SMALL_ORDER_KEYS = [
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
]


class Council(World):
    """Four institutions with a validator each; `validators` are those that vote at the next height."""

    def __init__(self, runs: Sequence[int] = (1, 1, 1, 1)) -> None:
        self._runs = runs
        super().__init__()
        for one in FOUNDERS:
            body = identity.FoundInstitution(one.key.public, one.encryption_key, w.some_point(one.name), [])
            self._found(body)
        self.coming = self.validators

    def __post_init__(self) -> None:
        super().__post_init__()
        self.validators = ValidatorSet(
            [
                Validator(w.actor(f"node {place} of {one.name}").key.public, one.id)
                for one, count in zip(FOUNDERS, self._runs, strict=True)
                for place in range(count)
            ]
        )

    def _found(self, body: identity.FoundInstitution) -> None:
        """Straight into the state, as genesis would."""
        overlay = Overlay(self.state)
        context = OperationContext(overlay, 0, w.START_MS, self.chain_id, FOUNDER, bytes(32), self.chain_id)
        identity.register_institution(body, context)
        self.state.apply(overlay.changes())

    def block(self, transactions: Sequence[Any]) -> Outcome:
        outcome = super().block(transactions)
        self.validators = outcome.next_validators
        return outcome

    def node(self, of: Actor, place: int = 0) -> Actor:
        return w.actor(f"node {place} of {of.name}")

    def counted(self, leaf: ReceiptLeaf) -> VoteCounted:
        return codec.decode(leaf.results[0], VoteCounted, 256)

    def decide(self, label: str, change: ballot.Change, *voters: Actor) -> VoteCounted:
        first, *rest = voters
        last = self.counted(self.ok(first, w.proposing(label, change)))
        for voter in rest:
            assert last.outcome == "open"
            last = self.counted(self.ok(voter, w.voting(label)))
        return last

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def keys_of(council: Council) -> set[bytes]:
    return set(council.validators.keys)


# --- voting ---------------------------------------------------------------------------------------------------------


def test_a_quorum_is_needed_and_enough() -> None:
    council = Council()
    change = AddValidator(NEW_NODE.key.public, A.id)
    first = council.counted(council.ok(A, w.proposing("p", change)))
    assert (first.approving, first.needed, first.outcome) == (1, 3, "open")
    assert council.counted(council.ok(B, w.voting("p"))).outcome == "open"
    last = council.counted(council.ok(C, w.voting("p")))
    assert (last.approving, last.outcome) == (3, "accepted")
    assert council.kinds() == ["governance.candidate", "governance.voted"]
    assert council.refused(D, w.voting("p")) == "governance.proposal_closed"
    kept = ballot.PROPOSALS.get(council.state, w.some("proposal/p"))
    assert kept is not None
    assert kept.outcome == "accepted"
    assert kept.approvals == [A.id, B.id, C.id]


def test_one_institution_votes_once_and_its_last_vote_counts() -> None:
    council = Council()
    council.ok(A, w.proposing("p", SuspendInstitution(D.id)))
    for _ in range(3):
        assert council.counted(council.ok(A, w.voting("p"))).approving == 1
    assert council.counted(council.ok(B, w.voting("p"))).approving == 2
    assert council.counted(council.ok(B, w.voting("p", approve=False))).approving == 1
    assert council.counted(council.ok(B, w.voting("p"))).approving == 2


def test_who_cannot_be_outvoted_rejects() -> None:
    council = Council()
    council.ok(A, w.proposing("p", SuspendInstitution(D.id)))
    assert council.counted(council.ok(D, w.voting("p", approve=False))).outcome == "open"
    assert council.counted(council.ok(C, w.voting("p", approve=False))).outcome == "rejected"
    assert council.refused(B, w.voting("p")) == "governance.proposal_closed"


def test_weight_is_the_number_of_validators() -> None:
    council = Council((3, 1, 0, 0))
    assert council.decide("p", SuspendInstitution(D.id), A).outcome == "accepted"
    council = Council((1, 3, 0, 0))
    assert council.decide("p", SuspendInstitution(D.id), A, B).approving == 4


def test_only_who_runs_a_validator_has_a_voice() -> None:
    council = Council((2, 1, 1, 0))
    assert council.refused(D, w.proposing("p", SuspendInstitution(A.id))) == "governance.no_validator"
    council.ok(A, w.proposing("p", SuspendInstitution(D.id)))
    assert council.refused(D, w.voting("p")) == "governance.no_validator"
    assert council.refused(B, w.voting("unknown")) == "governance.proposal_unknown"
    assert council.refused(B, w.proposing("p", SuspendInstitution(C.id))) == "governance.proposal_taken"


def test_who_left_has_no_weight_in_older_proposals() -> None:
    council = Council((2, 2, 1, 2))
    council.ok(C, w.proposing("p", SuspendInstitution(D.id)))
    council.decide("remove", RemoveValidator(council.node(C).key.public), A, B, D)
    counted = council.counted(council.ok(A, w.voting("p")))
    assert (counted.approving, counted.needed) == (2, council.validators.quorum)
    kept = ballot.PROPOSALS.get(council.state, w.some("proposal/p"))
    assert kept is not None
    assert kept.approvals == [A.id]


def test_open_proposals_are_bounded_and_lapse() -> None:
    council = Council()
    for label in ("p", "q"):
        council.ok(A, w.proposing(label, SuspendInstitution(D.id)))
    assert council.refused(A, w.proposing("r", SuspendInstitution(C.id))) == "governance.too_many_proposals"
    council.ok(B, w.proposing("of b", SuspendInstitution(C.id)))
    council.time_ms += ballot.PROPOSAL_LIFETIME_MS
    assert council.refused(B, w.voting("p")) == "governance.proposal_closed"
    for label in ("r", "s"):
        council.ok(A, w.proposing(label, SuspendInstitution(C.id)))
    # What is decided makes room as well.
    council.ok(B, w.voting("r"))
    council.ok(D, w.voting("r"))
    council.ok(A, w.proposing("t", ReinstateInstitution(C.id)))


def test_a_vote_that_the_rules_stop_meanwhile_is_refused_whole() -> None:
    council = Council()
    change = AddValidator(NEW_NODE.key.public, A.id)
    council.ok(A, w.proposing("p", change))
    council.ok(A, w.proposing("q", change))
    for voter in (B, C):
        council.ok(voter, w.voting("p"))
    council.ok(B, w.voting("q"))
    assert council.refused(C, w.voting("q")) == "governance.already_validator"


# --- validators -----------------------------------------------------------------------------------------------------


def test_a_newcomer_joins_only_with_its_ready() -> None:
    council = Council()
    before = keys_of(council)
    assert council.refused(D, w.ready(council, NEW_NODE, D, 0)) == "governance.not_candidate"
    council.decide("p", AddValidator(NEW_NODE.key.public, D.id), A, B, C)
    assert keys_of(council) == before
    assert [one.key for one in ballot.candidates(council.state)] == [NEW_NODE.key.public]
    leaf = council.ok(D, w.ready(council, NEW_NODE, D, council.height))
    assert keys_of(council) == before | {NEW_NODE.key.public}
    changed = codec.decode(leaf.results[0], ballot.ValidatorChanged, 256)
    assert (changed.joined, changed.height) == (True, council.height + 2)
    assert ballot.candidates(council.state) == []
    assert council.refused(D, w.ready(council, NEW_NODE, D, council.height)) == "governance.not_candidate"
    stored = ballot.VALIDATORS.get(council.state)
    assert stored is not None
    assert ValidatorSet(stored.validators) == council.validators


@pytest.mark.parametrize(
    ("age", "code"),
    [(0, "ok"), (ballot.READY_HEIGHTS - 1, "ok"), (ballot.READY_HEIGHTS, "governance.not_recent")],
)
def test_a_ready_is_recent(age: int, code: str) -> None:
    council = Council()
    council.decide("p", AddValidator(NEW_NODE.key.public, D.id), A, B, C)
    council.height += 1_000
    said = w.ready(council, NEW_NODE, D, council.height - age)
    assert council.leaf(D, said).code == code


def test_a_ready_is_of_this_chain_this_key_and_this_institution() -> None:
    council = Council()
    council.decide("p", AddValidator(NEW_NODE.key.public, D.id), A, B, C)
    said = w.ready(council, NEW_NODE, D, council.height)
    assert council.refused(C, said) == "governance.not_candidate"
    future = w.ready(council, NEW_NODE, D, council.height + 5)
    assert council.refused(D, future) == "governance.not_recent"
    other = msgspec.structs.replace(said, block_hash=bytes(32))
    assert council.refused(D, other) == "governance.other_block"
    for_c = w.ready(council, NEW_NODE, C, council.height)
    assert council.refused(D, for_c) == "governance.bad_signature"


def test_a_candidate_lapses() -> None:
    council = Council()
    council.decide("p", AddValidator(NEW_NODE.key.public, D.id), A, B, C)
    council.time_ms += ballot.CANDIDATE_LIFETIME_MS
    assert council.refused(D, w.ready(council, NEW_NODE, D, council.height)) == "governance.not_candidate"
    council.decide("q", AddValidator(NEW_NODE.key.public, D.id), A, B, C)
    council.ok(D, w.ready(council, NEW_NODE, D, council.height))


@pytest.mark.parametrize("key", SMALL_ORDER_KEYS)
def test_a_key_of_small_order_is_nobodys(key: bytes) -> None:
    assert Council().refused(A, w.proposing("p", AddValidator(key, A.id))) == "governance.bad_key"


def test_who_may_be_added() -> None:
    council = Council()
    assert council.refused(A, w.proposing("p", AddValidator(NEW_NODE.key.public, bytes(16)))) == (
        "identity.unknown"
    )
    taken = council.node(B).key.public
    assert council.refused(A, w.proposing("p", AddValidator(taken, A.id))) == "governance.already_validator"
    council.ok(w.NORTH, council.enrolment(w.PETRA, w.NORTH, "patient"))
    assert council.refused(A, w.proposing("p", AddValidator(NEW_NODE.key.public, w.PETRA.id))) == (
        "identity.not_an_institution"
    )


def test_candidates_are_bounded() -> None:
    council = Council((4, 0, 0, 0))
    for number in range(ballot.CANDIDATES_MAX):
        council.ok(A, w.proposing(f"p{number}", AddValidator(w.actor(f"c{number}").key.public, A.id)))
    assert council.refused(A, w.proposing("p", AddValidator(NEW_NODE.key.public, A.id))) == "governance.full"
    council.ok(A, w.proposing("drop", RemoveValidator(w.actor("c3").key.public)))
    council.ok(A, w.proposing("p", AddValidator(NEW_NODE.key.public, A.id)))
    assert len(ballot.candidates(council.state)) == ballot.CANDIDATES_MAX


def test_a_validator_is_removed_and_may_come_back() -> None:
    council = Council()
    gone = council.node(D)
    council.decide("p", RemoveValidator(gone.key.public), A, B, C)
    assert gone.key.public not in council.validators
    assert council.validators.n == 3
    retired = ballot.RETIRED.get(council.state, gone.key.public)
    assert retired == ballot.Retired(D.id, council.height + 2)
    assert council.refused(A, w.proposing("q", RemoveValidator(gone.key.public))) == (
        "governance.not_validator"
    )
    assert council.refused(D, w.voting("q")) == "governance.no_validator"
    council.decide("r", AddValidator(gone.key.public, D.id), A, B)
    council.ok(D, w.ready(council, gone, D, council.height))
    assert council.validators.n == 4
    assert ballot.RETIRED.get(council.state, gone.key.public) is None


def test_the_last_validator_stays() -> None:
    council = Council((1, 1, 0, 0))
    council.decide("p", RemoveValidator(council.node(B).key.public), A, B)
    assert council.validators.n == 1
    assert council.refused(A, w.proposing("q", RemoveValidator(council.node(A).key.public))) == (
        "governance.last_validator"
    )


def test_two_changes_in_one_block_build_on_each_other() -> None:
    council = Council((7, 0, 0, 0))
    removals = [
        council.sign(A, w.proposing(f"p{place}", RemoveValidator(council.node(A, place).key.public)))
        for place in range(3)
    ]
    outcome = council.block(removals)
    assert [codec.decode(leaf, ReceiptLeaf, 1 << 16).code for leaf in outcome.leaves] == ["ok"] * 3
    assert outcome.next_validators.n == 4


# --- institutions ---------------------------------------------------------------------------------------------------


def test_a_suspended_institution_may_not_act_until_it_is_reinstated() -> None:
    council = Council()
    council.decide("p", SuspendInstitution(D.id), A, B, C)
    assert council.refused(D, w.proposing("q", SuspendInstitution(A.id))) == "identity.suspended"
    assert council.refused(A, w.proposing("q", SuspendInstitution(D.id))) == "identity.status_unchanged"
    assert council.refused(A, w.proposing("q", ReinstateInstitution(C.id))) == "identity.status_unchanged"
    council.decide("q", ReinstateInstitution(D.id), A, B, C)
    council.ok(D, w.proposing("r", SuspendInstitution(A.id)))


def test_nothing_that_would_lock_the_network_is_accepted() -> None:
    council = Council()
    council.decide("p", SuspendInstitution(D.id), A, B, C)
    assert council.refused(A, w.proposing("q", SuspendInstitution(C.id))) == "governance.would_lock"
    # Three validators, of which one is suspended: a quorum of two stands.
    council.decide("r", RemoveValidator(council.node(C).key.public), A, B, C)
    assert council.validators.n == 3
    assert council.refused(A, w.proposing("s", RemoveValidator(council.node(B).key.public))) == (
        "governance.would_lock"
    )


def test_an_institution_is_admitted_and_runs_a_validator() -> None:
    council = Council()
    newcomer = w.actor("newcomer")
    change = w.admission(council, newcomer)
    council.decide("p", change, A, B, C)
    assert identity.require(council.state, newcomer.id).roles == ["author"]
    council.decide("q", AddValidator(NEW_NODE.key.public, newcomer.id), A, B, C)
    council.ok(newcomer, w.ready(council, NEW_NODE, newcomer, council.height))
    council.ok(newcomer, w.proposing("r", SuspendInstitution(A.id)))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"author_point": bytes(32)}, "identity.bad_proof"),
        ({"proof": bytes(64)}, "identity.bad_proof"),
        ({"key": SMALL_ORDER_KEYS[1]}, "identity.bad_proof"),
        ({"roles": ["author", "custodian"]}, "identity.bad_proof"),
    ],
)
def test_an_admission_is_the_newcomers_own_word(change: dict[str, Any], code: str) -> None:
    council = Council()
    forged = msgspec.structs.replace(w.admission(council, w.actor("newcomer")), **change)
    assert council.refused(A, w.proposing("p", forged)) == code


def test_nobody_is_admitted_twice() -> None:
    council = Council()
    change: AdmitInstitution = w.admission(council, A)
    assert council.refused(B, w.proposing("p", change)) == "identity.key_taken"


# --- evidence -------------------------------------------------------------------------------------------------------


def evidence(council: Council, of: Actor = D, height: int = 1, view: int = 0) -> Evidence:
    return w.evidence(council, council.node(of), height, view)


def test_evidence_is_included_once() -> None:
    council = Council()
    council.ok(w.NORTH, ReportEvidence(evidence(council)))
    assert council.kinds() == ["governance.evidence"]
    assert council.events[0].subjects == [D.id, w.NORTH.id]
    for again in (evidence(council), evidence(council, view=3)):
        assert council.refused(A, ReportEvidence(again)) == "governance.evidence_known"
    council.ok(A, ReportEvidence(evidence(council, height=2)))
    place = (council.node(D).key.public, (2).to_bytes(8, "big"), b"\x01")
    kept = ballot.PROVED_FAULTS.get(council.state, *place)
    assert kept == ballot.ProvedFault(evidence(council, height=2), A.id, council.height)


def test_two_reports_in_one_block_halt_nobody() -> None:
    council = Council()
    outcome = council.block([council.sign(who, ReportEvidence(evidence(council))) for who in (A, B)])
    codes = [codec.decode(leaf, ReceiptLeaf, 1 << 16).code for leaf in outcome.leaves]
    assert codes == ["ok", "governance.evidence_known"]


def test_evidence_is_checked() -> None:
    council = Council()
    true = evidence(council)
    for forged in (
        msgspec.structs.replace(true, second_signature=true.first_signature),
        msgspec.structs.replace(true, first=true.second, second=true.first),
        msgspec.structs.replace(true, view=1),
        msgspec.structs.replace(true, kind=0),
    ):
        assert council.refused(A, ReportEvidence(forged)) == "evidence.invalid"
    other = msgspec.structs.replace(true, validator=NEW_NODE.key.public)
    assert council.refused(A, ReportEvidence(other)) == "governance.not_validator"


def test_evidence_expires_by_height() -> None:
    council = Council()
    council.height = ballot.EVIDENCE_HEIGHTS_MAX + 10
    assert council.refused(A, ReportEvidence(evidence(council, height=5))) == "governance.evidence_expired"
    late = evidence(council, height=council.height + 2)
    assert council.refused(A, ReportEvidence(late)) == "governance.evidence_expired"
    council.ok(A, ReportEvidence(evidence(council, height=council.height)))


def test_the_faults_of_one_validator_are_bounded() -> None:
    council = Council()
    council.height = 100
    for height in range(ballot.FAULTS_MAX):
        council.ok(A, ReportEvidence(evidence(council, height=height)))
    assert council.refused(A, ReportEvidence(evidence(council, height=50))) == "governance.evidence_known"
    council.ok(A, ReportEvidence(evidence(council, of=C, height=50)))


def test_a_proved_fault_eases_the_removal() -> None:
    council = Council()
    gone = council.node(D).key.public
    council.ok(A, w.proposing("p", RemoveValidator(gone)))
    assert council.counted(council.ok(B, w.voting("p"))).needed == 3
    council.ok(A, ReportEvidence(evidence(council)))
    counted = council.counted(council.ok(B, w.voting("p")))
    assert (counted.needed, counted.outcome) == (2, "accepted")
    assert gone not in council.validators
    assert council.refused(A, w.proposing("q", AddValidator(gone, D.id))) == "governance.key_at_fault"


def test_an_old_fault_eases_nothing() -> None:
    council = Council()
    gone = council.node(D).key.public
    council.ok(A, ReportEvidence(evidence(council)))
    council.height = ballot.EVIDENCE_HEIGHTS_MAX
    assert council.counted(council.ok(A, w.proposing("p", RemoveValidator(gone)))).needed == 2
    council.height += 10
    assert council.counted(council.ok(A, w.voting("p"))).needed == 3


def test_a_validator_says_that_it_lost_its_memory() -> None:
    council = Council()
    said = Returned(council.node(D).key.public)
    assert council.refused(C, said) == "governance.not_validator"
    council.ok(D, said)
    assert council.refused(D, said) == "governance.returned_already"
    council.height += ballot.RETURN_HEIGHTS
    council.ok(D, said)


# --- whatever happens -----------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from(["add", "remove", "suspend", "reinstate"]), st.integers(0, 7)
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_whatever_is_decided_a_quorum_in_good_standing_is_left(steps: list[tuple[int, str, int]]) -> None:
    council = Council()
    nodes = [council.node(one) for one in FOUNDERS] + [w.actor(f"spare {n}") for n in range(4)]
    for number, (who, what, whom) in enumerate(steps):
        changes: dict[str, ballot.Change] = {
            "add": AddValidator(nodes[whom].key.public, FOUNDERS[whom % 4].id),
            "remove": RemoveValidator(nodes[whom].key.public),
            "suspend": SuspendInstitution(FOUNDERS[whom % 4].id),
            "reinstate": ReinstateInstitution(FOUNDERS[whom % 4].id),
        }
        council.leaf(FOUNDERS[who], w.proposing(str(number), changes[what]))
        for voter in FOUNDERS:
            council.leaf(voter, w.voting(str(number)))
        council.leaf(FOUNDERS[whom % 4], w.ready(council, nodes[whom], FOUNDERS[whom % 4], council.height))
        standing = [
            one
            for one in council.validators.validators
            if identity.standing(council.state, one.institution) is None
        ]
        assert len(standing) >= council.validators.quorum
        assert governance.next_validators(council.state, council.validators) is council.validators


def test_a_proposal_in_words() -> None:
    council = Council()
    body = w.proposing("p", AddValidator(NEW_NODE.key.public, A.id))
    lines = words.describe_operation(council.operation(body), {A.id: "Alpha"})
    assert lines[2:] == [
        "  change: AddValidator",
        f"    key: {NEW_NODE.key.public.hex()}",
        "    institution: Alpha",
    ]
