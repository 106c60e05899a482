"""What governance is about, in types: changes that institutions vote on, what state keeps and tells of them.

The rules are in governance.py. Apart from it, because nodes and clients read these entries and make these bodies
without ever deciding anything.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from consilium.consensus.evidence import Evidence
from consilium.contracts import identity, keys
from consilium.contracts.operation import ID_BYTES, KEY_BYTES, EventKind, Slot
from consilium.contracts.quotas import Quotas
from consilium.contracts.settings import Settings
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, Tag
from consilium.ledger.execution import ANCESTORS_MAX
from consilium.ledger.state import StateReader
from consilium.ledger.validators import VALIDATORS_MAX, Validator

PROPOSALS_OPEN_MAX: Final = 2
"""So many of an institution's proposals are open at a time: with VALIDATORS_MAX, a bound on all."""
PROPOSAL_LIFETIME_MS: Final = 14 * 24 * 60 * 60 * 1000
CANDIDATES_MAX: Final = 8
CANDIDATE_LIFETIME_MS: Final = 30 * 24 * 60 * 60 * 1000
READY_HEIGHTS: Final = ANCESTORS_MAX
"""The block that a *ready* signs is at most so many heights old."""
EVIDENCE_HEIGHTS_MAX: Final = 1_000_000
"""Evidence of a fault longer ago is not taken any more, and does not ease a removal any more."""
FAULTS_MAX: Final = 16
"""So many faults of a validator are kept: more would say nothing new."""
RETURN_HEIGHTS: Final = 2
TAKES_EFFECT_HEIGHTS: Final = 2

_READY_TAG: Final = Tag("consilium/ready/1")
_ADMISSION_TAG: Final = Tag("consilium/admission/1")


# --- bodies, results and event data ---------------------------------------------------------------------------------


class AddValidator(codec.Wire, frozen=True, tag=1):
    """A new validator, run by an institution that the ledger knows."""

    key: codec.Bytes32
    institution: codec.Bytes16


class RemoveValidator(codec.Wire, frozen=True, tag=2):
    """A validator, or a candidate, is one no more."""

    key: codec.Bytes32


class SuspendInstitution(codec.Wire, frozen=True, tag=3):
    """An institution, and the staff it enrolled, may not act. Its validators vote on until they are removed."""

    institution: codec.Bytes16


class ReinstateInstitution(codec.Wire, frozen=True, tag=4):
    """A suspended institution may act again."""

    institution: codec.Bytes16


class AdmitInstitution(codec.Wire, frozen=True, tag=5):
    """A new institution. `proof` is a signature by `key` over `admission_digest`."""

    key: codec.Bytes32
    encryption_key: codec.Bytes32
    author_point: codec.Bytes32
    roles: identity.Roles
    proof: codec.Bytes64


class ChangeRoles(codec.Wire, frozen=True, tag=6):
    """What an institution may do from then on. Whom it accredited stands or falls with the role."""

    institution: codec.Bytes16
    roles: identity.Roles


class ChangeSettings(codec.Wire, frozen=True, tag=7):
    """The network's settings, all of them, from then on."""

    settings: Settings


class ChangeQuotas(codec.Wire, frozen=True, tag=8):
    """How much state members and patients may add, from the next block on."""

    quotas: Quotas


Change: TypeAlias = (
    AddValidator
    | RemoveValidator
    | SuspendInstitution
    | ReinstateInstitution
    | AdmitInstitution
    | ChangeRoles
    | ChangeSettings
    | ChangeQuotas
)


class Propose(codec.Wire, frozen=True):
    """`governance.propose`. `proposal` is a random id; the proposer approves by proposing."""

    proposal: codec.Bytes16
    change: Change


class Vote(codec.Wire, frozen=True):
    """`governance.vote`. An institution's last vote counts; voting again is allowed while the proposal is open."""

    proposal: codec.Bytes16
    approve: bool


class Ready(codec.Wire, frozen=True):
    """`governance.ready`. `signature` is the candidate's, by `key` over `ready_digest`."""

    key: codec.Bytes32
    height: codec.Uint
    block_hash: codec.Bytes32
    signature: codec.Bytes64


class ReportEvidence(codec.Wire, frozen=True):
    """`governance.report_evidence`."""

    evidence: Evidence


class Returned(codec.Wire, frozen=True):
    """`governance.returned`: the sender's validator lost its memory, and is silent for a few heights."""

    key: codec.Bytes32


Outcome = Literal["accepted", "open", "rejected"]


class VoteCounted(codec.Wire, frozen=True):
    """Where a proposal stands after a proposal or vote: weights are validators. Result, and data of the event."""

    proposal: codec.Bytes16
    approving: codec.Uint
    needed: codec.Uint
    outcome: Outcome


class ValidatorChanged(codec.Wire, frozen=True):
    """A key votes, or votes no more, from `height` on."""

    key: codec.Bytes32
    institution: codec.Bytes16
    joined: bool
    height: codec.Uint


class CandidateAccepted(codec.Wire, frozen=True):
    """A key may join once it says that it is ready."""

    key: codec.Bytes32
    expires_ms: codec.Uint


