"""A FHIR R4 transaction bundle, from bytes to entries that can be sealed: everything is checked before any is returned.

The order is that of growing trust: size, UTF-8, depth, JSON, envelope (transaction rules), every resource, one
patient, references. Each stage refuses with all that it found; a later stage never sees what an earlier one refused.
An entry keeps the *original bytes* of its resource, for these are what is sealed and what a reader gets back.

Everything here is a pure function of its input but `read_bundle_file`. It is heavy work (a bundle of 1,145 entries
takes most of a second): run it in a process of its own or in a thread, never on the event loop. The results pickle.

Sources: FHIR R4 bundle.html, http.html#transaction, json.html.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NewType

from consilium.gateway.definitions import resource_types
from consilium.gateway.json_spans import scan_bundle
from consilium.gateway.models import model_faults
from consilium.gateway.problems import Problem, refuse, shown
from consilium.gateway.references import Node, reference_problems
from consilium.gateway.structure import FoundReference, check_element, check_resource
from consilium.ledger.crypto import Tag
from consilium.ledger.errors import Refused

BUNDLE_BYTES_MAX: Final = 64 * 1024 * 1024
BUNDLE_ENTRIES_MAX: Final = 20_000
BUNDLE_VALUES_MAX: Final = 4_000_000
JSON_DEPTH_MAX: Final = 64
RESOURCE_BYTES_MAX: Final = 16 * 1024 * 1024

PatientKey = NewType("PatientKey", str)
"""64 hexadecimal characters: which patient of this institution a bundle is about.

An institution keeps a map from this key to the patient's identity on the ledger. The key is a hash of an identifier
that can be guessed, so it names the patient to whoever tries all identifiers: it never leaves the institution.
"""

_PATIENT_TAG: Final = Tag("consilium/gateway-patient/1")
_MEDICAL_RECORD: Final = "MR"
_OUTDATED_USES: Final = frozenset({"old", "temp"})
_NO_RECORDS: Final = frozenset({"Bundle", "Parameters"})
"""Resources that hold others, perhaps other patients': what is sealed as one record must be one."""
_REST_URL: Final = re.compile(r"https?://.+/(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9.-]{1,64})")


@dataclass(frozen=True, slots=True)
class BundleLimits:
    """What one bundle may cost; each is refused with `bundle.oversized` or `bundle.too_deep`."""

    bytes_max: int = BUNDLE_BYTES_MAX
    entries_max: int = BUNDLE_ENTRIES_MAX
    values_max: int = BUNDLE_VALUES_MAX
    depth_max: int = JSON_DEPTH_MAX
    resource_bytes_max: int = RESOURCE_BYTES_MAX


LIMITS: Final = BundleLimits()


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource of a bundle. `raw` are its original bytes, `span` where they stood in the input."""

    index: int
    full_url: str | None
    resource_type: str
    resource_id: str | None
    span: tuple[int, int]
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A valid transaction about one patient."""

    entries: tuple[Entry, ...]
    patient_index: int
    patient_key: PatientKey
    raw_bytes: int

    @property
    def patient(self) -> Entry:
        """The entry of the Patient."""
        return self.entries[self.patient_index]


def read_bundle_file(path: str | os.PathLike[str], limits: BundleLimits = LIMITS) -> bytes:
    """The bytes of a bundle's file; its size is looked at before anything is read.

    Raises Refused: `bundle.unreadable` (no such file, no regular file, no permission), `bundle.oversized`,
    `bundle.empty`.
    """
    name = os.fspath(path)
    try:
        status = os.stat(name)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("bundle.unreadable", f"{name} is no regular file")
        if status.st_size > limits.bytes_max:
            raise _oversized(name, status.st_size, limits.bytes_max)
        with Path(name).open("rb") as file:
            raw = file.read(limits.bytes_max + 1)
    except OSError as error:
        raise Refused("bundle.unreadable", f"{name}: {error.strerror}") from None
    except ValueError:
        raise Refused("bundle.unreadable", "the path holds a NUL character") from None
    if len(raw) > limits.bytes_max:
        raise _oversized(name, len(raw), limits.bytes_max)
    if not raw:
        raise Refused("bundle.empty", f"{name} has 0 bytes")
    return raw


