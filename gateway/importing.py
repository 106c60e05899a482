"""From a validated bundle to what is sealed: one payload per entry, its original bytes untouched."""

from __future__ import annotations

from typing import Final

from consilium.client.envelope import FULL_URL_CHARS_MAX, HeaderFields
from consilium.client.recording import Payload
from consilium.gateway.bundle import Bundle, Entry

FHIR_JSON: Final = "application/fhir+json"


def payloads_of(bundle: Bundle) -> list[Payload]:
    """The bundle's entries in their order, ready for `client.recording.import_records`."""
    return [Payload(entry.raw, _header(entry)) for entry in bundle.entries]


def _header(entry: Entry) -> HeaderFields:
    full_url = entry.full_url or ""
    return HeaderFields(
        resource_type=entry.resource_type,
        resource_id=entry.resource_id or "",
        media_type=FHIR_JSON,
        # A longer URL stands in the payload's bundle only: the header is for those who enforce obligations.
        full_url=full_url if len(full_url) <= FULL_URL_CHARS_MAX else "",
    )
