"""An accounting for people: CSV. It is made from the lines alone, so whoever has the proof makes the same bytes again
and compares (`disclosures.Accounting.to_json`). `gateway.accounting_fhir` does the same for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from consilium.client.disclosures import Accounting, Entry
from consilium.contracts.accounting import (
    Consulted,
    Content,
    Decided,
    Line,
    Opened,
    Released,
    compartments_of,
)
from consilium.contracts.emergency import EMERGENCY_PURPOSE

SUMMARY: Final = "emergency summary"
"""The category of what is opened without a quorum."""
RECEIPTS_FOLDER: Final = "receipts"
COLUMNS: Final = (
    "number",
    "kind",
    "time",
    "person",
    "second",
    "institution",
    "application",
    "automated",
    "purpose",
    "category",
    "compartment",
    "records",
    "verdict",
    "basis",
    "ground",
    "released_by",
    "released_at",
    "released_records",
    "request",
    "request_operation",
    "verdict_index",
    "transaction",
    "operation",
    "digest",
    "receipt",
)
"""Of the CSV. A line that may not be seen has a number, a kind and a digest, and nothing else."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

Names = Mapping[bytes, str]
"""What whoever exports calls some identities."""
NO_NAMES: Final[Names] = {}


def receipt_file(transaction: bytes) -> str:
    """Where an export has the receipt of a transaction's verdict."""
    return f"{RECEIPTS_FOLDER}/{transaction.hex()}.receipt"


def instant(time_ms: int) -> str:
    """Block time as FHIR writes an instant, in UTC."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1_000:03d}Z"


def to_csv(found: Accounting, names: Names = NO_NAMES) -> bytes:
    """One row a line, oldest first; a verdict's row also says what was released on it since (RFC 4180, UTF-8)."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows(found, names))
    return text.getvalue().encode()


def rows(found: Accounting, names: Names = NO_NAMES) -> list[dict[str, object]]:
    """The rows of the CSV, as values of JSON; what does not apply is left out."""
    released = _releases(found.lines)
    return [_row(entry, found, released, names) for entry in found.entries]


def _cell(value: object) -> str:
    """A name that a spreadsheet would take for a formula is none."""
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _releases(lines: Sequence[Line]) -> dict[tuple[bytes, int, int], dict[bytes, Released]]:
    """By verdict and custodian, the last word of each: a custodian's number only grows."""
    found: dict[tuple[bytes, int, int], dict[bytes, Released]] = {}
    for line in lines:
        content = line.content
        if isinstance(content, Released):
            place = (content.request, content.request_operation, content.verdict)
            found.setdefault(place, {})[content.custodian] = content
    return found


def _row(
    entry: Entry,
    found: Accounting,
    released: Mapping[tuple[bytes, int, int], Mapping[bytes, Released]],
    names: Names,
) -> dict[str, object]:
    line = entry.line
    row: dict[str, object] = {"number": entry.number, "digest": entry.digest.hex()}
    if line is None:
        return {**row, "kind": "withheld"}
    content = line.content
    row |= {
        "kind": _kind(content),
        "time": instant(line.time_ms),
        "person": _name(content.opener if isinstance(content, Opened) else content.reader, names),
        "institution": _name(content.institution, names),
        "category": category_of(line, found),
        "transaction": line.transaction.hex(),
        "operation": line.operation,
        "receipt": receipt_file(line.transaction),
    }
    match content:
        case Decided():
            place = (line.transaction, line.operation, content.verdict)
            last = released.get(place, {}).values()
            row |= {
                "application": _name(content.application, names),
                "automated": "automated" if content.automated else "by hand",
                "purpose": content.purpose,
                "compartment": _hex(content.compartment),
                "records": "all" if content.records is None else content.records,
                "verdict": "allow" if content.allow else "deny",
                "basis": content.basis,
                "ground": _hex(content.ground),
                "released_by": "; ".join(_name(one.custodian, names) for one in last),
                "released_at": "; ".join(instant(one.released_ms) for one in last),
                "released_records": "; ".join(str(one.records) for one in last),
                "verdict_index": content.verdict,
            }
        case Released():
            row |= {
                "compartment": content.compartment.hex(),
                "released_by": _name(content.custodian, names),
                "released_at": instant(content.released_ms),
                "released_records": content.records,
                "request": content.request.hex(),
                "request_operation": content.request_operation,
                "verdict_index": content.verdict,
            }
        case Opened():
            row |= {
                "purpose": EMERGENCY_PURPOSE,
                "category": SUMMARY,
                "automated": "by hand",
                "verdict": "none",
                "basis": content.reason,
                "ground": content.glass.hex(),
                "released_by": _name(content.institution, names),
                "released_at": instant(content.opened_ms),
                "second": _name(content.second, names),
            }
        case Consulted():
            row |= {
                "verdict": "allow" if content.allow else "deny",
                "basis": content.basis,
                "ground": _hex(content.credential),
            }
    return row


def _kind(content: Content) -> str:
    return type(content).__name__.lower()


def category_of(line: Line, found: Accounting) -> str:
    """Of which classes the records of a line are, in words."""
    return "; ".join(found.categories.get(place, "unknown") for place in compartments_of(line))


def _name(identity: bytes | None, names: Names) -> str:
    return "" if identity is None else names.get(identity, identity.hex())


def _hex(identifier: bytes | None) -> str:
    return "" if identifier is None else identifier.hex()
