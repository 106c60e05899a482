"""Invented patients: FHIR R4 transaction bundles, the same bytes for the same seed, everywhere and always.

For demonstrations, tests and benchmarks where real exports are absent. Nothing here comes from a real person. No
clock and no library generator of random numbers: the numbers are SHA-256 of seed and counter, so they cannot change
with a version of Python. Resources refer only to earlier ones, so a bundle can be cut after any number of them.

The bytes are varied on purpose, as those of real exports are: compact or indented, CRLF or LF, escaped or plain,
decimals with trailing zeros, names beyond ASCII. A pipeline that re-serialises what it records shows at once.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, islice
from typing import Any, Final, TypeVar

from consilium.gateway.synthetic_layout import LAYOUTS, written
from consilium.gateway.synthetic_terms import (
    ALLERGIES,
    CONDITIONS,
    DOCUMENTS,
    FAMILY_NAMES,
    GIVEN_NAMES,
    LABORATORY,
    LOINC,
    MEDICATIONS,
    PROCEDURES,
    RXNORM,
    SNOMED,
    TERMINOLOGY,
    TOWNS,
    UCUM,
    VACCINES,
    VITAL_SIGNS,
    Measure,
)

RESOURCES_MIN: Final = 4
RESOURCES_DEFAULT: Final = 60
FIRST_VISIT: Final = datetime(2019, 3, 4, 8, 30, tzinfo=UTC)

_T = TypeVar("_T")
_Resource = dict[str, Any]


def generate_bundle(seed: int, resources: int = RESOURCES_DEFAULT) -> bytes:
    """One patient as a transaction bundle with exactly `resources` entries (at least RESOURCES_MIN).

    The seed also picks the layout: four consecutive seeds show all of them.
    """
    if resources < RESOURCES_MIN:
        raise ValueError(f"a bundle has at least {RESOURCES_MIN} resources, not {resources}")
    patient = _Patient(Numbers(f"patient/{seed}"))
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": f"urn:uuid:{resource['id']}",
                "resource": resource,
                "request": {"method": "POST", "url": resource["resourceType"]},
            }
            for resource in islice(patient.resources(), resources)
        ],
    }
    layout = LAYOUTS[seed % len(LAYOUTS)]
    return (written(bundle, layout) + layout.newline).encode("utf-8")


def generate_population(seed: int, patients: int, resources: int = RESOURCES_DEFAULT) -> tuple[bytes, ...]:
    """`patients` bundles of different patients; their sizes lie between half and one and a half of `resources`."""
    numbers = Numbers(f"population/{seed}")
    first = numbers.below(2**48) // len(LAYOUTS) * len(LAYOUTS)
    sizes = [max(RESOURCES_MIN, resources // 2 + numbers.below(resources + 1)) for _ in range(patients)]
    return tuple(generate_bundle(first + position, size) for position, size in enumerate(sizes))


class Numbers:
    """Unbiased enough for invention, and fixed forever: SHA-256(label / counter)."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._counter = count()

    def block(self) -> bytes:
        return hashlib.sha256(f"consilium/synthetic/{self._label}/{next(self._counter)}".encode()).digest()

    def below(self, limit: int) -> int:
        return int.from_bytes(self.block()[:16], "big") % limit

    def one_of(self, items: Sequence[_T]) -> _T:
        return items[self.below(len(items))]

    def uuid(self) -> str:
        octets = bytearray(self.block()[:16])
        octets[6] = octets[6] & 0x0F | 0x40
        octets[8] = octets[8] & 0x3F | 0x80
        text = octets.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class _Patient:
    """One invented life, as an endless stream of resources."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._ids = {name: numbers.uuid() for name in ("Patient", "Organization", "Practitioner")}
        self._when = FIRST_VISIT + timedelta(days=numbers.below(300), minutes=numbers.below(400))
        self._encounter = ""

    def resources(self) -> Iterator[_Resource]:
        yield self._person()
        yield self._organization()
        yield self._practitioner()
        yield self._allergy()
        while True:
            yield from self._visit()

    def _visit(self) -> Iterator[_Resource]:
        self._when += timedelta(days=20 + self._numbers.below(70), minutes=self._numbers.below(60))
        yield self._encounter_resource()
        if self._numbers.below(3) == 0:
            yield self._condition()
        for measure in VITAL_SIGNS:
            yield self._observation(measure, "vital-signs")
        yield self._blood_pressure()
        if self._numbers.below(2) == 0:
            results = [self._observation(measure, "laboratory") for measure in LABORATORY]
            yield from results
            yield self._report(results)
        if self._numbers.below(2) == 0:
            yield self._medication_request()
        if self._numbers.below(3) == 0:
            yield self._immunization()
        if self._numbers.below(4) == 0:
            yield self._procedure()
        yield self._document()

    def _new(self, kind: str, resource_id: str | None = None) -> _Resource:
        return {"resourceType": kind, "id": resource_id or self._numbers.uuid()}

    def _to(self, kind: str) -> _Resource:
        return {"reference": f"urn:uuid:{self._ids[kind]}"}

    def _in_encounter(self) -> _Resource:
        return {"reference": f"urn:uuid:{self._encounter}"}

    def _time(self, minutes: int = 0) -> str:
        return (self._when + timedelta(minutes=minutes)).isoformat()

    def _person(self) -> _Resource:
        given, family = self._numbers.one_of(GIVEN_NAMES), self._numbers.one_of(FAMILY_NAMES)
        town, country = self._numbers.one_of(TOWNS)
        born = f"{1935 + self._numbers.below(80)}-{1 + self._numbers.below(12):02}-{1 + self._numbers.below(28):02}"
        number = f"{self._numbers.below(10**9):09}"
        return self._new("Patient", self._ids["Patient"]) | {
            "text": {
                "status": "generated",
                "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{given} {family}, an invented patient</div>',
            },
            "identifier": [
                {
                    "type": {"coding": [{"system": f"{TERMINOLOGY}/v2-0203", "code": "MR"}]},
                    "system": "https://hospital.example/medical-record-number",
                    "value": number,
                }
            ],
            "active": True,
            "name": [{"use": "official", "family": family, "given": [given]}],
            "gender": self._numbers.one_of(("female", "male", "other", "unknown")),
            "birthDate": born,
            "_birthDate": {
                "extension": [
                    {
                        "url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime",
                        "valueDateTime": f"{born}T04:{self._numbers.below(60):02}:00Z",
                    }
                ]
            },
            "address": [{"line": [f"№ {1 + self._numbers.below(200)}"], "city": town, "country": country}],
            "managingOrganization": self._to("Organization"),
        }

    def _organization(self) -> _Resource:
        town, country = self._numbers.one_of(TOWNS)
        return self._new("Organization", self._ids["Organization"]) | {
            "active": True,
            "name": f"Example Hospital of {town}",
            "telecom": [{"system": "url", "value": "https://hospital.example/"}],
            "address": [{"city": town, "country": country}],
        }

    def _practitioner(self) -> _Resource:
        return self._new("Practitioner", self._ids["Practitioner"]) | {
            "name": [
                {
                    "family": self._numbers.one_of(FAMILY_NAMES),
                    "given": [self._numbers.one_of(GIVEN_NAMES)],
                    "prefix": ["Dr."],
                }
            ],
            "gender": self._numbers.one_of(("female", "male")),
        }

    def _allergy(self) -> _Resource:
        code, display = self._numbers.one_of(ALLERGIES)
        return self._new("AllergyIntolerance") | {
            "clinicalStatus": _concept(f"{TERMINOLOGY}/allergyintolerance-clinical", "active"),
            "verificationStatus": _concept(f"{TERMINOLOGY}/allergyintolerance-verification", "confirmed"),
            "type": "allergy",
            "criticality": self._numbers.one_of(("low", "high")),
            "code": _concept(SNOMED, code, display),
            "patient": self._to("Patient"),
            "recordedDate": self._time(),
        }

    def _encounter_resource(self) -> _Resource:
        self._encounter = self._numbers.uuid()
        return self._new("Encounter", self._encounter) | {
            "status": "finished",
            "class": {"system": f"{TERMINOLOGY}/v3-ActCode", "code": "AMB"},
            "type": [_concept(SNOMED, "185349003", "Encounter for check up")],
            "subject": self._to("Patient"),
            "participant": [{"individual": self._to("Practitioner")}],
            "period": {"start": self._time(), "end": self._time(45)},
            "serviceProvider": self._to("Organization"),
        }

    def _condition(self) -> _Resource:
        code, display = self._numbers.one_of(CONDITIONS)
        status = self._numbers.one_of(("active", "resolved", "remission"))
        ended = {} if status == "active" else {"abatementDateTime": self._time(30)[:10]}
        return (
            self._new("Condition")
            | {
                "clinicalStatus": _concept(f"{TERMINOLOGY}/condition-clinical", status),
                "verificationStatus": _concept(f"{TERMINOLOGY}/condition-ver-status", "confirmed"),
                "category": [_concept(f"{TERMINOLOGY}/condition-category", "encounter-diagnosis")],
                "code": _concept(SNOMED, code, display),
                "subject": self._to("Patient"),
                "encounter": self._in_encounter(),
                "onsetDateTime": self._time()[:7],
            }
            | ended
        )

    def _value(self, measure: Measure) -> _Resource:
        span = int((measure.high - measure.low) / measure.step)
        value = measure.low + measure.step * self._numbers.below(span + 1)
        return {"value": value, "unit": measure.unit, "system": UCUM, "code": measure.unit}

    def _observation(self, measure: Measure, category: str) -> _Resource:
        return self._new("Observation") | {
            "status": "final",
            "category": [_concept(f"{TERMINOLOGY}/observation-category", category)],
            "code": _concept(LOINC, measure.code, measure.display),
            "subject": self._to("Patient"),
            "encounter": self._in_encounter(),
            "effectiveDateTime": self._time(5),
            "issued": self._time(9).replace("+00:00", ".250Z"),
            "valueQuantity": self._value(measure),
        }

    def _blood_pressure(self) -> _Resource:
        parts = (
            Measure("8480-6", "Systolic blood pressure", "mm[Hg]", Decimal(95), Decimal(165), Decimal(1)),
            Measure("8462-4", "Diastolic blood pressure", "mm[Hg]", Decimal(55), Decimal(98), Decimal(1)),
        )
        return self._new("Observation") | {
            "status": "final",
            "category": [_concept(f"{TERMINOLOGY}/observation-category", "vital-signs")],
            "code": _concept(LOINC, "85354-9", "Blood pressure panel"),
            "subject": self._to("Patient"),
            "encounter": self._in_encounter(),
            "effectiveDateTime": self._time(6),
            "component": [
                {"code": _concept(LOINC, part.code, part.display), "valueQuantity": self._value(part)}
                for part in parts
            ],
        }

    def _report(self, results: Sequence[_Resource]) -> _Resource:
        return self._new("DiagnosticReport") | {
            "status": "final",
            "code": _concept(LOINC, "51990-0", "Basic metabolic panel"),
            "subject": self._to("Patient"),
            "encounter": self._in_encounter(),
            "effectiveDateTime": self._time(5),
            "issued": self._time(12),
            "performer": [self._to("Organization")],
            "result": [{"reference": f"urn:uuid:{result['id']}"} for result in results],
            "conclusion": "Nothing remarkable. No change to therapy.",
        }

    def _medication_request(self) -> _Resource:
        code, display = self._numbers.one_of(MEDICATIONS)
        return self._new("MedicationRequest") | {
            "status": self._numbers.one_of(("active", "completed", "stopped")),
            "intent": "order",
            "contained": [{"resourceType": "Medication", "id": "m", "code": _concept(RXNORM, code, display)}],
            "medicationReference": {"reference": "#m"},
            "subject": self._to("Patient"),
            "encounter": self._in_encounter(),
            "authoredOn": self._time(20),
            "requester": self._to("Practitioner"),
            "dosageInstruction": [
                {
                    "text": "one tablet daily",
                    "timing": {"repeat": {"frequency": 1, "period": Decimal("1.0"), "periodUnit": "d"}},
                }
            ],
        }

    def _immunization(self) -> _Resource:
        code, display = self._numbers.one_of(VACCINES)
        return self._new("Immunization") | {
            "status": "completed",
            "vaccineCode": _concept("http://hl7.org/fhir/sid/cvx", code, display),
            "patient": self._to("Patient"),
            "encounter": self._in_encounter(),
            "occurrenceDateTime": self._time(25),
            "primarySource": True,
            "doseQuantity": {"value": Decimal("0.50"), "system": UCUM, "code": "mL"},
        }

    def _procedure(self) -> _Resource:
        code, display = self._numbers.one_of(PROCEDURES)
        return self._new("Procedure") | {
            "status": "completed",
            "code": _concept(SNOMED, code, display),
            "subject": self._to("Patient"),
            "encounter": self._in_encounter(),
            "performedPeriod": {"start": self._time(10), "end": self._time(35)},
            "performer": [{"actor": self._to("Practitioner")}],
        }

    def _document(self) -> _Resource:
        title, sentences = self._numbers.one_of(DOCUMENTS)
        lines = [self._numbers.one_of(sentences) for _ in range(3 + self._numbers.below(12))]
        text = f"{title}\n\n" + "\n".join(lines) + "\n"
        data = text.encode("utf-8")
        return self._new("DocumentReference") | {
            "status": "current",
            "type": _concept(LOINC, "34108-1", "Outpatient note"),
            "subject": self._to("Patient"),
            "date": self._time(40),
            "author": [self._to("Practitioner")],
            "content": [
                {
                    "attachment": {
                        "contentType": "text/plain; charset=utf-8",
                        "data": base64.b64encode(data).decode("ascii"),
                        "size": len(data),
                        "hash": base64.b64encode(hashlib.sha1(data).digest()).decode("ascii"),
                        "title": title,
                    }
                }
            ],
            "context": {"encounter": [self._in_encounter()]},
        }


def _concept(system: str, code: str, display: str | None = None) -> _Resource:
    coding = {"system": system, "code": code}
    return {"coding": [coding | {"display": display}], "text": display} if display else {"coding": [coding]}
