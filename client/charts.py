"""Reading more than one decision has room for: many records, slice by slice, each decided and fetched on its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from consilium.client import reading
from consilium.client.history import records_of
from consilium.client.reading import Asked, Opened, Withheld
from consilium.client.rpc import RpcClient
from consilium.client.session import Session
from consilium.contracts import access, records
from consilium.ledger.errors import Refused

Custodians = RpcClient | Sequence[RpcClient]
"""The node of one custodian, or those of several: sensitive records take several to open."""
SLICE_RECORDS: Final = access.RECORDS_PER_REQUEST_MAX
WITHHELD_SLICES_MAX: Final = 4
"""After so many slices of which nothing that was allowed came out, it is the custodian's fault."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One decided request, and what was opened on it; nothing is fetched where every verdict is a denial.

    `withheld` names what was allowed and could not be opened, with the reasons.
    """

    asked: Asked
    opened: tuple[Opened, ...]
    withheld: tuple[Withheld, ...] = ()


@dataclass(frozen=True, slots=True)
class Asker:
    """What the accounting shall say of who asks: through which application, and whether no hand does."""

    application: bytes | None = None
    automated: bool = False


BY_HAND: Final = Asker()


async def read_records(
    session: Session,
    custodian: Custodians,
    purpose: str,
    record_ids: Sequence[bytes],
    asker: Asker = BY_HAND,
) -> AsyncIterator[Slice]:
    """Ask for the records in slices, and fetch what is allowed. A slice that is denied ends nothing: the records of a
    ward are of many patients, and one denial must not fail the others. Of one that does not fit into memory halves are
    asked for anew.

    Any author may anchor a record that nobody can open: it must not close the rest of the chart, nor go unnoticed. It
    is withheld by name in its slice, and at the end, when all others were read, the last reason is raised. Raises
    Refused as `reading.request` and `reading.collect`.
    """
    withheld: list[Withheld] = []
    in_a_row = 0
    waiting = [
        record_ids[start : start + SLICE_RECORDS] for start in range(0, len(record_ids), SLICE_RECORDS)
    ]
    while waiting:
        part = waiting.pop(0)
        asked = await reading.request(
            session, purpose, record_ids=part, application=asker.application, automated=asker.automated
        )
        try:
            slice_ = await _fetched(session, custodian, asked)
        except Refused as refusal:
            if refusal.code != "custodian.release_too_large" or len(part) == 1:
                raise
            waiting[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
            continue
        withheld += slice_.withheld
        in_a_row = in_a_row + 1 if slice_.withheld and not slice_.opened else 0
        yield slice_
        if in_a_row == WITHHELD_SLICES_MAX:
            break
    if withheld:
        last = withheld[-1]
        what = "a verdict" if last.record is None else f"record {last.record.hex()}"
        told = f"{what}, one of {len(withheld)} withheld: {last.refusal.detail}"
        raise Refused(last.refusal.code, told)


async def read_patient(
    session: Session, custodian: Custodians, purpose: str, patient: bytes, asker: Asker = BY_HAND
) -> AsyncIterator[Slice]:
    """Ask for every visible record of a patient. Where there is none, the compartments are asked for: the request
    stands in the patient's access log either way.

    Raises Refused as `read_records`; `records.unknown_compartment` where the patient has no compartments.
    """
    visible = [line.record for line in await records_of(session.rpc, patient) if line.visible]
    if visible:
        async for slice_ in read_records(session, custodian, purpose, visible, asker):
            yield slice_
        return
    opened = await session.state(records.PATIENTS, patient)
    if opened is None:
        raise Refused("records.unknown_compartment", f"patient {patient.hex()} has no compartments")
    asked = await reading.request(
        session,
        purpose,
        compartments=opened.compartments,
        application=asker.application,
        automated=asker.automated,
    )
    yield await _fetched(session, custodian, asked)


async def _fetched(session: Session, custodian: Custodians, asked: Asked) -> Slice:
    if not any(verdict.allow for verdict in asked.decision.verdicts):
        return Slice(asked, ())
    several = custodian if isinstance(custodian, Sequence) else (custodian,)
    found = await reading.collect(session, asked, *several)
    return Slice(asked, found.opened, found.withheld)
