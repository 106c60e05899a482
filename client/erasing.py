"""What a patient, an author or an authority does about forgetting: order it, contest it, hold it, have it certified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consilium.client.erasure_certificate import (
    CERTIFICATE_VERSION,
    Certificate,
    Recipient,
    encode_certificate,
    recipients_of,
)
from consilium.client.history import accesses_of, events_of
from consilium.client.rpc import Committed
from consilium.client.session import Session, new_id
from consilium.contracts import forgetting, identity, records, retention, tombstones
from consilium.contracts.registry import operation
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import RESULT_BYTES_MAX

ERASURE_KINDS: Final = (forgetting.REQUESTED.name, forgetting.CARRIED.name, forgetting.ATTESTED.name)


async def request(
    session: Session,
    basis: forgetting.ErasureBasis,
    *,
    patient: bytes | None = None,
    record_ids: Sequence[bytes] | None = None,
    compartment: bytes | None = None,
    epoch: int | None = None,
    identifier: bytes | None = None,
) -> tuple[forgetting.ErasureVerdict, Committed]:
    """Order the erasure of records, of a compartment through an epoch (None: its current one), or of the whole patient.

    `patient` is whose, where somebody else orders. What holds keep is in the verdict, with its basis; it is no error.
    """
    if compartment is not None and epoch is None:
        known = await session.state(records.COMPARTMENTS, compartment)
        if known is None:
            raise Refused("records.unknown_compartment", compartment.hex())
        epoch = known.epoch
    body = forgetting.RequestErasure(
        erasure=identifier or new_id(),
        patient=patient or session.identity,
        records=None if record_ids is None else list(record_ids),
        compartment=compartment,
        epoch=epoch,
        basis=basis,
    )
    return _verdict(await session.submit([operation("erasure.request", body)], certified=True))


async def contest(session: Session, erasure: bytes) -> Committed:
    """Contest what an author ordered: nothing is erased."""
    return await session.submit([operation("erasure.contest", forgetting.ContestErasure(erasure))])


async def carry_out(session: Session, erasure: bytes) -> tuple[forgetting.ErasureVerdict, Committed]:
    """Carry out what this session's institution ordered and nobody contested in time."""
    body = forgetting.CarryOutErasure(erasure)
    return _verdict(await session.submit([operation("erasure.carry_out", body)], certified=True))


async def require_unneeded(session: Session, patient: bytes) -> None:
    """Whether the session's institution may destroy what tells whose a pseudonym is: once the whole patient is erased
    and this institution keeps nothing of it, or where the ledger never knew the patient.

    Who destroys it before could neither find the chart nor speak for the patient again. Raises Refused
    `erasure.mapping_needed`.
    """
    if await session.state(identity.IDENTITIES, patient) is None:
        return
    found = await session.state(tombstones.ERASED_PATIENTS, patient)
    stones = found.stones if found is not None else []
    if not any(session.identity not in stone.spared for stone in stones):
        why = (
            "this institution's hold keeps what it authored"
            if stones
            else "the patient is not erased as a whole"
        )
        raise Refused("erasure.mapping_needed", f"{patient.hex()}: {why}")


async def hold(
    session: Session,
    patient: bytes,
    basis: retention.HoldBasis,
    *,
    not_after_ms: int,
    compartment: bytes | None = None,
    everything: bool = False,
    identifier: bytes | None = None,
) -> tuple[bytes, Committed]:
    """Hold what this session's institution authored of a patient's; with `everything`, as an authority, all of it."""
    chosen = identifier or new_id()
    body = retention.PlaceHold(chosen, patient, compartment, everything, basis, not_after_ms)
    return chosen, await session.submit([operation("retention.hold", body)])


async def lift(session: Session, held: bytes) -> Committed:
    """Lift a hold of one's own."""
    return await session.submit([operation("retention.lift", retention.LiftHold(held))])


async def status(session: Session, erasure: bytes) -> forgetting.Erasure:
    """An erasure as certified state has it. Raises Refused `erasure.unknown`."""
    known = await session.state(forgetting.ERASURES, erasure)
    if known is None:
        raise Refused("erasure.unknown", erasure.hex())
    return known


async def erasures_of(session: Session, patient: bytes) -> list[tuple[bytes, forgetting.Erasure]]:
    """The erasures that were ordered about a patient, with their ids, oldest first."""
    found = []
    async for item in events_of(session.rpc, (forgetting.REQUESTED.name,), patient):
        told = codec.decode(item.event.data, forgetting.ErasureAsked, RESULT_BYTES_MAX)
        found.append((told.erasure, await status(session, told.erasure)))
    return found


async def certificate(session: Session, erasure: bytes) -> bytes:
    """The certificate of an erasure as of now: who has not attested yet is missing in it; make it anew later.

    Raises Refused `erasure.unknown`, `receipt.not_certified`.
    """
    known = await status(session, erasure)
    order: bytes | None = None
    carried_out: bytes | None = None
    attestations: list[bytes] = []
    async for item in events_of(session.rpc, ERASURE_KINDS, erasure):
        receipt = await session.rpc.verdict_receipt(item.event.transaction)
        if item.event.kind == forgetting.ATTESTED.name:
            attestations.append(receipt)
        elif item.event.kind == forgetting.REQUESTED.name:
            order = receipt
        elif known.due_ms > known.requested_ms:
            carried_out = receipt
    if order is None:
        raise Refused("erasure.unknown", erasure.hex())
    return encode_certificate(
        Certificate(
            version=CERTIFICATE_VERSION,
            erasure=erasure,
            order=order,
            carried_out=carried_out,
            attestations=attestations,
            epochs=[await session.rpc.state_receipt(key) for key in await _epochs(session, known)],
            recipients=await _recipients(session, known),
            checksum=bytes(32),
        )
    )


async def _places(session: Session, known: forgetting.Erasure) -> dict[bytes, int | None]:
    """The compartments that an erasure is about, each with the last epoch whose key it destroys (None: no key)."""
    if known.compartment is not None:
        return {known.compartment: known.epoch}
    if known.records is not None:
        found = [await session.state(records.RECORDS, one) for one in known.records]
        return {one.compartment: None for one in found if one is not None}
    opened = await session.state(records.PATIENTS, known.patient)
    places: dict[bytes, int | None] = {}
    for identifier in opened.compartments if opened is not None else []:
        compartment = await session.state(records.COMPARTMENTS, identifier)
        places[identifier] = compartment.epoch if compartment is not None else 0
    return places


async def _epochs(session: Session, known: forgetting.Erasure) -> list[bytes]:
    """State keys of the epochs whose shares are destroyed."""
    if known.carried_out_ms is None:
        return []
    return [
        records.EPOCHS.key(compartment, records.epoch_bytes(epoch))
        for compartment, last in (await _places(session, known)).items()
        if last is not None
        for epoch in range(last + 1)
    ]


async def _recipients(session: Session, known: forgetting.Erasure) -> list[Recipient]:
    """Who was allowed to read in the compartments that are meant, before the erasure."""
    places = await _places(session, known)
    until_ms = known.carried_out_ms or known.requested_ms
    lines = [
        Recipient(line.reader, line.institution, 1, line.time_ms, line.transaction)
        for line in await accesses_of(session.rpc, known.patient)
        if line.allow and line.compartment in places and line.time_ms <= until_ms
    ]
    return recipients_of(lines)


def _verdict(committed: Committed) -> tuple[forgetting.ErasureVerdict, Committed]:
    raw = committed.leaf.results[0]
    return codec.decode(raw, forgetting.ErasureVerdict, RESULT_BYTES_MAX), committed
