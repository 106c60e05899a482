"""Who validates: decided by the institutions that run validators, on the ledger, like everything else.

An institution's weight is the number of current validators that it runs. A change is accepted when institutions with a
quorum of the validators approve; to remove a validator whose contradiction is proved by evidence on the chain, a weak
quorum is enough: one honest institution is then among them. Nothing that would leave fewer than a quorum of validators
in the hands of institutions in good standing is accepted, or nobody could ever reinstate.

A set that a block at height h decides votes from height h + 2 on (header h + 1 names it). A removal is decided with
its last approval. A new validator joins only after its own signed *ready* over a recent block: one that has not synced
yet would spend a fault of the network at once. What "current" means here is the newest decided set: changes in one
block follow from each other.

docs/contracts.md, "Governance"; docs/consensus.md, "Changes of the validator set".
"""

from __future__ import annotations

from typing import Final

import msgspec

from consilium.consensus.evidence import verify_evidence
from consilium.contracts import identity, quotas, settings
from consilium.contracts.ballot import (
    CANDIDATE_ACCEPTED,
    CANDIDATE_LIFETIME_MS,
    CANDIDATES,
    CANDIDATES_MAX,
    EVIDENCE,
    EVIDENCE_HEIGHTS_MAX,
    FAULTS,
    FAULTS_MAX,
    OPEN_PROPOSALS,
    PROPOSAL_LIFETIME_MS,
    PROPOSALS,
    PROPOSALS_OPEN_MAX,
    PROPOSED,
    PROVED_FAULTS,
    READY_HEIGHTS,
    RETIRED,
    RETURN_HEIGHTS,
    RETURNED,
    RETURNS,
    TAKES_EFFECT_HEIGHTS,
    VALIDATOR_CHANGED,
    VALIDATORS,
    VOTED,
    AddValidator,
    AdmitInstitution,
    Candidate,
    CandidateAccepted,
    Candidates,
    Change,
    ChangeQuotas,
    ChangeRoles,
    ChangeSettings,
    DecidedSet,
    FaultProved,
    Faults,
    LastReturn,
    OpenProposals,
    Proposal,
    Propose,
    ProvedFault,
    Ready,
    ReinstateInstitution,
    RemoveValidator,
    ReportEvidence,
    Retired,
    Returned,
    SuspendInstitution,
    ValidatorChanged,
    ValidatorReturned,
    Vote,
    VoteCounted,
    admission_digest,
    candidates,
    ready_digest,
)
from consilium.contracts.operation import Contract, EventKind, OperationSpec, Rank
from consilium.contracts.roles import ROLES_CHANGED, change_roles, check_roles
from consilium.ledger.crypto import is_group_point, verify
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader
from consilium.ledger.validators import VALIDATORS_MAX, Validator, ValidatorSet

# --- questions others ask -------------------------------------------------------------------------------------------


def next_validators(state: StateReader, current: ValidatorSet) -> ValidatorSet:
    """The newest decided set, which votes from the height after next: the state's, else `current`."""
    decided = VALIDATORS.get(state)
    if decided is None or decided.validators == list(current.validators):
        return current
    return ValidatorSet(decided.validators)


def needed(change: Change, validators: ValidatorSet, state: StateReader, height: int) -> int:
    """How many validators' institutions must approve."""
    if isinstance(change, RemoveValidator):
        faults = FAULTS.get(state, change.key)
        if faults is not None and height <= faults.latest_height + EVIDENCE_HEIGHTS_MAX:
            return validators.weak_quorum
    return validators.quorum


# --- handlers -------------------------------------------------------------------------------------------------------


def _propose(body: Propose, context: OperationContext) -> VoteCounted:
    current = _current(context)
    _require_voter(current, context)
    if PROPOSALS.get(context.state, body.proposal) is not None:
        raise Refused("governance.proposal_taken", body.proposal.hex())
    _check(body.change, current, context)
    _count_open(body.proposal, context)
    expires_ms = context.time_ms + PROPOSAL_LIFETIME_MS
    proposal = Proposal(body.change, context.sender, expires_ms, [context.sender], [], "open")
    return _settle(proposal, body.proposal, PROPOSED, context)


