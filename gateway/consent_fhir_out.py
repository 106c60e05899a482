"""FHIR R4 Consent out: a consent of the ledger as a resource that reads back as the same.

Conditions that are tags of references cannot be turned back into references: who needs these has the original, which
is kept sealed as a record. What has no word in FHIR is refused, and nothing is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from consilium.contracts.conditions import CONFIDENTIALITY, Condition
from consilium.contracts.consent import Provision
from consilium.gateway.classification_table import Table, network_table
from consilium.gateway.consent_fhir import (
    ACT_REASON,
    PARTICIPATION,
    RESOURCE_TYPES,
    SCOPE,
    ConsentRefused,
    Draft,
    Known,
)
from consilium.ledger.codec import UINT_MAX

CATEGORY: Final = {"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}
PATH: Final = "Consent.provision"

_Json = dict[str, Any]


def write_consent(draft: Draft, known: Known, time_ms: int, table: Table | None = None) -> _Json:
    """The resource. `time_ms` is when it was granted.

    Raises ConsentRefused where only the original says it: conditions on references, and names that are not known here.
    """
    table = table or network_table()
    conditions = {condition.provision: condition for condition in draft.conditions}
    root, *below = draft.provisions
    written = _written(root, conditions.get(0), known, table)
    open_: list[tuple[int, _Json]] = [(0, written)]
    for place, provision in enumerate(below, start=1):
        # Flat with depths: an exception belongs to the newest provision above it. All conditions are its own.
        parents = [value for depth, value in open_ if depth < provision.depth]
        value = _written(provision, conditions.get(place), known, table)
        parents[-1].setdefault("provision", []).append(value)
        open_.append((provision.depth, value))
    patient = _name(known.patients, draft.patient, "Consent.patient")
    performer = _name(known.patients, draft.performer, "Consent.performer")
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"system": SCOPE, "code": "patient-privacy"}]},
        "category": [CATEGORY],
        "patient": {"reference": patient},
        "dateTime": _instant(time_ms),
        "performer": [{"reference": performer}],
        "policy": [{"uri": uri} for uri in sorted(known.policies)[:1]],
        "provision": written,
    }


def _written(provision: Provision, condition: Condition | None, known: Known, table: Table) -> _Json:
    period = {"start": _instant(provision.not_before)}
    if provision.not_after != UINT_MAX:
        period["end"] = _instant(provision.not_after - 1_000)
    value: _Json = {"type": provision.effect, "period": period}
    if provision.actors is not None:
        role = {"coding": [{"system": PARTICIPATION, "code": "IRCP"}]}
        value["actor"] = [
            {"role": role, "reference": {"reference": _name(known.parties, actor, f"{PATH}.actor")}}
            for actor in provision.actors
        ]
    if provision.purposes is not None:
        value["purpose"] = [{"system": ACT_REASON, "code": code} for code in provision.purposes]
    labels = _labels(provision, condition, known, table)
    if labels:
        value["securityLabel"] = labels
    if condition is not None:
        _conditions(value, condition)
    return value


def _labels(
    provision: Provision, condition: Condition | None, known: Known, table: Table
) -> list[dict[str, str]]:
    level = None
    if condition is not None:
        level = condition.level_max if provision.effect == "permit" else condition.level_min
    if level is not None:
        return [{"system": table.confidentiality_system, "code": CONFIDENTIALITY[level]}]
    if provision.compartments is None:
        return []
    return [
        {"system": table.sensitivity_system, "code": _label(compartment, known, table)}
        for compartment in provision.compartments
    ]


def _label(compartment: bytes, known: Known, table: Table) -> str:
    """The label that means the whole class of a compartment, and no other class."""
    code = known.class_map.class_of(compartment)
    for label in sorted(table.whole_class):
        if code is not None and table.classes_of_label(label) == frozenset((code,)):
            return label
    raise ConsentRefused(f"{PATH}.securityLabel", f"no label means class {code}; the original says it")


def _conditions(value: _Json, condition: Condition) -> None:
    if any(
        (condition.instances, condition.authors, condition.related, condition.institutions, condition.labels)
    ):
        raise ConsentRefused(f"{PATH}.data", "names records or authors that only the original says")
    if condition.resource_types is not None:
        value["class"] = [{"system": RESOURCE_TYPES, "code": code} for code in condition.resource_types]
    if condition.period_start_ms is not None or condition.period_end_ms is not None:
        data: dict[str, str] = {}
        if condition.period_start_ms is not None:
            data["start"] = _instant(condition.period_start_ms)
        if condition.period_end_ms is not None:
            data["end"] = _instant(condition.period_end_ms - 1_000)
        value["dataPeriod"] = data


def _name(names: Mapping[str, bytes], identifier: bytes, path: str) -> str:
    found: Sequence[str] = sorted(name for name, one in names.items() if one == identifier)
    if not found:
        raise ConsentRefused(path, f"{identifier.hex()} has no name here; the original says it")
    return found[0]


def _instant(time_ms: int) -> str:
    """A dateTime to the second; as an end it stands for that whole second, so the interval ends with it."""
    return datetime.fromtimestamp(time_ms // 1000, UTC).isoformat()
