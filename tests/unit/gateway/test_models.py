"""The library's models beside our table: whatever the table calls valid R4, the models must not refuse.

Resources are made from the table itself, by type, with values at the borders of each primitive type.
"""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from consilium.gateway.definitions import ElementDefinition, resource_types, types
from consilium.gateway.models import WITHOUT_MODEL, model_faults
from consilium.gateway.structure import check_resource

PER_TYPE = 4
DEPTH_MAX = 5
SAMPLES: dict[str, list[Any]] = {
    "base64Binary": ["SGk=", "QQ==", "SGVs bG8="],
    "boolean": [True, False],
    "canonical": ["http://x.example/a|1", "#a"],
    "code": ["abc", "a b"],
    "date": ["2020", "2020-02", "2020-02-29", "0001-01-01"],
    "dateTime": [
        "2020",
        "2020-02",
        "2020-02-29",
        "2016-12-31T23:59:60Z",
        "2020-01-01T10:00:00.123456789+14:00",
    ],
    "decimal": [
        Decimal("1.10"),
        0,
        Decimal("1E+3"),
        Decimal("-0.0"),
        Decimal("3.14159265358979323846"),
        10**20,
    ],
    "id": ["a", "A-1.b", "x" * 64],
    "instant": ["2020-02-29T23:59:59Z", "2015-02-07T13:28:17.239+02:00", "2016-12-31T23:59:60Z"],
    "integer": [0, 2**31 - 1, -(2**31)],
    "markdown": ["# a\n", " "],
    "oid": ["urn:oid:1.2.3"],
    "positiveInt": [1, 2**31 - 1],
    "string": ["a", " ", "a\nb", "\u00a0", "Ω" * 300],
    "time": ["10:00:00", "23:59:60", "00:00:00.5"],
    "unsignedInt": [0, 7],
    "uri": ["http://a", "urn:x", "é"],
    "url": ["http://a.example/c", "mailto:x@y", "ftp://x", "abc"],
    "uuid": [
        "urn:uuid:14867dba-fb11-4df3-9829-8e8e081b39e6",
        "urn:uuid:14867dba-fb11-1df3-0829-8e8e081b39e6",
    ],
    "xhtml": ['<div xmlns="http://www.w3.org/1999/xhtml">a</div>', "<div/>"],
}
EXTENSION = {"extension": [{"url": "http://x", "valueString": "q"}]}


class Inventor:
    """Random valid R4, driven by the table alone."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)

    def resource(self, name: str) -> dict[str, Any]:
        return {"resourceType": name} | self.members(name, 0)

    def members(self, name: str, depth: int) -> dict[str, Any]:
        kind = types()[name]
        groups: dict[str, list[str]] = {}
        for member, element in kind.members.items():
            groups.setdefault(element.name, []).append(member)
        required = {names[0] for names in kind.required}
        found: dict[str, Any] = {}
        for names in groups.values():
            needed = names[0] in required
            if not needed and (
                depth >= DEPTH_MAX or self.random.random() > (0.5, 0.35, 0.12, 0.12, 0.12)[depth]
            ):
                continue
            self.put(found, self.random.choice(names), kind.members, depth)
        if name == "Extension":
            valued = any(member.lstrip("_").startswith("value") for member in found)
            if valued:
                found.pop("extension", None)
            elif "extension" not in found:
                found["valueString"] = "x"
        if not found:
            member = next(member for member in kind.members if member != "extension")
            self.put(found, member, kind.members, depth)
        return found

    def put(self, found: dict[str, Any], member: str, members: Any, depth: int) -> None:
        element = members[member]
        count = self.random.choice((1, 2)) if element.many else 1
        values = [self.value(element, depth) for _ in range(count)]
        found[member] = values if element.many else values[0]
        if element.type in SAMPLES and member not in ("id", "url", "div") and self.random.random() < 0.1:
            found["_" + member] = [EXTENSION] + [None] * (count - 1) if element.many else EXTENSION
            if element.many and self.random.random() < 0.5:
                found[member] = [None, *values[1:]]

    def value(self, element: ElementDefinition, depth: int) -> Any:
        if element.form is not None:
            return self.random.choice(
                [code for code in ("text/plain", "USD") if element.form.fullmatch(code)]
            )
        if element.type in SAMPLES:
            codes = sorted(element.binding.codes) if element.binding else SAMPLES[element.type]
            return self.random.choice(codes)
        if element.type == "Resource":
            return {"resourceType": "Basic", "id": "b", "code": {"text": "x"}}
        value = self.members(element.type, depth + 1)
        if element.binding is not None and element.type == "CodeableConcept":
            system = self.random.choice(sorted(element.binding.by_system))
            code = self.random.choice(sorted(element.binding.by_system[system]))
            value["coding"] = [{"system": system, "code": code}]
        return value


@pytest.mark.parametrize("name", sorted(resource_types()))
def test_valid_r4_passes_both(name: str) -> None:
    for number in range(PER_TYPE):
        resource = Inventor(f"{name}/{number}").resource(name)
        findings = check_resource(resource)
        assert findings.faults == []
        assert model_faults(resource, findings.resource_types) == []


def test_resources_without_model_are_those_that_r4b_lacks_or_rebuilt() -> None:
    differing = set()
    for name in resource_types():
        try:
            model = get_fhir_model_class(name)
        except ValueError:
            differing.add(name)
            continue
        known = {field.alias or key for key, field in model.model_fields.items()}
        if not types()[name].members.keys() <= known:
            differing.add(name)
    assert differing == WITHOUT_MODEL


def test_the_models_are_asked() -> None:
    broken = {"resourceType": "Observation", "code": {"text": "x"}, "valueQuantity": {"value": "many"}}
    faults = model_faults(broken, {"Observation"})
    assert any(path == "Observation.valueQuantity.value" for path, _ in faults)
    assert model_faults(broken, {"Observation", "MedicinalProduct"}) == []
