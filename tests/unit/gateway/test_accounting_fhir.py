"""The accounting as FHIR AuditEvents: valid, by IHE's patterns, and the same from a proof as from a custodian."""

from __future__ import annotations

import json

import pytest

from consilium.client import disclosures
from consilium.contracts import accounting
from consilium.gateway import accounting_fhir
from consilium.ledger.errors import Refused
from tests.unit.client.test_disclosures import (
    HOME,
    OPENER,
    SECOND,
    care,
    consult,
    exported,
    nothing,
    opened_without_a_quorum,
)
from tests.unit.node.care import Ward

__all__ = ["care"]


async def test_a_proof_gives_the_same_events(care: Ward) -> None:
    found, raw = await exported(care)
    proved = disclosures.verify(raw, care.harness.genesis)
    assert accounting_fhir.to_fhir(proved) == accounting_fhir.to_fhir(found)


async def test_the_audit_events_are_valid_fhir_and_follow_their_patterns(care: Ward) -> None:
    bundles = pytest.importorskip("fhir.resources.R4B.bundle")
    found, _ = await exported(care)
    raw = accounting_fhir.to_fhir(found, {care.north.identity: "North"})
    bundle = bundles.Bundle.model_validate_json(raw)
    events = [one.resource for one in bundle.entry]
    assert [event.meta.profile[0].rpartition("BasicAudit.")[2] for event in events] == [
        "AuthZconsent",
        "AuthZconsent",
        "PrivacyDisclosure.Source",
        "PatientQuery",
    ]
    assert [event.outcome for event in events] == ["8", "0", "0", "0"]
    for event, line in zip(events, found.lines, strict=True):
        patient = [one for one in event.entity if one.type.code == "1"]
        assert [one.role.code for one in patient] == ["1"]
        assert patient[0].what.identifier.value == found.patient.hex()
        details = {one.type: one.valueString for one in patient[0].detail}
        assert details["line"] == str(line.number)
        assert details["digest"] == accounting.line_digest(line).hex()
        assert details["receipt"].endswith(f"{line.transaction.hex()}.receipt")


AGENTS = {
    "AuthZconsent": ["110150", "IRCP", "PROV", "authserver"],
    "PrivacyDisclosure.Source": ["110153", "110152", "159541003", "429577009"],
    "PatientQuery": ["110153", "110152", "IRCP"],
}
WITH_NETWORK = {"110150", "110152", "110153"}
OBSERVER = {"AuthZconsent": "authserver", "PrivacyDisclosure.Source": "110153", "PatientQuery": "110152"}


async def test_every_agent_and_entity_that_a_pattern_demands_is_there(care: Ward) -> None:
    found, _ = await exported(care)
    for entry in json.loads(accounting_fhir.to_fhir(found))["entry"]:
        event = entry["resource"]
        pattern = event["meta"]["profile"][0].rpartition("BasicAudit.")[2]
        agents = {one["type"]["coding"][0]["code"]: one for one in event["agent"]}
        assert list(agents) == AGENTS[pattern]
        assert all(one["who"] for one in agents.values())
        assert {code for code, one in agents.items() if "network" in one} == WITH_NETWORK & agents.keys()
        assert agents[OBSERVER[pattern]]["who"] == event["source"]["observer"]
        if pattern == "AuthZconsent":
            # the pattern's entities are closed: patient and consent
            assert [one["type"]["code"] for one in event["entity"]] == ["1", "Consent"]
            assert agents["IRCP"]["purposeOfUse"][0]["coding"][0]["code"] == "TREAT"
        else:
            assert [one["type"]["code"] for one in event["entity"]] == ["1", "2"]


async def test_a_denied_consultation_claims_no_pattern_of_success(care: Ward) -> None:
    with pytest.raises(Refused):
        await consult(care, care.south)
    found = await consult(care)
    first = json.loads(accounting_fhir.to_fhir(found))["entry"][0]["resource"]
    assert "meta" not in first
    assert first["outcome"] == "8"


def test_a_summary_that_was_opened_without_a_quorum_is_a_disclosure() -> None:
    found = opened_without_a_quorum()
    (entry,) = json.loads(accounting_fhir.to_fhir(found))["entry"]
    event = entry["resource"]
    assert event["meta"]["profile"][0].endswith("PrivacyDisclosure.Source")
    assert event["source"]["observer"]["identifier"]["value"] == HOME.hex()
    agents = {one["type"]["coding"][0]["code"]: one["who"]["identifier"]["value"] for one in event["agent"]}
    assert (agents["110152"], agents["WIT"]) == (OPENER.hex(), SECOND.hex())
    models = pytest.importorskip("fhir.resources.R4B.auditevent")
    assert models.AuditEvent.model_validate(event).purposeOfEvent[0].coding[0].code == "ETREAT"


def test_an_empty_accounting_has_no_events() -> None:
    assert "entry" not in json.loads(accounting_fhir.to_fhir(nothing()))
