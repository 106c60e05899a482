"""Every field that contracts put on the chain, and why it must be there: no name, no code of medicine, no free text.

What reaches the chain is the body of an operation, its result, what it leaves in state, and the data of its events. A
test holds each of their fields against this table, and `docs/contracts.md` against both: whoever adds a field says here
what it reveals and why nothing less will do, or does not add it.
"""

from __future__ import annotations

from typing import Final

from consilium.contracts.allowlist_care import CARE
from consilium.contracts.allowlist_disclosures import DISCLOSURES
from consilium.contracts.allowlist_erasure import ERASURE
from consilium.contracts.allowlist_summaries import SUMMARIES

_RANDOM = "a random id: says nothing, and is needed to name the thing again"
_READER = "who is answerable for the reading; institutions and staff act under their own ids"
_APPLICATION = "through which program: the patient may ask, and applications act under their own ids"
_AUTOMATED = "whether a machine asked by itself: the patient may ask"
_PATIENT = "a pseudonym: whose right it is, without saying who"
_PURPOSE = (
    "a code of HL7's PurposeOfUse: consent is given for purposes, and a log without them proves nothing"
)
_PERIOD = "consents end by block time, on every node alike"
_WHEN = "block time of the block that did it: in its header already"
_SIGNING = "verifies signatures; random-looking, belongs to one identity"
_ENCRYPTION = "others seal to it; random-looking"
_PROOF = "shows that the key's holder wants it registered here"
_KIND = "institution, patient, practitioner or application: rights follow from it"
_ROLES = "what an institution may do: anybody must be able to check it"
_SPONSOR = "who vouches for the identity, and may suspend it"
_STATUS = "a suspended identity must be refused by every node"
_GENERAL = (
    "whether it is the general class, where other rules hold; of the sensitive ones none shows which it is"
)
_CLASS = "a blinded hash: only the patient's class map opens it"
_ALSO = "random ids of compartments: a record of several classes takes a permit for each"
_RULE = "what the network decided for itself: anybody must be able to check it"
_GROWTH = "how much state somebody added of late: every node refuses what is too much alike"
_EPOCH = "which key a record is sealed to: an ended one is refused"
_SHARING = "public points: shares and partials are checked against them"
_CUSTODIANS = "who must obey decisions about the compartment, and can be asked to"
_ANCHOR = "a tagged hash over ciphertext and its context, never over plaintext"
_ENVELOPE = "a tagged hash of encrypted bytes: under it vaults keep and find them"
_PLACE = "a bundle is visible whole or not at all; how many records it has shows in any case"
_SCOPE = "random ids of the patient's compartments: which of them a consent or verdict is about"
_ALLOW = "the verdict itself: custodians act on it"
_BASIS = "one word of a fixed list: a denial must say its reason, an allow its ground"
_EPHEMERAL = "made for one request: what is released is sealed to it alone"
_VERSION = "a decision is read for as long as the chain is"
_NAMED = "random ids: a decision opens what it names and nothing else"
_VALIDATOR_KEY = (
    "the node key of a validator: headers name the set by its hash, and everybody must know who is in it"
)
_RUNS = "which institution answers for the validator, and votes with its weight"
_BALLOT = "institutions decide in the open, and answer for it"
_FAULT = "two contradicting signatures prove a validator's fault to anybody; they say nothing of patients"
_HEIGHT = "a place in the chain"
_PERIOD_OF_VOTE = "proposals and candidates lapse by block time, on every node alike"

