"""What the references of a bundle's resources lead to: an entry, a contained resource, or something elsewhere.

Inside a transaction, resources name each other by `fullUrl` (mostly `urn:uuid:`), or as `Type/id`. A `urn:` reference
that no entry answers leads nowhere: nobody could resolve it later. A reference to a server that is not in the bundle
is left as it is. Whatever the target, its type must be one that R4 allows in that place; and what a record is *about*
must be the bundle's patient, for the record is sealed into that patient's compartment.

Sources: FHIR R4 references.html (literal, logical, contained), bundle.html#references, http.html#trules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from consilium.gateway.definitions import resource_types
from consilium.gateway.problems import Problem, shown
from consilium.gateway.structure import FoundReference

ABOUT: Final = frozenset({"beneficiary", "for", "individual", "patient", "subject"})
"""Elements of a resource that say whom it is about."""

_RELATIVE: Final = re.compile(
    r"(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?"
)
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_CONDITIONAL: Final = re.compile(r"(?P<type>[A-Z][A-Za-z]+)\?(?P<query>.+)")
_ABOUT_PATH: Final = re.compile(r"[A-Za-z]+(?:\.contained\[[0-9]+\])?\.[A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a reference leads: the type if it is known, the entry if it is in the bundle."""

    type: str | None = None
    entry: int | None = None
    fault: Problem | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """What resolving needs of one entry."""

    index: int
    full_url: str | None
    resource: Mapping[str, Any]
    references: Sequence[FoundReference]


def reference_problems(nodes: Sequence[Node], patient: Node) -> list[Problem]:
    """Everything that is wrong with the references of a bundle whose one patient is `patient`."""
    return list(_Resolver(nodes, patient).problems())


class _Resolver:
    def __init__(self, nodes: Sequence[Node], patient: Node) -> None:
        self._nodes = nodes
        self._patient = patient
        self._contained_of = -1
        self._contained_now: dict[str, str] = {}
        self._by_url = {node.full_url: node for node in nodes if node.full_url}
        self._by_id = {
            f"{node.resource['resourceType']}/{node.resource['id']}": node
            for node in nodes
            if "id" in node.resource
        }
        self._identifiers = [
            (item.get("system"), item.get("value")) for item in patient.resource.get("identifier", [])
        ]

    def problems(self) -> Iterable[Problem]:
        for node in self._nodes:
            for found in node.references:
                problem = self._judge(node, found)
                if problem is not None:
                    yield problem

    def _judge(self, node: Node, found: FoundReference) -> Problem | None:
        said = found.value.get("type")
        said_type = said.rpartition("/")[2] if isinstance(said, str) else None
        if said_type not in resource_types():
            said_type = None
        literal = found.value.get("reference")
        target = self._resolve(node, found, literal) if isinstance(literal, str) else Target(said_type)
        if target.fault is not None:
            return target.fault
        if target.type and found.targets and target.type not in found.targets:
            allowed = ", ".join(sorted(found.targets))
            reason = f"may not refer to {_a(target.type)} (only to: {allowed})"
            return self._problem(node, found, "bundle.invalid_resource", reason)
        if target.type and said_type and target.type != said_type:
            reason = f"says type {said_type}, but refers to {_a(target.type)}"
            return self._problem(node, found, "bundle.invalid_resource", reason)
        if self._about_another(found, target, literal):
            reason = "refers to a patient other than the bundle's"
            return self._problem(node, found, "bundle.another_patient", reason)
        return None

    def _resolve(self, node: Node, found: FoundReference, literal: str) -> Target:
        if literal.startswith("#"):
            return self._contained(node, found, literal[1:])
        exact = self._by_url.get(literal)
        if exact is not None:
            return Target(exact.resource["resourceType"], exact.index)
        plain = literal.partition("#")[0]
        versionless = self._by_url.get(plain.partition("/_history/")[0])
        if versionless is not None:
            return Target(versionless.resource["resourceType"], versionless.index)
        if plain.startswith(("urn:uuid:", "urn:oid:")):
            reason = f"{literal:.60} is the fullUrl of no entry of the bundle"
            return Target(fault=self._problem(node, found, "bundle.dangling_reference", reason))
        if _ABSOLUTE.match(plain):
            tail = _RELATIVE.fullmatch("/".join(plain.partition("/_history/")[0].rsplit("/", 2)[-2:]))
            known = tail is not None and tail["type"] in resource_types()
            return Target(tail["type"] if tail is not None and known else None)
        relative = _RELATIVE.fullmatch(plain) or _CONDITIONAL.fullmatch(plain)
        if relative is None or relative["type"] not in resource_types():
            reason = f"{shown(literal)} is no reference: neither a URL, nor Type/id, nor #id"
            return Target(fault=self._problem(node, found, "bundle.invalid_resource", reason))
        inside = self._by_id.get(plain.partition("/_history/")[0])
        return Target(relative["type"], inside.index if inside else None)

    def _contained(self, node: Node, found: FoundReference, fragment: str) -> Target:
        if not fragment:
            return Target(node.resource["resourceType"], node.index)
        inside = self._contained_types(node).get(fragment)
        if inside is not None:
            return Target(inside)
        reason = f"#{fragment:.60} is the id of no contained resource"
        return Target(fault=self._problem(node, found, "bundle.dangling_reference", reason))

    def _contained_types(self, node: Node) -> dict[str, str]:
        """The contained resources of one entry, id -> type; kept for the entry at hand."""
        if self._contained_of != node.index:
            self._contained_of = node.index
            self._contained_now = {
                item["id"]: item["resourceType"]
                for item in node.resource.get("contained", [])
                if "id" in item
            }
        return self._contained_now

    def _about_another(self, found: FoundReference, target: Target, literal: object) -> bool:
        if target.type != "Patient" or found.member not in ABOUT or not _ABOUT_PATH.fullmatch(found.path):
            return False
        if target.entry is not None:
            return target.entry != self._patient.index
        if isinstance(literal, str):
            conditional = _CONDITIONAL.fullmatch(literal)
            return conditional is None or not self._names_patient(conditional["query"])
        identifier = found.value.get("identifier", {})
        pair = (identifier.get("system"), identifier.get("value"))
        same_system = [known for known in self._identifiers if known[0] == pair[0]]
        return bool(same_system) and pair not in same_system

    def _names_patient(self, query: str) -> bool:
        """Whether a conditional reference asks for one of the patient's identifiers, as `identifier=system|value`."""
        wanted = [value for name, value in parse_qsl(query) if name == "identifier"]
        return any(f"{system or ''}|{value}" in wanted for system, value in self._identifiers)

    def _problem(self, node: Node, found: FoundReference, code: str, reason: str) -> Problem:
        return Problem(code, found.path, reason, node.index, node.full_url)


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}"
