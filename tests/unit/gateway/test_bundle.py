"""From bytes to entries, and every way in which a bundle is refused whole."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.gateway.bundle import LIMITS, Bundle, parse_bundle, patient_key, read_bundle_file
from consilium.gateway.problems import BundleRefused
from consilium.gateway.synthetic import generate_bundle
from consilium.gateway.synthetic_layout import LAYOUTS
from consilium.ledger.errors import Refused

Build = Callable[..., dict[str, Any]]
Dump = Callable[[Any], bytes]
Spoil = Callable[[dict[str, Any]], Any]


def check_against_the_standard_library(raw: bytes, bundle: Bundle) -> None:
    whole = json.loads(raw, parse_float=Decimal)
    assert bundle.raw_bytes == len(raw)
    assert [entry.index for entry in bundle.entries] == list(range(len(whole["entry"])))
    for entry, item in zip(bundle.entries, whole["entry"], strict=True):
        assert entry.raw == raw[slice(*entry.span)]
        assert json.loads(entry.raw, parse_float=Decimal) == item["resource"]
        assert entry.resource_type == item["resource"]["resourceType"]
        assert entry.resource_id == item["resource"].get("id")
        assert entry.full_url == item.get("fullUrl")
    assert bundle.patient.resource_type == "Patient"


@pytest.mark.parametrize("seed", range(len(LAYOUTS)))
def test_generated_bundles_keep_their_bytes(seed: int) -> None:
    raw = generate_bundle(seed, 90)
    bundle = parse_bundle(raw)
    assert len(bundle.entries) == 90
    check_against_the_standard_library(raw, bundle)


def test_real_bundles_keep_their_bytes(test_data: Path) -> None:
    files = sorted((test_data / "synthea").glob("*.json"))
    entries = 0
    for file in files:
        raw = read_bundle_file(file)
        bundle = parse_bundle(raw)
        check_against_the_standard_library(raw, bundle)
        entries += len(bundle.entries)
    assert files
    assert entries >= len(files)


def outcome(raw: bytes) -> tuple[str, str]:
    """Code and detail of the refusal, or two empty strings; anything else that is raised fails the test."""
    try:
        parse_bundle(raw)
    except Refused as refused:
        return refused.code, refused.detail
    return "", ""


def test_real_consents_are_valid(test_data: Path, bundle_of: Build, dumped: Dump) -> None:
    files = sorted((test_data / "consent-ihe-pcf").glob("*.json"))
    for file in files:
        resource = json.loads(file.read_bytes())
        bundle = bundle_of(resource)
        if resource["resourceType"] == "Patient":
            bundle["entry"].pop(0)
        code, detail = outcome(dumped(bundle))
        if resource.get("data", "").startswith("ig-loader-"):
            assert (code, "not base64" in detail) == (
                "bundle.invalid_resource",
                True,
            )  # a name stands for the data
        else:
            # they stand alone here: what they are about is another patient than the one beside them
            assert code in ("", "bundle.another_patient"), (file.name, detail)
    assert files


def test_results_travel_between_processes(bundle_of: Build, dumped: Dump) -> None:
    bundle = parse_bundle(dumped(bundle_of()))
    assert pickle.loads(pickle.dumps(bundle)) == bundle


def test_byte_order_mark_is_skipped(bundle_of: Build, dumped: Dump) -> None:
    plain = dumped(bundle_of())
    marked = b"\xef\xbb\xbf" + plain
    bundle = parse_bundle(marked)
    check_against_the_standard_library(marked.decode("utf-8-sig").encode(), parse_bundle(plain))
    assert bundle.entries[0].raw == parse_bundle(plain).entries[0].raw
    assert bundle.entries[0].span[0] == parse_bundle(plain).entries[0].span[0] + 3


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_with_a_code(raw: bytes) -> None:
    with pytest.raises(Refused) as caught:
        parse_bundle(raw)
    assert caught.value.code.startswith("bundle.")


@given(st.data())
def test_damaged_bundles_never_raise_anything_else(data: st.DataObject) -> None:
    raw = bytearray(generate_bundle(1, 6))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(raw) - 1))
        raw[position] = data.draw(st.sampled_from(b'"{}[]:,0a\\\xff '))
    code, detail = outcome(bytes(raw))
    assert not code or (code.startswith("bundle.") and detail)


def _set(**members: Any) -> Spoil:
    def spoil(bundle: dict[str, Any]) -> None:
        bundle.update(members)

    return spoil


def _request(**members: Any) -> Spoil:
    def spoil(bundle: dict[str, Any]) -> None:
        bundle["entry"][1]["request"] = members

    return spoil


def _entry(**members: Any) -> Spoil:
    def spoil(bundle: dict[str, Any]) -> None:
        bundle["entry"][1] |= members

    return spoil


def _without(name: str) -> Spoil:
    def spoil(bundle: dict[str, Any]) -> None:
        del bundle["entry"][1][name]

    return spoil


def _resource(**members: Any) -> Spoil:
    def spoil(bundle: dict[str, Any]) -> None:
        resource = bundle["entry"][1]["resource"]
        resource.update(members)
        for name, item in members.items():
            if item == "absent":
                del resource[name]

    return spoil


REFUSALS: list[tuple[Spoil, str, str]] = [
    (lambda bundle: bundle.pop("resourceType"), "bundle.not_bundle", "no resourceType"),
    (_set(resourceType="Patient"), "bundle.not_bundle", "'Patient'"),
    (lambda bundle: bundle.pop("type"), "bundle.malformed", "Bundle.type"),
    (_set(type="batch"), "bundle.not_transaction", "'batch'"),
    (_set(type="collection"), "bundle.not_transaction", "'collection'"),
    (_set(type=["transaction"]), "bundle.not_transaction", ""),
    (_set(entry=[]), "bundle.empty", "no entries"),
    (lambda bundle: bundle.pop("entry"), "bundle.empty", "no entries"),
    (_set(entry={}), "bundle.malformed", "Bundle.entry"),
    (_set(entry=[None]), "bundle.malformed", "Bundle.entry[0]"),
    (_set(total=1), "bundle.malformed", "bdl-1"),
    (_set(entries=[]), "bundle.malformed", "'entries' is no element of Bundle"),
    (_set(timestamp="now"), "bundle.malformed", "Bundle.timestamp"),
    (_without("request"), "bundle.malformed", "entry[1] (urn:uuid:"),
    (_without("resource"), "bundle.malformed", "no resource to record"),
    (_entry(resource=[]), "bundle.malformed", "no resource to record"),
    (_entry(resource=None), "bundle.malformed", "no resource to record"),
    (_entry(response={"status": "201"}), "bundle.malformed", "bdl-4"),
    (_entry(search={"mode": "match"}), "bundle.malformed", "bdl-2"),
    (_entry(note="x"), "bundle.malformed", "Bundle.entry[1].note"),
    (_entry(fullUrl="urn:uuid:0c2a51d6-5a1f-4a55-9d0e-7a3a6f0e1d01"), "bundle.malformed", "bdl-7"),
    (_entry(fullUrl="https://a.example/Observation/o1/_history/2"), "bundle.malformed", "bdl-8"),
    (_entry(fullUrl="https://a.example/Observation/o2"), "bundle.malformed", "disagrees"),
    (_entry(fullUrl=7), "bundle.malformed", "Bundle.entry[1].fullUrl"),
    (_request(method="POST"), "bundle.malformed", "Bundle.entry[1].request.url"),
    (_request(method="SEND", url="Observation"), "bundle.malformed", "Bundle.entry[1].request.method"),
    (_request(method="DELETE", url="Observation/o1"), "bundle.malformed", "'DELETE'"),
    (_request(method="GET", url="Observation/o1"), "bundle.malformed", "'GET'"),
    (_request(method="PATCH", url="Observation/o1"), "bundle.malformed", "'PATCH'"),
    (_request(method="POST", url="Patient"), "bundle.malformed", "goes to 'Observation'"),
    (_request(method="PUT", url="Observation"), "bundle.malformed", "Observation/[id]"),
    (_request(method="PUT", url="Observation/o2"), "bundle.malformed", "own id"),
    (_resource(resourceType="absent"), "bundle.malformed", "no resourceType"),
    (_resource(resourceType="Observations"), "bundle.malformed", "'Observations'"),
    (_resource(resourceType="Bundle"), "bundle.malformed", "holds a Bundle"),
    (_resource(id=5), "bundle.malformed", "Observation.id"),
    (_resource(status="absent"), "bundle.invalid_resource", "Observation.status: is required"),
    (_resource(status="done"), "bundle.invalid_resource", "Observation.status: 'done' is no code"),
    (_resource(issued="2024-02-30T00:00:00Z"), "bundle.invalid_resource", "Observation.issued"),
    (_resource(wieght=1), "bundle.invalid_resource", "Observation.wieght"),
    (_resource(code=[{"text": "x"}]), "bundle.invalid_resource", "Observation.code: is a list"),
    (_resource(valueString="x"), "bundle.invalid_resource", "Observation.value[x]: is a choice"),
    (_resource(valueQuantity={"value": "1"}), "bundle.invalid_resource", "Observation.valueQuantity.value"),
    (_resource(subject={"reference": "#x"}), "bundle.dangling_reference", "Observation.subject"),
    (_resource(subject={"reference": "urn:uuid:1"}), "bundle.dangling_reference", "Observation.subject"),
    (_resource(subject={"reference": "Patient/2"}), "bundle.another_patient", "Observation.subject"),
    (_resource(subject={"reference": "Practitioner/2"}), "bundle.invalid_resource", "may not refer to"),
]


@pytest.mark.parametrize(("spoil", "code", "words"), REFUSALS)
def test_refusals(
    spoil: Spoil, code: str, words: str, bundle_of: Build, observation: dict[str, Any], dumped: Dump
) -> None:
    bundle = bundle_of(observation)
    parse_bundle(dumped(bundle))
    spoil(bundle)
    with pytest.raises(Refused) as caught:
        parse_bundle(dumped(bundle))
    assert caught.value.code == code
    assert words in caught.value.detail


@pytest.mark.parametrize(
    "spoil",
    [
        _request(method="PUT", url="Observation/o1"),
        _request(method="PUT", url="Observation?identifier=urn:x|1"),
        _request(method="POST", url="Observation", ifNoneExist="identifier=1"),
        _without("fullUrl"),
        _entry(fullUrl="https://a.example/fhir/Observation/o1"),
        _resource(id="absent"),
        _entry(link=[{"relation": "self", "url": "https://a.example/"}]),
        _set(id="b", timestamp="2024-01-01T00:00:00Z", identifier={"value": "1"}),
    ],
)
def test_what_transactions_may_have(
    spoil: Spoil, bundle_of: Build, observation: dict[str, Any], dumped: Dump
) -> None:
    bundle = bundle_of(observation)
    spoil(bundle)
    assert len(parse_bundle(dumped(bundle)).entries) == 2


def test_no_patient_and_two(
    bundle_of: Build, patient: dict[str, Any], observation: dict[str, Any], dumped: Dump
) -> None:
    bundle = bundle_of(observation | {"subject": {"display": "x"}})
    bundle["entry"].pop(0)
    with pytest.raises(Refused) as caught:
        parse_bundle(dumped(bundle))
    assert caught.value.code == "bundle.no_patient"
    with pytest.raises(BundleRefused) as several:
        parse_bundle(dumped(bundle_of(observation, patient | {"id": "p2"})))
    assert several.value.code == "bundle.several_patients"
    assert several.value.problems[0].entry_index == 2


def test_all_faults_are_named(bundle_of: Build, observation: dict[str, Any], dumped: Dump) -> None:
    spoiled = [observation | {"id": f"o{number}", "status": "x"} for number in range(30)]
    with pytest.raises(BundleRefused) as caught:
        parse_bundle(dumped(bundle_of(*spoiled)))
    assert [problem.entry_index for problem in caught.value.problems] == list(range(1, 21))
    assert all(problem.path == "Observation.status" for problem in caught.value.problems)
    assert "more" in caught.value.detail


def test_limits(bundle_of: Build, observation: dict[str, Any], dumped: Dump) -> None:
    raw = dumped(bundle_of(observation))
    size = len(raw)
    parse_bundle(raw, replace(LIMITS, bytes_max=size, entries_max=2, depth_max=8))
    largest = max(len(entry.raw) for entry in parse_bundle(raw).entries)
    for limits, code in (
        (replace(LIMITS, bytes_max=size - 1), "bundle.oversized"),
        (replace(LIMITS, entries_max=1), "bundle.oversized"),
        (replace(LIMITS, values_max=5), "bundle.oversized"),
        (replace(LIMITS, resource_bytes_max=largest - 1), "bundle.oversized"),
        (replace(LIMITS, depth_max=4), "bundle.too_deep"),
    ):
        with pytest.raises(Refused) as caught:
            parse_bundle(raw, limits)
        assert caught.value.code == code


def test_deepest_resources_pass(bundle_of: Build, dumped: Dump) -> None:
    """The models recurse too: at the limit of depth nothing may overflow."""
    item: dict[str, Any] = {"linkId": "1"}
    for _ in range((LIMITS.depth_max - 6) // 2):
        item = {"linkId": "1", "item": [item]}
    response = {"resourceType": "QuestionnaireResponse", "status": "completed", "item": [item]}
    assert len(parse_bundle(dumped(bundle_of(response))).entries) == 2


def test_reading_files(tmp_path: Path, bundle_of: Build, dumped: Dump) -> None:
    raw = dumped(bundle_of())
    file = tmp_path / "bundle.json"
    file.write_bytes(raw)
    assert read_bundle_file(file) == raw
    assert read_bundle_file(str(file), replace(LIMITS, bytes_max=len(raw))) == raw
    (tmp_path / "empty.json").touch()
    huge = tmp_path / "huge.json"
    with huge.open("wb") as stream:
        stream.truncate(500 * 1024 * 1024)  # a hole: it takes no space, and must not be read
    for path, limits, code in (
        (file, replace(LIMITS, bytes_max=len(raw) - 1), "bundle.oversized"),
        (huge, LIMITS, "bundle.oversized"),
        (tmp_path / "empty.json", LIMITS, "bundle.empty"),
        (tmp_path / "missing.json", LIMITS, "bundle.unreadable"),
        (tmp_path, LIMITS, "bundle.unreadable"),
        (Path("/dev/null"), LIMITS, "bundle.unreadable"),
        (Path("a\0b"), LIMITS, "bundle.unreadable"),
    ):
        with pytest.raises(Refused) as caught:
            read_bundle_file(path, limits)
        assert caught.value.code == code
        assert "\n" not in str(caught.value)


def test_patient_keys() -> None:
    number = {"system": "urn:mrn", "value": "12", "type": {"coding": [{"code": "MR"}]}}
    passport = {"system": "urn:a", "value": "7"}
    old = {"system": "urn:0", "value": "1", "use": "old", "type": {"coding": [{"code": "MR"}]}}
    key = patient_key({"identifier": [passport, number]})
    assert len(bytes.fromhex(key)) == 32
    assert patient_key({"identifier": [number, old, passport], "id": "x"}, "urn:uuid:1") == key
    assert patient_key({"identifier": [number]}) == key
    others = [
        patient_key({"identifier": [passport]}),
        patient_key({"identifier": [{"value": "7"}]}),
        patient_key({"identifier": [{"system": "urn:", "value": "a7"}]}),
        patient_key({"identifier": [old]}),
        patient_key({"id": "7"}),
        patient_key({"id": "8"}),
        patient_key({}, "urn:uuid:7"),
        key,
    ]
    assert len(set(others)) == len(others)
    assert patient_key({"identifier": [{"system": "urn:a"}], "id": "7"}) == patient_key({"id": "7"})
