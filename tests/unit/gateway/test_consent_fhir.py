"""FHIR Consents: IHE's examples against the reviewed table, and every element by itself."""

from __future__ import annotations

import copy
import json
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from consilium.contracts.classes import GENERAL, PSYCHIATRY, VIOLENCE
from consilium.gateway.consent_fhir import ConsentRefused, Draft, Known, read_consent
from consilium.gateway.consent_fhir_out import write_consent
from consilium.ledger.codec import UINT_MAX
from tests.unit.gateway import ihe_pcf
from tests.unit.gateway.ihe_pcf import KNOWN, MAP, MOTHER, NOW_MS, PATIENT, PURPOSES, READERS, permitted

TABLE = json.loads((Path(__file__).parent / "ihe_pcf_table.json").read_text(encoding="utf-8"))
V3 = "http://terminology.hl7.org/CodeSystem/v3-"


def expected_of(entry: dict[str, Any]) -> dict[str, dict[str, set[str]]]:
    found: dict[str, dict[str, set[str]]] = {}
    for reader in READERS:
        for purpose in PURPOSES:
            name = entry.get(reader, {}).get(purpose, entry.get("everybody", {}).get(purpose))
            if name is not None:
                found.setdefault(reader, {})[purpose] = {*TABLE["sets"][name]}
    return found


def as_sets(answers: dict[str, dict[str, list[str]]]) -> dict[str, dict[str, set[str]]]:
    return {reader: {p: {*found} for p, found in by.items()} for reader, by in answers.items()}


@pytest.mark.parametrize("name", sorted(TABLE["consents"]))
def test_the_examples_of_ihe_mean_what_the_table_says(test_data: Path, name: str) -> None:
    folder = test_data / "consent-ihe-pcf"
    resource = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    entry = TABLE["consents"][name]
    assert len(entry["review"]) > 20
    if "refused" in entry:
        with pytest.raises(ConsentRefused) as refused:
            read_consent(resource, KNOWN, NOW_MS)
        assert refused.value.path == entry["refused"]
        assert entry["because"] in refused.value.reason
        return
    draft = read_consent(resource, KNOWN, NOW_MS)
    assert draft.performer == (MOTHER if entry.get("performer") == "mother" else PATIENT)
    assert as_sets(permitted(draft, ihe_pcf.example_records(folder))) == expected_of(entry)


def test_the_table_has_every_example_and_no_other(test_data: Path) -> None:
    files = {path.stem for path in (test_data / "consent-ihe-pcf").glob("Consent-*.json")}
    assert files == {*TABLE["consents"]}


# --- by itself, without the examples --------------------------------------------------------------------------------


def coding(system: str, code: str) -> dict[str, str]:
    return {"system": system, "code": code}


def purpose(*codes: str) -> list[dict[str, str]]:
    return [coding(f"{V3}ActReason", code) for code in codes]


def recipient(reference: str) -> dict[str, Any]:
    role = {"coding": [coding(f"{V3}ParticipationType", "IRCP")]}
    return {"role": role, "reference": {"reference": reference}}


def consent(**provision: Any) -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {
            "coding": [coding("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy")]
        },
        "category": [{"coding": [coding("http://loinc.org", "59284-0")]}],
        "patient": {"reference": "Patient/ex-patient"},
        "dateTime": "2022-06-13",
        "policy": [{"uri": "https://profiles.ihe.net/ITI/PCF/Policy-basic-normal"}],
        "provision": {"type": "permit", "purpose": purpose("TREAT"), **provision},
    }


def read(**provision: Any) -> Draft:
    return read_consent(consent(**provision), KNOWN, NOW_MS)


def test_a_plain_permit() -> None:
    (root,) = read(actor=[recipient("Practitioner/ex-practitioner")]).provisions
    assert (root.effect, root.purposes, root.compartments, root.conditional) == (
        "permit",
        ["TREAT"],
        None,
        False,
    )
    assert root.actors == [KNOWN.parties["Practitioner/ex-practitioner"]]
    assert (root.not_before, root.not_after) == (1_655_078_400_000, UINT_MAX)


def test_it_means_the_same_for_invented_records() -> None:
    """The sibling of the examples: alcohol use is withheld from all, the old record by its date."""
    records = ihe_pcf.invented_records()
    labels = [coding(f"{V3}Confidentiality", "N")]
    answers = permitted(read(securityLabel=labels, dataPeriod={"start": "2022"}), records)
    assert answers["clerk"]["TREAT"] == ["Observation/ex-weight"]
    mine = [{"meaning": "authoredby", "reference": {"reference": "Practitioner/ex-practitioner"}}]
    answers = permitted(read(provision=[{"type": "deny", "data": mine}]), records)
    assert "Observation/ex-weight" not in answers["practitioner"]["TREAT"]
    assert "Observation/ex-old" in answers["practitioner"]["TREAT"]
    made_in = [{"meaning": "dependents", "reference": {"reference": "Encounter/ex-encounter"}}]
    answers = permitted(read(data=made_in), records)
    assert answers["clerk"]["TREAT"] == ["Encounter/ex-encounter", "Observation/ex-alcoholUse"]