def _oversized(what: str, size: int, limit: int) -> Refused:
    return Refused("bundle.oversized", f"{what} has {size} bytes; the limit is {limit}")


def parse_bundle(raw: bytes, limits: BundleLimits = LIMITS) -> Bundle:
    """Check a whole FHIR R4 transaction bundle and return its entries.

    Raises Refused with a `bundle.*` code; faults inside the bundle as `BundleRefused`, which lists the entry, path
    and reason of each.
    """
    if len(raw) > limits.bytes_max:
        raise _oversized("the bundle", len(raw), limits.bytes_max)
    scanned = scan_bundle(raw, limits.depth_max, limits.values_max)
    items = _envelope(scanned.value, limits)
    entries, problems = _entries(raw, items, scanned.spans, limits)
    if problems:
        raise refuse(problems)
    nodes, problems = _resources(entries, items)
    if problems:
        raise refuse(problems)
    patient = _one_patient(nodes)
    problems = reference_problems(nodes, patient)
    if problems:
        raise refuse(problems)
    key = patient_key(patient.resource, patient.full_url)
    return Bundle(tuple(entries), patient.index, key, len(raw))


def patient_key(patient: Mapping[str, Any], full_url: str | None = None) -> PatientKey:
    """The key of a valid Patient resource, the same in every bundle that carries the same identifier.

    The medical record number counts first, then any other identifier with a system, then one without; old and
    temporary ones last; among equals the smallest. Without any identifier it is the resource's id, or its fullUrl.
    """
    ranked: list[tuple[int, int, str, str]] = []
    for identifier in patient.get("identifier", []):
        system, value = identifier.get("system", ""), identifier.get("value")
        if value is None:
            continue
        codings = identifier.get("type", {}).get("coding", [])
        is_record_number = any(coding.get("code") == _MEDICAL_RECORD for coding in codings)
        outdated = int(identifier.get("use") in _OUTDATED_USES)
        ranked.append((outdated, 0 if is_record_number else 1 if system else 2, system, value))
    fallback = ["resource", patient.get("id") or full_url or ""]
    parts = ["identifier", *min(ranked)[2:]] if ranked else fallback
    framed = b"".join(len(part.encode()).to_bytes(8, "big") + part.encode() for part in parts)
    return PatientKey(_PATIENT_TAG.digest(framed).hex())


def _envelope(value: Any, limits: BundleLimits) -> list[dict[str, Any]]:
    """The items of the entry list of what must be a transaction bundle, valid but for the resources in it."""
    if not isinstance(value, dict):
        raise Refused("bundle.not_bundle", "the document is no JSON object")
    kind = value.get("resourceType")
    if kind != "Bundle":
        said = f"its resourceType is {shown(kind)}" if kind is not None else "it has no resourceType"
        raise Refused("bundle.not_bundle", said)
    if "type" in value and value["type"] != "transaction":
        raise Refused("bundle.not_transaction", f"its type is {shown(value['type'])}")
    items: Any = value.get("entry", [])
    if items == [] and value.get("type") == "transaction":
        raise Refused("bundle.empty", "the bundle has no entries")
    if isinstance(items, list):
        if len(items) > limits.entries_max:
            detail = f"the bundle has {len(items)} entries; the limit is {limits.entries_max}"
            raise Refused("bundle.oversized", detail)
        bare = [_without_resource(item) for item in items]
        faults = check_element({**value, "entry": bare} if "entry" in value else value, "Bundle").faults
    else:
        faults = [("Bundle.entry", "is no list")]
    if faults:
        raise refuse([Problem("bundle.malformed", path, reason) for path, reason in faults])
    if "total" in value:
        raise refuse([Problem("bundle.malformed", "Bundle.total", "is not for transactions (bdl-1)")])
    checked: list[dict[str, Any]] = items
    return checked


