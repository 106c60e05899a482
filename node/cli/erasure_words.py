"""What `consilium erasure` says: values as they are printed with --json, in words for people."""

from __future__ import annotations

from typing import Any

from consilium.client.erasure_certificate import Certified
from consilium.contracts.forgetting import Erasure, ErasureVerdict, KeptBack
from consilium.node.cli.inputs import when


def verdict_value(verdict: ErasureVerdict, transaction: bytes, height: int) -> dict[str, Any]:
    """The answer to an order."""
    return {
        "erasure": verdict.erasure.hex(),
        "outcome": verdict.outcome,
        "due_ms": verdict.due_ms,
        "kept": [kept_value(one) for one in verdict.kept],
        "holders": [one.hex() for one in verdict.holders],
        "transaction": transaction.hex(),
        "height": height,
    }


def kept_value(one: KeptBack) -> dict[str, Any]:
    """What a hold keeps."""
    return {
        "record": None if one.record is None else one.record.hex(),
        "hold": one.hold.hex(),
        "holder": one.holder.hex(),
        "basis": one.basis,
        "not_after_ms": one.not_after,
    }


def erasure_value(identifier: bytes, known: Erasure) -> dict[str, Any]:
    """An erasure as state has it."""
    return {
        "erasure": identifier.hex(),
        "patient": known.patient.hex(),
        "requested_by": known.requested_by.hex(),
        "records": None if known.records is None else [one.hex() for one in known.records],
        "compartment": None if known.compartment is None else known.compartment.hex(),
        "epoch": known.epoch,
        "basis": known.basis,
        "outcome": known.outcome,
        "requested_ms": known.requested_ms,
        "due_ms": known.due_ms,
        "carried_out_ms": known.carried_out_ms,
        "kept": [kept_value(one) for one in known.kept],
        "attested": [one.hex() for one in known.attested],
        "missing": [one.hex() for one in known.missing],
        "complete": known.complete,
    }


def certified_value(proved: Certified) -> dict[str, Any]:
    """What a certificate proves; `recipients` are the word of the node that made it."""
    return {
        "erasure": proved.erasure.hex(),
        "patient": proved.patient.hex(),
        "ordered_by": proved.ordered_by.hex(),
        "records": None if proved.records is None else [one.hex() for one in proved.records],
        "compartment": None if proved.compartment is None else proved.compartment.hex(),
        "epoch": proved.epoch,
        "basis": proved.basis,
        "outcome": proved.outcome,
        "kept": [kept_value(one) for one in proved.kept],
        "ordered_ms": proved.ordered_ms,
        "attested": {holder.hex(): time_ms for holder, time_ms in proved.attested.items()},
        "missing": [one.hex() for one in proved.missing],
        "complete": proved.complete,
        "keys": [
            {
                "compartment": key.compartment.hex(),
                "epoch": key.epoch,
                "custodians": len(key.custodians),
                "threshold": key.threshold,
                "attested": len(key.attested),
                "suffice": key.suffice,
                "destroyed": key.destroyed,
            }
            for key in proved.keys
        ],
        "recipients": [
            {
                "reader": one.reader.hex(),
                "institution": None if one.institution is None else one.institution.hex(),
                "requests": one.requests,
                "last_ms": one.last_ms,
                "transaction": one.transaction.hex(),
            }
            for one in proved.recipients
        ],
    }


def verdict_words(value: dict[str, Any]) -> str:
    """An answer to an order."""
    lines = [f"erasure {value['erasure']}: {value['outcome']}"]
    if value["outcome"] == "pending":
        lines.append(f"the patient may contest it until {when(value['due_ms'])}")
    return "\n".join([*lines, *_kept_words(value)])


def status_words(value: dict[str, Any]) -> str:
    """An erasure as it stands."""
    lines = [
        f"erasure {value['erasure']} of patient {value['patient']}: {value['outcome']} ({value['basis']})",
        f"of {_scope(value)}, ordered by {value['requested_by']} on {when(value['requested_ms'])}",
        *_kept_words(value),
        f"{len(value['attested'])} of {len(value['attested']) + len(value['missing'])} holders attested",
    ]
    return "\n".join([*lines, *(f"missing: {one}" for one in value["missing"])])


def certified_words(value: dict[str, Any]) -> str:
    """What a certificate proves."""
    lines = [
        f"Erasure {value['erasure']} of patient {value['patient']}: {value['outcome']} ({value['basis']}).",
        f"Of {_scope(value)}, ordered by {value['ordered_by']} on {when(value['ordered_ms'])}.",
        *_kept_words(value),
        *(f"Attested by {holder} on {when(at)}." for holder, at in value["attested"].items()),
        *(f"MISSING: {holder} has not attested." for holder in value["missing"]),
        *(
            f"Key of compartment {key['compartment']}, epoch {key['epoch']}: {key['attested']} of "
            f"{key['custodians']} custodians attested, {key['suffice']} suffice."
            for key in value["keys"]
        ),
        f"{len(value['recipients'])} readers were allowed to read it before, as the node tells:",
        *(f"  {one['reader']}, last on {when(one['last_ms'])}" for one in value["recipients"]),
        "Complete." if value["complete"] else "Not complete.",
    ]
    return "\n".join(lines)


def _scope(value: dict[str, Any]) -> str:
    if value["records"] is not None:
        return f"{len(value['records'])} records"
    if value["compartment"] is not None:
        return f"compartment {value['compartment']} through epoch {value['epoch']}"
    return "everything"


def _kept_words(value: dict[str, Any]) -> list[str]:
    return [
        f"kept by {one['holder']} ({one['basis']}) until {when(one['not_after_ms'])}"
        + ("" if one["record"] is None else f": record {one['record']}")
        for one in value["kept"]
    ]
