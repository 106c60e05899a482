"""Break-glass: in an emergency a clinician opens what nobody permitted, with a second person, for a short time.

It takes a licence from an issuer other than the employer, a reason of a closed list, and, where the network demands
it, a second licensed practitioner who signs. Both sign with the keys that their licences are bound to: an employer
opens session keys for all of its staff, and would else be both persons. The patient is told. Another institution
reviews, and what it has not reviewed by its time is overdue: anybody may say so on the chain, and each
institution's open and overdue reviews are counted in state, where one entry names the institutions that owe any.
Too many of one clinician raise an alarm. Nothing of this opens anything by itself: the table does, for emergency
purposes.

docs/adr/0030-break-glass-takes-two-persons.md says what is not prevented.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from consilium.contracts import credentials, identity, keys, representation, settings
from consilium.contracts.attestation import Attestation, institution_of, require_attested
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

GLASSES_PER_PAIR_MAX: Final = 4
OPEN_REVIEWS_MAX: Final = 256
OWING_MAX: Final = 1_024
EMERGENCY_PURPOSE: Final = "ETREAT"
"""Purposes at and below it are those that an emergency opens, and that a patient's emergency denial closes."""

Reason = Literal["cannot-be-asked", "danger-to-life", "danger-to-others"]
Outcome = Literal["justified", "unclear", "unjustified"]


class Declare(codec.Wire, frozen=True):
    """`emergency.declare`: by a practitioner, with the key that the licence `credential` is bound to.

    `second` signs this body without it, with the key that the licence `second_credential` is bound to.
    """

    glass: codec.Bytes16
    patient: codec.Bytes16
    reason: Reason
    credential: codec.Bytes16
    not_after: codec.Uint
    second_credential: codec.Bytes16 | None
    second: Attestation | None


class Close(codec.Wire, frozen=True):
    """`emergency.close`: by the clinician or the employer, before its time."""

    glass: codec.Bytes16


class ReviewEmergency(codec.Wire, frozen=True):
    """`emergency.review`: by an institution that is neither the clinician's nor the second person's."""

    glass: codec.Bytes16
    outcome: Outcome


class ReportOverdue(codec.Wire, frozen=True):
    """`emergency.report_overdue`: by anybody, once for each emergency."""

    glass: codec.Bytes16


class Glass(codec.Wire, frozen=True):
    """An emergency in state, for ever. `reviewer`, `outcome` and `reviewed_ms` are None while nobody reviewed it."""

    patient: codec.Bytes16
    clinician: codec.Bytes16
    institution: codec.Bytes16
    reason: Reason
    credential: codec.Bytes16
    second: codec.Bytes16 | None
    declared_ms: codec.Uint
    not_after: codec.Uint
    review_due_ms: codec.Uint
    reviewer: codec.Bytes16 | None
    outcome: Outcome | None
    reviewed_ms: codec.Uint | None
    is_reported: bool


class Opened(codec.Wire, frozen=True):
    """Ids of the emergencies of one clinician about one patient that may still run."""

    glasses: Annotated[list[codec.Bytes16], msgspec.Meta(max_length=GLASSES_PER_PAIR_MAX)]


class Recent(codec.Wire, frozen=True):
    """When a clinician declared emergencies lately, oldest first."""

    declared_ms: Annotated[list[codec.Uint], msgspec.Meta(max_length=settings.ALARM_COUNT_MAX + 1)]


class OpenReview(codec.Wire, frozen=True):
    """An emergency that waits for its review."""

    glass: codec.Bytes16
    due_ms: codec.Uint


class Reviews(codec.Wire, frozen=True):
    """What an institution's clinicians owe. `uncounted` are open ones beyond the list, `reported` overdue ones told."""

    open: Annotated[list[OpenReview], msgspec.Meta(max_length=OPEN_REVIEWS_MAX)]
    uncounted: codec.Uint
    reported: codec.Uint


class Owing(codec.Wire, frozen=True):
    """The institutions that owe a review: where alarms begin to look. Beyond the limit one is found by its events."""

    institutions: Annotated[list[codec.Bytes16], msgspec.Meta(max_length=OWING_MAX)]


class Declared(codec.Wire, frozen=True):
    """The data of `emergency.declared`: what the patient is told."""

    glass: codec.Bytes16
    reason: Reason
    not_after: codec.Uint
    review_due_ms: codec.Uint


class Reviewed(codec.Wire, frozen=True):
    """The data of `emergency.reviewed`."""

    glass: codec.Bytes16
    outcome: Outcome
    is_late: bool


class RateAlarm(codec.Wire, frozen=True):
    """The data of `emergency.rate_alarm`: how many emergencies in the network's window."""

    count: codec.Uint


GLASSES: Final = Slot(keys.GLASS, (ID_BYTES,), Glass, 512)
OPENED: Final = Slot(keys.GLASSES_OF, (ID_BYTES, ID_BYTES), Opened, 128)
RECENT: Final = Slot(keys.GLASS_TIMES, (ID_BYTES,), Recent, 1_024)
REVIEWS: Final = Slot(keys.REVIEWS, (ID_BYTES,), Reviews, 16 * 1024)
OWING: Final = Slot(keys.OWING, (), Owing, 24 * 1024)

