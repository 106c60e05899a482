"""Consent: what a patient lets somebody read, for which purposes, from when to when.

A consent is a list of provisions, each with its full conditions and a depth: the root at 0, exceptions below it. Of
the provisions that match, the deepest decide; at one depth a denial wins. A provision names actors (institutions, and
with them those they employ, practitioners, teams) or everybody; purposes; compartments or all; a period. What must
not show on the chain is a condition in a sealed document (`conditions`), of which the consent has the digest.

The patient grants, or who speaks for the patient within bounds. A revoked consent stays in state with the time of its
end: the history is part of what can be proved.

A decision must not search: `GRANTS` holds, for a patient and an actor, the ids of the consents that may still matter.
Revoked ones leave it at once; expired ones, and those behind whom nobody stands any more, when the next is granted.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from consilium.contracts import identity, keys, records, representation, settings, teams
from consilium.contracts.attestation import Attestation, require_other_institution
from consilium.contracts.classes import CLASSES_MAX
from consilium.contracts.conditions import PROVISIONS_MAX
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.contracts.purposes import Purpose, covers, require_purpose
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

PURPOSES_PER_CONSENT_MAX: Final = 16
COMPARTMENTS_PER_CONSENT_MAX: Final = CLASSES_MAX
ACTORS_PER_CONSENT_MAX: Final = 8
CONSENTS_PER_GRANTEE_MAX: Final = 16
"""A request looks at all of them, for each patient that it names: this bounds what one request costs every node."""
CONSENTS_OF_OTHERS_MAX: Final = 8
"""So many may be of those who speak for the patient, or passed on: room is left for the patient's own denial."""
DEPTH_MAX: Final = 3

PERMIT: Final = "permit"
DENY: Final = "deny"
EVERYBODY: Final = bytes(ID_BYTES)
"""Under what the consents to no actor in particular are found; nobody can have this id."""
CARE_PURPOSES: Final = ("TREAT",)
"""What a manager or delegate may consent to alone, with what lies below."""

Effect = Literal["deny", "permit"]
Purposes = Annotated[list[Purpose], msgspec.Meta(min_length=1, max_length=PURPOSES_PER_CONSENT_MAX)]
CompartmentIds = Annotated[
    list[codec.Bytes16], msgspec.Meta(min_length=1, max_length=COMPARTMENTS_PER_CONSENT_MAX)
]
Actors = Annotated[list[codec.Bytes16], msgspec.Meta(min_length=1, max_length=ACTORS_PER_CONSENT_MAX)]
Depth = Annotated[int, msgspec.Meta(ge=0, le=DEPTH_MAX)]


class Provision(codec.Wire, frozen=True):
    """One rule. `actors` None means everybody, `purposes` None any purpose (of a denial), `compartments` None all.

    It holds while not_before <= block time < not_after. `conditional` says that the sealed document has a condition
    for it, at its place in the list.
    """

    depth: Depth
    effect: Effect
    actors: Actors | None
    purposes: Purposes | None
    compartments: CompartmentIds | None
    not_before: codec.Uint
    not_after: codec.Uint
    conditional: bool


Provisions = Annotated[list[Provision], msgspec.Meta(min_length=1, max_length=PROVISIONS_MAX)]


class GrantConsent(codec.Wire, frozen=True):
    """`consent.grant`, and the data of `consent.granted`.

    `obligations` is the digest of the sealed conditions; `source` the record that keeps the consent as the patient
    signed it; `transferable` lets its actors pass it on once. `countersignature` is for who speaks beyond bounds.
    """

    consent: codec.Bytes16
    patient: codec.Bytes16
    provisions: Provisions
    obligations: codec.Bytes32 | None = None
    source: codec.Bytes16 | None = None
    transferable: bool = False
    countersignature: Attestation | None = None


class RevokeConsent(codec.Wire, frozen=True):
    """`consent.revoke`. It is the data of `consent.revoked` as well."""

    consent: codec.Bytes16


