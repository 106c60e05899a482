"""From a checked bundle to payloads: every entry, in its order, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.client.envelope import FULL_URL_CHARS_MAX, HeaderFields
from consilium.contracts.classes import GENERAL
from consilium.gateway.bundle import Bundle, Entry, parse_bundle
from consilium.gateway.importing import FHIR_JSON, prepare
from consilium.gateway.synthetic import generate_bundle
from consilium.ledger import codec

Build = Callable[..., dict[str, Any]]


def bundle_with(*entries: Entry) -> Bundle:
    return Bundle(entries, 0, "key", 0)  # type: ignore[arg-type]


def entry(raw: bytes, **given_fields: Any) -> Entry:
    fields: dict[str, Any] = {
        "full_url": "urn:uuid:1",
        "resource_type": "Patient",
        "resource_id": "p",
        **given_fields,
    }
    return Entry(index=0, span=(0, len(raw)), raw=raw, **fields)


def held_to_its_bounds(header: HeaderFields) -> HeaderFields:
    """What the envelope will do with it."""
    return codec.decode(codec.encode(header), HeaderFields, 1 << 16)


def test_every_entry_is_there_in_its_order_with_its_own_bytes(
    bundle_of: Build, observation: dict[str, Any], dumped: Callable[[Any], bytes]
) -> None:
    raw = dumped(bundle_of(observation, {**observation, "id": "o2"}))
    bundle = parse_bundle(raw)
    payloads = prepare(bundle).payloads
    assert [payload.raw for payload in payloads] == [one.raw for one in bundle.entries]
    assert all(payload.raw in raw for payload in payloads)
    assert [payload.header.resource_type for payload in payloads] == ["Patient", "Observation", "Observation"]
    assert [payload.header.resource_id for payload in payloads] == ["p1", "o1", "o2"]
    assert [payload.header.full_url for payload in payloads] == [one.full_url for one in bundle.entries]
    assert all(payload.header.media_type == FHIR_JSON for payload in payloads)
    assert payloads[0].classes == (GENERAL,)
    assert [held_to_its_bounds(payload.header) for payload in payloads] == [one.header for one in payloads]


@pytest.mark.parametrize(
    "text", ['{"resourceType" :  "Patient",\n\t"id":"p1" }', '{"id":"\\u00e4","a":1.10}', '{"a":1e2}']
)
def test_white_space_escapes_and_numbers_stay_as_they_were_written(text: str) -> None:
    """Writing a resource anew changes most real ones: nothing here does."""
    raw = text.encode()
    assert json.dumps(json.loads(text)).encode() != raw
    (payload,) = prepare(bundle_with(entry(raw))).payloads
    assert payload.raw is raw


@pytest.mark.parametrize(
    ("length", "kept"),
    [(0, True), (FULL_URL_CHARS_MAX, True), (FULL_URL_CHARS_MAX + 1, False), (5_000, False)],
)
def test_a_url_that_no_header_holds_stays_in_the_payload_only(length: int, kept: bool) -> None:
    url = "x" * length
    (payload,) = prepare(bundle_with(entry(b"{}", full_url=url))).payloads
    assert payload.header.full_url == (url if kept else "")
    held_to_its_bounds(payload.header)


def test_what_an_entry_does_not_have_is_empty() -> None:
    (payload,) = prepare(bundle_with(entry(b"{}", full_url=None, resource_id=None))).payloads
    assert (payload.header.full_url, payload.header.resource_id) == ("", "")


def test_a_bundle_of_our_own_goes_through_whole() -> None:
    bundle = parse_bundle(generate_bundle(7))
    payloads = prepare(bundle).payloads
    assert len(payloads) == len(bundle.entries) > 5
    for payload, one in zip(payloads, bundle.entries, strict=True):
        assert payload.raw == one.raw
        assert held_to_its_bounds(payload.header) == payload.header


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(["encounter", "context", "partOf", "meta", "performer", "note", "x"]), VALUES
    )
)
def test_no_shape_of_a_resource_stops_an_import(resource: dict[str, Any]) -> None:
    """The models have looked at resources by now; the header is made of whatever they let through."""
    raw = json.dumps(resource).encode()
    (payload,) = prepare(bundle_with(entry(raw))).payloads
    assert payload.raw == raw
    held_to_its_bounds(payload.header)
