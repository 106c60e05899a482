"""Access: a reader asks, the contract decides on every node, and custodians obey what was decided.

A request names records or whole compartments, and a purpose. The verdict is per patient and compartment, and a denial
is a verdict: the transaction takes effect, and stands in the log. An allow opens what it names, until its window ends,
to the ephemeral key of the request, and nothing else.

The decision is kept in state under its transaction and operation, so that a custodian has a proof of it and not only
a receipt, and asks `still_stands` before it releases anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Final, NamedTuple

import msgspec

from consilium.contracts import accounting, identity, keys, records, representation, tombstones
from consilium.contracts.accounting import RECORDS_NAMED_MAX, VERDICTS_MAX, AccessDecided, AccessLine, Basis
from consilium.contracts.conditions import Conditions, RecordFacts
from consilium.contracts.consent import CONSENTS, permits_still
from consilium.contracts.decision import OBLIGATIONS_MAX, Question, Ruling, Weighing, decide_all
from consilium.contracts.facts import Facts, gather
from consilium.contracts.operation import Contract, EventKind, OperationSpec, Rank, Slot
from consilium.contracts.purposes import Purpose, require_purpose
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import EVENT_SUBJECTS_MAX, RESULT_BYTES_MAX, OperationContext
from consilium.ledger.state import StateReader

DECISION_VERSION: Final = 1
RECORDS_PER_REQUEST_MAX: Final = RECORDS_NAMED_MAX
COMPARTMENTS_PER_REQUEST_MAX: Final = VERDICTS_MAX
"""How many compartments a request may touch, named or by way of records: so many verdicts fit into a result."""
RELEASE_WINDOW_MS: Final = 15 * 60 * 1000
TRANSACTION_ID_BYTES: Final = 32
OPERATION_INDEX_BYTES: Final = 2

UNKNOWN: Final = "unknown"
"""The basis of a denial of what does not exist, or is not visible yet."""
ERASED: Final = "erased"
"""The basis of a denial of records that were erased; of an erased patient, the table's."""

Obligations = Annotated[list[codec.Bytes32], msgspec.Meta(max_length=OBLIGATIONS_MAX)]
RecordIds = Annotated[list[codec.Bytes16], msgspec.Meta(min_length=1, max_length=RECORDS_PER_REQUEST_MAX)]
CompartmentIds = Annotated[
    list[codec.Bytes16], msgspec.Meta(min_length=1, max_length=COMPARTMENTS_PER_REQUEST_MAX)
]


class AccessRequest(codec.Wire, frozen=True):
    """`access.request`: either `records` or `compartments`. `ephemeral` is an X25519 key made for this request.

    `application` is through which the reader asks, and `automated` says that a machine does so by itself: the reader's
    word, which the accounting shows.
    """

    records: RecordIds | None
    compartments: CompartmentIds | None
    purpose: Purpose
    ephemeral: codec.Bytes32
    application: codec.Bytes16 | None = None
    automated: bool = False


class Verdict(codec.Wire, frozen=True):
    """What was decided for one compartment of one patient.

    `records` are those of the request that it holds, or None where the compartment itself was named: then every
    record visible in it is meant. `also` are the compartments of these records' further classes: an allow is one for
    each. `patient` is None where nothing visible was named; `compartment` is then the unknown one that was named, or
    None for unknown records. `ground` is the id of what decided: a consent, mandate, emergency or relationship.
    `obligations` are the digests of the sealed conditions that a custodian must ask of each record. `valid_until`
    (block time, the first instant at which nothing is released) is 0 for a denial.
    """

    patient: codec.Bytes16 | None
    compartment: codec.Bytes16 | None
    also: records.FurtherCompartments
    epoch: records.EpochNumber
    records: RecordIds | None
    allow: bool
    basis: Basis
    ground: codec.Bytes16 | None
    obligations: Obligations
    valid_until: codec.Uint