class Consent(codec.Wire, frozen=True):
    """A consent in state. `revoked_ms` is None while it was not revoked.

    `granted_by` is the patient, or who spoke for it in `generation` of its account. `parent` is the consent that was
    passed on, or None.
    """

    patient: codec.Bytes16
    provisions: Provisions
    obligations: codec.Bytes32 | None
    source: codec.Bytes16 | None
    transferable: bool
    granted_by: codec.Bytes16
    generation: codec.Uint
    parent: codec.Bytes16 | None
    granted_ms: codec.Uint
    revoked_ms: codec.Uint | None

    @property
    def not_after(self) -> int:
        """When the last of its provisions ends (block time, exclusive)."""
        return max(provision.not_after for provision in self.provisions)


class Grants(codec.Wire, frozen=True):
    """Ids of the consents between one patient and one actor that may still matter, oldest first."""

    consents: Annotated[list[codec.Bytes16], msgspec.Meta(max_length=CONSENTS_PER_GRANTEE_MAX)]


CONSENTS: Final = Slot(keys.CONSENT, (ID_BYTES,), Consent, 16 * 1024)
GRANTS: Final = Slot(keys.GRANTS, (ID_BYTES, ID_BYTES), Grants, 512)

GRANTED: Final = EventKind("consent.granted", GrantConsent)
REVOKED: Final = EventKind("consent.revoked", RevokeConsent)


# --- questions others ask -------------------------------------------------------------------------------------------


def actors_of(provisions: list[Provision]) -> list[bytes]:
    """Under whom a consent is found: its actors, or everybody where a provision names none."""
    if any(provision.actors is None for provision in provisions):
        return [EVERYBODY]
    return list(dict.fromkeys(actor for provision in provisions for actor in provision.actors or []))


def consents_between(state: StateReader, patient: bytes, actor: bytes) -> list[tuple[bytes, Consent]]:
    """The consents of the patient to the actor that may still matter, with their ids, oldest first."""
    grants = GRANTS.get(state, patient, actor)
    if grants is None:
        return []
    found = [(consent, CONSENTS.get(state, consent)) for consent in grants.consents]
    return [(consent, value) for consent, value in found if value is not None]


def stands(state: StateReader, consent: Consent) -> bool:
    """Whether a consent still has somebody behind it: not revoked, granted by who may have, its parent alive.

    Of what was signed with the patient's key before a take-over its denials stand, and nothing else (`opens`).
    """
    if consent.revoked_ms is not None:
        return False
    if consent.parent is not None:
        parent = CONSENTS.get(state, consent.parent)
        alive = parent is not None and parent.parent is None and stands(state, parent)
        return alive and opens(state, consent) and identity.standing(state, consent.granted_by) is None
    denies = any(provision.effect == DENY for provision in consent.provisions)
    return opens(state, consent) or (denies and consent.granted_by == consent.patient)


def opens(state: StateReader, consent: Consent) -> bool:
    """Whether what it permits is permitted still: no take-over came since.

    Who opened the account may have made the patient's first key, and signed with it what outlasts it: who takes over
    permits anew. A denial opens nothing, and so it stays until it is revoked.
    """
    return consent.generation == representation.account_of(state, consent.patient).generation


def permits_still(state: StateReader, consent: Consent, time_ms: int) -> bool:
    """Whether what was permitted has neither ended nor lost whoever stood behind it."""
    return stands(state, consent) and opens(state, consent) and time_ms < consent.not_after


def without_permits(consent: Consent) -> Consent:
    """The consent as if its permits were over; provisions keep their places, by which conditions name them."""
    return msgspec.structs.replace(
        consent,
        provisions=[
            one if one.effect == DENY else msgspec.structs.replace(one, not_before=0, not_after=0)
            for one in consent.provisions
        ],
    )


# --- handlers -------------------------------------------------------------------------------------------------------


