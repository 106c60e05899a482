"""FHIR R4 Consent in: what the ledger would hold of it, or why it cannot hold it.

A Consent is translated whole or refused whole: a rule that is left out would permit or deny something else than the
patient signed. What the chain must not show (labels, dates of data, single records, authors) becomes a condition,
sealed. The original stays a record, sealed like any other, and the consent on the chain names it.

Provisions are nested in FHIR, flat with depths here: a nested provision has what it states, and for the rest what its
parent has. A confidentiality label is a high-water mark in a permit (that and lower), a low-water mark in a denial
(that and higher). Several sensitivity labels in one provision are alternatives. A date that ends a period means the
end of that day in a stated zone.

Source: FHIR R4 consent.html, consent-definitions.html; IHE ITI Privacy Consent on FHIR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any, Final, NamedTuple

from consilium.client.classes import ClassMap
from consilium.client.envelope import reference_tag
from consilium.contracts.classes import GENERAL
from consilium.contracts.conditions import CONFIDENTIALITY, PROVISIONS_MAX, Condition
from consilium.contracts.consent import DEPTH_MAX, Effect, Provision
from consilium.contracts.purposes import PURPOSES
from consilium.gateway.classification_table import Table, network_table
from consilium.gateway.periods import Interval, interval, moment
from consilium.gateway.structure import check_resource
from consilium.ledger.codec import UINT_MAX
from consilium.ledger.errors import Refused

ACT_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
SCOPE: Final = "http://terminology.hl7.org/CodeSystem/consentscope"
PARTICIPATION: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
CONSENT_ACTION: Final = "http://terminology.hl7.org/CodeSystem/consentaction"
RESOURCE_TYPES: Final = "http://hl7.org/fhir/resource-types"
POLICY_RULE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
RECIPIENTS: Final = ("IRCP", "PRCP")
"""Roles of an actor that receives information."""
BASE_RULES: Final[Mapping[str, Effect]] = {"OPTIN": "permit", "OPTOUT": "deny"}

_UNDERSTOOD: Final = frozenset(
    {"type", "period", "actor", "action", "securityLabel", "purpose", "class", "dataPeriod", "data"}
    | {"provision", "id", "extension"}
)
_HEAD: Final = frozenset(
    {"resourceType", "id", "meta", "text", "identifier", "status", "scope", "category", "patient", "dateTime"}
    | {
        "performer",
        "organization",
        "sourceReference",
        "sourceAttachment",
        "policy",
        "policyRule",
        "verification",
    }
    | {"provision", "language", "contained", "extension"}
)


class ConsentRefused(Refused):
    """A Consent that the ledger cannot represent. `path` is the element, `reason` why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__("consent.not_representable", f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Known:
    """What the institution knows of the names in a Consent.

    `parties` are identities and teams by reference (`Practitioner/7`); `patients` identities of patients and of who
    may sign for them; `policies` are the URIs of policies that add nothing to the provisions; `references` is what a
    record refers to, by its own reference.
    """

    patient: bytes
    class_map: ClassMap
    parties: Mapping[str, bytes] = field(default_factory=dict)
    patients: Mapping[str, bytes] = field(default_factory=dict)
    policies: frozenset[str] = frozenset()
    references: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    zone: tzinfo = UTC


class Draft(NamedTuple):
    """A Consent as the ledger would hold it. `performer` must sign it: the patient, or who speaks for the patient."""

    patient: bytes
    performer: bytes
    provisions: tuple[Provision, ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class _Rule:
    """One provision on its way: everything inherited and stated, nothing sealed yet."""

    effect: Effect
    period: Interval
    actors: tuple[bytes, ...] | None
    purposes: tuple[str, ...] | None
    sensitivities: tuple[str, ...]
    level: str | None
    types: tuple[str, ...] | None
    data_period: Interval | None
    instances: tuple[str, ...] | None
    authors: tuple[str, ...] | None
    related: tuple[str, ...] | None


def read_consent(resource: Mapping[str, Any], known: Known, now_ms: int, table: Table | None = None) -> Draft:
    """What a FHIR R4 Consent means on the ledger at block time `now_ms`. Raises ConsentRefused: element and reason."""
    faults = check_resource(resource).faults
    if faults or resource.get("resourceType") != "Consent":
        path, reason = faults[0] if faults else ("resourceType", "is no Consent")
        raise ConsentRefused(path, reason)
    performer = _head(resource, known)
    root = resource.get("provision")
    if root is None:
        raise ConsentRefused("Consent.provision", "is missing: there is no rule but the policy")
    stated = _base_rule(resource)
    start = None
    if "dateTime" in resource and "start" not in root.get("period", {}):
        start = moment(resource["dateTime"], known.zone).start_ms
    nothing = _Rule(
        stated or "permit", Interval(start, None), None, None, (), None, None, None, None, None, None
    )
    if stated is None and "type" not in root:
        raise ConsentRefused("Consent.provision.type", "neither it nor a base rule says permit or deny")
    reader = _Reader(known, table or network_table())
    reader.walk(root, nothing, 0, "Consent.provision")
    draft = reader.draft(performer)
    for place, provision in enumerate(draft.provisions):
        if provision.not_after <= now_ms:
            raise ConsentRefused(
                "Consent.provision", f"provision {place} is over: it permits and denies nothing"
            )
    return draft


def _head(resource: Mapping[str, Any], known: Known) -> bytes:
    """Everything but the rules. Returns who performs the consent."""
    _only(resource, _HEAD, "Consent")
    if resource["status"] != "active":
        raise ConsentRefused("Consent.status", f"is {resource['status']}: only an active consent holds")
    scopes = [(c.get("system"), c.get("code")) for c in resource["scope"].get("coding", [])]
    if (SCOPE, "patient-privacy") not in scopes:
        raise ConsentRefused("Consent.scope", "is not patient-privacy: the ledger decides about reading only")
    patient = resource.get("patient", {}).get("reference")
    if known.patients.get(patient) != known.patient:
        raise ConsentRefused("Consent.patient", f"{patient} is not the patient")
    for index, policy in enumerate(resource.get("policy", [])):
        uri = policy.get("uri")
        if uri not in known.policies:
            raise ConsentRefused(f"Consent.policy[{index}]", f"the policy {uri} is not known here")
    performers = [one.get("reference") for one in resource.get("performer", [])] or [patient]
    if len(performers) != 1 or performers[0] not in known.patients:
        named = ", ".join(str(one) for one in performers)
        raise ConsentRefused("Consent.performer", f"{named} is nobody who can sign on the ledger")
    return known.patients[performers[0]]


def _base_rule(resource: Mapping[str, Any]) -> Effect | None:
    rule = resource.get("policyRule")
    if rule is None:
        return None
    for coding in rule.get("coding", []):
        if coding.get("system") == POLICY_RULE and coding.get("code") in BASE_RULES:
            return BASE_RULES[coding["code"]]
    raise ConsentRefused("Consent.policyRule", "is neither OPTIN nor OPTOUT")


def _only(value: Mapping[str, Any], understood: frozenset[str], path: str) -> None:
    for name in value:
        if name.removeprefix("_") not in understood:
            raise ConsentRefused(f"{path}.{name}", "is not understood, and might change what is permitted")
    if "modifierExtension" in value:
        raise ConsentRefused(
            f"{path}.modifierExtension", "changes the meaning in a way that is not known here"
        )


class _Reader:
    def __init__(self, known: Known, table: Table) -> None:
        self._known = known
        self._table = table
        self._rules: list[tuple[int, _Rule]] = []

    def walk(self, value: Mapping[str, Any], parent: _Rule, depth: int, path: str) -> None:
        """Read a provision and those below it, parents first."""
        if depth > DEPTH_MAX:
            raise ConsentRefused(path, f"is nested deeper than {DEPTH_MAX}")
        if len(self._rules) == PROVISIONS_MAX:
            raise ConsentRefused(path, f"is one of more than {PROVISIONS_MAX} provisions")
        rule = self._rule(value, parent, path)
        self._rules.append((depth, rule))
        for index, below in enumerate(value.get("provision", [])):
            self.walk(below, rule, depth + 1, f"{path}.provision[{index}]")

    def draft(self, performer: bytes) -> Draft:
        """The provisions in the order of their depths, with their conditions."""
        provisions: list[Provision] = []
        conditions: list[Condition] = []
        for depth, rule in sorted(self._rules, key=lambda one: one[0]):
            compartments = self._compartments(rule)
            condition = self._condition(rule, len(provisions))
            if condition is not None:
                conditions.append(condition)
            period = rule.period
            provisions.append(
                Provision(
                    depth=depth,
                    effect=rule.effect,
                    actors=None if rule.actors is None else list(rule.actors),
                    purposes=None if rule.purposes is None else list(rule.purposes),
                    compartments=compartments,
                    not_before=max(0, period.start_ms or 0),
                    not_after=UINT_MAX if period.end_ms is None else max(0, period.end_ms),
                    conditional=condition is not None,
                )
            )
        return Draft(self._known.patient, performer, tuple(provisions), tuple(conditions))

    # --- one provision ---

    def _rule(self, value: Mapping[str, Any], parent: _Rule, path: str) -> _Rule:
        _only(value, _UNDERSTOOD, path)
        effect: Effect = value.get("type", parent.effect)
        self._actions(value, path)
        sensitivities, level = self._labels(value, parent, path)
        purposes = self._purposes(value, parent, path)
        if effect == "permit" and purposes is None:
            raise ConsentRefused(f"{path}.purpose", "a permit must say for what")
        data = self._data(value, path, effect)
        return _Rule(
            effect=effect,
            period=_within(self._period(value, "period", path), parent.period, path),
            actors=self._actors(value, parent, path),
            purposes=purposes,
            sensitivities=sensitivities,
            level=level,
            types=self._types(value, parent, path),
            data_period=self._period(value, "dataPeriod", path) or parent.data_period,
            instances=data["instance"] if data is not None else parent.instances,
            authors=data["authoredby"] if data is not None else parent.authors,
            related=data["related"] if data is not None else parent.related,
        )

    def _period(self, value: Mapping[str, Any], name: str, path: str) -> Interval | None:
        if name not in value:
            return None
        try:
            return interval(value[name], self._known.zone)
        except ValueError as error:
            raise ConsentRefused(f"{path}.{name}", str(error)) from None

    def _actors(self, value: Mapping[str, Any], parent: _Rule, path: str) -> tuple[bytes, ...] | None:
        if "actor" not in value:
            return parent.actors
        found = []
        for index, actor in enumerate(value["actor"]):
            place = f"{path}.actor[{index}]"
            roles = [(c.get("system"), c.get("code")) for c in actor["role"].get("coding", [])]
            if not any((PARTICIPATION, role) in roles for role in RECIPIENTS):
                raise ConsentRefused(f"{place}.role", "is no recipient of information")
            reference = actor["reference"].get("reference")
            if reference not in self._known.parties:
                raise ConsentRefused(f"{place}.reference", f"{reference} is not on the ledger")
            found.append(self._known.parties[reference])
        return tuple(dict.fromkeys(found))

    def _actions(self, value: Mapping[str, Any], path: str) -> None:
        """Reading is all that is decided here: a rule about writing only says nothing, and is not taken for more."""
        for index, action in enumerate(value.get("action", [])):
            codes = [c.get("code") for c in action.get("coding", []) if c.get("system") == CONSENT_ACTION]
            if "access" not in codes:
                raise ConsentRefused(
                    f"{path}.action[{index}]", "is not access: the ledger decides on nothing else"
                )

    def _purposes(self, value: Mapping[str, Any], parent: _Rule, path: str) -> tuple[str, ...] | None:
        if "purpose" not in value:
            return parent.purposes
        found = []
        for index, coding in enumerate(value["purpose"]):
            code = coding.get("code")
            if coding.get("system") != ACT_REASON or code not in PURPOSES:
                named = f"{coding.get('system')}|{code}"
                raise ConsentRefused(f"{path}.purpose[{index}]", f"{named} is no known purpose of use")
            found.append(code)
        return tuple(dict.fromkeys(found))

    def _labels(
        self, value: Mapping[str, Any], parent: _Rule, path: str
    ) -> tuple[tuple[str, ...], str | None]:
        """Sensitivities and confidentiality. Stating one axis lifts what the parent states on the other."""
        if "securityLabel" not in value:
            return parent.sensitivities, parent.level
        sensitivities: list[str] = []
        levels: list[str] = []
        for index, label in enumerate(value["securityLabel"]):
            system, code = label.get("system"), label.get("code")
            if system == self._table.confidentiality_system and code in CONFIDENTIALITY:
                levels.append(code)
            elif system == self._table.sensitivity_system and code in self._table.whole_class:
                sensitivities.append(code)
            elif system == self._table.sensitivity_system and self._table.classes_of_label(code or ""):
                raise ConsentRefused(
                    f"{path}.securityLabel[{index}]", f"{code} is only a part of what a compartment holds"
                )
            else:
                raise ConsentRefused(f"{path}.securityLabel[{index}]", f"{system}|{code} is no known label")
        permit = value.get("type", parent.effect) == "permit"
        chosen = (max if permit else min)(levels, key=CONFIDENTIALITY.index) if levels else None
        return tuple(sensitivities), chosen

    def _types(self, value: Mapping[str, Any], parent: _Rule, path: str) -> tuple[str, ...] | None:
        if "class" not in value:
            return parent.types
        for index, coding in enumerate(value["class"]):
            if coding.get("system") != RESOURCE_TYPES or "code" not in coding:
                raise ConsentRefused(f"{path}.class[{index}]", "is no type of resource")
        return tuple(coding["code"] for coding in value["class"])

    def _data(
        self, value: Mapping[str, Any], path: str, effect: Effect
    ) -> dict[str, tuple[str, ...] | None] | None:
        """Which records are meant: *instance*, one; *related*, it and what it refers to; *dependents*, it and what
        refers to it; *authoredby*. *related* is often written where *dependents* is meant: a denial takes both."""
        if "data" not in value:
            return None
        found: dict[str, list[str]] = {"instance": [], "authoredby": [], "related": []}
        for index, item in enumerate(value["data"]):
            meaning, reference = item["meaning"], item["reference"].get("reference")
            if not isinstance(reference, str):
                raise ConsentRefused(f"{path}.data[{index}]", "has no literal reference")
            if meaning == "related" and reference not in self._known.references:
                raise ConsentRefused(f"{path}.data[{index}]", f"what {reference} refers to is not known here")
            if meaning == "related":
                place = "instance" if effect == "permit" else "related"
                found[place] += [reference, *self._known.references[reference]]
            else:
                found["related" if meaning == "dependents" else meaning].append(reference)
        if len([meaning for meaning in found if found[meaning]]) > 1:
            raise ConsentRefused(f"{path}.data", "mixes meanings: which of them must hold is not said")
        return {meaning: tuple(found[meaning]) or None for meaning in found}

    # --- onto the ledger ---

    def _compartments(self, rule: _Rule) -> list[bytes] | None:
        """Sensitivities are compartments; what is confidential at most normally lies in the general one."""
        class_map = self._known.class_map
        if rule.sensitivities:
            codes = sorted({c for one in rule.sensitivities for c in self._table.classes_of_label(one)})
            return sorted(class_map.compartment(code) for code in codes)
        if rule.effect == "permit" and rule.level is not None and rule.level not in ("R", "V"):
            return [class_map.compartment(GENERAL)]
        return None

    def _condition(self, rule: _Rule, place: int) -> Condition | None:
        level = None if rule.level is None else CONFIDENTIALITY.index(rule.level)
        highest = len(CONFIDENTIALITY) - 1
        permit = rule.effect == "permit"
        data = rule.data_period
        found = Condition(
            provision=place,
            resource_types=None if rule.types is None else list(rule.types),
            instances=_tags(rule.instances),
            authors=_tags(rule.authors),
            related=_tags(rule.related),
            level_min=level if not permit and level != 0 else None,
            level_max=level if permit and level != highest else None,
            period_start_ms=None if data is None else data.start_ms,
            period_end_ms=None if data is None else data.end_ms,
        )
        return None if found == Condition(provision=place) else found


def _within(own: Interval | None, parent: Interval, path: str) -> Interval:
    """A nested period is a part of its parent's."""
    if own is None:
        return parent
    starts = [one for one in (own.start_ms, parent.start_ms) if one is not None]
    ends = [one for one in (own.end_ms, parent.end_ms) if one is not None]
    found = Interval(max(starts) if starts else None, min(ends) if ends else None)
    if found.start_ms is not None and found.end_ms is not None and found.start_ms >= found.end_ms:
        raise ConsentRefused(f"{path}.period", "lies outside the time of the consent")
    return found


def _tags(references: Sequence[str] | None) -> list[bytes] | None:
    return None if references is None else [reference_tag(one) for one in references]
