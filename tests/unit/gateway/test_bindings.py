"""Codes, concepts and codings against a value set of two systems."""

from __future__ import annotations

from typing import Any

import pytest

from consilium.gateway.bindings import unbound
from consilium.gateway.definitions import ValueSet

SET = ValueSet("colours", {"s:1": frozenset({"red"}), "s:2": frozenset({"blue"})}, frozenset({"red", "blue"}))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("red", "code"),
        ({"coding": [{"system": "s:1", "code": "red"}]}, "CodeableConcept"),
        ({"coding": [{"system": "x", "code": "y"}, {"system": "s:2", "code": "blue"}]}, "CodeableConcept"),
        ({"extension": [{"url": "u", "valueCode": "unknown"}]}, "CodeableConcept"),
        ({"system": "s:2", "code": "blue"}, "Coding"),
        ({"value": 1}, "Quantity"),
    ],
)
def test_kept(value: Any, kind: str) -> None:
    assert unbound(value, kind, SET) is None


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("Red", "code"),
        ("green", "code"),
        ({"text": "red"}, "CodeableConcept"),
        ({"coding": [{"system": "s:1", "code": "blue"}]}, "CodeableConcept"),
        ({"coding": [{"code": "red"}]}, "CodeableConcept"),
        ({"coding": "red"}, "CodeableConcept"),
        ({"coding": ["red"], "extension": []}, "CodeableConcept"),
        ({"system": "s:1", "code": "green"}, "Coding"),
        ({"system": ["s:1"], "code": "red"}, "Coding"),
    ],
)
def test_broken(value: Any, kind: str) -> None:
    reason = unbound(value, kind, SET)
    assert reason is not None
    assert "colours (blue, red)" in reason
