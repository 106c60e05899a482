"""The accounting of disclosures: for each patient one numbered chain of lines, so that a missing one is seen.

A line is what was *decided* on a request for one compartment, allow or deny; what a custodian attests to have
*released* on it; an emergency summary that was *opened* with the quorum cut off; and who *consulted* the accounting
itself. State holds for each patient how many lines there are and
the head of a hash chain over them: whoever has the lines, or for some of them only the digests, and a receipt of the
head, knows that none is missing, changed or exchanged. A line follows from an event and needs nothing else
(`lines_of`), so the chain keeps no line twice.

45 CFR 164.528; Regulation (EU) 2025/327 (European Health Data Space), article 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from consilium.contracts import keys, records
from consilium.contracts.decision import BASIS_CHARS_MAX
from consilium.contracts.emergency import Reason
from consilium.contracts.operation import ID_BYTES, EventKind, Slot
from consilium.contracts.purposes import Purpose
from consilium.ledger import codec
from consilium.ledger.crypto import DIGEST_BYTES, Digest, Tag
from consilium.ledger.errors import Refused
from consilium.ledger.execution import EVENT_BYTES_MAX, Event, OperationContext
from consilium.ledger.state import StateReader
from consilium.ledger.transaction import OPERATIONS_MAX

VERDICTS_MAX: Final = 120
"""So many verdicts fit into one decision."""
RECORDS_NAMED_MAX: Final = 256
RELEASED_RECORDS_MAX: Final = 65_536
"""Records that one decision on a whole compartment releases at most."""
LINE_BYTES_MAX: Final = 1_024

PATIENT: Final = "patient"
REPRESENTATIVE: Final = "representative"
AUDITOR: Final = "auditor"
NO_BASIS: Final = "no-basis"

Basis = Annotated[str, msgspec.Meta(min_length=1, max_length=BASIS_CHARS_MAX)]
ConsultBasis = Literal["auditor", "no-basis", "patient", "representative"]
VerdictIndex = Annotated[int, msgspec.Meta(ge=0, lt=VERDICTS_MAX)]
OperationIndex = Annotated[int, msgspec.Meta(ge=0, lt=OPERATIONS_MAX)]
RecordCount = Annotated[int, msgspec.Meta(ge=1, le=RECORDS_NAMED_MAX)]
ReleasedCount = Annotated[int, msgspec.Meta(ge=1, le=RELEASED_RECORDS_MAX)]

_LINE: Final = Tag("consilium/accounting-line/1")
_LINK: Final = Tag("consilium/accounting-link/1")
EMPTY_HEAD: Final = bytes(DIGEST_BYTES)
"""The head of a patient of whom nothing was ever asked."""


# --- what events carry ----------------------------------------------------------------------------------------------


class AccessLine(codec.Wire, frozen=True):
    """One verdict for the access log. `records` is how many were named; None means the whole compartment.

    `verdict` is its index in the decision; `also` are the compartments of the records' further classes.
    """

    verdict: VerdictIndex
    compartment: codec.Bytes16 | None
    also: records.FurtherCompartments
    records: RecordCount | None
    allow: bool
    basis: Basis
    ground: codec.Bytes16 | None
    valid_until: codec.Uint


class AccessDecided(codec.Wire, frozen=True):
    """The data of `access.decided`: one event for each patient that the request touched.

    `application` is through which the reader says to have asked, `automated` that no hand did. `first` is the number
    of the first line in the patient's accounting, and 0 where no patient is concerned.
    """

    patient: codec.Bytes16 | None
    reader: codec.Bytes16
    institution: codec.Bytes16 | None
    application: codec.Bytes16 | None
    automated: bool
    purpose: Purpose
    first: codec.Uint
    lines: Annotated[list[AccessLine], msgspec.Meta(min_length=1, max_length=VERDICTS_MAX)]


class RecordsReleased(codec.Wire, frozen=True):
    """The data of `disclosure.attested`: how many records a custodian has released on a verdict so far, and when.

    `request` and `request_operation` name the decision; `released_ms` is the custodian's own clock.
    """

    patient: codec.Bytes16
    number: codec.Uint
    custodian: codec.Bytes16
    reader: codec.Bytes16
    institution: codec.Bytes16 | None
    request: codec.Bytes32
    request_operation: OperationIndex
    verdict: VerdictIndex
    compartment: codec.Bytes16
    also: records.FurtherCompartments
    records: ReleasedCount
    released_ms: codec.Uint


class AccountingConsulted(codec.Wire, frozen=True):
    """The data of `disclosure.consulted`: who asked for a patient's accounting, and whether it is theirs to see."""

    patient: codec.Bytes16
    number: codec.Uint
    reader: codec.Bytes16
    institution: codec.Bytes16 | None
    allow: bool
    basis: ConsultBasis
    credential: codec.Bytes16 | None


