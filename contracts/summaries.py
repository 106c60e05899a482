"""Emergency summaries: what an institution may open when no quorum answers, and how its log reaches the chain after.

The one exception to *decision first*, and so an option of the network (`Settings.emergency_summaries`) that each
patient may refuse. The patient, or who speaks for the patient, seals a summary to an institution's *emergency key*:
a point whose secret is shared among practitioners, so that two of them open together and none alone. The chain has
the summary's anchor, as of a record.

An opening with the quorum cut off is written to the institution's log first: an entry signed by both persons,
chained to the entry before it, signed by the institution. When blocks come again the entries are reported in their
order. The contract never refuses an entry for what was done wrong in it, for then it would stay hidden: it says
that the entry is not *sound*, and names nobody but the institution that signed it, for whom else it names did not.
Each becomes an emergency that is over, and is owed a review by another institution.

docs/adr/0031-summaries-are-opened-without-a-quorum.md has what is not prevented.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.contracts import (
    accounting,
    credentials,
    emergency,
    identity,
    keys,
    preferences,
    representation,
    settings,
)
from consilium.contracts.keepers import note_beside
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.contracts.tombstones import patient_erased
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, Tag, is_group_point, verify
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

OPENING_VERSION: Final = 1
HOLDERS_MAX: Final = 16
PERSONS_MIN: Final = 2
"""Nobody opens a summary alone."""
FIRST: Final = bytes(32)
"""What the first entry of a log is chained to."""

_REQUEST: Final = Tag("consilium/summary-request/1")
_ENTRY: Final = Tag("consilium/summary-opening/1")

Points = Annotated[list[codec.Bytes32], msgspec.Meta(min_length=PERSONS_MIN, max_length=HOLDERS_MAX)]
Holders = Annotated[list[codec.Bytes16], msgspec.Meta(min_length=PERSONS_MIN, max_length=HOLDERS_MAX)]


# --- bodies and event data ------------------------------------------------------------------------------------------


class SetSummaryKey(codec.Wire, frozen=True):
    """`summary.set_key`: by an institution. `commitments` are Feldman's, as many as it takes persons; `holders` are
    employed practitioners, in the order of their shares' indexes."""

    key: codec.Bytes16
    commitments: Points
    holders: Holders


class PlaceSummary(codec.Wire, frozen=True):
    """`summary.place`: by the patient, a guardian or the manager. `anchor` and `envelope` are as a record's."""

    summary: codec.Bytes16
    patient: codec.Bytes16
    key: codec.Bytes16
    anchor: codec.Bytes32
    envelope: codec.Bytes32


class WithdrawSummary(codec.Wire, frozen=True):
    """`summary.withdraw`: by who may place one, or by the institution. The data of `summary.withdrawn` as well."""

    patient: codec.Bytes16
    institution: codec.Bytes16


class SummaryOpening(codec.Wire, frozen=True):
    """An entry of an institution's log. `height` is the newest block that its node knew, `opened_ms` its clock.

    `previous` is the hash of the entry before (`FIRST` for the first), `sequence` counts from 1. Both persons sign
    `request_digest`, each with the key that the named licence is bound to.
    """

    version: codec.Uint
    institution: codec.Bytes16
    sequence: codec.Uint
    previous: codec.Bytes32
    summary: codec.Bytes16
    patient: codec.Bytes16
    key: codec.Bytes16
    reason: emergency.Reason
    opened_ms: codec.Uint
    height: codec.Uint
    opener: codec.Bytes16
    opener_credential: codec.Bytes16
    opener_key: codec.Bytes32
    opener_signature: codec.Bytes64
    second: codec.Bytes16
    second_credential: codec.Bytes16
    second_key: codec.Bytes32
    second_signature: codec.Bytes64

    @property
    def hash(self) -> Digest:
        """What the next entry is chained to, and what the institution signs (32 bytes)."""
        return _ENTRY.digest(codec.encode(self))

    @property
    def glass(self) -> bytes:
        """The id of the emergency that it becomes on the chain (16 bytes)."""
        return self.hash[:ID_BYTES]


class ReportOpening(codec.Wire, frozen=True):
    """`summary.report`: by the institution, or by one of the two persons, who have a copy.

    `signature` is over the entry's hash, by the institution's `institution_key`; `returned_ms` is when it saw the
    quorum again, by its own word.
    """

    entry: SummaryOpening
    institution_key: codec.Bytes32
    signature: codec.Bytes64
    returned_ms: codec.Uint


class SummaryKeySet(codec.Wire, frozen=True):
    """The data of `summary.key_set`."""

    key: codec.Bytes16


class SummaryPlaced(codec.Wire, frozen=True):
    """The data of `summary.placed`."""

    summary: codec.Bytes16
    key: codec.Bytes16


class SummaryOpened(codec.Wire, frozen=True):
    """The data of `summary.opened`: what the patient is told. `glass` is the emergency that is reviewed."""

    glass: codec.Bytes16
    sequence: codec.Uint
    reason: emergency.Reason
    opened_ms: codec.Uint
    returned_ms: codec.Uint
    review_due_ms: codec.Uint
    is_late: bool
    is_sound: bool


