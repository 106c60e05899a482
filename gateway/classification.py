"""Which sensitivity classes a resource belongs to, and why: labels, then codes, links, the author, and free text.

The rules, each of which adds classes and says so:

1. *label*: the resource's security labels, by the HL7 v3 sensitivities and their hierarchy. A label that nobody knows
   makes it restricted.
2. *confidentiality*: the second axis. R or V without a sensitivity makes it restricted.
3. *code*: clinical codes anywhere in it, contained resources included.
4. *author*: what a Part 2 program wrote is about substance use, whatever it says (42 CFR 2.11, 2.12).
5. *link*: what it was made in, made from, or made for (its encounter, the order, the results of a report), as far as
   these are classified; over any number of steps.
6. *minor*: what an adolescent told about some of these classes is the adolescent's own as well.
7. *free-text*: text without a label that nobody could classify is restricted: documents, and concepts without a code.

Whatever none of them finds is general. A wrong table makes records too open, so the table errs: a code that is in it
for one class counts wherever it stands, and negation is not understood. Nothing here reads text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from consilium.contracts.classes import ADOLESCENT, GENERAL, NAMES, RESTRICTED, SUBSTANCE_USE
from consilium.gateway.classification_table import CODE_OF, Table, network_table
from consilium.gateway.periods import data_period, moment

CONFIDENTIALITY: Final = ("U", "L", "M", "N", "R", "V")
"""Codes of v3-Confidentiality, from unrestricted to very restricted."""
INLINE_LABEL: Final = (
    "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label"
)
RULES: Final = ("label", "confidentiality", "code", "author", "link", "minor", "free-text", "default")
BECAUSE_CHARS_MAX: Final = 80
_CONCEPTS: Final = ("code", "medicationCodeableConcept", "vaccineCode", "relationship")
"""Elements that say what a resource is about."""
_YEAR_DAYS: Final = 365.2425
_DAY_MS: Final = 24 * 60 * 60 * 1000


class Reason(NamedTuple):
    """One rule that spoke: which, for which classes (codes, ascending), and because of what."""

    rule: str
    classes: tuple[int, ...]
    because: str


@dataclass(frozen=True, slots=True)
class Classified:
    """A resource's classes (codes, ascending; general alone or not at all), its confidentiality, labels and reasons."""

    classes: tuple[int, ...]
    confidentiality: str
    labels: tuple[str, ...]
    reasons: tuple[Reason, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The classes by name."""
        return tuple(NAMES[code] for code in self.classes)


@dataclass(frozen=True, slots=True)
class Author:
    """Whether the institution holds a Part 2 credential, or which practitioners (references) do."""

    is_part2: bool = False
    part2_references: frozenset[str] = frozenset()


NOT_PART2: Final = Author()


class Sourced(NamedTuple):
    """A resource and the fullUrl that it has in its bundle, if any."""

    full_url: str | None
    resource: Mapping[str, Any]


@dataclass(slots=True)
class _Found:
    """What is known of one resource so far."""

    reasons: list[Reason] = field(default_factory=list)
    classes: set[int] = field(default_factory=set)
    labels: list[str] = field(default_factory=list)
    confidentiality: str | None = None
    labelled: bool = False
    links: list[str] = field(default_factory=list)

    def add(self, rule: str, classes: Iterable[int], because: str) -> None:
        codes = tuple(sorted(classes))
        if codes:
            self.classes |= set(codes)
            self.reasons.append(Reason(rule, codes, because[:BECAUSE_CHARS_MAX]))


def classify(
    resources: Sequence[Sourced],
    table: Table | None = None,
    author: Author = NOT_PART2,
    known: Mapping[str, tuple[int, ...]] | None = None,
) -> list[Classified]:
    """Classify the resources of one patient together. `known` are classes of earlier resources, by reference."""
    table = table or network_table()
    found = [_Found() for _ in resources]
    for one, sourced in zip(found, resources, strict=True):
        _look(one, sourced.resource, table)
        _by_author(one, sourced.resource, table, author)
    _follow_links(found, resources, table, known or {})
    born = _birth(resources)
    for one, sourced in zip(found, resources, strict=True):
        _minor(one, sourced.resource, table, born)
        _free_text(one, sourced.resource, table)
    return [_settled(one) for one in found]


def count_rules(classified: Iterable[Classified]) -> dict[str, int]:
    """How many resources each rule classified; a resource counts once for each rule that spoke."""
    counted = Counter(rule for one in classified for rule in {reason.rule for reason in one.reasons})
    return {rule: counted[rule] for rule in RULES}


def _settled(found: _Found) -> Classified:
    classes = found.classes - {GENERAL}
    if not classes:
        found.add("default", [GENERAL], "no rule spoke")
        classes = {GENERAL}
    sensitive = classes != {GENERAL}
    stated = found.confidentiality
    least = "R" if sensitive else "N"
    level = max((stated or least, least if sensitive else "U"), key=CONFIDENTIALITY.index)
    return Classified(tuple(sorted(classes)), level, tuple(dict.fromkeys(found.labels)), tuple(found.reasons))


# --- 1 to 3: what the resource says ---------------------------------------------------------------------------------


def _look(found: _Found, resource: Mapping[str, Any], table: Table) -> None:
    for label in _labels(resource):
        _label(found, label, table)
    for system, code in _codings(resource):
        found.add("code", table.classes_of_code(system, code), f"{system}|{code}")
    found.links = list(_links(resource, table))
    restricted = found.confidentiality in ("R", "V")
    if restricted and not found.classes:
        found.add("confidentiality", [RESTRICTED], f"confidentiality {found.confidentiality}")


def _label(found: _Found, label: Mapping[str, Any], table: Table) -> None:
    system, code = label.get("system"), label.get("code")
    if not isinstance(code, str) or system in table.indifferent:
        return
    if system == table.confidentiality_system and code in CONFIDENTIALITY:
        found.labelled = True
        if found.confidentiality is None or _higher(code, found.confidentiality):
            found.confidentiality = code
        return
    found.labelled = True
    classes = table.classes_of_label(code) if system == table.sensitivity_system else frozenset()
    if system == table.sensitivity_system:
        found.labels.append(code)
    if classes:
        found.add("label", classes, code)
    else:
        found.add("label", [RESTRICTED], f"unknown label {code}")


def _higher(one: str, other: str) -> bool:
    return CONFIDENTIALITY.index(one) > CONFIDENTIALITY.index(other)


def _labels(value: Any) -> Iterator[Mapping[str, Any]]:
    """Labels of the resource, of resources in it, and of single elements (DS4P)."""
    if isinstance(value, list):
        for item in value:
            yield from _labels(item)
    elif isinstance(value, dict):
        meta = value.get("meta")
        if isinstance(meta, dict):
            yield from (label for label in meta.get("security", []) if isinstance(label, dict))
        if value.get("url") == INLINE_LABEL and isinstance(value.get("valueCoding"), dict):
            yield value["valueCoding"]
        for name, item in value.items():
            if name != "meta":
                yield from _labels(item)


def _codings(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for item in value:
            yield from _codings(item)
    elif isinstance(value, dict):
        system, code = value.get("system"), value.get("code")
        if isinstance(system, str) and isinstance(code, str):
            yield system, code
        for name, item in value.items():
            if name != "meta" and isinstance(item, dict | list):
                yield from _codings(item)


def _links(value: Any, table: Table, inside: bool = False) -> Iterator[str]:
    """References below elements that make a resource part of what another is about."""
    if isinstance(value, list):
        for item in value:
            yield from _links(item, table, inside)
    elif isinstance(value, dict):
        reference = value.get("reference")
        if inside and isinstance(reference, str):
            yield reference
        for name, item in value.items():
            if isinstance(item, dict | list):
                yield from _links(item, table, inside or name in table.links)


# --- 4 to 7: what surrounds it --------------------------------------------------------------------------------------


def _is_uncoded(concept: Any) -> bool:
    return isinstance(concept, dict) and "text" in concept and not concept.get("coding")


def authors_of(resource: Mapping[str, Any]) -> tuple[str, ...]:
    """The references of those who made the resource, in the order of the elements."""
    found: list[str] = []
    for name in ("author", "performer", "recorder", "asserter", "requester", "sender", "informant", "source"):
        values = resource.get(name)
        for item in values if isinstance(values, list) else [values]:
            actor = item.get("actor", item) if isinstance(item, dict) else None
            if isinstance(actor, dict) and isinstance(actor.get("reference"), str):
                found.append(actor["reference"])
    return tuple(dict.fromkeys(found))


def _by_author(found: _Found, resource: Mapping[str, Any], table: Table, author: Author) -> None:
    if resource.get("resourceType") in table.administrative:
        return
    named = [one for one in authors_of(resource) if one in author.part2_references]
    if author.is_part2 or named:
        found.add("author", [SUBSTANCE_USE], "Part 2 program" if author.is_part2 else named[0])


def _follow_links(
    found: Sequence[_Found],
    resources: Sequence[Sourced],
    table: Table,
    known: Mapping[str, tuple[int, ...]],
) -> None:
    """Until nothing changes: a class that was reached by a link reaches on."""
    by_reference: dict[str, int] = {}
    for index, sourced in enumerate(resources):
        kind, identifier = sourced.resource.get("resourceType"), sourced.resource.get("id")
        if kind in table.no_links_to:
            continue
        if sourced.full_url:
            by_reference[sourced.full_url] = index
        if isinstance(identifier, str):
            by_reference.setdefault(f"{kind}/{identifier}", index)
    for one in found:
        for reference in one.links:
            one.add("link", set(known.get(reference, ())) - {GENERAL} - one.classes, reference)
    changed = True
    while changed:
        changed = False
        for one in found:
            for reference in one.links:
                target = by_reference.get(reference)
                new = found[target].classes - one.classes if target is not None else set()
                if new:
                    one.add("link", new, reference)
                    changed = True


def _birth(resources: Sequence[Sourced]) -> int | None:
    for sourced in resources:
        born = sourced.resource.get("birthDate")
        if sourced.resource.get("resourceType") == "Patient" and isinstance(born, str):
            try:
                return moment(born).start_ms
            except ValueError:
                return None
    return None


def _minor(found: _Found, resource: Mapping[str, Any], table: Table, born_ms: int | None) -> None:
    if table.minor is None or born_ms is None:
        return
    when = data_period(resource)
    at_ms = when.start_ms if when is not None else None
    concerned = found.classes & {CODE_OF[name] for name in table.minor.classes}
    if at_ms is None or not concerned:
        return
    years = int((at_ms - born_ms) / _DAY_MS / _YEAR_DAYS)
    if table.minor.from_years <= years < table.minor.until_years:
        found.add("minor", [ADOLESCENT], f"aged {years}")


def _free_text(found: _Found, resource: Mapping[str, Any], table: Table) -> None:
    kind = str(resource.get("resourceType"))
    if found.labelled or found.classes or kind in table.administrative:
        return
    if any(_is_uncoded(resource.get(name)) for name in _CONCEPTS):
        found.add("free-text", [RESTRICTED], f"{kind}: text without a code")
        return
    if kind not in table.free_text or any(
        resource.get(element) for element in table.structured_by.get(kind, ())
    ):
        return
    types = resource.get("type") if kind != "DiagnosticReport" else resource.get("code")
    if any(table.is_cleared(system, code) for system, code in _codings(types)):
        return
    found.add("free-text", [RESTRICTED], kind)
