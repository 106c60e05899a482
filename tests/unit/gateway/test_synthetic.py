"""Invented patients: valid, varied, and the same bytes forever."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from consilium.gateway.bundle import parse_bundle
from consilium.gateway.synthetic import RESOURCES_MIN, generate_bundle, generate_population
from consilium.gateway.synthetic_layout import LAYOUTS

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "gateway" / "synthetic.json"


def test_golden_digests() -> None:
    """A change here changes every figure that was measured on generated patients: say so in the change log."""
    for case in json.loads(GOLDEN.read_text()):
        raw = generate_bundle(case["seed"], case["resources"])
        assert hashlib.sha256(raw).hexdigest() == case["sha256"], case


def test_any_size_is_valid() -> None:
    for size in range(RESOURCES_MIN, 45):
        assert len(parse_bundle(generate_bundle(size, size)).entries) == size
    with pytest.raises(ValueError, match="at least"):
        generate_bundle(0, RESOURCES_MIN - 1)


def test_large_bundles() -> None:
    kinds = [entry.resource_type for entry in parse_bundle(generate_bundle(5, 1_200)).entries]
    assert len(kinds) == 1_200
    assert kinds.count("Patient") == 1
    assert set(kinds) == {
        "Patient",
        "Organization",
        "Practitioner",
        "AllergyIntolerance",
        "Encounter",
        "Condition",
        "Observation",
        "DiagnosticReport",
        "MedicationRequest",
        "Immunization",
        "Procedure",
        "DocumentReference",
    }


def test_bytes_are_varied_so_that_they_must_be_kept() -> None:
    texts = [generate_bundle(seed, 80).decode() for seed in range(len(LAYOUTS))]
    assert any("\r\n" in text for text in texts)
    assert any("\\/" in text for text in texts)
    assert any("\\u" in text and text.isascii() for text in texts)
    assert all(re.search(r"[0-9]\.[0-9]*0[,\s]", text) for text in texts)
    assert any(not text.isascii() for text in texts)
    for text in texts:
        assert json.dumps(json.loads(text), ensure_ascii=False) != text.strip()


def test_populations() -> None:
    patients = generate_population(11, 9, 30)
    assert patients == generate_population(11, 9, 30)
    bundles = [parse_bundle(raw) for raw in patients]
    assert len({bundle.patient_key for bundle in bundles}) == 9
    assert len({len(bundle.entries) for bundle in bundles}) > 1
    assert all(15 <= len(bundle.entries) <= 45 for bundle in bundles)
    assert not set(patients) & set(generate_population(12, 9, 30))