def _count_open(proposal: bytes, context: OperationContext) -> None:
    earlier = OPEN_PROPOSALS.get(context.state, context.sender)
    still_open: list[bytes] = []
    for one in [] if earlier is None else earlier.proposals:
        known = PROPOSALS.get(context.state, one)
        if known is not None and known.outcome == "open" and context.time_ms < known.expires_ms:
            still_open.append(one)
    if len(still_open) >= PROPOSALS_OPEN_MAX:
        raise Refused("governance.too_many_proposals", f"{len(still_open)} are open")
    OPEN_PROPOSALS.put(context.state, OpenProposals([*still_open, proposal]), context.sender)


def _vote(body: Vote, context: OperationContext) -> VoteCounted:
    _require_voter(_current(context), context)
    known = PROPOSALS.get(context.state, body.proposal)
    if known is None:
        raise Refused("governance.proposal_unknown", body.proposal.hex())
    if known.outcome != "open" or context.time_ms >= known.expires_ms:
        raise Refused("governance.proposal_closed", known.outcome)
    approvals = [voter for voter in known.approvals if voter != context.sender]
    rejections = [voter for voter in known.rejections if voter != context.sender]
    (approvals if body.approve else rejections).append(context.sender)
    # Who ran a validator when it voted and runs none now has no weight, and must not fill the lists.
    current = _current(context)
    counted = msgspec.structs.replace(
        known, approvals=_voters(approvals, current), rejections=_voters(rejections, current)
    )
    return _settle(counted, body.proposal, VOTED, context)


def _settle(
    proposal: Proposal, proposal_id: bytes, kind: EventKind, context: OperationContext
) -> VoteCounted:
    current = _current(context)
    quota = needed(proposal.change, current, context.state, context.height)
    approving = _weight(proposal.approvals, current)
    if approving >= quota:
        proposal = msgspec.structs.replace(proposal, outcome="accepted")
        _check(proposal.change, current, context)
        _enact(proposal.change, current, context)
    elif _weight(proposal.rejections, current) > current.n - quota:
        proposal = msgspec.structs.replace(proposal, outcome="rejected")
    PROPOSALS.put(context.state, proposal, proposal_id)
    counted = VoteCounted(proposal_id, approving, quota, proposal.outcome)
    subjects = (
        [context.sender] if proposal.proposer == context.sender else [context.sender, proposal.proposer]
    )
    kind.emit(context, subjects, counted)
    return counted


def _check(change: Change, current: ValidatorSet, context: OperationContext) -> None:
    """Whether the change can be made now. Raises Refused `governance.*`, `identity.*`."""
    state = context.state
    match change:
        case AddValidator(key, institution):
            if key in current or any(one.key == key for one in _open_candidates(context)):
                raise Refused("governance.already_validator", key.hex())
            if not is_group_point(key):
                raise Refused("governance.bad_key", key.hex())
            if FAULTS.get(state, key) is not None:
                raise Refused("governance.key_at_fault", key.hex())
            if identity.require(state, institution).kind != identity.INSTITUTION:
                raise Refused("identity.not_an_institution", institution.hex())
            _require_room(current, context)
        case RemoveValidator(key):
            if key not in current:
                if all(one.key != key for one in _open_candidates(context)):
                    raise Refused("governance.not_validator", key.hex())
            elif current.n == 1:
                raise Refused("governance.last_validator", key.hex())
            else:
                _require_operable(_without(current, key), state)
        case SuspendInstitution(institution):
            identity.require_institution(state, institution, "active")
            _require_operable(current, state, without=institution)
        case ReinstateInstitution(institution):
            identity.require_institution(state, institution, "suspended")
        case AdmitInstitution(key, encryption_key, author_point, roles, proof):
            digest = admission_digest(
                chain_id=context.chain_id,
                key=key,
                encryption_key=encryption_key,
                author_point=author_point,
                roles=roles,
            )
            if not is_group_point(key) or not verify(key, digest, proof):
                raise Refused("identity.bad_proof", key.hex())
            identity.check_new_institution(_founding(change), context)
        case ChangeRoles(institution, roles):
            check_roles(institution, roles, context)
        case ChangeSettings(settled):
            settings.require_sound(settled)


