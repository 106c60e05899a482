"""An accounting for other programs: FHIR R4 AuditEvents by IHE's Basic Audit Log Patterns.

A verdict follows the pattern of an authorisation decision, a release that of a privacy disclosure at its source, a
consultation that of a query about a patient. What the patterns have no element for (the line's number and digest, its
receipt, the category, by hand or not) stands in the details of the patient's entity. What the ledger does not know
stands nowhere.

Source: IHE ITI BALP 1.1.4, IHE.BasicAudit.AuthZconsent, .PrivacyDisclosure.Source, .PatientQuery.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec

from consilium.client.accounting_export import (
    NO_NAMES,
    SUMMARY,
    Names,
    category_of,
    instant,
    receipt_file,
)
from consilium.client.disclosures import Accounting, Entry
from consilium.contracts.accounting import Consulted, Decided, Line, Opened, Released
from consilium.contracts.emergency import EMERGENCY_PURPOSE
from consilium.contracts.words import BASES

PROFILES: Final = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/"
_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_TERMS: Final = "http://terminology.hl7.org/CodeSystem/"
_IDENTITY: Final = "urn:consilium:identity"


def to_fhir(found: Accounting, names: Names = NO_NAMES) -> bytes:
    """A FHIR R4 Bundle of AuditEvents, one for each line that may be seen, oldest first (JSON)."""
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": instant(found.time_ms),
        "entry": [
            {"fullUrl": _uuid(entry.digest), "resource": audit_event(entry, entry.line, found, names)}
            for entry in found.entries
            if entry.line is not None
        ],
    }
    if not bundle["entry"]:
        del bundle["entry"]
    return msgspec.json.format(msgspec.json.encode(bundle), indent=1)


def audit_event(entry: Entry, line: Line, found: Accounting, names: Names = NO_NAMES) -> dict[str, Any]:
    """One line as an AuditEvent."""
    match line.content:
        case Decided() as content:
            event = _decision(content, found, names)
        case Released() as content:
            event = _disclosure(content, found, names)
        case Opened() as content:
            event = _opening(content, found, names)
        case Consulted() as content:
            event = _query(content, found, names)
    patient = {
        "what": _who(found.patient, "Patient", names),
        "type": _coding(_TERMS + "audit-entity-type", "1", "Person"),
        "role": _coding(_TERMS + "object-role", "1", "Patient"),
        "detail": [
            {"type": name, "valueString": text} for name, text in _details(entry, line, found) if text
        ],
    }
    event["entity"] = [patient, *event["entity"]]
    return {
        "resourceType": "AuditEvent",
        "id": entry.digest.hex(),
        **event,
        "recorded": instant(line.time_ms),
    }


def _details(entry: Entry, line: Line, found: Accounting) -> list[tuple[str, str]]:
    """What the patterns have no element for."""
    content = line.content
    details = [
        ("line", str(entry.number)),
        ("digest", entry.digest.hex()),
        ("transaction", line.transaction.hex()),
        ("operation", str(line.operation)),
        ("receipt", receipt_file(line.transaction)),
        ("data-category", category_of(line, found)),
    ]
    if isinstance(content, Decided):
        details += [
            ("verdict", str(content.verdict)),
            ("basis", content.basis),
            ("records", "all" if content.records is None else str(content.records)),
            ("automated", "automated" if content.automated else "by hand"),
        ]
    elif isinstance(content, Released):
        details += [
            ("request", content.request.hex()),
            ("request-operation", str(content.request_operation)),
            ("verdict", str(content.verdict)),
            ("records", str(content.records)),
            ("released", instant(content.released_ms)),
        ]
    elif isinstance(content, Opened):
        details += [
            ("basis", content.reason),
            ("emergency", content.glass.hex()),
            ("opened", instant(content.opened_ms)),
        ]
    else:
        details += [("basis", content.basis)]
    return details


def _decision(content: Decided, found: Accounting, names: Names) -> dict[str, Any]:
    purpose = {"coding": [_coding(_TERMS + "v3-ActReason", content.purpose)]}
    client = (
        _who(content.application, "Device", names)
        if content.application is not None
        else {"display": "not stated"}
    )
    organisation = (
        _who(content.institution, "Organization", names)
        if content.institution is not None
        else _who(content.reader, "Organization", names)
    )
    event: dict[str, Any] = {
        "meta": {"profile": [PROFILES + "IHE.BasicAudit.AuthZconsent"]},
        "type": _coding(_DCM, "110113", "Security Alert"),
        "subtype": [_coding("https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType", "AuthZ-Consent")],
        "action": "E",
        "outcome": "0" if content.allow else "8",
        "outcomeDesc": BASES.get(content.basis, content.basis),
        "purposeOfEvent": [purpose],
        "agent": [
            _agent(_DCM, "110150", "Application", client, requestor=False, network=_network(found)),
            {
                **_agent(
                    _TERMS + "v3-ParticipationType",
                    "IRCP",
                    "information recipient",
                    _who(content.reader, None, names),
                    requestor=True,
                ),
                "purposeOfUse": [purpose],
            },
            _agent(_TERMS + "v3-RoleClass", "PROV", "healthcare provider", organisation, requestor=False),
            _agent(
                _TERMS + "extra-security-role-type",
                "authserver",
                "authorization server",
                _ledger(found),
                requestor=False,
            ),
        ],
        "source": _source(_ledger(found)),
    }
    ground = (
        {"display": content.basis}
        if content.ground is None
        else {"identifier": {"system": "urn:consilium:ground", "value": content.ground.hex()}}
    )
    event["entity"] = [
        {"what": ground, "type": _coding("http://hl7.org/fhir/resource-types", "Consent", "Consent")}
    ]
    return event


def _disclosure(content: Released, found: Accounting, names: Names) -> dict[str, Any]:
    places = "; ".join(place.hex() for place in (content.compartment, *content.also))
    what = {"identifier": {"system": "urn:consilium:compartment", "value": places}}
    custodian = _who(content.custodian, "Organization", names)
    reader = _who(content.reader, None, names)
    return _export(custodian, reader, content.released_ms, what, found, names)


def _opening(content: Opened, found: Accounting, names: Names) -> dict[str, Any]:
    """Without a quorum the institution that keeps the summary is its source; a second person took part."""
    what = {"display": SUMMARY}
    institution = _who(content.institution, "Organization", names)
    opener = _who(content.opener, None, names)
    event = _export(institution, opener, content.opened_ms, what, found, names)
    second = _who(content.second, None, names)
    event["agent"].append(_agent(_TERMS + "v3-ParticipationType", "WIT", "witness", second, requestor=False))
    purpose = {"coding": [_coding(_TERMS + "v3-ActReason", EMERGENCY_PURPOSE)]}
    return {**event, "purposeOfEvent": [purpose]}


def _export(
    source: dict[str, Any],
    recipient: dict[str, Any],
    at_ms: int,
    what: dict[str, Any],
    found: Accounting,
    names: Names,
) -> dict[str, Any]:
    """A privacy disclosure at its source."""
    patient = _who(found.patient, "Patient", names)
    network = _network(found)
    return {
        "meta": {"profile": [PROFILES + "IHE.BasicAudit.PrivacyDisclosure.Source"]},
        "type": _coding(_DCM, "110106", "Export"),
        "subtype": [_coding(_TERMS + "iso-21089-lifecycle", "disclose", "Disclose Record Lifecycle Event")],
        "action": "R",
        "period": {"end": instant(at_ms)},
        "outcome": "0",
        "agent": [
            _agent(_DCM, "110153", "Source Role ID", source, requestor=False, network=network),
            _agent(_DCM, "110152", "Destination Role ID", recipient, requestor=True, network=network),
            _agent(
                "http://snomed.info/sct",
                "159541003",
                "Record keeping/library clerk",
                source,
                requestor=False,
            ),
            _agent("http://snomed.info/sct", "429577009", "Patient Advocate", patient, requestor=False),
        ],
        "source": _source(source),
        "entity": [
            {
                "what": what,
                "type": _coding(_TERMS + "audit-entity-type", "2", "System Object"),
                "role": _coding(_TERMS + "object-role", "3", "Report"),
            }
        ],
    }


def _query(content: Consulted, found: Accounting, names: Names) -> dict[str, Any]:
    """The pattern is of what succeeded: a denial claims no profile."""
    reader, network = _who(content.reader, None, names), _network(found)
    asked = base64.b64encode(f"disclosure.consult?patient={found.patient.hex()}".encode()).decode("ascii")
    profile = {"meta": {"profile": [PROFILES + "IHE.BasicAudit.PatientQuery"]}} if content.allow else {}
    return {
        **profile,
        "type": _coding(_TERMS + "audit-event-type", "rest", "Restful Operation"),
        "subtype": [_coding("http://hl7.org/fhir/restful-interaction", "search-type", "search-type")],
        "action": "E",
        "outcome": "0" if content.allow else "8",
        "agent": [
            _agent(_DCM, "110153", "Source Role ID", reader, requestor=False, network=network),
            _agent(_DCM, "110152", "Destination Role ID", _ledger(found), requestor=False, network=network),
            _agent(_TERMS + "v3-ParticipationType", "IRCP", "information recipient", reader, requestor=True),
        ],
        "source": _source(_ledger(found)),
        "entity": [
            {
                "type": _coding(_TERMS + "audit-entity-type", "2", "System Object"),
                "role": _coding(_TERMS + "object-role", "24", "Query"),
                "query": asked,
            }
        ],
    }


def _coding(system: str, code: str, display: str | None = None) -> dict[str, str]:
    return {"system": system, "code": code, **({} if display is None else {"display": display})}


def _who(identity: bytes, kind: str | None, names: Names) -> dict[str, Any]:
    found: dict[str, Any] = {} if kind is None else {"type": kind}
    found["identifier"] = {"system": _IDENTITY, "value": identity.hex()}
    if identity in names:
        found["display"] = names[identity]
    return found


def _ledger(found: Accounting) -> dict[str, Any]:
    value = {"system": "urn:consilium:network", "value": found.chain_id.hex()}
    return {"type": "Device", "identifier": value, "display": "Consilium ledger"}


def _network(found: Accounting) -> dict[str, str]:
    return {"address": f"urn:consilium:network:{found.chain_id.hex()}", "type": "5"}


def _source(observer: dict[str, Any]) -> dict[str, Any]:
    return {
        "observer": observer,
        "type": [_coding(_TERMS + "security-source-type", "4", "Application Server")],
    }


def _agent(
    system: str,
    code: str,
    display: str,
    who: dict[str, Any],
    *,
    requestor: bool,
    network: dict[str, str] | None = None,
) -> dict[str, Any]:
    agent: dict[str, Any] = {
        "type": {"coding": [_coding(system, code, display)]},
        "who": who,
        "requestor": requestor,
    }
    return agent if network is None else {**agent, "network": network}


def _uuid(digest: bytes) -> str:
    """A name for a line, from its digest (RFC 9562, version 8)."""
    raw = bytearray(digest[:16])
    raw[6] = 0x80 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    text = raw.hex()
    return f"urn:uuid:{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
