"""Every rule of classification: what it finds, what it leaves alone, and how often each spoke."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from consilium.contracts.classes import GENERAL, NAMES, RESTRICTED, SUBSTANCE_USE
from consilium.gateway.bundle import parse_bundle
from consilium.gateway.classification import (
    INLINE_LABEL,
    RULES,
    Author,
    Classified,
    Sourced,
    classify,
    count_rules,
)
from consilium.gateway.classification_table import extended_table, network_table
from consilium.gateway.importing import prepare
from consilium.gateway.synthetic import generate_population
from consilium.gateway.synthetic_labelled import generate_labelled
from consilium.ledger.errors import Refused

V3 = "http://terminology.hl7.org/CodeSystem/v3-"


def one(resource: dict, **arguments) -> Classified:
    (found,) = classify([Sourced(None, resource)], **arguments)
    return found


def labelled(*labels: tuple[str, str]) -> dict:
    security = [{"system": V3 + system, "code": code} for system, code in labels]
    return {"resourceType": "Observation", "meta": {"security": security}}


@pytest.mark.parametrize("minor", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_invented_patients_are_classified_as_they_were_written(seed: int, minor: bool) -> None:
    made = generate_labelled(seed, minor=minor)
    prepared = prepare(parse_bundle(made.raw))
    assert [frozenset(found.names) for found in prepared.classified] == list(made.expected)
    assert [payload.classes for payload in prepared.payloads] == [c.classes for c in prepared.classified]


def test_labelled_patients_are_the_same_bytes_for_ever_and_different_for_each_seed() -> None:
    assert generate_labelled(3) == generate_labelled(3)
    assert len({generate_labelled(seed).raw for seed in range(8)}) == 8


def test_every_rule_speaks_and_is_counted() -> None:
    counted: Counter[str] = Counter()
    for seed in range(2):
        counted.update(count_rules(prepare(parse_bundle(generate_labelled(seed, minor=True).raw)).classified))
    assert list(counted) == list(RULES)
    assert all(counted[rule] > 0 for rule in RULES if rule != "author")


def test_generated_patients_without_labels() -> None:
    """No label, yet documents: these are restricted, and all the rest of it is general."""
    for raw in generate_population(1, 4):
        bundle = parse_bundle(raw)
        for entry, found in zip(bundle.entries, prepare(bundle).classified, strict=True):
            assert (RESTRICTED in found.classes) == (entry.resource_type == "DocumentReference")


def test_real_patients(test_data: Path) -> None:
    """None of them carries a label: what is found is found by codes, links and text."""
    counted: Counter[str] = Counter()
    total = 0
    for path in sorted((test_data / "synthea").glob("*.json")):
        classified = prepare(parse_bundle(path.read_bytes())).classified
        counted.update(count_rules(classified))
        total += len(classified)
        assert all(found.reasons for found in classified)
    assert counted["label"] == counted["confidentiality"] == 0
    assert 0 < counted["default"] <= total
    assert sum(counted.values()) >= total


@pytest.mark.parametrize(
    ("labels", "classes", "confidentiality"),
    [
        ([("Confidentiality", "N")], {"general"}, "N"),
        ([("Confidentiality", "U")], {"general"}, "U"),
        ([("Confidentiality", "R")], {"restricted"}, "R"),
        ([("Confidentiality", "N"), ("Confidentiality", "V")], {"restricted"}, "V"),
        ([("ActCode", "PSY")], {"psychiatry"}, "R"),
        ([("ActCode", "PSY"), ("Confidentiality", "V")], {"psychiatry"}, "V"),
        # sensitive and yet normal: somebody made a mistake, and it is not the patient who pays for it
        ([("ActCode", "PSY"), ("Confidentiality", "N")], {"psychiatry"}, "R"),
        ([("ActCode", "PSY"), ("ActCode", "SDV")], {"psychiatry", "violence"}, "R"),
        ([("ActCode", "SOMETHING")], {"restricted"}, "R"),
        ([("ActReason", "HTEST")], {"general"}, "N"),
        ([("ObservationValue", "SUBSETTED")], {"general"}, "N"),
        ([("Confidentiality", "X")], {"restricted"}, "R"),
    ],
)
def test_labels_and_the_second_axis(
    labels: list[tuple[str, str]], classes: set[str], confidentiality: str
) -> None:
    found = one(labelled(*labels))
    assert (set(found.names), found.confidentiality) == (classes, confidentiality)


def test_every_label_of_the_hierarchy_has_a_class() -> None:
    table = network_table()
    raw = json.loads((Path(prepare.__code__.co_filename).parent / "classification_table.json").read_text())
    for label in {*raw["sensitivities"], *raw["parents"], *raw["parents"].values()}:
        assert table.classes_of_label(label), label
    assert table.classes_of_label("nothing") == frozenset()


def test_a_label_inside_counts() -> None:
    contained = {"resourceType": "MedicationRequest", "contained": [labelled(("ActCode", "HIV"))]}
    assert one(contained).names == ("hiv",)
    inline = {
        "resourceType": "Observation",
        "component": [
            {"extension": [{"url": INLINE_LABEL, "valueCoding": {"system": f"{V3}ActCode", "code": "PSY"}}]}
        ],
    }
    assert one(inline).names == ("psychiatry",)


def test_a_code_of_an_encounters_class_is_no_label() -> None:
    assert one({"resourceType": "Encounter", "class": {"system": f"{V3}ActCode", "code": "PHY"}}).classes == (
        GENERAL,
    )


def test_the_authors_part_2_credential() -> None:
    note = {"resourceType": "Observation", "performer": [{"reference": "Practitioner/7"}]}
    assert one(note).classes == (GENERAL,)
    assert one(note, author=Author(is_part2=True)).classes == (SUBSTANCE_USE,)
    assert one(note, author=Author(part2_references=frozenset({"Practitioner/7"}))).classes == (
        SUBSTANCE_USE,
    )
    assert one(note, author=Author(part2_references=frozenset({"Practitioner/8"}))).classes == (GENERAL,)
    place = {"resourceType": "Organization", "name": "x"}
    assert one(place, author=Author(is_part2=True)).classes == (GENERAL,)


def test_links_reach_over_several_steps_and_to_earlier_records() -> None:
    resources = [
        Sourced("urn:uuid:3", {"resourceType": "DiagnosticReport", "result": [{"reference": "urn:uuid:2"}]}),
        Sourced("urn:uuid:2", {"resourceType": "Observation", "encounter": {"reference": "Encounter/1"}}),
        Sourced("urn:uuid:1", {"resourceType": "Encounter", "id": "1", **labelled(("ActCode", "PSY"))}),
    ]
    resources[2].resource["resourceType"] = "Encounter"  # type: ignore[index]
    assert [found.names for found in classify(resources)] == [("psychiatry",)] * 3
    again = classify(resources[:2], known={"Encounter/1": (GENERAL, SUBSTANCE_USE)})
    assert [found.names for found in again] == [("substance-use",)] * 2


def test_who_is_named_makes_nothing_sensitive() -> None:
    patient = {"resourceType": "Patient", "id": "p", "meta": labelled(("ActCode", "HIV"))["meta"]}
    pulse = {"resourceType": "Observation", "subject": {"reference": "Patient/p"}}
    focus = {"resourceType": "Observation", "focus": [{"reference": "Patient/p"}]}
    found = classify([Sourced(None, patient), Sourced(None, pulse), Sourced(None, focus)])
    assert [f.names for f in found] == [("hiv",), ("general",), ("general",)]


def test_a_cycle_of_links_ends() -> None:
    one_, two = (
        {"resourceType": "Observation", "id": i, "hasMember": [{"reference": f"Observation/{o}"}]}
        for i, o in (("1", "2"), ("2", "1"))
    )
    assert [f.names for f in classify([Sourced(None, one_), Sourced(None, two)])] == [("general",)] * 2


def test_an_institution_extends_the_table_and_takes_nothing_away() -> None:
    codes = {"https://hospital.example": {"genetics": ["X1"]}, "http://loinc.org": {"hiv": ["44249-1"]}}
    extension = {"version": 1, "codes": codes, "sensitivities": {"LOCAL": ["violence"], "PSY": []}}
    table = extended_table(json.dumps(extension).encode())
    local = {
        "resourceType": "Observation",
        "code": {"coding": [{"system": "https://hospital.example", "code": "X1"}]},
    }
    assert one(local).names == ("general",)
    assert one(local, table=table).names == ("genetics",)
    both = {
        "resourceType": "Observation",
        "code": {"coding": [{"system": "http://loinc.org", "code": "44249-1"}]},
    }
    assert one(both, table=table).names == ("psychiatry", "hiv")
    assert one(labelled(("ActCode", "LOCAL")), table=table).names == ("violence",)
    assert one(labelled(("ActCode", "PSY")), table=table).names == ("psychiatry",)


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[]",
        b'{"version": 2}',
        b'{"version": 1, "codes": {"s": {"unheard of": ["c"]}}}',
        b'{"version": 1, "other": 1}',
    ],
)
def test_a_bad_extension_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused, match=r"classification\.bad_table"):
        extended_table(raw)


def test_every_class_of_the_table_is_one_of_the_network() -> None:
    raw = json.loads((Path(prepare.__code__.co_filename).parent / "classification_table.json").read_text())
    used = {name for names in raw["sensitivities"].values() for name in names}
    used |= {name for by_class in raw["codes"].values() for name in by_class}
    assert used - {"restricted"} <= {*NAMES.values()}
    assert {*NAMES.values()} - used == {"general"}
