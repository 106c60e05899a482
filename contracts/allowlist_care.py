"""The allow-list of what belongs to care: consent, treatment, emergencies, and who speaks for a patient.

As `allowlist`, of which it is a part.
"""

from __future__ import annotations

from typing import Final

_PATIENT = "a pseudonym: whose right it is, without saying who"
_ID = "a random id: says nothing, and is needed to name the thing again"
_WHO = "who is answerable: institutions and staff act under their own ids"
_PROXY = "who may speak for a pseudonym: every node must check it; staff, institutions, or another pseudonym"
_PERIOD = "it ends by block time, on every node alike"
_LEASE = "a quarter day, the same for everybody: no birth date shows"
_WHEN = "block time of the block that did it: in its header already"
_KEY = "verifies signatures; random-looking, belongs to one identity"
_ENCRYPTION = "others seal to it; random-looking"
_PROOF = "shows that the key's holder wants it to speak here"
_SIGNED = "a second signature: nobody does alone what takes two"
_PURPOSE = "a code of HL7's PurposeOfUse: rights are given for purposes"
_SCOPE = (
    "random ids of the patient's compartments: which of them a right is about, and not of what kind they are"
)
_COUNT = "a count that makes a signature serve once, or that rules are held against"
_REASON = "one of three words that name no illness: the review needs it"
_OUTCOME = "what the review said: abuse must be visible"
_CLOSED = "one word of a short list: rules follow from it"
_SEALED = "a tagged hash of sealed conditions: custodians find them by it, nobody else reads them"
_TEAM = "a random id: what a team is for is known off the chain"
_CLASS = "a blinded hash: only the patient's class map opens it"
_FLAG = "a patient's choice that every node must honour"
_LIST = "ids in the order of time: a decision must not search"