DECLARED: Final = EventKind("emergency.declared", Declared)
CLOSED: Final = EventKind("emergency.closed", Close)
REVIEWED: Final = EventKind("emergency.reviewed", Reviewed)
OVERDUE: Final = EventKind("emergency.review_overdue", ReportOverdue)
RATE_ALARM: Final = EventKind("emergency.rate_alarm", RateAlarm)


# --- questions others ask -------------------------------------------------------------------------------------------


def glasses_between(state: StateReader, patient: bytes, clinician: bytes) -> list[tuple[bytes, Glass]]:
    """A clinician's emergencies about a patient that may still run, with their ids, oldest first."""
    opened = OPENED.get(state, patient, clinician)
    if opened is None:
        return []
    found = [(one, GLASSES.get(state, one)) for one in opened.glasses]
    return [(one, value) for one, value in found if value is not None]


def is_valid(state: StateReader, glass: Glass, time_ms: int) -> bool:
    """Whether an emergency runs at that block time, and the licence behind it still stands."""
    if not glass.declared_ms <= time_ms < glass.not_after:
        return False
    problem = credentials.problem_of(state, glass.credential, glass.clinician, credentials.LICENCE, time_ms)
    return problem is None


def institutions_owing(state: StateReader) -> list[bytes]:
    """The institutions whose clinicians' emergencies wait for a review, in the order in which they came to owe."""
    known = OWING.get(state)
    return list(known.institutions) if known is not None else []


def reviews_of(state: StateReader, institution: bytes) -> Reviews:
    """What reviews an institution's clinicians owe."""
    return REVIEWS.get(state, institution) or Reviews([], 0, 0)


def overdue_reviews(owed: Reviews, time_ms: int) -> tuple[OpenReview, ...]:
    """Those whose review is overdue at that block time, as far as the list goes."""
    return tuple(one for one in owed.open if time_ms >= one.due_ms)


# --- handlers -------------------------------------------------------------------------------------------------------


def _declare(body: Declare, context: OperationContext) -> None:
    state = context.state
    clinician = identity.require(state, context.sender)
    if clinician.kind != identity.PRACTITIONER or clinician.sponsor is None:
        raise Refused("emergency.not_a_clinician", context.sender.hex())
    representation.require_patient(state, body.patient)
    settled = settings.current(state)
    if GLASSES.get(state, body.glass) is not None:
        raise Refused("emergency.id_taken", body.glass.hex())
    if not context.time_ms < body.not_after <= context.time_ms + settled.glass_ms_max:
        raise Refused("emergency.bad_period", f"at most {settled.glass_ms_max} ms from now")
    _require_persons(body, clinician.sponsor, settled, context)
    glass = Glass(
        patient=body.patient,
        clinician=context.sender,
        institution=clinician.sponsor,
        reason=body.reason,
        credential=body.credential,
        second=body.second.identity if body.second is not None else None,
        declared_ms=context.time_ms,
        not_after=body.not_after,
        review_due_ms=context.time_ms + settled.review_ms,
        reviewer=None,
        outcome=None,
        reviewed_ms=None,
        is_reported=False,
    )
    GLASSES.put(state, glass, body.glass)
    _let_be_found(body.glass, glass, context)
    owe_review(body.glass, glass, context)
    told = Declared(body.glass, body.reason, body.not_after, glass.review_due_ms)
    subjects = [body.patient, context.sender, clinician.sponsor]
    DECLARED.emit(context, subjects if glass.second is None else [*subjects, glass.second], told)
    _count(glass, settled, context)


def _require_persons(
    body: Declare, employer: bytes, settled: settings.Settings, context: OperationContext
) -> None:
    """Two licensed persons, each with the key of the licence. Raises Refused `attestation.*`, `credential.*`."""
    state = context.state
    if body.second is None:
        if settled.second_person:
            raise Refused("attestation.missing", "emergency.declare")
        employers: tuple[bytes | None, ...] = (employer,)
    else:
        second = require_attested(
            body.second, "emergency.declare", msgspec.structs.replace(body, second=None), context
        )
        if second.kind != identity.PRACTITIONER or body.second.identity == context.sender:
            raise Refused("attestation.not_independent", body.second.identity.hex())
        employers = (employer, second.sponsor)
        credentials.require_held(
            state,
            body.second_credential or bytes(ID_BYTES),
            body.second.identity,
            body.second.key,
            employers,
            context.time_ms,
        )
    credentials.require_held(state, body.credential, context.sender, context.key, employers, context.time_ms)


def _let_be_found(identifier: bytes, glass: Glass, context: OperationContext) -> None:
    current = [
        one
        for one, value in glasses_between(context.state, glass.patient, glass.clinician)
        if context.time_ms < value.not_after
    ]
    if len(current) >= GLASSES_PER_PAIR_MAX:
        raise Refused("emergency.too_many", f"the limit is {GLASSES_PER_PAIR_MAX}")
    OPENED.put(context.state, Opened([*current, identifier]), glass.patient, glass.clinician)