def _enact(change: Change, current: ValidatorSet, context: OperationContext) -> None:
    match change:
        case AddValidator(key, institution):
            expires_ms = context.time_ms + CANDIDATE_LIFETIME_MS
            _keep_candidates([*_open_candidates(context), Candidate(key, institution, expires_ms)], context)
            CANDIDATE_ACCEPTED.emit(context, [institution], CandidateAccepted(key, expires_ms))
        case RemoveValidator(key):
            if key in current:
                _remove(key, current, context)
            else:
                _keep_candidates([one for one in _open_candidates(context) if one.key != key], context)
        case SuspendInstitution(institution):
            identity.change_status(institution, "suspended", [institution], context)
        case ReinstateInstitution(institution):
            identity.change_status(institution, "active", [institution], context)
        case AdmitInstitution():
            identity.register_institution(_founding(change), context)
        case ChangeRoles(institution, roles):
            change_roles(institution, roles, context)
        case ChangeSettings(settled):
            settings.change(settled, context)
        case ChangeQuotas(allowed):
            quotas.change(allowed, context)


def _remove(key: bytes, current: ValidatorSet, context: OperationContext) -> None:
    (institution,) = (one.institution for one in current.validators if one.key == key)
    height = context.height + TAKES_EFFECT_HEIGHTS
    _keep_set(_without(current, key), context)
    RETIRED.put(context.state, Retired(institution, height), key)
    VALIDATOR_CHANGED.emit(context, [institution], ValidatorChanged(key, institution, False, height))


def _ready(body: Ready, context: OperationContext) -> ValidatorChanged:
    waiting = _open_candidates(context)
    found = next((one for one in waiting if one.key == body.key), None)
    if found is None or found.institution != context.sender:
        raise Refused("governance.not_candidate", body.key.hex())
    if not context.height - READY_HEIGHTS <= body.height < context.height:
        raise Refused("governance.not_recent", f"height {body.height} at {context.height}")
    if context.ancestor(body.height) != body.block_hash:
        raise Refused("governance.other_block", f"height {body.height}")
    digest = ready_digest(
        chain_id=context.chain_id,
        key=body.key,
        institution=found.institution,
        height=body.height,
        block_hash=body.block_hash,
    )
    if not verify(body.key, digest, body.signature):
        raise Refused("governance.bad_signature", body.key.hex())
    identity.require(context.state, found.institution)
    current = _current(context)
    joined = ValidatorSet([*current.validators, Validator(found.key, found.institution)])
    _require_operable(joined, context.state)
    _keep_set(joined, context)
    _keep_candidates([one for one in waiting if one.key != body.key], context)
    context.state.delete(RETIRED.key(body.key))
    height = context.height + TAKES_EFFECT_HEIGHTS
    changed = ValidatorChanged(found.key, found.institution, True, height)
    VALIDATOR_CHANGED.emit(context, [found.institution], changed)
    return changed


def _report_evidence(body: ReportEvidence, context: OperationContext) -> None:
    evidence = body.evidence
    current = _current(context)
    accused = next((one for one in current.validators if one.key == evidence.validator), None)
    if accused is None:
        raise Refused("governance.not_validator", evidence.validator.hex())
    if not context.height - EVIDENCE_HEIGHTS_MAX <= evidence.height <= context.height:
        raise Refused("governance.evidence_expired", f"height {evidence.height} at {context.height}")
    place = (evidence.validator, evidence.height.to_bytes(8, "big"), bytes((evidence.kind,)))
    faults = FAULTS.get(context.state, evidence.validator)
    count = 0 if faults is None else faults.count
    if count >= FAULTS_MAX or PROVED_FAULTS.get(context.state, *place) is not None:
        raise Refused("governance.evidence_known", evidence.validator.hex())
    verify_evidence(evidence, context.chain_id)
    latest = evidence.height if faults is None else max(evidence.height, faults.latest_height)
    PROVED_FAULTS.put(context.state, ProvedFault(evidence, context.sender, context.height), *place)
    FAULTS.put(context.state, Faults(count + 1, latest), evidence.validator)
    proved = FaultProved(evidence.validator, evidence.height, evidence.view, evidence.kind)
    subjects = dict.fromkeys((accused.institution, context.sender))
    EVIDENCE.emit(context, list(subjects), proved)


