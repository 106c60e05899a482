"""Invented patients whose records are sensitive in every way that classification knows, and what each record is of.

Real exports carry hardly any security label. These carry some: labels, codes, links, free text, confidentiality alone,
and what is sensitive for none of these reasons. What is expected was written by hand beside each resource, and is no
output of the classifier. The same seed gives the same bytes, as in `synthetic`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from consilium.gateway.synthetic import FIRST_VISIT, Numbers
from consilium.gateway.synthetic_layout import LAYOUTS, written
from consilium.gateway.synthetic_terms import (
    DOCUMENTS,
    FAMILY_NAMES,
    GIVEN_NAMES,
    LOINC,
    RXNORM,
    SNOMED,
    TERMINOLOGY,
)

ADULT_BORN: Final = "1978-05-17"
MINOR_BORN: Final = "2004-05-17"
"""Fifteen years old at most of the visits."""
ICD10CM: Final = "http://hl7.org/fhir/sid/icd-10-cm"
CONFIDENTIALITY: Final = f"{TERMINOLOGY}/v3-Confidentiality"
SENSITIVITY: Final = f"{TERMINOLOGY}/v3-ActCode"
TOLD_BY_MINORS: Final = ("psychiatry", "substance-use", "hiv", "reproductive", "violence")

_Resource = dict[str, Any]


class Labelled(NamedTuple):
    """A transaction bundle, and for each of its entries the names of its classes."""

    raw: bytes
    expected: tuple[frozenset[str], ...]


def generate_labelled(seed: int, *, minor: bool = False) -> Labelled:
    """One patient with a record of every kind, in an order that the seed picks; an adult, or of fifteen years."""
    story = _Story(Numbers(f"labelled/{seed}/{minor}"), minor)
    entries = story.entries()
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": f"urn:uuid:{resource['id']}",
                "resource": resource,
                "request": {"method": "POST", "url": resource["resourceType"]},
            }
            for resource, _ in entries
        ],
    }
    layout = LAYOUTS[seed % len(LAYOUTS)]
    raw = (written(bundle, layout) + layout.newline).encode("utf-8")
    return Labelled(raw, tuple(frozenset(names) for _, names in entries))


class _Story:
    def __init__(self, numbers: Numbers, minor: bool) -> None:
        self._numbers = numbers
        self._minor = minor
        self._when = FIRST_VISIT + timedelta(days=numbers.below(200))
        self._patient = numbers.uuid()

    def entries(self) -> list[tuple[_Resource, set[str]]]:
        """The patient first, then one group after the other; links never lead forward."""
        groups: list[Callable[[], list[tuple[_Resource, set[str]]]]] = [
            self._labels, self._codes, self._confidentiality, self._linked, self._texts, self._harmless,
        ]  # fmt: skip
        found = [(self._person(), {"general"})]
        while groups:
            found += groups.pop(self._numbers.below(len(groups)))()
        return [(resource, self._with_age(resource, names)) for resource, names in found]

    def _with_age(self, resource: _Resource, names: set[str]) -> set[str]:
        told = self._minor and resource["resourceType"] != "Patient" and names & {*TOLD_BY_MINORS}
        return names | {"adolescent-confidential"} if told else names

    def _labels(self) -> list[tuple[_Resource, set[str]]]:
        return [
            (self._observation("8867-4", SENSITIVITY, "PSY"), {"psychiatry"}),
            (self._observation("8867-4", SENSITIVITY, "ETHUD"), {"substance-use"}),
            (self._observation("8867-4", SENSITIVITY, "OPIOIDUD"), {"substance-use"}),
            (self._observation("718-7", SENSITIVITY, "HIV"), {"hiv"}),
            (self._observation("718-7", SENSITIVITY, "SEX"), {"reproductive"}),
            (self._observation("718-7", SENSITIVITY, "GDIS"), {"genetics"}),
            (self._note(SENSITIVITY, "SDV"), {"violence"}),
            (self._observation("8867-4", SENSITIVITY, "BH"), {"psychiatry", "substance-use"}),
            (self._observation("8867-4", SENSITIVITY, "NEWLABEL"), {"restricted"}),
            (self._observation("75622-1", SENSITIVITY, "PSY"), {"psychiatry", "hiv"}),
        ]

    def _codes(self) -> list[tuple[_Resource, set[str]]]:
        return [
            (self._condition(SNOMED, "35489007"), {"psychiatry"}),
            (self._condition(ICD10CM, "F32.9"), {"psychiatry"}),
            (self._condition(ICD10CM, "F1020"), {"substance-use"}),
            (self._condition(SNOMED, "86406008"), {"hiv"}),
            (self._condition(SNOMED, "72892002"), {"reproductive"}),
            (self._condition(SNOMED, "706893006"), {"violence"}),
            (self._observation("55233-1"), {"genetics"}),
            (self._observation("82667-7"), {"substance-use"}),
            (self._prescription("7243"), {"substance-use"}),
        ]

    def _confidentiality(self) -> list[tuple[_Resource, set[str]]]:
        return [
            (self._observation("8867-4", CONFIDENTIALITY, "R"), {"restricted"}),
            (self._observation("8867-4", CONFIDENTIALITY, "V"), {"restricted"}),
            (self._observation("8867-4", CONFIDENTIALITY, "N"), {"general"}),
            (self._observation("8867-4", CONFIDENTIALITY, "L"), {"general"}),
        ]

    def _linked(self) -> list[tuple[_Resource, set[str]]]:
        """An encounter for depression, a pulse taken in it, and a report of that pulse."""
        visit = self._new("Encounter") | {
            "status": "finished",
            "class": {"system": SENSITIVITY, "code": "AMB"},
            "reasonCode": [_concept(SNOMED, "35489007")],
            "subject": self._subject(),
            "period": {"start": self._time(), "end": self._time(45)},
        }
        pulse = self._observation("8867-4") | {"encounter": {"reference": f"urn:uuid:{visit['id']}"}}
        report = self._new("DiagnosticReport") | {
            "status": "final",
            "code": _concept(LOINC, "51990-0"),
            "subject": self._subject(),
            "effectiveDateTime": self._time(50),
            "result": [{"reference": f"urn:uuid:{pulse['id']}"}],
        }
        return [(visit, {"psychiatry"}), (pulse, {"psychiatry"}), (report, {"psychiatry"})]

    def _texts(self) -> list[tuple[_Resource, set[str]]]:
        letter = self._note() | {"type": _concept(LOINC, "11502-2")}
        uncoded = self._condition(SNOMED, "0") | {"code": {"text": "see the letter"}}
        return [
            (self._note(), {"restricted"}),
            (self._note(CONFIDENTIALITY, "N"), {"general"}),
            (letter, {"general"}),
            (uncoded, {"restricted"}),
        ]

    def _harmless(self) -> list[tuple[_Resource, set[str]]]:
        return [
            (self._observation("8867-4"), {"general"}),
            (self._condition(SNOMED, "38341003"), {"general"}),
            (self._condition(ICD10CM, "F17.210"), {"general"}),
            (self._prescription("197361"), {"general"}),
        ]

    # --- the resources ---

    def _new(self, kind: str, label: Sequence[str] = ()) -> _Resource:
        resource: _Resource = {"resourceType": kind, "id": self._numbers.uuid()}
        if label:
            resource["meta"] = {"security": [{"system": label[0], "code": label[1]}]}
        return resource

    def _subject(self) -> _Resource:
        return {"reference": f"urn:uuid:{self._patient}"}

    def _time(self, minutes: int = 0) -> str:
        self._when += timedelta(minutes=1)
        return (self._when + timedelta(minutes=minutes)).isoformat()

    def _person(self) -> _Resource:
        numbers = self._numbers
        name = {"family": numbers.one_of(FAMILY_NAMES), "given": [numbers.one_of(GIVEN_NAMES)]}
        return {
            "resourceType": "Patient",
            "id": self._patient,
            "identifier": [
                {
                    "system": "https://hospital.example/medical-record-number",
                    "value": f"{numbers.below(10**9):09}",
                }
            ],
            "name": [name],
            "birthDate": MINOR_BORN if self._minor else ADULT_BORN,
        }

    def _observation(self, code: str, *label: str) -> _Resource:
        return self._new("Observation", label) | {
            "status": "final",
            "code": _concept(LOINC, code),
            "subject": self._subject(),
            "effectiveDateTime": self._time(),
            "valueInteger": 50 + self._numbers.below(50),
        }

    def _condition(self, system: str, code: str) -> _Resource:
        return self._new("Condition") | {
            "clinicalStatus": _concept(f"{TERMINOLOGY}/condition-clinical", "active"),
            "code": _concept(system, code),
            "subject": self._subject(),
            "onsetDateTime": self._time(),
        }

    def _prescription(self, code: str) -> _Resource:
        return self._new("MedicationRequest") | {
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": _concept(RXNORM, code),
            "subject": self._subject(),
            "authoredOn": self._time(),
        }

    def _note(self, *label: str) -> _Resource:
        title, _ = self._numbers.one_of(DOCUMENTS)
        return self._new("DocumentReference", label) | {
            "status": "current",
            "type": _concept(LOINC, "34108-1"),
            "subject": self._subject(),
            "date": self._time(),
            "content": [{"attachment": {"contentType": "text/plain", "data": "4oCm", "title": title}}],
        }


def _concept(system: str, code: str) -> _Resource:
    return {"coding": [{"system": system, "code": code}]}
