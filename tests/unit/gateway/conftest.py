"""Small bundles for the gateway's tests: a patient and what each test puts beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

PATIENT_URL = "urn:uuid:0c2a51d6-5a1f-4a55-9d0e-7a3a6f0e1d01"


def _entry(resource: dict[str, Any], full_url: str) -> dict[str, Any]:
    request = {"method": "POST", "url": resource.get("resourceType", "Basic")}
    return {"fullUrl": full_url, "resource": resource, "request": request}


@pytest.fixture
def patient() -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"system": "urn:mrn", "value": "12"}],
        "gender": "other",
    }


@pytest.fixture
def observation() -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": {"text": "weight"},
        "subject": {"reference": PATIENT_URL},
        "valueQuantity": {"value": 1.5, "unit": "kg"},
    }


@pytest.fixture
def bundle_of(patient: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """A transaction of the patient and the given resources, as a value that a test may spoil."""

    def build(*resources: dict[str, Any]) -> dict[str, Any]:
        entries = [_entry(patient, PATIENT_URL)]
        for number, resource in enumerate(resources, start=1):
            entries.append(_entry(resource, f"urn:uuid:0c2a51d6-5a1f-4a55-9d0e-{number:012}"))
        return {"resourceType": "Bundle", "type": "transaction", "entry": entries}

    return build


@pytest.fixture
def dumped() -> Callable[[Any], bytes]:
    return lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8")