def test_a_date_that_ends_a_period_means_the_end_of_that_day_in_the_zone() -> None:
    east = timezone(timedelta(hours=2))
    known = Known(**{**{name: getattr(KNOWN, name) for name in KNOWN.__slots__}, "zone": east})
    draft = read_consent(consent(period={"start": "2023-01-01", "end": "2030-12-31"}), known, NOW_MS)
    (root,) = draft.provisions
    assert (root.not_before, root.not_after) == (1_672_524_000_000, 1_924_984_800_000)


def test_nested_provisions_inherit_what_they_do_not_state() -> None:
    deep = {"type": "permit", "purpose": purpose("BTG")}
    below = {"type": "deny", "actor": [recipient("Organization/ex-organization")], "provision": [deep]}
    root, middle, deepest = read(period={"end": "2030"}, provision=[below]).provisions
    assert [one.depth for one in (root, middle, deepest)] == [0, 1, 2]
    assert middle.purposes == root.purposes == ["TREAT"]
    assert deepest.actors == middle.actors is not None
    assert {one.not_after for one in (root, middle, deepest)} == {1_924_992_000_000}
    assert deepest.purposes == ["BTG"]


def test_sensitivities_are_compartments() -> None:
    (root,) = read(securityLabel=[coding(f"{V3}ActCode", "PSY"), coding(f"{V3}ActCode", "SDV")]).provisions
    assert root.compartments == sorted(MAP.compartment(code) for code in (PSYCHIATRY, VIOLENCE))
    assert not root.conditional
    (root,) = read(securityLabel=[coding(f"{V3}Confidentiality", "N")]).provisions
    assert root.compartments == [MAP.compartment(GENERAL)]
    assert root.conditional


@pytest.mark.parametrize(
    ("effect", "codes", "levels"),
    [
        ("permit", ["N"], (None, 3)),
        ("permit", ["N", "R"], (None, 4)),
        ("permit", ["V"], None),
        ("deny", ["R"], (4, None)),
        ("deny", ["R", "N"], (3, None)),
        ("deny", ["U"], None),
    ],
)
def test_confidentiality_is_a_mark_on_a_scale(
    effect: str, codes: list[str], levels: tuple[int | None, int | None] | None
) -> None:
    draft = read(type=effect, securityLabel=[coding(f"{V3}Confidentiality", code) for code in codes])
    found = [(one.level_min, one.level_max) for one in draft.conditions]
    assert found == ([] if levels is None else [levels])


def _without(path: str) -> dict[str, Any]:
    made = consent()
    del made[path]
    return made


def _with(**head: Any) -> dict[str, Any]:
    return {**consent(), **head}


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("Consent.status", _with(status="draft")),
    ("Consent.status", _with(status="inactive")),
    (
        "Consent.scope",
        _with(scope={"coding": [coding("http://terminology.hl7.org/CodeSystem/consentscope", "research")]}),
    ),
    ("Consent.patient", _with(patient={"reference": "Patient/another"})),
    ("Consent.patient", _with(patient={"reference": "Patient/ex-mother"})),
    ("Consent.performer", _with(performer=[{"reference": "Practitioner/ex-clerk"}])),
    (
        "Consent.performer",
        _with(performer=[{"reference": "Patient/ex-patient"}, {"reference": "Patient/ex-mother"}]),
    ),
    ("Consent.policy[0]", _with(policy=[{"uri": "https://example.org/unheard-of"}])),
    ("Consent.policyRule", _with(policyRule={"coding": [coding(f"{V3}ActCode", "EMRGONLY")]})),
    ("Consent.provision", _without("provision")),
    ("Consent.provision.actor[0].reference", consent(actor=[recipient("Practitioner/nobody")])),
    (
        "Consent.provision.actor[0].role",
        consent(
            actor=[
                {
                    **recipient("Practitioner/ex-practitioner"),
                    "role": {"coding": [coding(f"{V3}RoleClass", "CST")]},
                }
            ]
        ),
    ),
    ("Consent.provision.purpose[0]", consent(purpose=purpose("CURE"))),
    ("Consent.provision.purpose[0]", consent(purpose=[coding("https://example.org", "TREAT")])),
    ("Consent.provision.code", consent(code=[{"coding": [coding("http://loinc.org", "8867-4")]}])),
    ("Consent.provision.class[0]", consent(**{"class": [coding("urn:ietf:bcp:13", "application/pdf")]})),
    ("Consent.provision.securityLabel[0]", consent(securityLabel=[coding(f"{V3}ActCode", "ETHUD")])),
    ("Consent.provision.securityLabel[0]", consent(securityLabel=[coding(f"{V3}ActCode", "X")])),
    ("Consent.provision.period", consent(period={"start": "2023-02-01", "end": "2023-01-01"})),
    (
        "Consent.provision.provision[0].period",
        consent(period={"end": "2030"}, provision=[{"type": "deny", "period": {"start": "2031"}}]),
    ),
    ("Consent.provision", consent(period={"end": "2023-11-13"})),
    (
        "Consent.provision.action[0]",
        consent(
            action=[{"coding": [coding("http://terminology.hl7.org/CodeSystem/consentaction", "correct")]}]
        ),
    ),
    (
        "Consent.provision.data[0]",
        consent(data=[{"meaning": "related", "reference": {"reference": "Encounter/unknown"}}]),
    ),
    (
        "Consent.provision.data[0]",
        consent(data=[{"meaning": "instance", "reference": {"display": "that one"}}]),
    ),
    (
        "Consent.provision.data",
        consent(
            data=[
                {"meaning": "instance", "reference": {"reference": "Observation/1"}},
                {"meaning": "authoredby", "reference": {"reference": "Practitioner/1"}},
            ]
        ),
    ),
    (
        "Consent.provision.provision[0].purpose",
        {**consent(), "provision": {"type": "deny", "provision": [{"type": "permit"}]}},
    ),
    ("Consent.provision.provision[7]", consent(provision=[{"type": "deny"}] * 8)),
    (
        "Consent.provision.provision[0].provision[0].provision[0].provision[0]",
        consent(provision=[{"provision": [{"provision": [{"provision": [{"type": "deny"}]}]}]}]),
    ),
    (
        "Consent.provision.modifierExtension",
        consent(modifierExtension=[{"url": "https://example.org", "valueBoolean": True}]),
    ),
]