# --- state ----------------------------------------------------------------------------------------------------------


class SummaryKey(codec.Wire, frozen=True):
    """An institution's emergency key, for ever: what was sealed to it is opened with it."""

    institution: codec.Bytes16
    commitments: Points
    holders: Holders
    since_ms: codec.Uint


class CurrentKey(codec.Wire, frozen=True):
    """The emergency key that new summaries are sealed to."""

    key: codec.Bytes16


class Summary(codec.Wire, frozen=True):
    """A patient's summary at one institution. `author` sealed it."""

    summary: codec.Bytes16
    key: codec.Bytes16
    author: codec.Bytes16
    anchor: codec.Bytes32
    envelope: codec.Bytes32
    placed_ms: codec.Uint


class Openings(codec.Wire, frozen=True):
    """How far an institution's log was reported: how many entries, the last one's hash, how many came late."""

    count: codec.Uint
    last: codec.Bytes32
    late: codec.Uint


SUMMARY_KEYS: Final = Slot(keys.SUMMARY_KEY, (ID_BYTES,), SummaryKey, 1_024)
CURRENT_KEYS: Final = Slot(keys.SUMMARY_KEY_OF, (ID_BYTES,), CurrentKey, 32)
SUMMARIES: Final = Slot(keys.SUMMARY, (ID_BYTES, ID_BYTES), Summary, 192)
OPENINGS: Final = Slot(keys.OPENINGS, (ID_BYTES,), Openings, 64)

KEY_SET: Final = EventKind("summary.key_set", SummaryKeySet)
PLACED: Final = EventKind("summary.placed", SummaryPlaced)
WITHDRAWN: Final = EventKind("summary.withdrawn", WithdrawSummary)
OPENED: Final = EventKind("summary.opened", SummaryOpened)

NOTHING_REPORTED: Final = Openings(0, FIRST, 0)


# --- questions others ask -------------------------------------------------------------------------------------------


def request_digest(
    *,
    chain_id: bytes,
    institution: bytes,
    summary: bytes,
    reason: str,
    opener: bytes,
    second: bytes,
    opened_ms: int,
) -> Digest:
    """What both persons sign (32 bytes)."""
    return _REQUEST.digest(codec.encode((chain_id, institution, summary, reason, opener, second, opened_ms)))


def openings_of(state: StateReader, institution: bytes) -> Openings:
    """How far an institution's log was reported."""
    return OPENINGS.get(state, institution) or NOTHING_REPORTED


def refusal_to_open(state: StateReader, patient: bytes) -> str | None:
    """None where a patient's summaries may be opened in an emergency, else the code that says why not."""
    if not settings.current(state).emergency_summaries:
        return "summary.switched_off"
    chosen = preferences.preferences_of(state, patient)
    if chosen.emergency_deny or chosen.summary_opt_out:
        return "summary.opted_out"
    return "erasure.erased" if patient_erased(state, patient) else None


def is_sound(state: StateReader, entry: SummaryOpening, chain_id: bytes) -> bool:
    """Whether two different holders of the emergency key signed it, each with the key that a licence is bound to.

    Licence and key may have ended since. A session key is none of these: the employer opens them for all of its staff.
    """
    key = SUMMARY_KEYS.get(state, entry.key)
    if key is None or key.institution != entry.institution or entry.opener == entry.second:
        return False
    digest = request_digest(
        chain_id=chain_id,
        institution=entry.institution,
        summary=entry.summary,
        reason=entry.reason,
        opener=entry.opener,
        second=entry.second,
        opened_ms=entry.opened_ms,
    )
    for who, credential, signed_with, signature in (
        (entry.opener, entry.opener_credential, entry.opener_key, entry.opener_signature),
        (entry.second, entry.second_credential, entry.second_key, entry.second_signature),
    ):
        licence = credentials.CREDENTIALS.get(state, credential)
        if who not in key.holders or licence is None or licence.kind != credentials.LICENCE:
            return False
        if licence.subject != who or licence.holder != signed_with or licence.issuer == entry.institution:
            return False
        if not verify(signed_with, digest, signature):
            return False
    return True


# --- handlers -------------------------------------------------------------------------------------------------------


def _set_key(body: SetSummaryKey, context: OperationContext) -> None:
    state = context.state
    if not settings.current(state).emergency_summaries:
        raise Refused("summary.switched_off")
    if identity.require(state, context.sender).kind != identity.INSTITUTION:
        raise Refused("identity.not_an_institution", context.sender.hex())
    if SUMMARY_KEYS.get(state, body.key) is not None:
        raise Refused("summary.id_taken", body.key.hex())
    if len(body.commitments) > len(body.holders) or len({*body.holders}) != len(body.holders):
        raise Refused("summary.bad_key", f"{len(body.commitments)} of {len(body.holders)} persons")
    if not all(is_group_point(point) for point in body.commitments):
        raise Refused("summary.bad_key", "a commitment is no point of the group")
    for holder in body.holders:
        known = identity.require(state, holder)
        if known.kind != identity.PRACTITIONER or known.sponsor != context.sender:
            raise Refused("summary.not_employed", holder.hex())
    made = SummaryKey(context.sender, body.commitments, body.holders, context.time_ms)
    SUMMARY_KEYS.put(state, made, body.key)
    CURRENT_KEYS.put(state, CurrentKey(body.key), context.sender)
    KEY_SET.emit(context, [context.sender], SummaryKeySet(body.key))


