"""Emergencies: two licensed persons break the glass, another institution reviews, and what is overdue is seen.

Both sign with the keys that their licences are bound to, never with the key of a shift. What they then read, they ask
for as always (`reading`), for an emergency purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consilium.client.attesting import attested
from consilium.client.history import events_of
from consilium.client.rpc import Committed, RpcClient
from consilium.client.session import Session, new_id
from consilium.client.wallet import Wallet
from consilium.contracts import access, emergency, summaries
from consilium.ledger import codec
from consilium.ledger.execution import EVENT_BYTES_MAX

PURPOSE: Final = "BTG"
"""HL7's break the glass, below `ETREAT`."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a patient is told about emergencies: `kind` is the event's, `glass` names the emergency."""

    time_ms: int
    kind: str
    glass: bytes | None
    transaction: bytes
    subjects: tuple[bytes, ...]


def declaration(
    patient: bytes,
    reason: emergency.Reason,
    credential: bytes,
    not_after_ms: int,
    second_credential: bytes | None,
) -> emergency.Declare:
    """The body of a declaration, without the second person's signature. The credentials are the two licences."""
    return emergency.Declare(new_id(), patient, reason, credential, not_after_ms, second_credential, None)


async def declare(
    session: Session,
    patient: bytes,
    reason: emergency.Reason,
    credential: bytes,
    not_after_ms: int,
    *,
    second: Wallet | None = None,
    second_credential: bytes | None = None,
    second_as: bytes | None = None,
) -> tuple[bytes, Committed]:
    """Break the glass for one patient, until then. The second person signs here and now. Returns the emergency's id."""
    body = declaration(patient, reason, credential, not_after_ms, second_credential)
    if second is not None:
        body = attested(session, "emergency.declare", body, second, second_as)
    return body.glass, await session.act("emergency.declare", body, certified=True)


async def close(session: Session, glass: bytes) -> Committed:
    """End an emergency before its time, as the clinician or the employer."""
    return await session.act("emergency.close", emergency.Close(glass))


async def review(session: Session, glass: bytes, outcome: emergency.Outcome) -> Committed:
    """Say what another institution found: this session's is neither the clinician's nor the second person's."""
    return await session.act("emergency.review", emergency.ReviewEmergency(glass, outcome))


async def report_overdue(session: Session, glass: bytes) -> Committed:
    """Say on the chain that a review is overdue: anybody may. Nodes do it by themselves too."""
    return await session.act("emergency.report_overdue", emergency.ReportOverdue(glass))


async def glass_of(session: Session, glass: bytes) -> emergency.Glass | None:
    """An emergency as certified state has it."""
    return await session.state(emergency.GLASSES, glass)


async def notices_of(rpc: RpcClient, subject: bytes) -> list[Notice]:
    """What a patient (or clinician, or institution) was told of emergencies and their reviews, oldest first.

    Alarms about a clinician who declares too many reach clinician and institution; they name no emergency.
    """
    found: list[Notice] = []
    kinds = (
        *(emergency.DECLARED.name, emergency.CLOSED.name, emergency.REVIEWED.name),
        *(emergency.OVERDUE.name, summaries.OPENED.name, access.NOTICE.name, emergency.RATE_ALARM.name),
    )
    async for item in events_of(rpc, kinds, subject):
        event = item.event
        found.append(
            Notice(
                event.time_ms,
                event.kind,
                _glass(event.kind, event.data),
                event.transaction,
                tuple(event.subjects),
            )
        )
    return found


def _glass(kind: str, raw: bytes) -> bytes | None:
    match kind:
        case emergency.DECLARED.name:
            return codec.decode(raw, emergency.Declared, EVENT_BYTES_MAX).glass
        case emergency.CLOSED.name:
            return codec.decode(raw, emergency.Close, EVENT_BYTES_MAX).glass
        case emergency.REVIEWED.name:
            return codec.decode(raw, emergency.Reviewed, EVENT_BYTES_MAX).glass
        case emergency.OVERDUE.name:
            return codec.decode(raw, emergency.ReportOverdue, EVENT_BYTES_MAX).glass
        case summaries.OPENED.name:
            return codec.decode(raw, summaries.SummaryOpened, EVENT_BYTES_MAX).glass
        case access.NOTICE.name:
            return codec.decode(raw, access.AccessNotice, EVENT_BYTES_MAX).ground
    return None