@pytest.mark.parametrize(
    ("path", "resource"), REFUSED, ids=[f"{i}-{path}" for i, (path, _) in enumerate(REFUSED)]
)
def test_what_cannot_be_represented_is_refused_whole_with_its_place(
    path: str, resource: dict[str, Any]
) -> None:
    with pytest.raises(ConsentRefused) as refused:
        read_consent(resource, KNOWN, NOW_MS)
    assert refused.value.path == path
    assert refused.value.code == "consent.not_representable"


@pytest.mark.parametrize("resource", [{"resourceType": "Patient"}, {}, {**consent(), "status": "maybe"}])
def test_what_is_no_valid_consent_is_refused(resource: dict[str, Any]) -> None:
    with pytest.raises(ConsentRefused):
        read_consent(resource, KNOWN, NOW_MS)


def test_a_base_rule_stands_where_the_root_says_nothing() -> None:
    for code, effect in (("OPTIN", "permit"), ("OPTOUT", "deny")):
        made = _with(policyRule={"coding": [coding(f"{V3}ActCode", code)]})
        del made["provision"]["type"]
        assert read_consent(made, KNOWN, NOW_MS).provisions[0].effect == effect
    made = consent()
    del made["provision"]["type"]
    with pytest.raises(ConsentRefused, match="permit or deny"):
        read_consent(made, KNOWN, NOW_MS)


# --- and out --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "provision",
    [
        {},
        {"actor": [recipient("Practitioner/ex-practitioner"), recipient("Group/ex-privilegedUsers")]},
        {"period": {"end": "2030-12-31"}, "purpose": purpose("TREAT", "HPAYMT")},
        {"securityLabel": [coding(f"{V3}ActCode", "PSY")]},
        {"securityLabel": [coding(f"{V3}Confidentiality", "N")], "dataPeriod": {"start": "2020", "end": "2022"}},
        {"class": [coding("http://hl7.org/fhir/resource-types", "Observation")]},
        {"provision": [{"type": "deny", "actor": [recipient("Organization/ex-organization")],
                        "provision": [{"type": "permit", "purpose": purpose("BTG")}]}]},
        {"provision": [{"type": "deny", "securityLabel": [coding(f"{V3}Confidentiality", "R")]}]},
        {"type": "deny"},
    ],
)  # fmt: skip
def test_what_is_written_reads_as_the_same(provision: dict[str, Any]) -> None:
    draft = read(**provision)
    written = write_consent(draft, KNOWN, NOW_MS)
    again = read_consent(copy.deepcopy(written), KNOWN, NOW_MS)
    assert (again.provisions, again.conditions) == (draft.provisions, draft.conditions)


def test_every_example_that_is_read_is_written_or_said_to_need_its_original(test_data: Path) -> None:
    written = 0
    for name, entry in TABLE["consents"].items():
        if "refused" in entry:
            continue
        resource = json.loads((test_data / "consent-ihe-pcf" / f"{name}.json").read_text(encoding="utf-8"))
        draft = read_consent(resource, KNOWN, NOW_MS)
        references = [(c.instances, c.authors, c.related) for c in draft.conditions]
        if any(any(found) for found in references):
            with pytest.raises(ConsentRefused, match="original"):
                write_consent(draft, KNOWN, NOW_MS)
            continue
        out = write_consent(draft, KNOWN, NOW_MS)
        again = read_consent(out, KNOWN, NOW_MS)
        assert (again.provisions, again.conditions) == (draft.provisions, draft.conditions), name
        written += 1
    assert written >= 14
