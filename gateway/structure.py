"""Whether a JSON object is a resource of FHIR R4: elements, cardinalities, formats, required bindings, references.

The models of fhir.resources are those of R4B, and check no codes, little of the formats and no references; this walk
checks R4 itself, against the facts in `definitions`. It collects references (they can be judged only when the whole
bundle is known) and the types of all resources seen, contained ones included.

What it does not check: extensible, preferred and example bindings; the code systems behind required bindings that
cannot be listed (mime types and currencies have their form checked, units nothing); profiles; invariants, but ele-1
(nothing empty), ext-1 (a value or extensions), dom-2 (no containment in a contained resource).

Sources: FHIR R4 json.html, element.html, extensibility.html, terminologies.html#required, references.html.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from consilium.gateway import primitives
from consilium.gateway.bindings import unbound
from consilium.gateway.definitions import ElementDefinition, TypeDefinition, resource_types, types
from consilium.gateway.problems import PROBLEMS_MAX, shown

_MEMBER_NAME: Final = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")


@dataclass(frozen=True, slots=True)
class FoundReference:
    """A Reference inside a resource: its element's path, the member that holds it, and what it may refer to."""

    path: str
    member: str
    holder: str
    value: Mapping[str, Any]
    targets: frozenset[str]


@dataclass(slots=True)
class Findings:
    """What a walk found: (path, reason) of up to PROBLEMS_MAX faults, references, and types of resources."""

    faults: list[tuple[str, str]] = field(default_factory=list)
    references: list[FoundReference] = field(default_factory=list)
    resource_types: set[str] = field(default_factory=set)


def check_resource(resource: Any) -> Findings:
    """Check one resource. The findings have no faults if it is valid R4, as far as the module says."""
    walk = _Walk()
    walk.resource(resource, "", contained=False)
    return walk.findings


def check_element(value: Any, type_name: str) -> Findings:
    """Check a value that is no resource, such as the `Bundle` around the entries, as the named type."""
    walk = _Walk()
    walk.object(value, types()[type_name], type_name, type_name)
    return walk.findings


class _Walk:
    def __init__(self) -> None:
        self.findings = Findings()
        self._types = types()

    def fault(self, path: str, reason: str) -> None:
        if len(self.findings.faults) < PROBLEMS_MAX:
            self.findings.faults.append((path, reason))

    def resource(self, value: Any, path: str, contained: bool) -> None:
        if not isinstance(value, dict):
            self.fault(path, "is no JSON object")
            return
        name = value.get("resourceType")
        if not isinstance(name, str) or name not in resource_types():
            said = "is missing" if name is None else f"{shown(name)} is no resource of FHIR R4"
            self.fault(f"{path}.resourceType" if path else "resourceType", said)
            return
        self.findings.resource_types.add(name)
        if contained and value.get("contained") is not None:
            self.fault(f"{path}.contained", "is in a contained resource (dom-2)")
            return
        self.object(value, self._types[name], path or name, name)

    def object(self, value: Any, kind: TypeDefinition, path: str, holder: str) -> None:
        if not isinstance(value, dict):
            self.fault(path, f"is no JSON object ({kind.name})")
            return
        if not value:
            self.fault(path, "is an empty object")
            return
        members = kind.members
        for name, item in value.items():
            element = members.get(name)
            if element is not None:
                self._member(value, name, item, element, path, holder)
            elif name != "resourceType" or not kind.is_resource:
                self._other_member(value, name, item, kind, path, holder)
        self._groups(value, kind, path)
        if kind.name == "Extension" and not self._extension_holds_one(value):
            self.fault(path, "must have either a value[x] or extensions (ext-1)")

    def _groups(self, value: Mapping[str, Any], kind: TypeDefinition, path: str) -> None:
        for names in kind.required:
            if not any(name in value or "_" + name in value for name in names):
                self.fault(f"{path}.{kind.members[names[0]].name}", "is required, and missing")
        for names in kind.choices:
            present = [name for name in names if name in value or "_" + name in value]
            if len(present) > 1:
                chosen = " and ".join(present[:3])
                self.fault(
                    f"{path}.{kind.members[names[0]].name}", f"is a choice of one type, but has {chosen}"
                )

    def _extension_holds_one(self, value: Mapping[str, Any]) -> bool:
        has_value = any(name.lstrip("_").startswith("value") for name in value)
        return has_value != ("extension" in value)

    def _member(
        self,
        owner: Mapping[str, Any],
        name: str,
        item: Any,
        element: ElementDefinition,
        path: str,
        holder: str,
    ) -> None:
        where = f"{path}.{name}"
        if not element.many:
            if isinstance(item, list):
                self.fault(where, "is a list, but may occur only once")
            elif item is None:
                self.fault(where, "is null")
            else:
                self._value(item, element, name, where, holder)
            return
        if not isinstance(item, list):
            self.fault(where, "is no list, but may repeat")
            return
        if not item:
            self.fault(where, "is an empty list")
            return
        siblings = owner.get("_" + name)
        for position, single in enumerate(item):
            place = f"{where}[{position}]"
            if single is not None:
                self._value(single, element, name, place, holder)
            elif not (
                element.type in primitives.REASON
                and isinstance(siblings, list)
                and position < len(siblings)
                and siblings[position] is not None
            ):
                self.fault(place, "is null")

    def _value(self, value: Any, element: ElementDefinition, name: str, where: str, holder: str) -> None:
        reason_of = primitives.REASON.get(element.type)
        if reason_of is not None:
            reason = reason_of(value)
            if reason is None and element.binding is not None:
                reason = unbound(value, element.type, element.binding)
            if reason is None and element.form is not None and not element.form.fullmatch(value):
                reason = f"{shown(value)} is no code of the form that {element.name} must have"
            if reason is not None:
                self.fault(where, reason)
            return
        if element.type == "Resource":
            self.resource(value, where, contained=name == "contained")
            return
        self.object(value, self._types[element.type], where, holder)
        if not isinstance(value, dict):
            return
        if element.binding is not None:
            reason = unbound(value, element.type, element.binding)
            if reason is not None:
                self.fault(where, reason)
        if element.type == "Reference":
            found = FoundReference(where, name, holder, value, element.targets)
            self.findings.references.append(found)

    def _other_member(
        self, owner: Mapping[str, Any], name: str, item: Any, kind: TypeDefinition, path: str, holder: str
    ) -> None:
        """A member that is no element: the `_name` beside a primitive, or nothing that R4 knows."""
        element = kind.members.get(name[1:]) if name.startswith("_") else None
        if element is None or element.type not in primitives.REASON:
            known = name if _MEMBER_NAME.fullmatch(name) else "?"
            self.fault(f"{path}.{known}", f"{shown(name)} is no element of {kind.name} in FHIR R4")
            return
        where = f"{path}.{name}"
        extra = self._types["Element"]
        if not element.many:
            self.object(item, extra, where, holder)
            return
        if not isinstance(item, list) or not item:
            self.fault(where, "is no list with items, as the element beside it may repeat")
            return
        values = owner.get(name[1:])
        if isinstance(values, list) and len(values) != len(item):
            self.fault(where, "is not as long as the list beside it")
        for position, single in enumerate(item):
            if single is not None:
                self.object(single, extra, f"{where}[{position}]", holder)
            elif not isinstance(values, list):
                self.fault(f"{where}[{position}]", "is null, and so is the value beside it")