def _grant(body: GrantConsent, context: OperationContext) -> None:
    state = context.state
    representation.require_patient(state, body.patient)
    _require_may_speak(body, context)
    check_provisions(body.provisions, body.patient, context)
    if (body.obligations is not None) != any(one.conditional for one in body.provisions):
        raise Refused("consent.conditions_incomplete", body.consent.hex())
    if body.source is not None:
        _require_source(body.source, body.patient, state)
    granted = Consent(
        patient=body.patient,
        provisions=body.provisions,
        obligations=body.obligations,
        source=body.source,
        transferable=body.transferable,
        granted_by=context.sender,
        generation=representation.account_of(state, body.patient).generation,
        parent=None,
        granted_ms=context.time_ms,
        revoked_ms=None,
    )
    keep(body.consent, granted, context)
    GRANTED.emit(context, subjects_of(granted), body)


def subjects_of(consent: Consent) -> list[bytes]:
    """Who is told: the patient, then actors as far as an event has room, then who granted it."""
    named = [consent.patient, *actors_of(consent.provisions)[:6], consent.granted_by]
    return list(dict.fromkeys(named))


def keep(identifier: bytes, consent: Consent, context: OperationContext) -> None:
    """Write a new consent, and let it be found. Raises Refused `consent.id_taken`, `consent.too_many`."""
    state = context.state
    if CONSENTS.get(state, identifier) is not None:
        raise Refused("consent.id_taken", identifier.hex())
    CONSENTS.put(state, consent, identifier)
    for actor in actors_of(consent.provisions):
        current = [
            (one, value)
            for one, value in consents_between(state, consent.patient, actor)
            if value.not_after > context.time_ms and one != identifier and stands(state, value)
        ]
        if len(current) >= CONSENTS_PER_GRANTEE_MAX:
            raise Refused("consent.too_many", f"the limit is {CONSENTS_PER_GRANTEE_MAX}")
        of_others = sum(value.granted_by != value.patient for _, value in current)
        if consent.granted_by != consent.patient and of_others >= CONSENTS_OF_OTHERS_MAX:
            raise Refused(
                "consent.too_many", f"the limit is {CONSENTS_OF_OTHERS_MAX} that are not the patient's"
            )
        GRANTS.put(state, Grants([*(one for one, _ in current), identifier]), consent.patient, actor)


def check_provisions(provisions: list[Provision], patient: bytes, context: OperationContext) -> None:
    """Whether the provisions mean something here. Raises Refused `consent.*`."""
    state = context.state
    depths = [provision.depth for provision in provisions]
    if depths[0] != 0 or depths.count(0) != 1 or sorted(depths) != depths:
        raise Refused("consent.bad_depths", str(depths))
    if len(actors_of(provisions)) > ACTORS_PER_CONSENT_MAX:
        raise Refused("consent.too_many_actors", f"the limit is {ACTORS_PER_CONSENT_MAX}")
    for provision in provisions:
        for actor in provision.actors or []:
            if not _is_actor(state, actor):
                raise Refused("consent.unknown_grantee", actor.hex())
        for purpose in provision.purposes or []:
            require_purpose(purpose)
        if provision.purposes is None and provision.effect == PERMIT:
            raise Refused("consent.purpose_missing")
        for compartment in provision.compartments or []:
            known = records.COMPARTMENTS.get(state, compartment)
            if known is None or known.patient != patient:
                raise Refused("consent.foreign_compartment", compartment.hex())
        if not provision.not_before < provision.not_after or provision.not_after <= context.time_ms:
            raise Refused("consent.bad_period", f"from {provision.not_before} to {provision.not_after} ms")


def _is_actor(state: StateReader, actor: bytes) -> bool:
    known = identity.IDENTITIES.get(state, actor)
    if known is not None:
        return known.kind in (identity.INSTITUTION, identity.PRACTITIONER)
    return teams.TEAMS.get(state, actor) is not None


