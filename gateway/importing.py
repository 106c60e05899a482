"""From a validated bundle to what is sealed: one payload per entry, its original bytes untouched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consilium.client.envelope import (
    FULL_URL_CHARS_MAX,
    LABEL_CHARS_MAX,
    LABELS_MAX,
    REFERENCES_MAX,
    HeaderFields,
    reference_tag,
)
from consilium.client.recording import Payload
from consilium.gateway.bundle import Bundle, Entry
from consilium.gateway.classification import (
    NOT_PART2,
    Author,
    Classified,
    Sourced,
    authors_of,
    classify,
)
from consilium.gateway.classification_table import Table
from consilium.gateway.periods import data_period

FHIR_JSON: Final = "application/fhir+json"
_RELATED: Final = ("encounter", "context", "partOf", "basedOn", "hasMember", "derivedFrom", "result", "focus")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A bundle ready to be sealed, and why each entry is of its classes."""

    payloads: tuple[Payload, ...]
    classified: tuple[Classified, ...]


def prepare(
    bundle: Bundle,
    table: Table | None = None,
    author: Author = NOT_PART2,
    known: Mapping[str, tuple[int, ...]] | None = None,
) -> Prepared:
    """The bundle's entries in their order, classified, ready for `client.recording.import_records`.

    `author` and `known` as `classification.classify`. Heavy, as reading a bundle is: not on the event loop.
    """
    resources = [json.loads(entry.raw) for entry in bundle.entries]
    classified = classify(
        [
            Sourced(entry.full_url, resource)
            for entry, resource in zip(bundle.entries, resources, strict=True)
        ],
        table,
        author,
        known,
    )
    names = _names(bundle.entries)
    payloads = tuple(
        Payload(entry.raw, header_of(entry, resource, found, names), found.classes)
        for entry, resource, found in zip(bundle.entries, resources, classified, strict=True)
    )
    return Prepared(payloads, tuple(classified))


def header_of(
    entry: Entry, resource: Mapping[str, Any], found: Classified, names: Mapping[str, str]
) -> HeaderFields:
    """What the author says of an entry. `names` has the `Type/id` of what the bundle names by fullUrl."""
    full_url = entry.full_url or ""
    period = data_period(resource)
    labels = [label for label in (found.confidentiality, *found.labels) if len(label) <= LABEL_CHARS_MAX]
    authors = [names.get(reference, reference) for reference in authors_of(resource)]
    related = [names.get(reference, reference) for reference in _related(resource)]
    return HeaderFields(
        resource_type=entry.resource_type,
        resource_id=entry.resource_id or "",
        media_type=FHIR_JSON,
        # A longer URL stands in the payload's bundle only: the header is for those who enforce obligations.
        full_url=full_url if len(full_url) <= FULL_URL_CHARS_MAX else "",
        period_start_ms=period.start_ms if period is not None else None,
        period_end_ms=period.end_ms if period is not None else None,
        labels=tuple(labels[:LABELS_MAX]),
        authors=_tags(authors),
        related=_tags(related),
        is_cut=len(found.labels) >= len(labels)
        or len(labels) > LABELS_MAX
        or max(len(authors), len(related)) > REFERENCES_MAX,
    )


def _tags(references: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(reference_tag(reference) for reference in references[:REFERENCES_MAX])


def _names(entries: Sequence[Entry]) -> dict[str, str]:
    """fullUrl -> Type/id, so that a reference has one name inside a bundle and outside."""
    return {
        entry.full_url: f"{entry.resource_type}/{entry.resource_id}"
        for entry in entries
        if entry.full_url and entry.resource_id
    }


def _related(resource: Mapping[str, Any]) -> list[str]:
    """What the resource was made in or from, by reference."""
    found: list[str] = []
    for name in _RELATED:
        values = resource.get(name)
        for item in values if isinstance(values, list) else [values]:
            if not isinstance(item, dict):
                continue
            inner = item.get("encounter") if "reference" not in item else [item]
            for one in inner if isinstance(inner, list) else []:
                if isinstance(one, dict) and isinstance(one.get("reference"), str):
                    found.append(one["reference"])
    return list(dict.fromkeys(found))
