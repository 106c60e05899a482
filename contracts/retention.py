"""Retention holds: who must keep records, on which basis and until when, whatever a patient asks to be forgotten.

An author holds what it authored of a patient's, in one compartment or in all; an institution with the role *authority*
holds everything, whoever authored it. A hold opens nothing and ends by itself; the patient is told of it. Erasure asks
for the holds that stand (`erasure`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from consilium.contracts import identity, keys, records, representation
from consilium.contracts.calendar import DAY_MS
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Slot
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

HOLDS_PER_PATIENT_MAX: Final = 64
HOLDS_PER_HOLDER_MAX: Final = 4
HOLD_MS_MAX: Final = 30 * 366 * DAY_MS

HoldBasis = Literal["archiving", "court-order", "legal-claims", "legal-obligation", "public-health"]
"""GDPR Art. 17(3) (b) to (e)."""
HoldIds = Annotated[list[codec.Bytes16], msgspec.Meta(max_length=HOLDS_PER_PATIENT_MAX)]


class PlaceHold(codec.Wire, frozen=True):
    """`retention.hold`, and the data of `retention.held`: on what the sender authored of the patient's, in one
    compartment or in all; with `everything`, by an authority, on what anybody authored."""

    hold: codec.Bytes16
    patient: codec.Bytes16
    compartment: codec.Bytes16 | None
    everything: bool
    basis: HoldBasis
    not_after: codec.Uint


class LiftHold(codec.Wire, frozen=True):
    """`retention.lift`: by its holder. It is the data of `retention.lifted` as well."""

    hold: codec.Bytes16


class Hold(codec.Wire, frozen=True):
    """A hold in state, for ever. `lifted_ms` is None while its holder has not lifted it."""

    patient: codec.Bytes16
    holder: codec.Bytes16
    compartment: codec.Bytes16 | None
    everything: bool
    basis: HoldBasis
    placed_ms: codec.Uint
    not_after: codec.Uint
    lifted_ms: codec.Uint | None


class HoldsOf(codec.Wire, frozen=True):
    """Ids of the holds on a patient's records that may still stand, oldest first."""

    holds: HoldIds


HOLDS: Final = Slot(keys.HOLD, (ID_BYTES,), Hold, 256)
HOLDS_OF: Final = Slot(keys.HOLDS_OF, (ID_BYTES,), HoldsOf, 2_048)
HELD: Final = EventKind("retention.held", PlaceHold)
LIFTED: Final = EventKind("retention.lifted", LiftHold)


def holds_on(state: StateReader, patient: bytes, time_ms: int) -> list[tuple[bytes, Hold]]:
    """The holds on a patient's records that stand at that block time, with their ids, oldest first.

    A hold on what others authored is worth nothing once its holder is an authority no more; a suspension alone does not
    end it, for what is erased does not come back.
    """
    listed = HOLDS_OF.get(state, patient)
    found = [(one, HOLDS.get(state, one)) for one in (listed.holds if listed is not None else [])]
    return [
        (one, hold)
        for one, hold in found
        if hold
        and hold.lifted_ms is None
        and time_ms < hold.not_after
        and (not hold.everything or _is_authority(state, hold.holder))
    ]


def _is_authority(state: StateReader, holder: bytes) -> bool:
    known = identity.IDENTITIES.get(state, holder)
    return known is not None and identity.AUTHORITY in known.roles


def covers(hold: Hold, record: records.Record) -> bool:
    """Whether a hold that stands covers a record of its patient."""
    return (hold.everything or hold.holder == record.author) and (
        hold.compartment is None or hold.compartment in (record.compartment, *record.also)
    )


def _hold(body: PlaceHold, context: OperationContext) -> None:
    state, holder = context.state, context.sender
    identity.require_role(state, holder, identity.AUTHORITY if body.everything else identity.AUTHOR)
    representation.require_patient(state, body.patient)
    if HOLDS.get(state, body.hold) is not None:
        raise Refused("retention.id_taken", body.hold.hex())
    if body.compartment is not None:
        known = records.COMPARTMENTS.get(state, body.compartment)
        if known is None or known.patient != body.patient:
            raise Refused("records.unknown_compartment", body.compartment.hex())
    if not context.time_ms < body.not_after <= context.time_ms + HOLD_MS_MAX:
        raise Refused("retention.bad_period", f"until {body.not_after} ms")
    standing = holds_on(state, body.patient, context.time_ms)
    own = [one for one, hold in standing if hold.holder == holder]
    if len(standing) >= HOLDS_PER_PATIENT_MAX or len(own) >= HOLDS_PER_HOLDER_MAX:
        raise Refused("retention.too_many_holds", f"{len(standing)} stand, {len(own)} of them the sender's")
    placed = Hold(
        patient=body.patient,
        holder=holder,
        compartment=body.compartment,
        everything=body.everything,
        basis=body.basis,
        placed_ms=context.time_ms,
        not_after=body.not_after,
        lifted_ms=None,
    )
    HOLDS.put(state, placed, body.hold)
    HOLDS_OF.put(state, HoldsOf([*(one for one, _ in standing), body.hold]), body.patient)
    HELD.emit(context, [body.patient, holder], body)


def _lift(body: LiftHold, context: OperationContext) -> None:
    known = HOLDS.get(context.state, body.hold)
    if known is None:
        raise Refused("retention.unknown_hold", body.hold.hex())
    if known.holder != context.sender:
        raise Refused("retention.not_yours", body.hold.hex())
    if known.lifted_ms is not None:
        raise Refused("retention.lifted_already", body.hold.hex())
    HOLDS.put(context.state, msgspec.structs.replace(known, lifted_ms=context.time_ms), body.hold)
    LIFTED.emit(context, [known.patient, known.holder], body)


CONTRACT: Final = Contract(
    name="retention",
    operations=(
        OperationSpec("retention.hold", PlaceHold, _hold),
        OperationSpec("retention.lift", LiftHold, _lift),
    ),
    slots=(HOLDS, HOLDS_OF),
    events=(HELD, LIFTED),
)