def _place(body: PlaceSummary, context: OperationContext) -> None:
    state = context.state
    _require_speaks_for(body.patient, context)
    problem = refusal_to_open(state, body.patient)
    if problem is not None:
        raise Refused(problem, body.patient.hex())
    key = SUMMARY_KEYS.get(state, body.key)
    current = CURRENT_KEYS.get(state, key.institution) if key is not None else None
    if key is None or current is None or current.key != body.key:
        raise Refused("summary.unknown_key", body.key.hex())
    identity.require(state, key.institution)
    note_beside(state, key.institution, body.patient)
    placed = Summary(
        summary=body.summary,
        key=body.key,
        author=context.sender,
        anchor=body.anchor,
        envelope=body.envelope,
        placed_ms=context.time_ms,
    )
    SUMMARIES.put(state, placed, body.patient, key.institution)
    subjects = [body.patient, key.institution, context.sender]
    PLACED.emit(context, subjects, SummaryPlaced(body.summary, body.key))


def _withdraw(body: WithdrawSummary, context: OperationContext) -> None:
    if context.sender != body.institution:
        _require_speaks_for(body.patient, context)
    if SUMMARIES.get(context.state, body.patient, body.institution) is None:
        raise Refused("summary.unknown", body.patient.hex())
    context.state.delete(SUMMARIES.key(body.patient, body.institution))
    WITHDRAWN.emit(context, [body.patient, body.institution], body)


def _report(body: ReportOpening, context: OperationContext) -> None:
    state, entry = context.state, body.entry
    if context.sender not in (entry.institution, entry.opener, entry.second):
        raise Refused("summary.not_yours", entry.institution.hex())
    known = identity.KEYS.get(state, body.institution_key)
    own = known is not None and known.identity == entry.institution and entry.version == OPENING_VERSION
    if not own or not verify(body.institution_key, entry.hash, body.signature):
        raise Refused("summary.bad_entry", "the institution did not sign it")
    reported = openings_of(state, entry.institution)
    if entry.sequence != reported.count + 1 or entry.previous != reported.last:
        raise Refused("summary.out_of_order", f"the next entry is number {reported.count + 1}")
    if not entry.opened_ms <= body.returned_ms <= context.time_ms:
        raise Refused("summary.bad_times", f"{entry.opened_ms}, {body.returned_ms}, {context.time_ms}")
    settled = settings.current(state)
    late = context.time_ms >= body.returned_ms + settled.summary_report_ms
    kept = Openings(entry.sequence, entry.hash, reported.late + late)
    OPENINGS.put(state, kept, entry.institution)
    due_ms = context.time_ms + settled.review_ms
    sound = is_sound(state, entry, context.chain_id)
    opener, second = (entry.opener, entry.second) if sound else (entry.institution, entry.institution)
    glass = emergency.Glass(
        patient=entry.patient,
        clinician=opener,
        institution=entry.institution,
        reason=entry.reason,
        credential=entry.opener_credential,
        second=second if sound else None,
        declared_ms=entry.opened_ms,
        # It is over: on the chain it opens nothing.
        not_after=entry.opened_ms,
        review_due_ms=due_ms,
        reviewer=None,
        outcome=None,
        reviewed_ms=None,
        is_reported=False,
    )
    emergency.GLASSES.put(state, glass, entry.glass)
    emergency.owe_review(entry.glass, glass, context)
    told = SummaryOpened(
        entry.glass, entry.sequence, entry.reason, entry.opened_ms, body.returned_ms, due_ms, late, sound
    )
    subjects = dict.fromkeys((entry.patient, opener, second, entry.institution))
    OPENED.emit(context, list(subjects), told)
    by = (opener, second, entry.institution)
    disclosed = accounting.SummaryDisclosed(entry.patient, 0, *by, entry.glass, entry.reason, entry.opened_ms)
    accounting.tell_opened(disclosed, context)


def _require_speaks_for(patient: bytes, context: OperationContext) -> None:
    representation.require_patient(context.state, patient)
    capacity = representation.speaks_as(context, patient)
    if capacity not in (representation.PATIENT, representation.GUARDIAN, representation.MANAGER):
        raise Refused("records.not_yours", patient.hex())


CONTRACT: Final = Contract(
    name="summary",
    operations=(
        OperationSpec("summary.set_key", SetSummaryKey, _set_key),
        OperationSpec("summary.place", PlaceSummary, _place),
        OperationSpec("summary.withdraw", WithdrawSummary, _withdraw, rank=Rank.TAKES_RIGHTS),
        OperationSpec("summary.report", ReportOpening, _report),
    ),
    slots=(SUMMARY_KEYS, CURRENT_KEYS, SUMMARIES, OPENINGS),
    events=(KEY_SET, PLACED, WITHDRAWN, OPENED),
)