CARE: Final[dict[str, dict[str, str]]] = {
    "AccessNotice": {
        "reader": _WHO,
        "basis": _CLOSED,
        "ground": _ID,
    },
    "Account": {
        "manager": _PROXY,
        "representatives": _PROXY,
        "generation": _COUNT,
        "changes": _COUNT,
    },
    "AdmitMember": {
        "team": _TEAM,
        "member": _WHO,
    },
    "Appoint": {
        "patient": _PATIENT,
        "representative": _PROXY,
        "capacity": _CLOSED,
        "not_after": _LEASE,
        "changes": _COUNT,
        "countersignature": _SIGNED,
    },
    "ApproveRecovery": {
        "patient": _PATIENT,
        "key": _KEY,
    },
    "AttestTreatment": {
        "relationship": _ID,
        "patient": _PATIENT,
        "practitioners": _WHO,
        "not_after": _PERIOD,
        "witness": _SIGNED,
    },
    "Attestation": {
        "identity": _PROXY,
        "key": _KEY,
        "signature": _SIGNED,
    },
    "BeginSession": {
        "practitioner": _WHO,
        "key": _KEY,
        "not_after": _PERIOD,
        "proof": _PROOF,
    },
    "Close": {
        "glass": _ID,
    },
    "CompleteRecovery": {
        "patient": _PATIENT,
        "key": _KEY,
    },
    "Consent": {
        "patient": _PATIENT,
        "provisions": _CLOSED,
        "obligations": _SEALED,
        "source": _ID,
        "transferable": _FLAG,
        "granted_by": _PROXY,
        "generation": _COUNT,
        "parent": _ID,
        "granted_ms": _WHEN,
        "revoked_ms": _WHEN,
    },
    "Credential": {
        "issuer": _WHO,
        "subject": _WHO,
        "kind": _CLOSED,
        "issued_ms": _WHEN,
        "not_after": _PERIOD,
        "revoked_ms": _WHEN,
        "holder": _KEY,
    },
    "Current": {
        "relationships": _LIST,
    },
    "Declare": {
        "glass": _ID,
        "patient": _PATIENT,
        "reason": _REASON,
        "credential": _ID,
        "not_after": _PERIOD,
        "second_credential": _ID,
        "second": _SIGNED,
    },
    "Declared": {
        "glass": _ID,
        "reason": _REASON,
        "not_after": _PERIOD,
        "review_due_ms": _PERIOD,
    },
    "Dismiss": {
        "patient": _PATIENT,
        "representative": _PROXY,
    },
    "EndSession": {
        "practitioner": _WHO,
        "key": _KEY,
    },
    "EndTreatment": {
        "relationship": _ID,
    },
    "FormTeam": {
        "team": _TEAM,
        "kind": _CLOSED,
    },
    "Glass": {
        "patient": _PATIENT,
        "clinician": _WHO,
        "institution": _WHO,
        "reason": _REASON,
        "credential": _ID,
        "second": _SIGNED,
        "declared_ms": _WHEN,
        "not_after": _PERIOD,
        "review_due_ms": _PERIOD,
        "reviewer": _WHO,
        "outcome": _OUTCOME,
        "reviewed_ms": _WHEN,
        "is_reported": _COUNT,
    },
    "GrantConsent": {
        "consent": _ID,
        "patient": _PATIENT,
        "provisions": _CLOSED,
        "obligations": _SEALED,
        "source": _ID,
        "transferable": _FLAG,
        "countersignature": _SIGNED,
    },
    "Invitation": {
        "since_ms": _WHEN,
    },
    "IssueCredential": {
        "credential": _ID,
        "subject": _WHO,
        "kind": _CLOSED,
        "not_after": _PERIOD,
        "holder": _KEY,
        "proof": _PROOF,
    },
    "IssueMandate": {
        "mandate": _ID,
        "patient": _PATIENT,
        "reader": _WHO,
        "purposes": _PURPOSE,
        "compartments": _SCOPE,
        "not_before": _PERIOD,
        "not_after": _PERIOD,
        "countersignature": _SIGNED,
    },
    "JoinTeam": {
        "team": _TEAM,
    },
    "Mandate": {
        "patient": _PATIENT,
        "reader": _WHO,
        "purposes": _PURPOSE,
        "compartments": _SCOPE,
        "not_before": _PERIOD,
        "not_after": _PERIOD,
        "issuer": _WHO,
        "countersigner": _WHO,
        "issued_ms": _WHEN,
        "withdrawn_ms": _WHEN,
    },
    "MandateIssued": {
        "mandate": _ID,
        "not_after": _PERIOD,
    },
    "Mandated": {
        "mandates": _LIST,
    },
    "MemberChanged": {
        "team": _TEAM,
        "member": _WHO,
    },
    "Memberships": {
        "teams": _TEAM,
    },
    "OpenReview": {
        "glass": _ID,
        "due_ms": _PERIOD,
    },
    "Opened": {
        "glasses": _LIST,
    },
    "Owing": {
        "institutions": _WHO,
    },
    "PassOn": {
        "consent": _ID,
        "parent": _ID,
        "actor": _WHO,
        "purposes": _PURPOSE,
        "compartments": _SCOPE,
        "not_before": _PERIOD,
        "not_after": _PERIOD,
    },
    "Preferences": {
        "emergency_deny": _FLAG,
        "opt_out": _FLAG,
        "summary_opt_out": _FLAG,
    },
    "ProposeRecovery": {
        "patient": _PATIENT,
        "key": _KEY,
        "encryption_key": _ENCRYPTION,
        "proof": _PROOF,
    },
    "Provision": {
        "depth": _CLOSED,
        "effect": _CLOSED,
        "actors": _WHO,
        "purposes": _PURPOSE,
        "compartments": _SCOPE,
        "not_before": _PERIOD,
        "not_after": _PERIOD,
        "conditional": _SEALED,
    },
    "RateAlarm": {
        "count": _COUNT,
    },
    "Recent": {
        "declared_ms": _WHEN,
    },
    "Recoveries": {
        "proposals": _LIST,
    },
    "Recovery": {
        "key": _KEY,
        "encryption_key": _ENCRYPTION,
        "proof": _PROOF,
        "proposer": _PROXY,
        "proposed_ms": _WHEN,
        "approved_by": _PROXY,
        "ready_ms": _PERIOD,
    },
    "RecoveryChanged": {
        "key": _KEY,
        "approvals": _COUNT,
        "ready_ms": _PERIOD,
    },
    "Relationship": {
        "patient": _PATIENT,
        "institution": _WHO,
        "practitioners": _WHO,
        "begun_ms": _WHEN,
        "not_after": _PERIOD,
        "ended_ms": _WHEN,
        "witness": _SIGNED,
    },
    "RemoveMember": {
        "team": _TEAM,
        "member": _WHO,
    },
    "ReportOverdue": {
        "glass": _ID,
    },
    "RepresentationChanged": {
        "representative": _PROXY,
        "capacity": _CLOSED,
        "not_after": _LEASE,
    },
    "Representative": {
        "identity": _PROXY,
        "capacity": _CLOSED,
        "not_after": _LEASE,
    },
    "ReviewEmergency": {
        "glass": _ID,
        "outcome": _OUTCOME,
    },
    "Reviewed": {
        "glass": _ID,
        "outcome": _OUTCOME,
        "is_late": _OUTCOME,
    },
    "Reviews": {
        "open": _LIST,
        "uncounted": _COUNT,
        "reported": _COUNT,
    },
    "RevokeCredential": {
        "credential": _ID,
    },
    "SessionChanged": {
        "key": _KEY,
        "not_after": _PERIOD,
    },
    "Sessions": {
        "keys": _KEY,
    },
    "TakeOver": {
        "patient": _PATIENT,
        "key": _KEY,
        "encryption_key": _ENCRYPTION,
        "proof": _PROOF,
        "epochs": _KEY,
        "class_commitments": _CLASS,
    },
    "TakenOver": {
        "key": _KEY,
        "generation": _COUNT,
    },
    "Team": {
        "owner": _WHO,
        "kind": _CLOSED,
        "formed_ms": _WHEN,
    },
    "TreatmentChanged": {
        "relationship": _ID,
        "not_after": _PERIOD,
    },
    "VetoRecovery": {
        "key": _KEY,
    },
    "WithdrawMandate": {
        "mandate": _ID,
    },
}
"""Type, field and reason, as `allowlist.ALLOWED`."""
