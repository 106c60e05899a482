"""Who speaks for a patient: the patient, a manager that opened the account, delegates, guardians.

Everybody signs with a key of their own, never as the patient. A *manager* is the hospital that enrolled the patient; a
*delegate* is whom the patient appointed; both consent within narrow bounds, and further only with another institution's
countersignature. A *guardian* represents in law: guardianship is a lease that ends on a quarter day (a birth date plus
eighteen years would be a birth date), renewed by appointing again; the exact end is enforced off the chain.

The patient's take-over (`takeover`) ends all of it at once: `generation` counts take-overs, and what others granted in
an earlier one is void. `changes` counts appointments and dismissals, so that a countersigned appointment serves once.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from consilium.contracts import identity, keys
from consilium.contracts.attestation import Attestation, require_other_institution
from consilium.contracts.calendar import is_quarter_day
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

REPRESENTATIVES_MAX: Final = 8
LEASE_MS_MAX: Final = 5 * 366 * 24 * 60 * 60 * 1000

Capacity = Literal["delegate", "guardian"]
DELEGATE: Final = "delegate"
GUARDIAN: Final = "guardian"
PATIENT: Final = "patient"
MANAGER: Final = "manager"


class Representative(codec.Wire, frozen=True):
    """Somebody who was appointed, and until when (block time, exclusive)."""

    identity: codec.Bytes16
    capacity: Capacity
    not_after: codec.Uint


class Account(codec.Wire, frozen=True):
    """Who may speak for a patient beside the patient. `manager` is None after a take-over."""

    manager: codec.Bytes16 | None
    representatives: Annotated[list[Representative], msgspec.Meta(max_length=REPRESENTATIVES_MAX)]
    generation: codec.Uint
    changes: codec.Uint


class Appoint(codec.Wire, frozen=True):
    """`representation.appoint`: by the patient; a guardian also by the manager, with a countersignature.

    `changes` is the account's count as it is now. Who is appointed already has the lease renewed.
    """

    patient: codec.Bytes16
    representative: codec.Bytes16
    capacity: Capacity
    not_after: codec.Uint
    changes: codec.Uint
    countersignature: Attestation | None


class Dismiss(codec.Wire, frozen=True):
    """`representation.dismiss`: by the patient, or by the representative who gives up."""

    patient: codec.Bytes16
    representative: codec.Bytes16


class RepresentationChanged(codec.Wire, frozen=True):
    """The data of `representation.appointed` and `representation.dismissed`."""

    representative: codec.Bytes16
    capacity: Capacity
    not_after: codec.Uint


ACCOUNTS: Final = Slot(keys.ACCOUNT, (ID_BYTES,), Account, 1_024)
APPOINTED: Final = EventKind("representation.appointed", RepresentationChanged)
DISMISSED: Final = EventKind("representation.dismissed", RepresentationChanged)


# --- questions other contracts ask ----------------------------------------------------------------------------------


def account_of(state: StateReader, patient: bytes) -> Account:
    """A patient's account. Where nobody changed it, the sponsor is the manager, and nobody is appointed."""
    stored = ACCOUNTS.get(state, patient)
    if stored is not None:
        return stored
    known = identity.IDENTITIES.get(state, patient)
    manager = known.sponsor if known is not None and known.kind == identity.PATIENT else None
    return Account(manager, [], 0, 0)


def current(account: Account, capacity: str, time_ms: int) -> list[Representative]:
    """The representatives of this capacity whose lease runs."""
    return [one for one in account.representatives if one.capacity == capacity and time_ms < one.not_after]


def capacity_of(state: StateReader, who: bytes, patient: bytes, time_ms: int) -> str | None:
    """As what somebody may speak for the patient: `patient`, `guardian`, `manager`, `delegate`, or not at all."""
    if who == patient:
        return PATIENT
    account = account_of(state, patient)
    for capacity in (GUARDIAN, DELEGATE):
        if any(one.identity == who for one in current(account, capacity, time_ms)):
            return capacity
    if who == account.manager:
        known = identity.IDENTITIES.get(state, who)
        if known is not None and identity.MANAGER in known.roles:
            return MANAGER
    return None