class Decision(codec.Wire, frozen=True):
    """The result of `access.request`, and what state holds under its transaction and operation.

    `key` is the signing key that asked; `institution` is a practitioner's employer, or None for everybody else.
    """

    version: codec.Uint
    reader: codec.Bytes16
    institution: codec.Bytes16 | None
    key: codec.Bytes32
    purpose: Purpose
    time_ms: codec.Uint
    ephemeral: codec.Bytes32
    verdicts: Annotated[list[Verdict], msgspec.Meta(min_length=1, max_length=COMPARTMENTS_PER_REQUEST_MAX)]
    application: codec.Bytes16 | None = None
    automated: bool = False


class _Place(NamedTuple):
    """A compartment, and those of the further classes of the records that are meant."""

    compartment: bytes | None
    also: tuple[bytes, ...] = ()
    erased: bool = False


class AccessNotice(codec.Wire, frozen=True):
    """The data of `access.notice`: the subjects were opened on a basis that nobody asked them about."""

    reader: codec.Bytes16
    basis: Basis
    ground: codec.Bytes16 | None


DECISIONS: Final = Slot(
    keys.DECISION, (TRANSACTION_ID_BYTES, OPERATION_INDEX_BYTES), Decision, RESULT_BYTES_MAX
)
NOTICE: Final = EventKind("access.notice", AccessNotice)
NOTIFIED: Final = ("break-glass", "legal-mandate")
"""The bases of which the patient is told at once."""


def operation_bytes(operation: int) -> bytes:
    """The index of an operation as a part of a state key."""
    return operation.to_bytes(OPERATION_INDEX_BYTES, "big")


def decision_key(transaction: bytes, operation: int) -> bytes:
    """The state key of the decision on a request: operation number `operation` of the transaction (32-byte id)."""
    return DECISIONS.key(transaction, operation_bytes(operation))


# --- deciding -------------------------------------------------------------------------------------------------------


def _request(body: AccessRequest, context: OperationContext) -> Decision:
    reader = identity.require(context.state, context.sender)
    if reader.kind == identity.APPLICATION:
        raise Refused("access.not_a_reader", context.sender.hex())
    require_purpose(body.purpose)
    if (body.records is None) == (body.compartments is None):
        raise Refused("access.nothing_named")
    institution = reader.sponsor if reader.kind == identity.PRACTITIONER else None
    _check_application(body, reader, institution or context.sender, context)
    named = _by_compartment(body, context.state)
    if len(named) > COMPARTMENTS_PER_REQUEST_MAX:
        raise Refused(
            "access.too_many_compartments", f"{len(named)}; the limit is {COMPARTMENTS_PER_REQUEST_MAX}"
        )
    weighing = Weighing(context)
    verdicts = [_verdict(place, chosen, body.purpose, weighing, context) for place, chosen in named.items()]
    decision = Decision(
        version=DECISION_VERSION,
        reader=context.sender,
        institution=institution,
        key=context.key,
        purpose=body.purpose,
        time_ms=context.time_ms,
        ephemeral=body.ephemeral,
        verdicts=verdicts,
        application=body.application,
        automated=body.automated,
    )
    if len(codec.encode(decision)) > RESULT_BYTES_MAX:
        raise Refused("access.too_many_compartments", "the decision would be longer than a result may be")
    DECISIONS.put(context.state, decision, context.transaction, operation_bytes(context.operation))
    _tell(decision, context)
    return decision


def _check_application(
    body: AccessRequest, reader: identity.Identity, institution: bytes, context: OperationContext
) -> None:
    """An application that is named stands, and is the reader's institution's; a patient may use anybody's."""
    if body.application is None:
        return
    known = identity.IDENTITIES.get(context.state, body.application)
    stands = identity.standing(context.state, body.application) is None
    theirs = known is not None and (reader.kind == identity.PATIENT or known.sponsor == institution)
    if known is None or known.kind != identity.APPLICATION or not (stands and theirs):
        raise Refused("access.bad_application", body.application.hex())


