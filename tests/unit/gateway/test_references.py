"""Where references lead, and which of them a bundle of one patient may have."""

from __future__ import annotations

from typing import Any

import pytest

from consilium.gateway.references import Node, reference_problems
from consilium.gateway.structure import check_resource

URL = "urn:uuid:0c2a51d6-5a1f-4a55-9d0e-7a3a6f0e1d01"
OTHER = "https://ehr.example/fhir/Practitioner/d1"
PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"system": "urn:mrn", "value": "12"}, {"system": "urn:b", "value": "x&y z"}],
    "link": [{"type": "seealso", "other": {"reference": "Patient/p2"}}],
}


def problems(resource: dict[str, Any], patient: dict[str, Any] = PATIENT) -> list[tuple[str, str, str]]:
    resources = [patient, {"resourceType": "Practitioner", "id": "d1"}, resource]
    nodes = [
        Node(index, url, item, check_resource(item).references)
        for index, (url, item) in enumerate(zip((URL, OTHER, None), resources, strict=True))
    ]
    return [(p.code, p.path, p.reason) for p in reference_problems(nodes, nodes[0])]


def observed(**members: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": "o1", "status": "final", "code": {"text": "x"}} | members


@pytest.mark.parametrize(
    "subject",
    [
        {"reference": URL},
        {"reference": "Patient/p1"},
        {"reference": "Patient/p1/_history/3"},
        {"reference": URL, "type": "Patient"},
        {"reference": URL, "type": "http://hl7.org/fhir/StructureDefinition/Patient"},
        {"reference": "Patient?identifier=urn:mrn|12"},
        {"reference": "Patient?identifier=urn%3Ab%7Cx%26y%20z"},
        {"type": "Patient", "identifier": {"system": "urn:mrn", "value": "12"}},
        {"type": "Patient", "identifier": {"system": "urn:elsewhere", "value": "9"}},
        {"display": "somebody"},
        {"reference": "Group/g1"},
        {"reference": "https://ehr.example/fhir/Location/l1"},
        {"reference": "https://ehr.example/something"},
    ],
)
def test_subjects_that_are_fine(subject: dict[str, Any]) -> None:
    assert problems(observed(subject=subject)) == []


@pytest.mark.parametrize(
    ("subject", "code"),
    [
        ({"reference": "urn:uuid:0c2a51d6-5a1f-4a55-9d0e-000000000000"}, "bundle.dangling_reference"),
        ({"reference": "urn:oid:1.2.3"}, "bundle.dangling_reference"),
        ({"reference": "#gone"}, "bundle.dangling_reference"),
        ({"reference": "Patient/p2"}, "bundle.another_patient"),
        ({"reference": "https://ehr.example/fhir/Patient/p1"}, "bundle.another_patient"),
        ({"reference": "Patient?identifier=urn:mrn|13"}, "bundle.another_patient"),
        ({"reference": "Patient?name=x"}, "bundle.another_patient"),
        ({"type": "Patient", "identifier": {"system": "urn:mrn", "value": "13"}}, "bundle.another_patient"),
        ({"reference": OTHER}, "bundle.invalid_resource"),
        ({"reference": "Practitioner/d1"}, "bundle.invalid_resource"),
        ({"reference": "https://a.example/fhir/Practitioner/9"}, "bundle.invalid_resource"),
        ({"reference": "https://a.example/fhir/Practitioner/9/_history/1"}, "bundle.invalid_resource"),
        ({"type": "Practitioner", "display": "x"}, "bundle.invalid_resource"),
        ({"reference": URL, "type": "Group"}, "bundle.invalid_resource"),
        ({"reference": "p1"}, "bundle.invalid_resource"),
        ({"reference": "Patiente/p1"}, "bundle.invalid_resource"),
        ({"reference": "#"}, "bundle.invalid_resource"),
    ],
)
def test_subjects_that_are_not(subject: dict[str, Any], code: str) -> None:
    found = problems(observed(subject=subject))
    assert [(kind, path) for kind, path, _ in found] == [(code, "Observation.subject")]


def test_contained_resources() -> None:
    device = {"resourceType": "Device", "id": "d"}
    assert problems(observed(contained=[device], device={"reference": "#d"})) == []
    wrong = problems(observed(contained=[device], specimen={"reference": "#d"}))
    assert wrong[0][0] == "bundle.invalid_resource"
    assert "a Device" in wrong[0][2]
    stranger = {"resourceType": "Patient", "id": "s"}
    assert (
        problems(observed(contained=[stranger], subject={"reference": "#s"}))[0][0]
        == "bundle.another_patient"
    )
    inner = {"resourceType": "Specimen", "id": "s", "subject": {"reference": "Patient/p2"}}
    found = problems(observed(contained=[inner], specimen={"reference": "#s"}))
    assert found[0][:2] == ("bundle.another_patient", "Observation.contained[0].subject")


def test_others_may_be_named_where_the_record_is_not_about_them() -> None:
    assert problems(observed(subject={"reference": URL}, focus=[{"reference": "Patient/donor"}])) == []
    assert problems(observed(performer=[{"reference": "Practitioner?identifier=urn:npi|1"}])) == []
    assert problems(observed(performer=[{"reference": "Patient/p2"}])) == []
