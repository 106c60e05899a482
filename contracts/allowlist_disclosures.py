"""The part of the allow-list that belongs to the accounting of disclosures; as `allowlist`, which merges it."""

from __future__ import annotations

from typing import Final

_READER = "who is answerable for the reading; institutions and staff act under their own ids"
_PATIENT = "a pseudonym: whose right it is, without saying who"
_CUSTODIAN = "which institution answers for the release"
_REQUEST = "which decision was obeyed: public already"
_SCOPE = "random ids of the patient's compartments"
_COUNT = "how many records: the ids stand in the decision only"
_WHEN = "when it was released: an accounting without the time is none"
_PLACE = "a place in the patient's accounting: a missing line must be seen"
_ALLOW = "the verdict itself: nodes act on it"
_BASIS = "one word of a fixed list: a denial must be an entry too"
_CREDENTIAL = "the id of an auditor's credential: random, and checked by every node"

DISCLOSURES: Final[dict[str, dict[str, str]]] = {
    "AccountingConsulted": {
        "patient": _PATIENT,
        "number": _PLACE,
        "reader": _READER,
        "institution": _READER,
        "allow": _ALLOW,
        "basis": _BASIS,
        "credential": _CREDENTIAL,
    },
    "AccountingHead": {"lines": _PLACE, "head": "a tagged hash over lines that are public already"},
    "AttestReleases": {"releases": "one for each verdict that was obeyed"},
    "AttestedRelease": {
        "transaction": _REQUEST,
        "operation": _REQUEST,
        "verdict": _REQUEST,
        "epoch": "in which epoch the sender is a custodian: public already",
        "records": _COUNT,
        "released_ms": _WHEN,
    },
    "ConsultAccounting": {"patient": _PATIENT, "credential": _CREDENTIAL},
    "Consultation": {
        "version": "a consultation is read for as long as the chain is",
        "patient": _PATIENT,
        "reader": _READER,
        "key": "the key that asked: revoking it must stop the answer",
        "time_ms": "block time of the block that did it: in its header already",
        "allow": _ALLOW,
        "basis": _BASIS,
        "credential": _CREDENTIAL,
        "valid_until": "an answer is given for minutes, on every node alike",
    },
    "RecordsReleased": {
        "patient": _PATIENT,
        "number": _PLACE,
        "custodian": _CUSTODIAN,
        "reader": _READER,
        "institution": _READER,
        "request": _REQUEST,
        "request_operation": _REQUEST,
        "verdict": _REQUEST,
        "compartment": _SCOPE,
        "also": _SCOPE,
        "records": _COUNT,
        "released_ms": _WHEN,
    },
    "ReleaseEntry": {
        "records": _COUNT,
        "released_ms": _WHEN,
        "attested_ms": "block time of the block that did it: in its header already",
    },
    "SummaryDisclosed": {
        "patient": _PATIENT,
        "number": _PLACE,
        "opener": _READER,
        "second": _READER,
        "institution": _READER,
        "glass": "a hash of the entry: names the emergency that is reviewed",
        "reason": _BASIS,
        "opened_ms": _WHEN,
    },
}
"""Type, field and reason."""