def speaks_as(context: OperationContext, patient: bytes) -> str | None:
    """As what the sender of a transaction may act for the patient: as `capacity_of`.

    A practitioner is appointed in person, and an employer opens session keys for all of its staff: so a session key
    represents nobody. Raises Refused `identity.session_key`.
    """
    capacity = capacity_of(context.state, context.sender, patient, context.time_ms)
    if capacity in (GUARDIAN, DELEGATE):
        identity.require_lasting_key(context)
    return capacity


def lease_end(state: StateReader, who: bytes, patient: bytes, time_ms: int) -> int | None:
    """When the lease of a representative ends; None for who has none."""
    account = account_of(state, patient)
    for capacity in (GUARDIAN, DELEGATE):
        for one in current(account, capacity, time_ms):
            if one.identity == who:
                return one.not_after
    return None


def require_patient(state: StateReader, patient: bytes) -> identity.Identity:
    """The patient, who stands. Raises Refused `identity.*`, `records.not_a_patient`."""
    known = identity.require(state, patient)
    if known.kind != identity.PATIENT:
        raise Refused("records.not_a_patient", patient.hex())
    return known


# --- handlers -------------------------------------------------------------------------------------------------------


def _appoint(body: Appoint, context: OperationContext) -> None:
    state = context.state
    require_patient(state, body.patient)
    account = account_of(state, body.patient)
    _require_may_appoint(body, account, context)
    known = identity.require(state, body.representative)
    if known.kind == identity.APPLICATION or body.representative in (body.patient, account.manager):
        raise Refused("representation.bad_representative", body.representative.hex())
    if body.changes != account.changes:
        raise Refused("representation.out_of_date", f"the account's count is {account.changes}")
    if not context.time_ms < body.not_after <= context.time_ms + LEASE_MS_MAX:
        raise Refused("representation.bad_period", f"a lease runs at most {LEASE_MS_MAX} ms")
    if body.capacity == GUARDIAN and not is_quarter_day(body.not_after):
        raise Refused("representation.not_a_quarter_day", str(body.not_after))
    others = [
        one
        for one in account.representatives
        if one.identity != body.representative and context.time_ms < one.not_after
    ]
    if len(others) >= REPRESENTATIVES_MAX:
        raise Refused("representation.too_many", f"the limit is {REPRESENTATIVES_MAX}")
    appointed = Representative(body.representative, body.capacity, body.not_after)
    changed = msgspec.structs.replace(
        account, representatives=[*others, appointed], changes=account.changes + 1
    )
    ACCOUNTS.put(state, changed, body.patient)
    told = RepresentationChanged(body.representative, body.capacity, body.not_after)
    APPOINTED.emit(context, [body.patient, body.representative], told)


def _require_may_appoint(body: Appoint, account: Account, context: OperationContext) -> None:
    if context.sender == body.patient:
        return
    if context.sender != account.manager or body.capacity != GUARDIAN:
        raise Refused("representation.not_the_patient", body.patient.hex())
    identity.require_role(context.state, context.sender, identity.MANAGER)
    bare = msgspec.structs.replace(body, countersignature=None)
    involved = (context.sender, body.representative)
    require_other_institution(body.countersignature, "representation.appoint", bare, involved, context)


def _dismiss(body: Dismiss, context: OperationContext) -> None:
    state = context.state
    if context.sender not in (body.patient, body.representative):
        raise Refused("representation.not_the_patient", body.patient.hex())
    account = account_of(state, body.patient)
    found = [one for one in account.representatives if one.identity == body.representative]
    if not found:
        raise Refused("representation.not_appointed", body.representative.hex())
    left = [one for one in account.representatives if one.identity != body.representative]
    changed = msgspec.structs.replace(account, representatives=left, changes=account.changes + 1)
    ACCOUNTS.put(state, changed, body.patient)
    told = RepresentationChanged(body.representative, found[0].capacity, context.time_ms)
    DISMISSED.emit(context, [body.patient, body.representative], told)


CONTRACT: Final = Contract(
    name="representation",
    operations=(
        OperationSpec("representation.appoint", Appoint, _appoint),
        OperationSpec("representation.dismiss", Dismiss, _dismiss, rank=Rank.TAKES_RIGHTS),
    ),
    slots=(ACCOUNTS,),
    events=(APPOINTED, DISMISSED),
)
