"""Treatment relationships: that an institution treats a patient now. The network's policy stands on them.

The institution attests, somebody outside it witnesses (unless the network does without), and the relationship ends
with the encounter, or by itself after at most thirty days. The patient ends it too. While it stands, the policy opens
the general class to the institution, or to the practitioners that it names, for the purposes that the network
settled.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.contracts import identity, keys, settings
from consilium.contracts.attestation import Attestation, institution_of, require_attested
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

RELATIONSHIP_MS_MAX: Final = 30 * 24 * 60 * 60 * 1000
PRACTITIONERS_MAX: Final = 16
RELATIONSHIPS_PER_PAIR_MAX: Final = 4

Practitioners = Annotated[list[codec.Bytes16], msgspec.Meta(min_length=1, max_length=PRACTITIONERS_MAX)]


class AttestTreatment(codec.Wire, frozen=True):
    """`treatment.attest`: by the institution. `practitioners` None means all of its staff.

    `witness` signs this body without it: the patient, or somebody who works for another institution.
    """

    relationship: codec.Bytes16
    patient: codec.Bytes16
    practitioners: Practitioners | None
    not_after: codec.Uint
    witness: Attestation | None


class EndTreatment(codec.Wire, frozen=True):
    """`treatment.end`: by the institution when the encounter ends, or by the patient."""

    relationship: codec.Bytes16


class Relationship(codec.Wire, frozen=True):
    """A relationship in state. `ended_ms` is None while nobody ended it."""

    patient: codec.Bytes16
    institution: codec.Bytes16
    practitioners: Practitioners | None
    begun_ms: codec.Uint
    not_after: codec.Uint
    ended_ms: codec.Uint | None
    witness: codec.Bytes16 | None


class Current(codec.Wire, frozen=True):
    """Ids of the relationships of one patient and institution that may still stand."""

    relationships: Annotated[list[codec.Bytes16], msgspec.Meta(max_length=RELATIONSHIPS_PER_PAIR_MAX)]


class TreatmentChanged(codec.Wire, frozen=True):
    """The data of `treatment.attested` and `treatment.ended`."""

    relationship: codec.Bytes16
    not_after: codec.Uint


RELATIONSHIPS: Final = Slot(keys.RELATIONSHIP, (ID_BYTES,), Relationship, 512)
TREATING: Final = Slot(keys.TREATING, (ID_BYTES, ID_BYTES), Current, 128)
ATTESTED: Final = EventKind("treatment.attested", TreatmentChanged)
ENDED: Final = EventKind("treatment.ended", TreatmentChanged)


def relationships_between(
    state: StateReader, patient: bytes, institution: bytes
) -> list[tuple[bytes, Relationship]]:
    """The relationships of a patient and an institution that may still stand, with their ids, oldest first."""
    current = TREATING.get(state, patient, institution)
    if current is None:
        return []
    found = [(one, RELATIONSHIPS.get(state, one)) for one in current.relationships]
    return [(one, value) for one, value in found if value is not None]


def _attest(body: AttestTreatment, context: OperationContext) -> None:
    state, institution = context.state, context.sender
    if identity.require(state, institution).kind != identity.INSTITUTION:
        raise Refused("identity.not_an_institution", institution.hex())
    if identity.require(state, body.patient).kind != identity.PATIENT:
        raise Refused("records.not_a_patient", body.patient.hex())
    if RELATIONSHIPS.get(state, body.relationship) is not None:
        raise Refused("treatment.id_taken", body.relationship.hex())
    if not context.time_ms < body.not_after <= context.time_ms + RELATIONSHIP_MS_MAX:
        raise Refused("treatment.bad_period", f"at most {RELATIONSHIP_MS_MAX} ms from now")
    for practitioner in body.practitioners or []:
        if institution_of(state, practitioner) != institution or practitioner == institution:
            raise Refused("treatment.not_employed", practitioner.hex())
    _require_witness(body, context)
    current = [
        (one, value)
        for one, value in relationships_between(state, body.patient, institution)
        if context.time_ms < value.not_after
    ]
    if len(current) >= RELATIONSHIPS_PER_PAIR_MAX:
        raise Refused("treatment.too_many", f"the limit is {RELATIONSHIPS_PER_PAIR_MAX}")
    relationship = Relationship(
        patient=body.patient,
        institution=institution,
        practitioners=body.practitioners,
        begun_ms=context.time_ms,
        not_after=body.not_after,
        ended_ms=None,
        witness=body.witness.identity if body.witness is not None else None,
    )
    RELATIONSHIPS.put(state, relationship, body.relationship)
    ids = [one for one, _ in current]
    TREATING.put(state, Current([*ids, body.relationship]), body.patient, institution)
    told = TreatmentChanged(body.relationship, body.not_after)
    ATTESTED.emit(context, [body.patient, institution], told)


def _require_witness(body: AttestTreatment, context: OperationContext) -> None:
    if body.witness is None:
        if settings.current(context.state).witness_required:
            raise Refused("attestation.missing", "treatment.attest")
        return
    bare = msgspec.structs.replace(body, witness=None)
    require_attested(body.witness, "treatment.attest", bare, context)
    # Another patient is nobody's witness: an institution makes as many as it likes, and holds their keys.
    works_for = institution_of(context.state, body.witness.identity)
    if body.witness.identity != body.patient and works_for in (None, context.sender):
        raise Refused("attestation.not_independent", body.witness.identity.hex())


def _end(body: EndTreatment, context: OperationContext) -> None:
    state = context.state
    known = RELATIONSHIPS.get(state, body.relationship)
    if known is None:
        raise Refused("treatment.unknown", body.relationship.hex())
    if context.sender not in (known.institution, known.patient):
        raise Refused("treatment.not_yours", body.relationship.hex())
    if known.ended_ms is not None:
        raise Refused("treatment.ended_already", body.relationship.hex())
    ended = msgspec.structs.replace(known, ended_ms=context.time_ms)
    RELATIONSHIPS.put(state, ended, body.relationship)
    left = [
        one
        for one, _ in relationships_between(state, known.patient, known.institution)
        if one != body.relationship
    ]
    TREATING.put(state, Current(left), known.patient, known.institution)
    told = TreatmentChanged(body.relationship, context.time_ms)
    ENDED.emit(context, [known.patient, known.institution], told)


CONTRACT: Final = Contract(
    name="treatment",
    operations=(
        OperationSpec("treatment.attest", AttestTreatment, _attest),
        OperationSpec("treatment.end", EndTreatment, _end, rank=Rank.TAKES_RIGHTS),
    ),
    slots=(RELATIONSHIPS, TREATING),
    events=(ATTESTED, ENDED),
)
