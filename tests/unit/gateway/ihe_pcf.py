"""The world of IHE's Consent examples: who is who, which records there are, and how an answer is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consilium.client.classes import ClassEntry, ClassMap
from consilium.client.obligations import facts_of
from consilium.contracts import decision
from consilium.contracts.classes import CLASSES, GENERAL
from consilium.contracts.conditions import Conditions
from consilium.contracts.consent import EVERYBODY, Consent
from consilium.contracts.facts import Facts
from consilium.gateway.bundle import Entry
from consilium.gateway.classification import Sourced, classify
from consilium.gateway.consent_fhir import Draft, Known
from consilium.gateway.importing import header_of

NOW_MS = 1_700_000_000_000
CHAIN = bytes(32)


def some_id(name: str) -> bytes:
    return name.encode().ljust(16, b".")[:16]


PATIENT, MOTHER = some_id("patient"), some_id("mother")
READERS: dict[str, tuple[bytes, ...]] = {
    "practitioner": (some_id("practitioner"), some_id("organization"), some_id("privileged")),
    "clerk": (some_id("clerk"), some_id("organization")),
    "researcher": (some_id("researcher"),),
}
"""Who asks, and under which names a consent may mean them: themselves, their employer, their teams."""
PURPOSES = ("TREAT", "BTG", "HPAYMT", "HOPERAT", "HRESCH")
MAP = ClassMap(
    1, CHAIN, PATIENT, tuple(ClassEntry(some_id(f"class {code}"), code, bytes(32)) for code in CLASSES)
)
KNOWN = Known(
    patient=PATIENT,
    class_map=MAP,
    parties={
        "Practitioner/ex-practitioner": some_id("practitioner"),
        "Organization/ex-org-researcher": some_id("researcher"),
        "Organization/ex-organization": some_id("organization"),
        "Group/ex-privilegedUsers": some_id("privileged"),
    },
    patients={"Patient/ex-patient": PATIENT, "Patient/ex-mother": MOTHER},
    policies=frozenset(
        {
            "http://example.org/policies/basePrivacyConsentPolicy.txt",
            "http://example.org/policies/researchPrivacyConsentPolicy.txt",
            "https://profiles.ihe.net/ITI/PCF/Policy-basic-normal",
            "https://profiles.ihe.net/ITI/PCF/Policy-break-glass-only",
        }
    ),
    references={"Encounter/ex-encounter": ("Patient/ex-patient",)},
)


def invented_records() -> dict[str, dict[str, Any]]:
    """Records as those of the examples, for when these are not at hand."""
    subject = {"subject": {"reference": "Patient/ex-patient"}}
    pulse = {"resourceType": "Observation", "effectiveDateTime": "2022-06-13", **subject}
    return {
        "Encounter/ex-encounter": {"resourceType": "Encounter", "id": "ex-encounter", **subject},
        "Observation/ex-weight": {
            **pulse,
            "id": "ex-weight",
            "performer": [{"reference": "Practitioner/ex-practitioner"}],
        },
        "Observation/ex-old": {**pulse, "id": "ex-old", "effectiveDateTime": "2019-01-01"},
        "Observation/ex-alcoholUse": {
            **pulse,
            "id": "ex-alcoholUse",
            "meta": {
                "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "ETHUD"}]
            },
            "encounter": {"reference": "Encounter/ex-encounter"},
        },
    }


def example_records(folder: Path) -> dict[str, dict[str, Any]]:
    """The encounter and observations of the examples, by reference."""
    found = {}
    for path in sorted([*folder.glob("Encounter-*.json"), *folder.glob("Observation-*.json")]):
        resource = json.loads(path.read_text(encoding="utf-8"))
        found[f"{resource['resourceType']}/{resource['id']}"] = resource
    return found


def permitted(draft: Draft, records: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """Reader -> purpose -> references of the records that the consent alone lets that reader have.

    Each record is asked about twice, as on the ledger: by the contract without its header, then by a custodian with
    it.
    """
    digest = b"D" * 32
    hidden = {digest: Conditions(1, CHAIN, bytes(16), list(draft.conditions))} if draft.conditions else {}
    held = Consent(
        PATIENT, list(draft.provisions), digest if hidden else None, None, False, PATIENT, 0, None, 0, None
    )
    answers: dict[str, dict[str, list[str]]] = {}
    classified = classify([Sourced(None, resource) for resource in records.values()])
    for reader, parties in READERS.items():
        facts = Facts(PATIENT, parties[0], True, parties=(*parties, EVERYBODY), consents=((bytes(16), held),))
        for purpose in PURPOSES:
            for (reference, resource), found in zip(records.items(), classified, strict=True):
                entry = Entry(0, None, resource["resourceType"], resource["id"], (0, 0), b"")
                header = header_of(entry, resource, found, {})
                record = facts_of(some_id("organization"), header)
                asked = [
                    decision.Question(facts, MAP.compartment(code), code == GENERAL, purpose, NOW_MS)
                    for code in found.classes
                ]
                ruling = decision.decide_all(asked)
                again = [
                    decision.Question(facts, one.compartment, one.general, purpose, NOW_MS, record, hidden)
                    for one in asked
                ]
                allowed = decision.decide_all(again).allow
                # what a custodian would release, the contract must have allowed
                assert ruling.allow or not allowed
                if ruling.allow and not ruling.obligations:
                    assert allowed
                if allowed:
                    answers.setdefault(reader, {}).setdefault(purpose, []).append(reference)
    return answers