def _require_source(source: bytes, patient: bytes, state: StateReader) -> None:
    record = records.RECORDS.get(state, source)
    compartment = records.COMPARTMENTS.get(state, record.compartment) if record is not None else None
    if compartment is None or compartment.patient != patient:
        raise Refused("consent.unknown_source", source.hex())


def _require_may_speak(body: GrantConsent, context: OperationContext) -> None:
    """The patient grants anything; who speaks for it, within bounds, or with another institution's signature."""
    state = context.state
    capacity = representation.speaks_as(context, body.patient)
    if capacity is None:
        raise Refused("consent.not_the_patient", body.patient.hex())
    if capacity == representation.PATIENT:
        return
    lease = representation.lease_end(state, context.sender, body.patient, context.time_ms)
    ends = max(provision.not_after for provision in body.provisions)
    if lease is not None and ends > lease:
        raise Refused("consent.beyond_lease", f"the lease ends at {lease} ms")
    reason = _beyond_bounds(body, capacity, context)
    if reason is None:
        return
    if body.countersignature is None:
        raise Refused("consent.beyond_bounds", reason)
    bare = msgspec.structs.replace(body, countersignature=None)
    involved = (context.sender, *actors_of(body.provisions))
    require_other_institution(body.countersignature, "consent.grant", bare, involved, context)


def _beyond_bounds(body: GrantConsent, capacity: str, context: OperationContext) -> str | None:
    """What of a consent goes beyond what a manager, delegate or guardian may grant alone; None where nothing does."""
    longest = context.time_ms + settings.current(context.state).managed_consent_ms_max
    if body.transferable:
        return "it may be passed on"
    for provision in body.provisions:
        if provision.effect == DENY:
            continue
        if _reaches_beyond_general(context.state, provision):
            return "it opens more than the general class"
        if provision.actors is None:
            return "it is to everybody"
        if capacity == representation.GUARDIAN:
            continue
        if not all(any(covers(care, one) for care in CARE_PURPOSES) for one in provision.purposes or []):
            return "it is for more than care"
        if provision.not_after > longest:
            return "it lasts too long"
    return None


def _revoke(body: RevokeConsent, context: OperationContext) -> None:
    state = context.state
    consent = CONSENTS.get(state, body.consent)
    if consent is None:
        raise Refused("consent.unknown", body.consent.hex())
    if context.sender not in (consent.patient, consent.granted_by):
        capacity = representation.speaks_as(context, consent.patient)
        if capacity != representation.GUARDIAN or _shuts_out(state, consent):
            raise Refused("consent.not_the_patient", body.consent.hex())
    if consent.revoked_ms is not None:
        raise Refused("consent.already_revoked", body.consent.hex())
    CONSENTS.put(state, msgspec.structs.replace(consent, revoked_ms=context.time_ms), body.consent)
    for actor in actors_of(consent.provisions):
        grants = GRANTS.get(state, consent.patient, actor)
        left = [one for one in grants.consents if one != body.consent] if grants is not None else []
        GRANTS.put(state, Grants(left), consent.patient, actor)
    REVOKED.emit(context, subjects_of(consent), body)


def _shuts_out(state: StateReader, consent: Consent) -> bool:
    """Whether it is a denial of the patient's own beyond the general class: a guardian opens nothing there."""
    own = consent.granted_by == consent.patient
    return own and any(
        one.effect == DENY and _reaches_beyond_general(state, one) for one in consent.provisions
    )


def _reaches_beyond_general(state: StateReader, provision: Provision) -> bool:
    named = [records.COMPARTMENTS.get(state, one) for one in provision.compartments or [EVERYBODY]]
    return not all(one is not None and one.general for one in named)


CONTRACT: Final = Contract(
    name="consent",
    operations=(
        OperationSpec("consent.grant", GrantConsent, _grant),
        OperationSpec("consent.revoke", RevokeConsent, _revoke, rank=Rank.TAKES_RIGHTS),
    ),
    slots=(CONSENTS, GRANTS),
    events=(GRANTED, REVOKED),
)
