"""Legal mandates: a court's or authority's order that opens records whatever the patient says.

One institution with the role *authority* issues, another institution countersigns, and the patient is told. A mandate
names one reader, purposes, compartments or all, and a period; whoever issued it withdraws it. It is worth as much as
its issuer: one that is suspended, or an authority no more, orders nothing, and could not withdraw what it once ordered.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.contracts import identity, keys, records
from consilium.contracts.attestation import Attestation, institution_of, require_other_institution
from consilium.contracts.classes import CLASSES_MAX
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.contracts.purposes import Purpose, require_purpose
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

MANDATES_PER_PAIR_MAX: Final = 8
PURPOSES_PER_MANDATE_MAX: Final = 8

MandatePurposes = Annotated[list[Purpose], msgspec.Meta(min_length=1, max_length=PURPOSES_PER_MANDATE_MAX)]
MandateCompartments = Annotated[list[codec.Bytes16], msgspec.Meta(min_length=1, max_length=CLASSES_MAX)]


class IssueMandate(codec.Wire, frozen=True):
    """`mandate.issue`. `reader` is an institution, and with it those it employs, or one practitioner."""

    mandate: codec.Bytes16
    patient: codec.Bytes16
    reader: codec.Bytes16
    purposes: MandatePurposes
    compartments: MandateCompartments | None
    not_before: codec.Uint
    not_after: codec.Uint
    countersignature: Attestation | None


class WithdrawMandate(codec.Wire, frozen=True):
    """`mandate.withdraw`: by its issuer. It is the data of `mandate.withdrawn` as well."""

    mandate: codec.Bytes16


class Mandate(codec.Wire, frozen=True):
    """A mandate in state, for ever. `withdrawn_ms` is None while it was not withdrawn."""

    patient: codec.Bytes16
    reader: codec.Bytes16
    purposes: MandatePurposes
    compartments: MandateCompartments | None
    not_before: codec.Uint
    not_after: codec.Uint
    issuer: codec.Bytes16
    countersigner: codec.Bytes16
    issued_ms: codec.Uint
    withdrawn_ms: codec.Uint | None


class Mandated(codec.Wire, frozen=True):
    """Ids of the mandates about one patient and one reader that may still stand."""

    mandates: Annotated[list[codec.Bytes16], msgspec.Meta(max_length=MANDATES_PER_PAIR_MAX)]


class MandateIssued(codec.Wire, frozen=True):
    """The data of `mandate.issued`."""

    mandate: codec.Bytes16
    not_after: codec.Uint


MANDATES: Final = Slot(keys.MANDATE, (ID_BYTES,), Mandate, 1_024)
MANDATED: Final = Slot(keys.MANDATED, (ID_BYTES, ID_BYTES), Mandated, 256)
ISSUED: Final = EventKind("mandate.issued", MandateIssued)
WITHDRAWN: Final = EventKind("mandate.withdrawn", WithdrawMandate)


def mandates_between(state: StateReader, patient: bytes, reader: bytes) -> list[tuple[bytes, Mandate]]:
    """The mandates about a patient and a reader that may still stand, with their ids, oldest first."""
    mandated = MANDATED.get(state, patient, reader)
    if mandated is None:
        return []
    found = [(one, MANDATES.get(state, one)) for one in mandated.mandates]
    return [(one, value) for one, value in found if value is not None]


def is_accredited(state: StateReader, mandate: Mandate) -> bool:
    """Whether the mandate's issuer stands, and is an authority still."""
    issuer = identity.IDENTITIES.get(state, mandate.issuer)
    return (
        issuer is not None
        and identity.standing(state, mandate.issuer) is None
        and identity.AUTHORITY in issuer.roles
    )


def _issue(body: IssueMandate, context: OperationContext) -> None:
    state, issuer = context.state, context.sender
    identity.require_role(state, issuer, identity.AUTHORITY)
    if MANDATES.get(state, body.mandate) is not None:
        raise Refused("mandate.id_taken", body.mandate.hex())
    if identity.require(state, body.patient).kind != identity.PATIENT:
        raise Refused("records.not_a_patient", body.patient.hex())
    reader = institution_of(state, body.reader)
    if reader is None:
        raise Refused("consent.unknown_grantee", body.reader.hex())
    for purpose in body.purposes:
        require_purpose(purpose)
    for compartment in body.compartments or []:
        known = records.COMPARTMENTS.get(state, compartment)
        if known is None or known.patient != body.patient:
            raise Refused("consent.foreign_compartment", compartment.hex())
    if not body.not_before < body.not_after or body.not_after <= context.time_ms:
        raise Refused("consent.bad_period", f"from {body.not_before} to {body.not_after} ms")
    bare = msgspec.structs.replace(body, countersignature=None)
    involved = (issuer, body.reader, reader)
    signer = require_other_institution(body.countersignature, "mandate.issue", bare, involved, context)
    current = [
        one
        for one, value in mandates_between(state, body.patient, body.reader)
        if context.time_ms < value.not_after
    ]
    if len(current) >= MANDATES_PER_PAIR_MAX:
        raise Refused("mandate.too_many", f"the limit is {MANDATES_PER_PAIR_MAX}")
    issued = Mandate(
        patient=body.patient,
        reader=body.reader,
        purposes=body.purposes,
        compartments=body.compartments,
        not_before=body.not_before,
        not_after=body.not_after,
        issuer=issuer,
        countersigner=signer,
        issued_ms=context.time_ms,
        withdrawn_ms=None,
    )
    MANDATES.put(state, issued, body.mandate)
    MANDATED.put(state, Mandated([*current, body.mandate]), body.patient, body.reader)
    subjects = [body.patient, issuer, body.reader, signer]
    ISSUED.emit(context, subjects, MandateIssued(body.mandate, body.not_after))


def _withdraw(body: WithdrawMandate, context: OperationContext) -> None:
    state = context.state
    known = MANDATES.get(state, body.mandate)
    if known is None:
        raise Refused("mandate.unknown", body.mandate.hex())
    if known.issuer != context.sender:
        raise Refused("mandate.not_yours", body.mandate.hex())
    if known.withdrawn_ms is not None:
        raise Refused("mandate.withdrawn_already", body.mandate.hex())
    MANDATES.put(state, msgspec.structs.replace(known, withdrawn_ms=context.time_ms), body.mandate)
    left = [one for one, _ in mandates_between(state, known.patient, known.reader) if one != body.mandate]
    MANDATED.put(state, Mandated(left), known.patient, known.reader)
    WITHDRAWN.emit(context, [known.patient, known.issuer, known.reader], body)


CONTRACT: Final = Contract(
    name="mandate",
    operations=(
        OperationSpec("mandate.issue", IssueMandate, _issue),
        OperationSpec("mandate.withdraw", WithdrawMandate, _withdraw, rank=Rank.TAKES_RIGHTS),
    ),
    slots=(MANDATES, MANDATED),
    events=(ISSUED, WITHDRAWN),
)