def _by_compartment(body: AccessRequest, state: StateReader) -> dict[_Place, list[bytes] | None]:
    """What is named, by where it is, in the order of the request; no compartment stands for what is not visible.

    A record or compartment that is named twice counts once.
    """
    if body.compartments is not None:
        return dict.fromkeys(_Place(compartment) for compartment in body.compartments)
    named: dict[_Place, list[bytes]] = {}
    for record in dict.fromkeys(body.records or []):
        known, erased = records.known_record(state, record)
        place = _Place(known.compartment, tuple(known.also), erased) if known is not None else _Place(None)
        named.setdefault(place, []).append(record)
    return dict(named.items())


def _verdict(
    place: _Place,
    chosen: list[bytes] | None,
    purpose: str,
    weighing: Weighing,
    context: OperationContext,
) -> Verdict:
    compartment, also, erased = place
    known = records.COMPARTMENTS.get(context.state, compartment) if compartment is not None else None
    if compartment is None or known is None:
        # State is open to every member with proofs of absence, so a denial that hid this would hide nothing.
        return Verdict(None, compartment, [], 0, chosen, False, UNKNOWN, None, [], 0)
    if erased:
        return Verdict(
            known.patient, compartment, list(also), known.epoch, chosen, False, ERASED, None, [], 0
        )
    facts = weighing.facts(known.patient)
    asked = _questions(context.state, facts, (compartment, *also), purpose, context.time_ms)
    ruling = weighing.decide_all(asked)
    window = context.time_ms + RELEASE_WINDOW_MS
    return Verdict(
        patient=known.patient,
        compartment=compartment,
        also=list(also),
        epoch=known.epoch,
        records=chosen,
        allow=ruling.allow,
        basis=ruling.basis,
        ground=ruling.ground,
        obligations=list(ruling.obligations),
        valid_until=min(window, ruling.until_ms or window) if ruling.allow else 0,
    )


def _tell(decision: Decision, context: OperationContext) -> None:
    by_patient: dict[bytes | None, list[AccessLine]] = {}
    for index, verdict in enumerate(decision.verdicts):
        line = AccessLine(
            verdict=index,
            compartment=verdict.compartment,
            also=verdict.also,
            records=len(verdict.records) if verdict.records is not None else None,
            allow=verdict.allow,
            basis=verdict.basis,
            ground=verdict.ground,
            valid_until=verdict.valid_until,
        )
        by_patient.setdefault(verdict.patient, []).append(line)
    _give_notice(decision, context)
    for patient, lines in by_patient.items():
        data = AccessDecided(
            patient=patient,
            reader=decision.reader,
            institution=decision.institution,
            application=decision.application,
            automated=decision.automated,
            purpose=decision.purpose,
            first=0,
            lines=lines,
        )
        accounting.tell_decided(data, context)


def _give_notice(decision: Decision, context: OperationContext) -> None:
    """Tell a patient that was opened against or without a consent; representatives of what is general alone.

    The chain does not know which compartment is of violence or of what an adolescent told in confidence: so nothing
    of a sensitive one is told to a proxy.
    """
    for verdict in decision.verdicts:
        if not verdict.allow or verdict.basis not in NOTIFIED or verdict.patient is None:
            continue
        places = [one for one in (verdict.compartment, *verdict.also) if one is not None]
        found = [records.COMPARTMENTS.get(context.state, one) for one in places]
        general = all(one is not None and one.general for one in found)
        account = representation.account_of(context.state, verdict.patient)
        proxies = [one.identity for one in account.representatives if context.time_ms < one.not_after]
        subjects = [verdict.patient, *(proxies[: EVENT_SUBJECTS_MAX - 1] if general else [])]
        NOTICE.emit(context, subjects, AccessNotice(decision.reader, verdict.basis, verdict.ground))


# --- obeying --------------------------------------------------------------------------------------------------------