def _without_resource(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    # what remains is never empty: an entry that has only a resource lacks its request, which is said later
    return {name: part for name, part in item.items() if name != "resource"} or {"id": "bare"}


def _entries(
    raw: bytes,
    items: Sequence[Mapping[str, Any]],
    spans: Sequence[tuple[int, int] | None],
    limits: BundleLimits,
) -> tuple[list[Entry], list[Problem]]:
    entries: list[Entry] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for index, (item, span) in enumerate(zip(items, spans, strict=True)):
        full_url = item.get("fullUrl")
        reason = _entry_fault(item, seen)
        if reason is not None:
            problems.append(Problem("bundle.malformed", "", reason, index, full_url))
        elif span is not None and span[1] - span[0] > limits.resource_bytes_max:
            size = f"the resource has {span[1] - span[0]} bytes; the limit is {limits.resource_bytes_max}"
            problems.append(Problem("bundle.oversized", "", size, index, full_url))
        elif span is not None:
            resource = item["resource"]
            entries.append(
                Entry(index, full_url, resource["resourceType"], resource.get("id"), span, raw[slice(*span)])
            )
        if full_url is not None:
            seen.setdefault(full_url, index)
    return entries, problems


def _entry_fault(item: Mapping[str, Any], seen: Mapping[str, int]) -> str | None:
    """Which transaction rule an entry breaks, if any. `seen` are the fullUrls before it, with their entries."""
    request, resource, full_url = item.get("request"), item.get("resource"), item.get("fullUrl")
    if request is None:
        return "has no request, which every entry of a transaction needs (bdl-3)"
    if "response" in item or "search" in item:
        return "has a response or search, which a transaction does not have (bdl-2, bdl-4)"
    method, url = request.get("method"), request.get("url")
    if method not in ("POST", "PUT"):
        return f"asks for {shown(method)}: this importer records resources, by POST or PUT, and does nothing else"
    if not isinstance(resource, dict):
        return "has no resource to record"
    kind = resource.get("resourceType")
    if not isinstance(kind, str) or kind not in resource_types():
        said = "it has no resourceType" if kind is None else f"{shown(kind)} is no resource of FHIR R4"
        return f"resource.resourceType: {said}"
    if kind in _NO_RECORDS:
        return f"holds a {kind}, which has resources inside: import these as entries of the bundle"
    if not isinstance(resource.get("id", ""), str):
        return f"{kind}.id: is no JSON string"
    if full_url is not None and full_url in seen:
        return f"has the fullUrl of entry[{seen[full_url]}] again (bdl-7)"
    return _url_fault(method, str(url), kind, resource.get("id"), full_url)


def _url_fault(method: str, url: str, kind: str, resource_id: str | None, full_url: str | None) -> str | None:
    if method == "POST" and url != kind:
        return f"request.url: a POST of this resource goes to {kind!r}, not to {shown(url)}"
    if method == "PUT" and not url.startswith(f"{kind}?"):
        if not url.startswith(f"{kind}/"):
            return f"request.url: a PUT of this resource goes to '{kind}/[id]', not to {shown(url)}"
        if resource_id != url.removeprefix(f"{kind}/"):
            return f"request.url: {shown(url)} is not the resource's own id"
    if full_url is None:
        return None
    if "/_history/" in full_url:
        return "fullUrl: names a version (bdl-8)"
    rest = _REST_URL.fullmatch(full_url)
    disagrees = rest is not None and (rest["type"] != kind or resource_id not in (None, rest["id"]))
    return "fullUrl: disagrees with the resource's type or id" if disagrees else None


def _resources(
    entries: Sequence[Entry], items: Sequence[Mapping[str, Any]]
) -> tuple[list[Node], list[Problem]]:
    nodes: list[Node] = []
    problems: list[Problem] = []
    for entry in entries:
        resource = items[entry.index]["resource"]
        findings = check_resource(resource)
        faults = findings.faults or model_faults(resource, findings.resource_types)
        for path, reason in faults:
            problems.append(Problem("bundle.invalid_resource", path, reason, entry.index, entry.full_url))
        references: Sequence[FoundReference] = findings.references
        nodes.append(Node(entry.index, entry.full_url, resource, references))
    return nodes, problems


def _one_patient(nodes: Sequence[Node]) -> Node:
    patients = [node for node in nodes if node.resource["resourceType"] == "Patient"]
    if not patients:
        raise Refused("bundle.no_patient", f"none of the {len(nodes)} entries is a Patient")
    if len(patients) > 1:
        first = patients[0].index
        raise refuse(
            [
                Problem(
                    "bundle.several_patients",
                    "Patient",
                    f"is a second patient beside entry[{first}]",
                    node.index,
                    node.full_url,
                )
                for node in patients[1:]
            ]
        )
    return patients[0]