def owe_review(identifier: bytes, glass: Glass, context: OperationContext) -> None:
    """Have another institution review it. One that lets reviews lie loses sight of the oldest, never the right to save
    a life."""
    owed = reviews_of(context.state, glass.institution)
    kept = owed.open if len(owed.open) < OPEN_REVIEWS_MAX else owed.open[1:]
    changed = Reviews(
        [*kept, OpenReview(identifier, glass.review_due_ms)],
        owed.uncounted + len(owed.open) - len(kept),
        owed.reported,
    )
    REVIEWS.put(context.state, changed, glass.institution)
    owing = institutions_owing(context.state)
    if glass.institution not in owing and len(owing) < OWING_MAX:
        OWING.put(context.state, Owing([*owing, glass.institution]))


def _count(glass: Glass, settled: settings.Settings, context: OperationContext) -> None:
    known = RECENT.get(context.state, glass.clinician)
    since = context.time_ms - settled.glass_alarm_ms
    times = [one for one in (known.declared_ms if known is not None else []) if one > since]
    times = [*times, context.time_ms][-(settings.ALARM_COUNT_MAX + 1) :]
    RECENT.put(context.state, Recent(times), glass.clinician)
    if len(times) > settled.glass_alarm_count:
        RATE_ALARM.emit(context, [glass.clinician, glass.institution], RateAlarm(len(times)))


def _close(body: Close, context: OperationContext) -> None:
    glass = _known(body.glass, context.state)
    if context.sender not in (glass.clinician, glass.institution):
        raise Refused("emergency.not_yours", body.glass.hex())
    if context.time_ms >= glass.not_after:
        raise Refused("emergency.over", body.glass.hex())
    GLASSES.put(context.state, msgspec.structs.replace(glass, not_after=context.time_ms), body.glass)
    CLOSED.emit(context, [glass.patient, glass.clinician, glass.institution], body)


def _review(body: ReviewEmergency, context: OperationContext) -> None:
    state = context.state
    glass = _known(body.glass, state)
    reviewer = identity.require(state, context.sender)
    second = institution_of(state, glass.second) if glass.second is not None else None
    if reviewer.kind != identity.INSTITUTION or context.sender in (glass.institution, second):
        raise Refused("emergency.not_independent", context.sender.hex())
    if glass.reviewed_ms is not None:
        raise Refused("emergency.reviewed_already", body.glass.hex())
    changed = msgspec.structs.replace(
        glass, reviewer=context.sender, outcome=body.outcome, reviewed_ms=context.time_ms
    )
    GLASSES.put(state, changed, body.glass)
    owed = reviews_of(state, glass.institution)
    left = [one for one in owed.open if one.glass != body.glass]
    beyond = owed.uncounted if len(left) < len(owed.open) else max(0, owed.uncounted - 1)
    REVIEWS.put(state, msgspec.structs.replace(owed, open=left, uncounted=beyond), glass.institution)
    if not left and not beyond:
        owing = [one for one in institutions_owing(state) if one != glass.institution]
        OWING.put(state, Owing(owing))
    told = Reviewed(body.glass, body.outcome, context.time_ms >= glass.review_due_ms)
    subjects = [glass.patient, glass.clinician, glass.institution, context.sender]
    REVIEWED.emit(context, list(dict.fromkeys(subjects)), told)


def _report_overdue(body: ReportOverdue, context: OperationContext) -> None:
    state = context.state
    glass = _known(body.glass, state)
    if glass.reviewed_ms is not None or context.time_ms < glass.review_due_ms:
        raise Refused("emergency.not_overdue", body.glass.hex())
    if glass.is_reported:
        raise Refused("emergency.reported_already", body.glass.hex())
    GLASSES.put(state, msgspec.structs.replace(glass, is_reported=True), body.glass)
    owed = reviews_of(state, glass.institution)
    REVIEWS.put(state, msgspec.structs.replace(owed, reported=owed.reported + 1), glass.institution)
    OVERDUE.emit(context, list(dict.fromkeys((glass.patient, glass.clinician, glass.institution))), body)


def _known(identifier: bytes, state: StateReader) -> Glass:
    glass = GLASSES.get(state, identifier)
    if glass is None:
        raise Refused("emergency.unknown", identifier.hex())
    return glass


CONTRACT: Final = Contract(
    name="emergency",
    operations=(
        OperationSpec("emergency.declare", Declare, _declare),
        OperationSpec("emergency.close", Close, _close, rank=Rank.TAKES_RIGHTS),
        OperationSpec("emergency.review", ReviewEmergency, _review),
        OperationSpec("emergency.report_overdue", ReportOverdue, _report_overdue),
    ),
    slots=(GLASSES, OPENED, RECENT, REVIEWS, OWING),
    events=(DECLARED, CLOSED, REVIEWED, OVERDUE, RATE_ALARM),
)
