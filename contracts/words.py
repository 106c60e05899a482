"""What contracts decided and keep, in words: for `receipt verify`, logs and people. Nothing here is agreed on.

Ids are shown in hexadecimal, or by the name that the caller knows for them. Times are block time, in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from consilium.contracts.access import UNKNOWN, Decision, Verdict
from consilium.contracts.calendar import DAY_MS, day_of
from consilium.contracts.registry import default_registry
from consilium.ledger import codec
from consilium.ledger.catalogue import CATALOGUE
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OK, RESULT_BYTES_MAX, ReceiptLeaf
from consilium.ledger.transaction import OPERATION_BODY_BYTES_MAX, Operation

Names = Mapping[bytes, str]

_NO_NAMES: Final[Names] = {}
_REGISTRY: Final = default_registry()

BASES: Final[dict[str, str]] = {
    "break-glass": "in an emergency that was declared",
    "consent": "on the patient's consent",
    "denied": "the patient denied it",
    "emergency-deny": "the patient's emergency denial",
    "erased": "it was erased",
    "legal-mandate": "on a legal mandate",
    "no-basis": "nothing permits it",
    "policy": "on the network's policy",
    "representative": "to the patient, or to who represents the patient",
    "suspended": "the reader, its institution or the patient is suspended",
    UNKNOWN: "it does not exist, or is not visible yet",
}
"""Each basis of a verdict, as the end of a sentence."""


def time_in_words(time_ms: int) -> str:
    """Block time (milliseconds since 1970) as a date and time in UTC."""
    year, month, day = day_of(time_ms)
    of_day = time_ms % DAY_MS
    seconds, millis = divmod(of_day, 1_000)
    return (
        f"{year:04d}-{month:02d}-{day:02d} "
        f"{seconds // 3_600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{millis:03d} UTC"
    )


def describe_decision(decision: Decision, names: Names = _NO_NAMES) -> list[str]:
    """Who asked, when and for what; then a line for each verdict."""
    reader = _name(decision.reader, names)
    employer = "" if decision.institution is None else f" of institution {_name(decision.institution, names)}"
    return [
        f"Reader {reader}{employer} asked on {time_in_words(decision.time_ms)} for purpose {decision.purpose}.",
        f"Signed with key {decision.key.hex()}; to be released to key {decision.ephemeral.hex()}.",
        *(describe_verdict(verdict, names) for verdict in decision.verdicts),
    ]


def describe_verdict(verdict: Verdict, names: Names = _NO_NAMES) -> str:
    """One verdict, in one line."""
    what = "everything" if verdict.records is None else _count(len(verdict.records), "record")
    where = "" if verdict.compartment is None else f" in compartment {_name(verdict.compartment, names)}"
    whose = "" if verdict.patient is None else f" of patient {_name(verdict.patient, names)}"
    basis = BASES.get(verdict.basis, verdict.basis)
    ground = "" if verdict.ground is None else f" ({_name(verdict.ground, names)})"
    owed = ", as far as its conditions let" if verdict.obligations else ""
    if verdict.allow:
        until = time_in_words(verdict.valid_until)
        return f"ALLOW {what}{where}{whose}: {basis}{ground}{owed}, to be fetched before {until}."
    return f"DENY {what}{where}{whose}: {basis}{ground}."


def describe_operation(operation: Operation, names: Names = _NO_NAMES) -> list[str]:
    """An operation's name, and a line for each field of its body. Raises Refused where no node would read it."""
    spec = _REGISTRY.operations.get(operation.name)
    if spec is None:
        raise Refused("transaction.unknown_operation", operation.name)
    body = codec.decode(operation.body, spec.body, OPERATION_BODY_BYTES_MAX)
    return [operation.name, *_fields(body, names)]


def describe_result(name: str, raw: bytes, names: Names = _NO_NAMES) -> list[str]:
    """The result of the operation of this name. Raises Refused where no contract gives such a result."""
    spec = _REGISTRY.operations.get(name)
    if spec is None:
        raise Refused("transaction.unknown_operation", name)
    if spec.result is None:
        return [f"{name} took effect."]
    return _describe(codec.decode(raw, spec.result, RESULT_BYTES_MAX), names)


def describe_entry(key: bytes, value: bytes, names: Names = _NO_NAMES) -> list[str]:
    """A state entry, as a proof of presence holds it. Raises Refused where no contract keeps such an entry."""
    slot = _REGISTRY.slots.get(key[:1])
    if slot is None or len(key) != 1 + sum(slot.parts):
        raise Refused("codec.malformed", "no contract keeps an entry under this key")
    return [f"{slot.kind.__name__} {key[1:].hex()}", *_describe(slot.decode(value), names)]


def describe_receipt(leaf: ReceiptLeaf, operations: list[Operation], names: Names = _NO_NAMES) -> list[str]:
    """What became of a transaction whose operations are at hand."""
    if leaf.code != OK:
        cause = CATALOGUE[leaf.code].cause if leaf.code in CATALOGUE else "an unknown code"
        failed = "" if leaf.failed is None else f" at operation {leaf.failed}"
        return [
            f"Transaction {leaf.transaction.hex()} was refused{failed} and changed nothing.",
            f"{leaf.code}: {cause}",
        ]
    lines = [f"Transaction {leaf.transaction.hex()} took effect."]
    for operation, result in zip(operations, leaf.results, strict=True):
        lines += describe_result(operation.name, result, names)
    return lines


def _describe(value: codec.Wire, names: Names) -> list[str]:
    return describe_decision(value, names) if isinstance(value, Decision) else _fields(value, names)


def _fields(value: codec.Wire, names: Names, indent: str = "  ") -> list[str]:
    lines: list[str] = []
    for field in value.__struct_fields__:
        lines += _field(field, getattr(value, field), names, indent)
    return lines


def _field(field: str, value: Any, names: Names, indent: str) -> list[str]:
    if isinstance(value, codec.Wire):
        return [f"{indent}{field}: {type(value).__name__}", *_fields(value, names, indent + "  ")]
    if isinstance(value, list) and any(isinstance(item, codec.Wire) for item in value):
        lines = [f"{indent}{field}:"]
        for item in value:
            lines += [f"{indent}- {type(item).__name__}", *_fields(item, names, indent + "  ")]
        return lines
    if isinstance(value, list):
        return [f"{indent}{field}: {', '.join(_plain(field, item, names) for item in value) or 'none'}"]
    return [f"{indent}{field}: {_plain(field, value, names)}"]


def _plain(field: str, value: Any, names: Names) -> str:
    if value is None:
        return "none"
    if isinstance(value, bytes):
        return _name(value, names)
    if isinstance(value, int) and (
        field.endswith("_ms") or field in ("not_before", "not_after", "valid_until")
    ):
        return time_in_words(value)
    return str(value)


def _name(identifier: bytes, names: Names) -> str:
    return names.get(identifier) or identifier.hex()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