class SummaryDisclosed(codec.Wire, frozen=True):
    """The data of `disclosure.opened`: an emergency summary was opened while no quorum answered, and is now reported.

    `glass` is the emergency that is reviewed; `opened_ms` is the institution's own clock.
    """

    patient: codec.Bytes16
    number: codec.Uint
    opener: codec.Bytes16
    second: codec.Bytes16
    institution: codec.Bytes16
    glass: codec.Bytes16
    reason: Reason
    opened_ms: codec.Uint


DECIDED: Final = EventKind("access.decided", AccessDecided)
RELEASED: Final = EventKind("disclosure.attested", RecordsReleased)
CONSULTED: Final = EventKind("disclosure.consulted", AccountingConsulted)
OPENED: Final = EventKind("disclosure.opened", SummaryDisclosed)
KINDS: Final = (DECIDED.name, RELEASED.name, CONSULTED.name, OPENED.name)
"""The events that make the accounting."""


# --- lines ----------------------------------------------------------------------------------------------------------


class Decided(codec.Wire, frozen=True, tag=1):
    """A verdict on a request: the line's transaction and operation are the request's."""

    reader: codec.Bytes16
    institution: codec.Bytes16 | None
    application: codec.Bytes16 | None
    automated: bool
    purpose: Purpose
    verdict: VerdictIndex
    compartment: codec.Bytes16 | None
    also: records.FurtherCompartments
    records: RecordCount | None
    allow: bool
    basis: Basis
    ground: codec.Bytes16 | None


class Released(codec.Wire, frozen=True, tag=2):
    """What a custodian attests: the line's transaction and operation are the attestation's."""

    custodian: codec.Bytes16
    reader: codec.Bytes16
    institution: codec.Bytes16 | None
    request: codec.Bytes32
    request_operation: OperationIndex
    verdict: VerdictIndex
    compartment: codec.Bytes16
    also: records.FurtherCompartments
    records: ReleasedCount
    released_ms: codec.Uint


class Consulted(codec.Wire, frozen=True, tag=3):
    """Who asked for the accounting itself."""

    reader: codec.Bytes16
    institution: codec.Bytes16 | None
    allow: bool
    basis: ConsultBasis
    credential: codec.Bytes16 | None


class Opened(codec.Wire, frozen=True, tag=4):
    """Two persons opened an emergency summary without a decision: the line's time is that of the report."""

    opener: codec.Bytes16
    second: codec.Bytes16
    institution: codec.Bytes16
    glass: codec.Bytes16
    reason: Reason
    opened_ms: codec.Uint


Content: TypeAlias = Decided | Released | Consulted | Opened


class Line(codec.Wire, frozen=True):
    """One line: number `number` (from 1) of the patient's accounting, and what put it there, at a block time."""

    patient: codec.Bytes16
    number: codec.Uint
    transaction: codec.Bytes32
    operation: OperationIndex
    time_ms: codec.Uint
    content: Content


class AccountingHead(codec.Wire, frozen=True):
    """How many lines a patient's accounting has, and what commits to all of them (32 bytes)."""

    lines: codec.Uint
    head: codec.Bytes32


HEADS: Final = Slot(keys.ACCOUNTING, (ID_BYTES,), AccountingHead, 64)


def head_of(state: StateReader, patient: bytes) -> AccountingHead:
    """The head of a patient's accounting; an empty one where nothing was ever asked."""
    return HEADS.get(state, patient) or AccountingHead(0, EMPTY_HEAD)


def line_digest(line: Line) -> Digest:
    """What the chain commits to in place of a line (32 bytes)."""
    return _LINE.digest(codec.encode(line))


def link(head: bytes, digest: bytes) -> Digest:
    """The head after one more line (32 bytes), from the head before it and the line's digest."""
    return _LINK.digest(head, digest)


def compartments_of(line: Line) -> tuple[bytes, ...]:
    """The compartments that a line is about; none for a consultation, or for a summary, which is of none."""
    content = line.content
    if isinstance(content, Consulted | Opened) or content.compartment is None:
        return ()
    return (content.compartment, *content.also)