def opens(verdict: Verdict, record: records.Record, record_id: bytes) -> bool:
    """Whether the verdict is an allow that names the record, by itself or by its compartment.

    A record of several classes is opened by a verdict on all of them, and so never by that on one compartment.
    """
    named = verdict.records is None or record_id in verdict.records
    same = verdict.compartment == record.compartment and verdict.also == record.also
    return verdict.allow and named and same


def still_stands(state: StateReader, decision: Decision, verdict: Verdict, time_ms: int) -> str | None:
    """None where a custodian may release at block time `time_ms`, else the catalogue code that says why not.

    The verdict must still be what it was: its window open, the reader's credential and key good, the compartment in
    the same epoch, the consent that decided not ended, and the table must still say allow (a denial granted since
    counts). `decision` is one that the caller read from certified state.
    """
    if not verdict.allow or verdict not in decision.verdicts:
        return "access.not_allowed"
    if not decision.time_ms <= time_ms < verdict.valid_until:
        return "access.window_closed"
    problem = identity.key_standing(state, decision.reader, decision.key, time_ms)
    if problem is not None:
        return problem
    if verdict.patient is None or verdict.compartment is None:
        return "access.not_allowed"
    if tombstones.patient_erased(state, verdict.patient):
        return "erasure.erased"
    compartment = records.COMPARTMENTS.get(state, verdict.compartment)
    if compartment is None or compartment.epoch != verdict.epoch:
        return "access.epoch_ended"
    if verdict.basis == "consent" and verdict.ground is not None:
        consent = CONSENTS.get(state, verdict.ground)
        if consent is None or not permits_still(state, consent, time_ms):
            return "access.consent_ended"
    return None if _again(state, decision, verdict, time_ms).allow else "access.not_allowed"


def permits_record(
    state: StateReader,
    decision: Decision,
    verdict: Verdict,
    time_ms: int,
    record: RecordFacts,
    conditions: Mapping[bytes, Conditions],
) -> bool:
    """Whether a standing allow holds for this very record, now that its author's header is known.

    `conditions` are the opened obligations, by digest. A condition that is missing counts against the reader.
    """
    return _again(state, decision, verdict, time_ms, record, conditions).allow


def owed_conditions(
    state: StateReader, decision: Decision, verdict: Verdict, time_ms: int
) -> dict[bytes, list[bytes]]:
    """The conditions to open before `permits_record`: their digests, and the consents that each may be written for.

    They are those of now, which may be more than when it was decided.
    """
    if verdict.patient is None:
        return {}
    owed: dict[bytes, list[bytes]] = {
        digest: [] for digest in _again(state, decision, verdict, time_ms).obligations
    }
    for identifier, consent in gather(state, decision.reader, verdict.patient, time_ms).consents:
        if consent.obligations is not None and consent.obligations in owed:
            # what was passed on has the conditions of what it came from
            owed[consent.obligations].append(consent.parent or identifier)
    return owed


def _again(
    state: StateReader,
    decision: Decision,
    verdict: Verdict,
    time_ms: int,
    record: RecordFacts | None = None,
    conditions: Mapping[bytes, Conditions] | None = None,
) -> Ruling:
    if verdict.patient is None or verdict.compartment is None:
        return Ruling(False, UNKNOWN, None, None)
    facts = gather(state, decision.reader, verdict.patient, time_ms)
    places = (verdict.compartment, *verdict.also)
    asked = _questions(state, facts, places, decision.purpose, time_ms)
    return decide_all([replace(one, record=record, conditions=conditions) for one in asked])


def _questions(
    state: StateReader, facts: Facts, compartments: Sequence[bytes], purpose: str, time_ms: int
) -> list[Question]:
    found = [(one, records.COMPARTMENTS.get(state, one)) for one in compartments]
    return [
        Question(facts, one, known is not None and known.general, purpose, time_ms) for one, known in found
    ]


CONTRACT: Final = Contract(
    name="access",
    operations=(OperationSpec("access.request", AccessRequest, _request, Decision, rank=Rank.USES_RIGHTS),),
    slots=(DECISIONS,),
    events=(accounting.DECIDED, NOTICE),
)