class FaultProved(codec.Wire, frozen=True):
    """Whose contradiction was proved, and where. `fault_kind` as `consensus.evidence.VoteKind`."""

    key: codec.Bytes32
    height: codec.Uint
    view: codec.Uint
    fault_kind: Annotated[int, msgspec.Meta(ge=0, le=2)]


class ValidatorReturned(codec.Wire, frozen=True):
    """Which validator lost its memory."""

    key: codec.Bytes32


# --- state ----------------------------------------------------------------------------------------------------------


class DecidedSet(codec.Wire, frozen=True):
    """The newest decided validator set, in the order of keys; there is no entry while it is the genesis document's."""

    validators: Annotated[list[Validator], msgspec.Meta(min_length=1, max_length=VALIDATORS_MAX)]


Institutions = Annotated[list[codec.Bytes16], msgspec.Meta(max_length=VALIDATORS_MAX)]


class Proposal(codec.Wire, frozen=True):
    """`approvals` and `rejections` in the order they came. Open and past `expires_ms`, it has lapsed."""

    change: Change
    proposer: codec.Bytes16
    expires_ms: codec.Uint
    approvals: Institutions
    rejections: Institutions
    outcome: Outcome


class OpenProposals(codec.Wire, frozen=True):
    """An institution's proposals that were open when it proposed last."""

    proposals: Annotated[list[codec.Bytes16], msgspec.Meta(max_length=PROPOSALS_OPEN_MAX)]


class Candidate(codec.Wire, frozen=True):
    """A key that was accepted, and has not said yet that it is ready."""

    key: codec.Bytes32
    institution: codec.Bytes16
    expires_ms: codec.Uint


class Candidates(codec.Wire, frozen=True):
    """All candidates, oldest first."""

    candidates: Annotated[list[Candidate], msgspec.Meta(max_length=CANDIDATES_MAX)]


class ProvedFault(codec.Wire, frozen=True):
    """Evidence, and which institution brought it at which height."""

    evidence: Evidence
    reporter: codec.Bytes16
    reported_height: codec.Uint


class Faults(codec.Wire, frozen=True):
    """How many faults of a key are proved, and the height of the latest."""

    count: Annotated[int, msgspec.Meta(ge=1, le=FAULTS_MAX)]
    latest_height: codec.Uint


class Retired(codec.Wire, frozen=True):
    """A key that was a validator's, and from which height on it is not."""

    institution: codec.Bytes16
    height: codec.Uint


class LastReturn(codec.Wire, frozen=True):
    """Where a validator said last that it lost its memory."""

    height: codec.Uint


VALIDATORS: Final = Slot(keys.VALIDATORS, (), DecidedSet, 4_096)
PROPOSALS: Final = Slot(keys.PROPOSAL, (ID_BYTES,), Proposal, 4_096)
OPEN_PROPOSALS: Final = Slot(keys.OPEN_PROPOSALS, (ID_BYTES,), OpenProposals, 64)
CANDIDATES: Final = Slot(keys.CANDIDATES, (), Candidates, 1_024)
PROVED_FAULTS: Final = Slot(keys.PROVED_FAULT, (KEY_BYTES, 8, 1), ProvedFault, 512)
FAULTS: Final = Slot(keys.FAULTS, (KEY_BYTES,), Faults, 32)
RETIRED: Final = Slot(keys.RETIRED, (KEY_BYTES,), Retired, 64)
RETURNS: Final = Slot(keys.RETURN, (KEY_BYTES,), LastReturn, 16)

PROPOSED: Final = EventKind("governance.proposed", VoteCounted)
VOTED: Final = EventKind("governance.voted", VoteCounted)
CANDIDATE_ACCEPTED: Final = EventKind("governance.candidate", CandidateAccepted)
VALIDATOR_CHANGED: Final = EventKind("governance.validator", ValidatorChanged)
EVIDENCE: Final = EventKind("governance.evidence", FaultProved)
RETURNED: Final = EventKind("governance.returned", ValidatorReturned)


# --- what is signed off the chain -----------------------------------------------------------------------------------


def ready_digest(
    *, chain_id: bytes, key: bytes, institution: bytes, height: int, block_hash: bytes
) -> Digest:
    """What a candidate signs (32 bytes): it has this block of this chain, and serves this institution."""
    return _READY_TAG.digest(codec.encode((chain_id, key, institution, height, block_hash)))


def admission_digest(
    *, chain_id: bytes, key: bytes, encryption_key: bytes, author_point: bytes, roles: list[identity.Role]
) -> Digest:
    """What the key of a new institution signs (32 bytes)."""
    return _ADMISSION_TAG.digest(codec.encode((chain_id, key, encryption_key, author_point, roles)))


# --- questions others ask -------------------------------------------------------------------------------------------


def candidates(state: StateReader) -> list[Candidate]:
    """Who may become a validator, lapsed candidates included, oldest first."""
    known = CANDIDATES.get(state)
    return [] if known is None else known.candidates