def _returned(body: Returned, context: OperationContext) -> None:
    if Validator(body.key, context.sender) not in _current(context).validators:
        raise Refused("governance.not_validator", body.key.hex())
    last = RETURNS.get(context.state, body.key)
    if last is not None and context.height <= last.height + RETURN_HEIGHTS:
        raise Refused("governance.returned_already", f"at height {last.height}")
    RETURNS.put(context.state, LastReturn(context.height), body.key)
    RETURNED.emit(context, [context.sender], ValidatorReturned(body.key))


# --- inside ---------------------------------------------------------------------------------------------------------


def _current(context: OperationContext) -> ValidatorSet:
    if context.validators is None:
        raise ValueError("the context knows no validators")
    return next_validators(context.state, context.validators)


def _require_voter(current: ValidatorSet, context: OperationContext) -> None:
    if all(one.institution != context.sender for one in current.validators):
        raise Refused("governance.no_validator", context.sender.hex())


def _voters(institutions: list[bytes], current: ValidatorSet) -> list[bytes]:
    return [voter for voter in institutions if any(one.institution == voter for one in current.validators)]


def _weight(institutions: list[bytes], current: ValidatorSet) -> int:
    return sum(1 for one in current.validators if one.institution in institutions)


def _without(current: ValidatorSet, key: bytes) -> ValidatorSet:
    return ValidatorSet([one for one in current.validators if one.key != key])


def _require_operable(validators: ValidatorSet, state: StateReader, without: bytes | None = None) -> None:
    """Whether institutions in good standing, `without` one, keep a quorum, so that they can decide on."""
    standing = sum(
        1
        for one in validators.validators
        if one.institution != without and identity.standing(state, one.institution) is None
    )
    if standing < validators.quorum:
        raise Refused("governance.would_lock", f"{standing} of {validators.n} would stand")


def _require_room(current: ValidatorSet, context: OperationContext) -> None:
    waiting = len(_open_candidates(context))
    if waiting >= CANDIDATES_MAX or current.n + waiting >= VALIDATORS_MAX:
        raise Refused("governance.full", f"{current.n} validators and {waiting} candidates")


def _open_candidates(context: OperationContext) -> list[Candidate]:
    return [one for one in candidates(context.state) if context.time_ms < one.expires_ms]


def _keep_candidates(waiting: list[Candidate], context: OperationContext) -> None:
    CANDIDATES.put(context.state, Candidates(waiting))


def _keep_set(validators: ValidatorSet, context: OperationContext) -> None:
    VALIDATORS.put(context.state, DecidedSet(list(validators.validators)))


def _founding(change: AdmitInstitution) -> identity.FoundInstitution:
    return identity.FoundInstitution(change.key, change.encryption_key, change.author_point, change.roles)


CONTRACT: Final = Contract(
    name="governance",
    operations=(
        OperationSpec("governance.propose", Propose, _propose, VoteCounted, rank=Rank.TAKES_RIGHTS),
        OperationSpec("governance.vote", Vote, _vote, VoteCounted, rank=Rank.TAKES_RIGHTS),
        OperationSpec("governance.ready", Ready, _ready, ValidatorChanged),
        OperationSpec("governance.report_evidence", ReportEvidence, _report_evidence),
        OperationSpec("governance.returned", Returned, _returned),
    ),
    slots=(
        VALIDATORS,
        PROPOSALS,
        OPEN_PROPOSALS,
        CANDIDATES,
        PROVED_FAULTS,
        FAULTS,
        RETIRED,
        RETURNS,
    ),
    events=(PROPOSED, VOTED, CANDIDATE_ACCEPTED, VALIDATOR_CHANGED, EVIDENCE, RETURNED, ROLES_CHANGED),
)
