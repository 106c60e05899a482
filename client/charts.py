"""Reading more than one decision has room for: many records, slice by slice, each decided and fetched on its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from consilium.client import reading
from consilium.client.history import records_of
from consilium.client.reading import Asked, Opened
from consilium.client.rpc import RpcClient
from consilium.client.session import Session
from consilium.contracts import access, records
from consilium.ledger.errors import Refused

SLICE_RECORDS: Final = access.RECORDS_PER_REQUEST_MAX


@dataclass(frozen=True, slots=True)
class Slice:
    """One decided request, and what was opened on it; nothing is fetched where every verdict is a denial."""

    asked: Asked
    opened: tuple[Opened, ...]


async def read_records(
    session: Session, custodian: RpcClient, purpose: str, record_ids: Sequence[bytes]
) -> AsyncIterator[Slice]:
    """Ask for the records in slices, and fetch what is allowed. Stops after a slice that is denied as a whole; asks
    again for halves of one that is more than a custodian releases at a time.

    Raises Refused as `reading.request` and `reading.fetch`.
    """
    waiting = [
        record_ids[start : start + SLICE_RECORDS] for start in range(0, len(record_ids), SLICE_RECORDS)
    ]
    while waiting:
        part = waiting.pop(0)
        asked = await reading.request(session, purpose, record_ids=part)
        try:
            slice_ = await _fetched(session, custodian, asked)
        except Refused as refusal:
            if refusal.code != "custodian.release_too_large" or len(part) == 1:
                raise
            half = len(part) // 2
            waiting[:0] = [part[:half], part[half:]]
            continue
        yield slice_
        if not slice_.opened:
            return


async def read_patient(
    session: Session, custodian: RpcClient, purpose: str, patient: bytes
) -> AsyncIterator[Slice]:
    """Ask for every visible record of a patient. Where there is none, the compartments are asked for: the request
    stands in the patient's access log either way.

    Raises Refused as `read_records`; `records.unknown_compartment` where the patient has no compartments.
    """
    visible = [line.record for line in await records_of(session.rpc, patient) if line.visible]
    if visible:
        async for slice_ in read_records(session, custodian, purpose, visible):
            yield slice_
        return
    opened = await session.state(records.PATIENTS, patient)
    if opened is None:
        raise Refused("records.unknown_compartment", f"patient {patient.hex()} has no compartments")
    asked = await reading.request(session, purpose, compartments=opened.compartments)
    yield await _fetched(session, custodian, asked)


async def _fetched(session: Session, custodian: RpcClient, asked: Asked) -> Slice:
    if not any(verdict.allow for verdict in asked.decision.verdicts):
        return Slice(asked, ())
    return Slice(asked, tuple(await reading.fetch(session, asked, custodian)))