ALLOWED: Final[dict[str, dict[str, str]]] = {
    **CARE,
    **DISCLOSURES,
    **SUMMARIES,
    **ERASURE,
    "AccessDecided": {
        "patient": _PATIENT,
        "reader": _READER,
        "institution": _READER,
        "application": _APPLICATION,
        "automated": _AUTOMATED,
        "purpose": _PURPOSE,
        "first": "a place in the patient's accounting: a missing line must be seen",
        "lines": "a line of the access log for each compartment",
    },
    "AccessLine": {
        "verdict": "its place in the decision, so that a release can name it",
        "compartment": _SCOPE,
        "also": _ALSO,
        "records": "how many were asked for: the ids stand in the decision only",
        "allow": _ALLOW,
        "basis": _BASIS,
        "ground": _RANDOM,
        "valid_until": _PERIOD,
    },
    "AccessRequest": {
        "records": _NAMED,
        "compartments": _SCOPE,
        "purpose": _PURPOSE,
        "ephemeral": _EPHEMERAL,
        "application": _APPLICATION,
        "automated": _AUTOMATED,
    },
    "AddKey": {"key": _SIGNING, "proof": _PROOF},
    "AddValidator": {"key": _VALIDATOR_KEY, "institution": _RUNS},
    "Added": {"bytes": _GROWTH, "at_ms": _WHEN},
    "AdmitInstitution": {
        "key": _SIGNING,
        "encryption_key": _ENCRYPTION,
        "author_point": _ENCRYPTION,
        "roles": _ROLES,
        "proof": _PROOF,
    },
    "AnchorRecord": {
        "record": _RANDOM,
        "compartment": _SCOPE,
        "also": _ALSO,
        "epoch": _EPOCH,
        "bundle": _RANDOM,
        "position": _PLACE,
        "count": _PLACE,
        "anchor": _ANCHOR,
        "envelope": _ENVELOPE,
    },
    "Anchored": {
        "record": _RANDOM,
        "compartment": _SCOPE,
        "also": _ALSO,
        "bundle": _RANDOM,
        "position": _PLACE,
        "count": _PLACE,
    },
    "BeginEpoch": {"compartment": _SCOPE, "commitments": _SHARING, "custodians": _CUSTODIANS},
    "Bundle": {
        "patient": _PATIENT,
        "count": _PLACE,
        "anchored": _PLACE,
        "positions": "which places are taken, until the bundle is complete",
    },
    "Candidate": {"key": _VALIDATOR_KEY, "institution": _RUNS, "expires_ms": _PERIOD_OF_VOTE},
    "CandidateAccepted": {"key": _VALIDATOR_KEY, "expires_ms": _PERIOD_OF_VOTE},
    "Candidates": {"candidates": _VALIDATOR_KEY},
    "ChangeQuotas": {"quotas": _RULE},
    "ChangeRoles": {"institution": "whom", "roles": _ROLES},
    "ChangeSettings": {"settings": _RULE},
    "Compartment": {
        "patient": _PATIENT,
        "general": _GENERAL,
        "class_commitment": _CLASS,
        "epoch": _EPOCH,
    },
    "Completed": {"bundle": _RANDOM, "count": _PLACE},
    "DecidedSet": {"validators": _VALIDATOR_KEY},
    "Decision": {
        "version": _VERSION,
        "reader": _READER,
        "institution": _READER,
        "key": "the key that asked: revoking it must stop the release",
        "purpose": _PURPOSE,
        "time_ms": _WHEN,
        "ephemeral": _EPHEMERAL,
        "verdicts": "one for each patient and compartment",
        "application": _APPLICATION,
        "automated": _AUTOMATED,
    },
    "Enrol": {"kind": _KIND, "key": _SIGNING, "encryption_key": _ENCRYPTION, "proof": _PROOF},
    "Enrolled": {"identity": "a hash of the first key", "kind": _KIND, "sponsor": _SPONSOR},
    "Epoch": {"commitments": _SHARING, "custodians": _CUSTODIANS, "begun_ms": _WHEN},
    "EpochBegun": {"compartment": _SCOPE, "epoch": _EPOCH},
    "Evidence": {
        "kind": _FAULT,
        "height": _FAULT,
        "view": _FAULT,
        "validator": _FAULT,
        "first": _FAULT,
        "first_signature": _FAULT,
        "second": _FAULT,
        "second_signature": _FAULT,
    },
    "FaultProved": {"key": _VALIDATOR_KEY, "height": _HEIGHT, "view": _FAULT, "fault_kind": _FAULT},
    "Faults": {
        "count": "a removal needs fewer votes once there is one; more than a few say nothing new",
        "latest_height": _HEIGHT,
    },
    "FoundInstitution": {
        "key": _SIGNING,
        "encryption_key": _ENCRYPTION,
        "author_point": _ENCRYPTION,
        "roles": _ROLES,
    },
    "Grants": {"consents": _RANDOM},
    "Identity": {
        "kind": _KIND,
        "status": _STATUS,
        "sponsor": _SPONSOR,
        "keys": _SIGNING,
        "encryption_key": _ENCRYPTION,
        "author_point": _ENCRYPTION,
        "roles": _ROLES,
        "since_ms": _WHEN,
    },
    "KeyChanged": {"key": _SIGNING},
    "KeyEntry": {
        "identity": "whose key it is",
        "added_ms": _WHEN,
        "revoked_ms": _WHEN,
        "not_after": "a session key ends by itself",
    },
    "LastReturn": {"height": _HEIGHT},
    "NewCompartment": {
        "compartment": _RANDOM,
        "general": _GENERAL,
        "class_commitment": _CLASS,
        "commitments": _SHARING,
        "custodians": _CUSTODIANS,
    },
    "OpenCompartments": {"patient": _PATIENT, "compartments": "one of every class at once"},
    "OpenProposals": {"proposals": _RANDOM},
    "OwnKey": {"since_ms": _WHEN},
    "PatientCompartments": {"compartments": _SCOPE},
    "Proposal": {
        "change": _BALLOT,
        "proposer": _BALLOT,
        "expires_ms": _PERIOD_OF_VOTE,
        "approvals": _BALLOT,
        "rejections": _BALLOT,
        "outcome": _BALLOT,
    },
    "Propose": {"proposal": _RANDOM, "change": _BALLOT},
    "ProvedFault": {"evidence": _FAULT, "reporter": _BALLOT, "reported_height": _HEIGHT},
    "Quotas": {"member_bytes": _RULE, "patient_bytes": _RULE},
    "Ready": {
        "key": _VALIDATOR_KEY,
        "height": _HEIGHT,
        "block_hash": "which block the candidate has: public already",
        "signature": _PROOF,
    },
    "Record": {
        "compartment": _SCOPE,
        "also": _ALSO,
        "epoch": _EPOCH,
        "author": "which institution answers for the record, and keeps its chart",
        "bundle": _RANDOM,
        "position": _PLACE,
        "anchor": _ANCHOR,
        "envelope": _ENVELOPE,
        "anchored_ms": _WHEN,
    },
    "Reinstate": {"identity": "whom"},
    "ReinstateInstitution": {"institution": "whom"},
    "RemoveValidator": {"key": _VALIDATOR_KEY},
    "ReportEvidence": {"evidence": _FAULT},
    "Retired": {"institution": _RUNS, "height": _HEIGHT},
    "Returned": {"key": _VALIDATOR_KEY},
    "RevokeConsent": {"consent": _RANDOM},
    "RevokeKey": {"key": _SIGNING},
    "RolesChanged": {"roles": _ROLES},
    "Settings": {
        "sensitive_threshold_min": _RULE,
        "policy_purposes": _RULE,
        "witness_required": _RULE,
        "second_person": _RULE,
        "glass_ms_max": _RULE,
        "review_ms": _RULE,
        "glass_alarm_count": _RULE,
        "glass_alarm_ms": _RULE,
        "managed_consent_ms_max": _RULE,
        "recovery_wait_ms": _RULE,
        "emergency_summaries": _RULE,
        "summary_report_ms": _RULE,
    },
    "StatusChanged": {"status": _STATUS},
    "Suspend": {"identity": "whom"},
    "SuspendInstitution": {"institution": "whom"},
    "Validator": {"key": _VALIDATOR_KEY, "institution": _RUNS},
    "ValidatorChanged": {
        "key": _VALIDATOR_KEY,
        "institution": _RUNS,
        "joined": "whether it votes from then on, or no more",
        "height": _HEIGHT,
    },
    "ValidatorReturned": {"key": _VALIDATOR_KEY},
    "Verdict": {
        "patient": _PATIENT,
        "compartment": _SCOPE,
        "also": _ALSO,
        "epoch": _EPOCH,
        "records": _NAMED,
        "allow": _ALLOW,
        "basis": _BASIS,
        "ground": _RANDOM,
        "obligations": "tagged hashes of sealed conditions: custodians must ask them, nobody else reads them",
        "valid_until": _PERIOD,
    },
    "Vote": {"proposal": _RANDOM, "approve": _BALLOT},
    "VoteCounted": {"proposal": _RANDOM, "approving": _BALLOT, "needed": _BALLOT, "outcome": _BALLOT},
}
"""Type, field and reason; the types are those of bodies, results, state and event data, and what they contain."""
