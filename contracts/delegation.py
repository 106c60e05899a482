"""Passing a consent on: once, never wider, never longer, and it dies with what it came from.

The actor of a transferable consent lets another read on its ground: a specialist, a laboratory. The new consent is a
part of the old one in purposes, compartments and time, and whatever is hidden in the old one's conditions holds for it.
What was passed on is not passed on again. A session key passes nothing on: what it opens would outlast the shift.
"""

from __future__ import annotations

from typing import Final

from consilium.contracts import consent, identity, representation
from consilium.contracts.consent import CompartmentIds, Consent, Provision, Purposes
from consilium.contracts.operation import Contract, EventKind, OperationSpec
from consilium.contracts.purposes import covers
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext


class PassOn(codec.Wire, frozen=True):
    """`delegation.pass_on`, by an actor of `parent`; the data of `delegation.passed_on`. `consent` is a fresh id."""

    consent: codec.Bytes16
    parent: codec.Bytes16
    actor: codec.Bytes16
    purposes: Purposes
    compartments: CompartmentIds | None
    not_before: codec.Uint
    not_after: codec.Uint


PASSED_ON: Final = EventKind("delegation.passed_on", PassOn)


def _pass_on(body: PassOn, context: OperationContext) -> None:
    state = context.state
    parent = consent.CONSENTS.get(state, body.parent)
    if parent is None:
        raise Refused("consent.unknown", body.parent.hex())
    representation.require_patient(state, parent.patient)
    root = _root_of(parent, body.parent, context)
    if root.actors is None or context.sender not in root.actors:
        raise Refused("delegation.not_the_grantee", body.parent.hex())
    identity.require_lasting_key(context)
    provision = Provision(
        depth=0,
        effect="permit",
        actors=[body.actor],
        purposes=body.purposes,
        compartments=body.compartments,
        not_before=body.not_before,
        not_after=body.not_after,
        conditional=root.conditional,
    )
    consent.check_provisions([provision], parent.patient, context)
    _require_within(root, provision)
    passed_on = Consent(
        patient=parent.patient,
        provisions=[provision],
        obligations=parent.obligations,
        source=None,
        transferable=False,
        granted_by=context.sender,
        generation=parent.generation,
        parent=body.parent,
        granted_ms=context.time_ms,
        revoked_ms=None,
    )
    consent.keep(body.consent, passed_on, context)
    PASSED_ON.emit(context, consent.subjects_of(passed_on), body)


def _root_of(parent: Consent, identifier: bytes, context: OperationContext) -> Provision:
    """The one provision of a consent that may be passed on. Exceptions would have to be inherited, and are not."""
    if parent.parent is not None:
        raise Refused("delegation.too_deep", identifier.hex())
    if not parent.transferable or len(parent.provisions) != 1 or parent.provisions[0].effect != "permit":
        raise Refused("delegation.not_transferable", identifier.hex())
    if not consent.permits_still(context.state, parent, context.time_ms):
        raise Refused("delegation.parent_ended", identifier.hex())
    return parent.provisions[0]


def _require_within(root: Provision, new: Provision) -> None:
    for purpose in new.purposes or []:
        if not any(covers(one, purpose) for one in root.purposes or []):
            raise Refused("delegation.wider", purpose)
    if root.compartments is not None:
        beyond = new.compartments is None or [one for one in new.compartments if one not in root.compartments]
        if beyond:
            raise Refused("delegation.wider", "compartments")
    if new.not_before < root.not_before or new.not_after > root.not_after:
        raise Refused("delegation.longer", f"from {root.not_before} to {root.not_after} ms")


CONTRACT: Final = Contract(
    name="delegation",
    operations=(OperationSpec("delegation.pass_on", PassOn, _pass_on),),
    events=(PASSED_ON,),
)
