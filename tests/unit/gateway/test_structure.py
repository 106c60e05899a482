"""What is R4 and what is not, fault by fault: the path and the reason are part of what is promised."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from consilium.gateway.problems import PROBLEMS_MAX
from consilium.gateway.structure import check_element, check_resource

EXTENSION = {"url": "http://x", "valueString": "why"}

VALID: list[dict[str, Any]] = [
    {"resourceType": "Patient"},
    {"resourceType": "Patient", "birthDate": "1970-02", "_birthDate": {"extension": [EXTENSION]}},
    {"resourceType": "Patient", "_gender": {"extension": [EXTENSION]}},
    {
        "resourceType": "Patient",
        "name": [{"given": ["A", None], "_given": [None, {"extension": [EXTENSION]}]}],
    },
    {"resourceType": "Patient", "photo": [{"contentType": "text/plain; charset=utf-8", "title": "x"}]},
    {"resourceType": "Binary", "contentType": "application/hl7-v3+xml", "data": "QQ=="},
    {"resourceType": "Invoice", "status": "issued", "totalNet": {"value": 1, "currency": "EUR"}},
    {"resourceType": "Patient", "multipleBirthInteger": 2, "deceasedDateTime": "2020"},
    {"resourceType": "Observation", "_status": {"extension": [EXTENSION]}, "code": {"text": "x"}},
    {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "component": [
            {"code": {"text": "y"}, "valueQuantity": {"value": Decimal("1.10"), "comparator": "<"}}
        ],
    },
    {
        "resourceType": "Condition",
        "subject": {"display": "x"},
        "clinicalStatus": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "relapse"}
            ]
        },
    },
    {
        "resourceType": "MedicationRequest",
        "status": "on-hold",
        "intent": "instance-order",
        "subject": {"display": "x"},
        "medicationReference": {"reference": "#m"},
        "contained": [{"resourceType": "Medication", "id": "m"}],
    },
    {"resourceType": "MedicinalProductIngredient", "role": {"text": "active"}},
    {
        "resourceType": "QuestionnaireResponse",
        "status": "completed",
        "item": [{"linkId": "1", "answer": [{"valueDecimal": Decimal("0.0"), "item": [{"linkId": "1.1"}]}]}],
    },
]


@pytest.mark.parametrize("resource", VALID)
def test_valid(resource: dict[str, Any]) -> None:
    assert check_resource(resource).faults == []


def observed(**members: Any) -> dict[str, Any]:
    base = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    return {name: item for name, item in (base | members).items() if item != "absent"}


def patient(**members: Any) -> dict[str, Any]:
    return {"resourceType": "Patient"} | members


FAULTS: list[tuple[Any, str, str]] = [
    ([], "", "no JSON object"),
    ({}, "resourceType", "missing"),
    ({"resourceType": "Patiente"}, "resourceType", "no resource of FHIR R4"),
    ({"resourceType": "DomainResource"}, "resourceType", "no resource of FHIR R4"),
    ({"resourceType": "Citation", "status": "draft"}, "resourceType", "no resource of FHIR R4"),
    ({"resourceType": ["Patient"]}, "resourceType", "no resource"),
    (observed(status="absent"), "Observation.status", "required, and missing"),
    (observed(code="absent"), "Observation.code", "required, and missing"),
    (observed(status="done"), "Observation.status", "no code of observation-status"),
    (observed(status="Final"), "Observation.status", "no code"),
    (observed(status=["final"]), "Observation.status", "may occur only once"),
    (observed(status=None), "Observation.status", "is null"),
    (observed(status=""), "Observation.status", "empty string"),
    (observed(code={}), "Observation.code", "empty object"),
    (observed(code="weight"), "Observation.code", "no JSON object"),
    (observed(category={"text": "x"}), "Observation.category", "no list"),
    (observed(category=[]), "Observation.category", "empty list"),
    (observed(category=[None]), "Observation.category[0]", "is null"),
    (observed(weight=3), "Observation.weight", "no element of Observation"),
    (observed(valueMoney={}), "Observation.valueMoney", "no element"),
    (observed(value="x"), "Observation.value", "no element"),
    (observed(valueString="x", valueInteger=1), "Observation.value[x]", "valueInteger"),
    (observed(valueQuantity={"value": "1.5"}), "Observation.valueQuantity.value", "no decimal"),
    (observed(valueInteger=Decimal("1.0")), "Observation.valueInteger", "no integer"),
    (observed(valueBoolean="true"), "Observation.valueBoolean", "no boolean"),
    (
        observed(valuePeriod={"start": "2024-02-30"}),
        "Observation.valuePeriod.start",
        "no day of the calendar",
    ),
    (observed(issued="2024-01-01"), "Observation.issued", "format of an instant"),
    (observed(effectiveDateTime="01/02/2024"), "Observation.effectiveDateTime", "format of a dateTime"),
    (observed(component=[{"valueString": "x"}]), "Observation.component[0].code", "required"),
    (observed(id="a b"), "Observation.id", "format of an id"),
    (observed(id="x" * 65), "Observation.id", "format of an id"),
    (observed(subject="Patient/1"), "Observation.subject", "no JSON object"),
    (observed(text={"status": "generated"}), "Observation.text.div", "required"),
    (observed(text={"status": "ok", "div": "<div/>"}), "Observation.text.status", "narrative-status"),
    (observed(extension=[{"url": "u"}]), "Observation.extension[0]", "ext-1"),
    (observed(extension=[{"valueString": "x"}]), "Observation.extension[0].url", "required"),
    (
        observed(extension=[{"url": "u", "valueString": "x", "extension": [EXTENSION]}]),
        "Observation.extension[0]",
        "ext-1",
    ),
    (observed(contained=[{"resourceType": "X"}]), "Observation.contained[0].resourceType", "no resource"),
    (
        observed(contained=[{"resourceType": "Patient", "id": "a", "contained": [patient(id="b")]}]),
        "Observation.contained[0].contained",
        "dom-2",
    ),
    (observed(contained=[patient(id="a", gender="m")]), "Observation.contained[0].gender", "no code"),
    (observed(fhir_comments=["x"]), "Observation.?", "no element"),
    (patient(gender="F"), "Patient.gender", "administrative-gender"),
    (patient(name=[{"use": "legal"}]), "Patient.name[0].use", "name-use"),
    (patient(name=[{"given": ["A", None]}]), "Patient.name[0].given[1]", "is null"),
    (patient(name=[{"_given": [None]}]), "Patient.name[0]._given[0]", "is null"),
    (patient(name=[{"given": ["A"], "_given": [None, EXTENSION]}]), "Patient.name[0]._given", "as long as"),
    (patient(_birthDate={}), "Patient._birthDate", "empty object"),
    (patient(_birthDate={"value": 1}), "Patient._birthDate.value", "no element of Element"),
    (patient(_name=[{}]), "Patient._name", "no element"),
    (patient(photo=[{"data": "???"}]), "Patient.photo[0].data", "not base64"),
    (patient(photo=[{"contentType": "pdf"}]), "Patient.photo[0].contentType", "form"),
    (
        {"resourceType": "Invoice", "status": "issued", "totalNet": {"value": 1, "currency": "dollars"}},
        "Invoice.totalNet.currency",
        "form",
    ),
    (patient(birthDate="1970-1-1"), "Patient.birthDate", "format of a date"),
    (patient(deceasedBoolean=True, deceasedDateTime="2020"), "Patient.deceased[x]", "choice"),
    (
        patient(deceasedBoolean=True, _deceasedDateTime={"extension": [EXTENSION]}),
        "Patient.deceased[x]",
        "choice",
    ),
    (patient(contact=[{"resourceType": "x"}]), "Patient.contact[0].resourceType", "no element"),
    (
        {"resourceType": "Condition", "subject": {"display": "x"}, "clinicalStatus": {"text": "active"}},
        "Condition.clinicalStatus",
        "condition-clinical",
    ),
    ({"resourceType": "Encounter", "status": "finished"}, "Encounter.class", "required"),
    ({"resourceType": "Immunization", "status": "completed"}, "Immunization.occurrence[x]", "required"),
]


@pytest.mark.parametrize(("resource", "path", "words"), FAULTS)
def test_fault(resource: Any, path: str, words: str) -> None:
    faults = check_resource(resource).faults
    assert any(path == where and words in reason for where, reason in faults), faults


def test_faults_are_bounded() -> None:
    assert len(check_resource(observed(category=[{}] * 1_000)).faults) == PROBLEMS_MAX


def test_references_are_collected() -> None:
    found = check_resource(
        observed(
            subject={"reference": "Patient/1"},
            performer=[{"reference": "#p"}],
            contained=[{"resourceType": "PractitionerRole", "id": "p", "practitioner": {"reference": "x"}}],
        )
    )
    assert [(reference.path, reference.holder) for reference in found.references] == [
        ("Observation.subject", "Observation"),
        ("Observation.performer[0]", "Observation"),
        ("Observation.contained[0].practitioner", "PractitionerRole"),
    ]
    assert found.resource_types == {"Observation", "PractitionerRole"}


def test_elements_that_are_no_resources() -> None:
    assert check_element({"value": 1}, "Quantity").faults == []
    assert check_element({"value": True}, "Quantity").faults[0][0] == "Quantity.value"
