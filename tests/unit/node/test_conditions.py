"""Conditions from the patient's hand to the custodian's: what they withhold is not released, whatever was decided."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from consilium.client import consenting, reading, recording
from consilium.client.envelope import HeaderFields
from consilium.client.recording import Imported, Payload
from consilium.contracts import consent
from consilium.contracts.conditions import Condition
from consilium.gateway.consent_fhir import Known
from consilium.gateway.consent_intake import take_consent
from consilium.ledger.errors import Refused
from tests.unit.node.care import Ward, ward

KINDS = ("Observation", "Condition", "Observation")
FOREVER = consenting.FOREVER


@pytest.fixture
async def care() -> AsyncIterator[Ward]:
    async with ward() as made:
        await made.admit_petra()
        yield made


async def imported(care: Ward) -> Imported:
    payloads = [
        Payload(f"{kind} {place}".encode(), HeaderFields(kind, str(place), "text/plain", labels=("N",)))
        for place, kind in enumerate(KINDS)
    ]
    return await recording.import_records(care.north, care.petra.identity, payloads)


def provision(care: Ward, **changes: object) -> consent.Provision:
    values: dict[str, object] = {
        "depth": 0,
        "effect": "permit",
        "actors": [care.south.identity],
        "purposes": ["TREAT"],
        "compartments": None,
        "not_before": 0,
        "not_after": FOREVER,
        "conditional": False,
    }
    return consent.Provision(**{**values, **changes})  # type: ignore[arg-type]


async def test_what_a_condition_denies_is_withheld_and_the_rest_is_read(care: Ward) -> None:
    made = await imported(care)
    exception = provision(care, depth=1, effect="deny", conditional=True)
    await consenting.grant_provisions(
        care.patient,
        [provision(care), exception],
        conditions=[Condition(1, resource_types=["Condition"])],
    )
    asked = await reading.request(care.south, "TREAT", record_ids=made.records)
    (verdict,) = asked.decision.verdicts
    assert verdict.allow
    assert len(verdict.obligations) == 1
    opened = await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert [one.payload for one in opened] == [b"Observation 0", b"Observation 2"]


async def test_what_a_condition_permits_is_all_that_is_read(care: Ward) -> None:
    made = await imported(care)
    await consenting.grant_provisions(
        care.patient,
        [provision(care, conditional=True)],
        conditions=[Condition(0, resource_types=["Condition"])],
    )
    asked = await reading.request(care.south, "TREAT", compartments=[made.compartment])
    opened = await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert [one.payload for one in opened] == [b"Condition 1"]


async def test_a_custodian_without_the_conditions_releases_nothing(care: Ward) -> None:
    made = await imported(care)
    await consenting.grant_provisions(
        care.patient,
        [provision(care, conditional=True)],
        conditions=[Condition(0, resource_types=["Condition"])],
    )
    asked = await reading.request(care.south, "TREAT", record_ids=made.records)
    (digest,) = asked.decision.verdicts[0].obligations
    vault = care.custodian._envelopes
    kept = vault.get

    def lost(wanted: bytes) -> bytes | None:
        return None if wanted == digest else kept(wanted)

    care.custodian._envelopes = type("Lost", (), {"get": staticmethod(lost)})()
    with pytest.raises(Refused, match="no_conditions"):
        await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]


async def test_a_fhir_consent_is_taken_in_with_its_original(care: Ward) -> None:
    made = await imported(care)
    system = "http://terminology.hl7.org/CodeSystem/"
    resource = {
        "resourceType": "Consent",
        "id": "c1",
        "status": "active",
        "scope": {"coding": [{"system": f"{system}consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/petra"},
        "policy": [{"uri": "https://example.org/policy"}],
        "provision": {
            "type": "permit",
            "purpose": [{"system": f"{system}v3-ActReason", "code": "TREAT"}],
            "securityLabel": [{"system": f"{system}v3-Confidentiality", "code": "N"}],
            "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}],
        },
    }
    raw = json.dumps(resource, indent=3).encode()
    known = Known(
        patient=care.petra.identity,
        class_map=await recording.class_map_from(care.patient, care.petra),
        patients={"Patient/petra": care.petra.identity},
        policies=frozenset({"https://example.org/policy"}),
    )
    with pytest.raises(Refused, match="not_the_patient"):
        await take_consent(care.north, care.south, raw, known)
    taken = await take_consent(care.north, care.patient, raw, known)
    await care.tick()
    held = await care.patient.state(consent.CONSENTS, taken.consent)
    assert held is not None
    assert held.source == taken.source
    asked = await reading.request(care.south, "TREAT", record_ids=made.records)
    opened = await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert [one.payload for one in opened] == [b"Observation 0", b"Observation 2"]
    # The original is a record of its own, which this consent does not open.
    asked = await reading.request(care.south, "TREAT", record_ids=[taken.source])
    assert not asked.allowed
