"""Consent: what a patient lets somebody read, for which purposes, from when to when.

A consent names a grantee (an institution, and with it those it employs, or one practitioner), purposes, and the
compartments or all of them; it permits or denies. Only the patient grants and revokes. A revoked consent stays in
state with the time of its end: the history is part of what can be proved.

A decision must not search: `GRANTS` holds, for a patient and a grantee, the ids of the consents that may still matter.
Revoked ones leave it at once, expired ones when the next is granted.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from consilium.contracts import identity, keys, records
from consilium.contracts.classes import CLASSES_MAX
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.contracts.purposes import Purpose, require_purpose
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

PURPOSES_PER_CONSENT_MAX: Final = 16
COMPARTMENTS_PER_CONSENT_MAX: Final = CLASSES_MAX
CONSENTS_PER_GRANTEE_MAX: Final = 16
"""A request looks at all of them, for each patient that it names: this bounds what one request costs every node."""

PERMIT: Final = "permit"
DENY: Final = "deny"

Effect = Literal["deny", "permit"]
Purposes = Annotated[list[Purpose], msgspec.Meta(min_length=1, max_length=PURPOSES_PER_CONSENT_MAX)]
CompartmentIds = Annotated[
    list[codec.Bytes16], msgspec.Meta(min_length=1, max_length=COMPARTMENTS_PER_CONSENT_MAX)
]


class GrantConsent(codec.Wire, frozen=True):
    """`consent.grant`. `compartments` None means all that the patient has.

    It holds while not_before <= block time < not_after. It is the data of `consent.granted` as well.
    """

    consent: codec.Bytes16
    grantee: codec.Bytes16
    purposes: Purposes
    compartments: CompartmentIds | None
    effect: Effect
    not_before: codec.Uint
    not_after: codec.Uint


class RevokeConsent(codec.Wire, frozen=True):
    """`consent.revoke`. It is the data of `consent.revoked` as well."""

    consent: codec.Bytes16


class Consent(codec.Wire, frozen=True):
    """A consent in state. `revoked_ms` is None while it was not revoked."""

    patient: codec.Bytes16
    grantee: codec.Bytes16
    purposes: Purposes
    compartments: CompartmentIds | None
    effect: Effect
    not_before: codec.Uint
    not_after: codec.Uint
    granted_ms: codec.Uint
    revoked_ms: codec.Uint | None


class Grants(codec.Wire, frozen=True):
    """Ids of the consents between one patient and one grantee that may still matter, oldest first."""

    consents: Annotated[list[codec.Bytes16], msgspec.Meta(max_length=CONSENTS_PER_GRANTEE_MAX)]


CONSENTS: Final = Slot(keys.CONSENT, (ID_BYTES,), Consent, 2_048)
GRANTS: Final = Slot(keys.GRANTS, (ID_BYTES, ID_BYTES), Grants, 512)

GRANTED: Final = EventKind("consent.granted", GrantConsent)
REVOKED: Final = EventKind("consent.revoked", RevokeConsent)


def consents_between(state: StateReader, patient: bytes, grantee: bytes) -> list[tuple[bytes, Consent]]:
    """The consents of the patient to the grantee that may still matter, with their ids, oldest first."""
    grants = GRANTS.get(state, patient, grantee)
    if grants is None:
        return []
    found = [(consent, CONSENTS.get(state, consent)) for consent in grants.consents]
    return [(consent, value) for consent, value in found if value is not None]


def _grant(body: GrantConsent, context: OperationContext) -> None:
    state, patient = context.state, context.sender
    if identity.require(state, patient).kind != identity.PATIENT:
        raise Refused("consent.not_the_patient", patient.hex())
    if CONSENTS.get(state, body.consent) is not None:
        raise Refused("consent.id_taken", body.consent.hex())
    grantee = identity.IDENTITIES.get(state, body.grantee)
    if grantee is None or grantee.kind not in (identity.INSTITUTION, identity.PRACTITIONER):
        raise Refused("consent.unknown_grantee", body.grantee.hex())
    for purpose in body.purposes:
        require_purpose(purpose)
    for compartment in body.compartments or []:
        known = records.COMPARTMENTS.get(state, compartment)
        if known is None or known.patient != patient:
            raise Refused("consent.foreign_compartment", compartment.hex())
    if not body.not_before < body.not_after or body.not_after <= context.time_ms:
        raise Refused("consent.bad_period", f"from {body.not_before} to {body.not_after} ms")
    current = [
        consent
        for consent, value in consents_between(state, patient, body.grantee)
        if value.not_after > context.time_ms
    ]
    if len(current) >= CONSENTS_PER_GRANTEE_MAX:
        raise Refused("consent.too_many", f"the limit is {CONSENTS_PER_GRANTEE_MAX}")
    granted = Consent(
        patient=patient,
        grantee=body.grantee,
        purposes=body.purposes,
        compartments=body.compartments,
        effect=body.effect,
        not_before=body.not_before,
        not_after=body.not_after,
        granted_ms=context.time_ms,
        revoked_ms=None,
    )
    CONSENTS.put(state, granted, body.consent)
    GRANTS.put(state, Grants([*current, body.consent]), patient, body.grantee)
    GRANTED.emit(context, [patient, body.grantee], body)


def _revoke(body: RevokeConsent, context: OperationContext) -> None:
    state = context.state
    consent = CONSENTS.get(state, body.consent)
    if consent is None:
        raise Refused("consent.unknown", body.consent.hex())
    if consent.patient != context.sender:
        raise Refused("consent.not_the_patient", body.consent.hex())
    if consent.revoked_ms is not None:
        raise Refused("consent.already_revoked", body.consent.hex())
    CONSENTS.put(state, msgspec.structs.replace(consent, revoked_ms=context.time_ms), body.consent)
    grants = GRANTS.get(state, consent.patient, consent.grantee)
    left = [one for one in grants.consents if one != body.consent] if grants is not None else []
    GRANTS.put(state, Grants(left), consent.patient, consent.grantee)
    REVOKED.emit(context, [consent.patient, consent.grantee], body)


CONTRACT: Final = Contract(
    name="consent",
    operations=(
        OperationSpec("consent.grant", GrantConsent, _grant),
        OperationSpec("consent.revoke", RevokeConsent, _revoke, rank=Rank.TAKES_RIGHTS),
    ),
    slots=(CONSENTS, GRANTS),
    events=(GRANTED, REVOKED),
)
