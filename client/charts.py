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

Custodians = RpcClient | Sequence[RpcClient]
"""The node of one custodian, or those of several: sensitive records take several to open."""
SLICE_RECORDS: Final = access.RECORDS_PER_REQUEST_MAX
WITHHELD_IN_A_ROW_MAX: Final = 32
"""After so many single records that cannot be opened, with none between them that can, it is the custodian's fault."""
HALVED: Final = frozenset(
    {
        "custodian.incomplete",
        "custodian.no_share",
        "custodian.release_too_large",
        "vault.damaged",
        "vault.unknown",
    }
)
"""Refusals of a whole slice that may be one record's fault, as every `sealing.*` may: halves show whose."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One decided request, and what was opened on it; nothing is fetched where every verdict is a denial.

    `withheld` says why the one record that was allowed could not be opened, or is None.
    """

    asked: Asked
    opened: tuple[Opened, ...]
    withheld: Refused | None = None


async def read_records(
    session: Session, custodian: Custodians, purpose: str, record_ids: Sequence[bytes]
) -> AsyncIterator[Slice]:
    """Ask for the records in slices, and fetch what is allowed. Stops after a slice that is denied as a whole; asks
    again for halves of one that is more than a custodian releases at a time, or in which something does not open.

    Any author may anchor a record that nobody can open: it must not close the rest of the chart, nor go unnoticed. It
    comes as a slice of its own, with `withheld`, and at the end, when all others were read, its reason is raised.
    Raises Refused as `reading.request` and `reading.fetch`.
    """
    withheld, in_a_row = 0, 0
    last: Refused | None = None
    waiting = [
        record_ids[start : start + SLICE_RECORDS] for start in range(0, len(record_ids), SLICE_RECORDS)
    ]
    while waiting:
        part = waiting.pop(0)
        asked = await reading.request(session, purpose, record_ids=part)
        try:
            slice_ = await _fetched(session, custodian, asked)
        except Refused as refusal:
            if refusal.code not in HALVED and not refusal.code.startswith("sealing."):
                raise
            if len(part) > 1:
                half = len(part) // 2
                waiting[:0] = [part[:half], part[half:]]
                continue
            withheld, in_a_row = withheld + 1, in_a_row + 1
            last = Refused(
                refusal.code, f"record {part[0].hex()}, one of {withheld} withheld: {refusal.detail}"
            )
            if in_a_row == WITHHELD_IN_A_ROW_MAX:
                break
            yield Slice(asked, (), refusal)
            continue
        yield slice_
        if not slice_.opened:
            break
        in_a_row = 0
    if last is not None:
        raise last


async def read_patient(
    session: Session, custodian: Custodians, purpose: str, patient: bytes
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


async def _fetched(session: Session, custodian: Custodians, asked: Asked) -> Slice:
    if not any(verdict.allow for verdict in asked.decision.verdicts):
        return Slice(asked, ())
    several = custodian if isinstance(custodian, Sequence) else (custodian,)
    return Slice(asked, tuple(await reading.fetch(session, asked, *several)))