def lines_of(event: Event) -> list[Line]:
    """The lines that an event of KINDS made. Raises Refused `codec.*` where it is none of them."""
    if event.kind == DECIDED.name:
        decided = codec.decode(event.data, AccessDecided, EVENT_BYTES_MAX)
        if decided.patient is None:
            return []
        contents = _decided(decided)
        return _numbered(event, decided.patient, decided.first, contents)
    if event.kind == RELEASED.name:
        released = codec.decode(event.data, RecordsReleased, EVENT_BYTES_MAX)
        return _numbered(event, released.patient, released.number, [_released(released)])
    if event.kind == CONSULTED.name:
        consulted = codec.decode(event.data, AccountingConsulted, EVENT_BYTES_MAX)
        return _numbered(event, consulted.patient, consulted.number, [_consulted(consulted)])
    if event.kind == OPENED.name:
        opened = codec.decode(event.data, SummaryDisclosed, EVENT_BYTES_MAX)
        return _numbered(event, opened.patient, opened.number, [_opened(opened)])
    raise Refused("codec.malformed", f"{event.kind} is no event of the accounting")


def _numbered(event: Event, patient: bytes, first: int, contents: Sequence[Content]) -> list[Line]:
    return [
        Line(patient, first + offset, event.transaction, event.operation, event.time_ms, content)
        for offset, content in enumerate(contents)
    ]


def _decided(data: AccessDecided) -> list[Content]:
    return [
        Decided(
            data.reader,
            data.institution,
            data.application,
            data.automated,
            data.purpose,
            line.verdict,
            line.compartment,
            line.also,
            line.records,
            line.allow,
            line.basis,
            line.ground,
        )
        for line in data.lines
    ]


def _released(data: RecordsReleased) -> Released:
    return Released(
        data.custodian,
        data.reader,
        data.institution,
        data.request,
        data.request_operation,
        data.verdict,
        data.compartment,
        data.also,
        data.records,
        data.released_ms,
    )


def _consulted(data: AccountingConsulted) -> Consulted:
    return Consulted(data.reader, data.institution, data.allow, data.basis, data.credential)


def _opened(data: SummaryDisclosed) -> Opened:
    return Opened(data.opener, data.second, data.institution, data.glass, data.reason, data.opened_ms)


# --- writing --------------------------------------------------------------------------------------------------------


def tell_decided(data: AccessDecided, context: OperationContext) -> None:
    """Enter the verdicts into the patient's accounting, and tell; `data.first` is filled in here."""
    if data.patient is not None:
        first = _enter(data.patient, _decided(data), context)
        data = msgspec.structs.replace(data, first=first)
    subjects = [one for one in (data.patient, data.reader, data.institution) if one is not None]
    DECIDED.emit(context, subjects, data)


def tell_released(data: RecordsReleased, context: OperationContext) -> None:
    """Enter a release, and tell; `data.number` is filled in here."""
    number = _enter(data.patient, [_released(data)], context)
    subjects = [
        one for one in (data.patient, data.custodian, data.reader, data.institution) if one is not None
    ]
    RELEASED.emit(context, subjects, msgspec.structs.replace(data, number=number))


def tell_consulted(data: AccountingConsulted, context: OperationContext) -> None:
    """Enter a consultation, and tell; `data.number` is filled in here."""
    number = _enter(data.patient, [_consulted(data)], context)
    subjects = [one for one in (data.patient, data.reader, data.institution) if one is not None]
    CONSULTED.emit(context, list(dict.fromkeys(subjects)), msgspec.structs.replace(data, number=number))


def tell_opened(data: SummaryDisclosed, context: OperationContext) -> None:
    """Enter an opening without a quorum, and tell; `data.number` is filled in here."""
    number = _enter(data.patient, [_opened(data)], context)
    subjects = dict.fromkeys((data.patient, data.opener, data.second, data.institution))
    OPENED.emit(context, list(subjects), msgspec.structs.replace(data, number=number))


def _enter(patient: bytes, contents: Sequence[Content], context: OperationContext) -> int:
    """Append lines to a patient's chain. Returns the number of the first."""
    known = head_of(context.state, patient)
    head: bytes = known.head
    for offset, content in enumerate(contents):
        line = Line(
            patient,
            known.lines + 1 + offset,
            context.transaction,
            context.operation,
            context.time_ms,
            content,
        )
        head = link(head, line_digest(line))
    HEADS.put(context.state, AccountingHead(known.lines + len(contents), head), patient)
    return known.lines + 1
