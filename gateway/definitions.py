"""The facts of FHIR R4 (4.0.1) that a resource is checked against: types, elements, cardinalities, targets, codes.

`fhir_r4.json` holds them; `scripts/derive_fhir_r4.py` derives it from HL7's definitions and documents its shape. Here
they become one lookup per type: JSON member name -> element, with inherited elements and choices (`value[x]`) spelled
out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

_MIME_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(?:[ \t]*;.*)?")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
FORMS: Final[Mapping[tuple[str, str], re.Pattern[str]]] = MappingProxyType(
    {
        ("Attachment", "contentType"): _MIME_TYPE,
        ("Binary", "contentType"): _MIME_TYPE,
        ("Money", "currency"): _CURRENCY,
    }
)
"""Required bindings whose codes cannot be listed, but have a form (BCP 13, ISO 4217)."""


@dataclass(frozen=True, slots=True)
class ValueSet:
    """The codes of a required binding, by system; `codes` is their union, for elements of type code."""

    name: str
    by_system: Mapping[str, frozenset[str]]
    codes: frozenset[str]


@dataclass(frozen=True, slots=True)
class ElementDefinition:
    """What one JSON member of a type may hold. `targets` is empty where any resource may be referred to."""

    name: str
    type: str
    many: bool
    binding: ValueSet | None
    targets: frozenset[str]
    form: re.Pattern[str] | None


@dataclass(frozen=True, slots=True)
class TypeDefinition:
    """A resource, data type or backbone element. Groups list member names: several where the element is a choice."""

    name: str
    is_resource: bool
    abstract: bool
    members: Mapping[str, ElementDefinition]
    required: tuple[tuple[str, ...], ...]
    choices: tuple[tuple[str, ...], ...]


@cache
def types() -> Mapping[str, TypeDefinition]:
    """Every type of R4 by name (`Observation`, `Observation.component`, `Quantity`), but the primitive ones."""
    table = json.loads((files(__package__) / "fhir_r4.json").read_text(encoding="utf-8"))
    value_sets = {
        name: ValueSet(
            name,
            MappingProxyType({system: frozenset(codes) for system, codes in systems.items()}),
            frozenset(code for codes in systems.values() for code in codes),
        )
        for name, systems in table["value_sets"].items()
    }
    rows = table["types"]
    return MappingProxyType({name: _type(name, rows, value_sets) for name in rows})


@cache
def resource_types() -> frozenset[str]:
    """The names of the resources that can stand in a bundle."""
    return frozenset(name for name, kind in types().items() if kind.is_resource and not kind.abstract)


def _type(name: str, rows: Mapping[str, Any], value_sets: Mapping[str, ValueSet]) -> TypeDefinition:
    elements: dict[str, Any] = {}
    base: str | None = name
    while base is not None:
        elements = rows[base]["elements"] | elements
        base = rows[base]["base"]
    members: dict[str, ElementDefinition] = {}
    required: list[tuple[str, ...]] = []
    choices: list[tuple[str, ...]] = []
    for element, (kinds, minimum, maximum, bound, targets) in elements.items():
        stem = element.removesuffix("[x]")
        names = []
        for kind in kinds:
            member = stem + kind[0].upper() + kind[1:] if stem != element else element
            names.append(member)
            reach = frozenset(targets) if kind == "Reference" else frozenset()
            members[member] = ElementDefinition(
                element,
                kind,
                maximum == 0,
                value_sets[bound] if bound else None,
                frozenset() if "Resource" in reach else reach,
                FORMS.get((name, member)),
            )
        if minimum:
            required.append(tuple(names))
        if len(names) > 1:
            choices.append(tuple(names))
    row = rows[name]
    return TypeDefinition(
        name, row["kind"] == "resource", row["abstract"], members, tuple(required), tuple(choices)
    )
