"""What an institution does: enrol a patient, open the compartments, seal records, anchor them.

The order is what makes it safe. Share and envelopes are durable at the custodian before anything on the chain names
them, so an anchor never points to nothing; a bundle's records become visible with its last anchor, so a crash in the
middle leaves envelopes that nothing names, and nothing half-recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from consilium.client.envelope import Context, HeaderFields
from consilium.client.sealing import SealedRecord, seal
from consilium.client.session import Session, new_id, slices
from consilium.client.sharing import CompartmentKey, make_compartment, seal_parcels
from consilium.client.wallet import KeptCompartment, Wallet
from consilium.contracts import identity as identities
from consilium.contracts import records
from consilium.contracts.registry import operation
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import Operation

ENVELOPES_PER_CALL_MAX: Final = 64
ENVELOPE_CALL_BYTES: Final = 4 * 1024 * 1024
CUSTODY_RETRIES_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Payload:
    """One record to import: its original bytes, and what its author says about it."""

    raw: bytes
    header: HeaderFields


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. `records` are the new ids in the order of the payloads."""

    patient: bytes
    compartment: bytes
    bundle: bytes
    records: tuple[bytes, ...]
    transactions: tuple[bytes, ...]
    height: int


def enrolment(session: Session, kind: identities.EnrolledKind, newcomer: Wallet) -> Operation:
    """The operation with which this session's institution enrols the owner of a wallet."""
    proof = newcomer.signing.sign(
        identities.enrolment_digest(
            chain_id=session.chain_id,
            sponsor=session.identity,
            kind=kind,
            key=newcomer.signing.public,
            encryption_key=newcomer.encryption_public,
        )
    )
    body = identities.Enrol(kind, newcomer.signing.public, newcomer.encryption_public, proof)
    return operation("identity.enrol", body)


async def enrol(session: Session, kind: identities.EnrolledKind, newcomer: Wallet) -> bytes:
    """Enrol the owner of a wallet; enrolling again what this institution enrolled is no error. Returns the id."""
    known = await session.state(identities.IDENTITIES, newcomer.identity)
    if known is None:
        await session.submit([enrolment(session, kind, newcomer)], certified=True)
    elif (known.kind, known.sponsor) != (kind, session.identity):
        raise Refused("identity.key_taken", newcomer.identity.hex())
    return newcomer.identity


async def open_compartments(
    session: Session, patient: Wallet, custodian: bytes, save: Callable[[Wallet], None]
) -> Wallet:
    """Open every class of compartment for a patient, kept by one custodian (k = n = 1), with secrets that the patient's
    wallet makes and keeps.

    `session` is the patient's, and its node the custodian's, to which the shares go. `save` makes the wallet durable
    before anything is published: a secret that was lost after its point is on the chain could never be made again.
    Running it again after a crash goes on where it stopped. Returns the wallet with its secrets.
    """
    opened = await session.state(records.PATIENTS, patient.identity)
    if opened is None:
        fresh = [
            KeptCompartment(new_id(), 0, make_compartment(threshold=1, custodians=1)) for _ in records.CLASSES
        ]
        patient = patient.keeping(*fresh)
        await asyncio.to_thread(save, patient)
        body = records.OpenCompartments(
            patient.identity,
            [
                records.NewCompartment(kept.compartment, code, list(kept.secret.commitments), [custodian])
                for code, kept in zip(records.CLASSES, fresh, strict=True)
            ],
        )
        await session.submit([operation("records.open_compartments", body)], certified=True)
        opened = records.PatientCompartments([kept.compartment for kept in fresh])
    keeper = await session.identity_of(custodian)
    for compartment in opened.compartments:
        secret = patient.compartment_secret(compartment, 0)
        if secret is None:
            continue
        key = CompartmentKey(session.chain_id, compartment, 0, secret.commitments)
        for parcel in seal_parcels(secret, key, (keeper.encryption_key,)):
            await session.rpc.deposit_share(parcel)
    return patient


async def import_records(
    session: Session,
    patient: bytes,
    payloads: Sequence[Payload],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Seal payloads to the patient's general compartment, store the envelopes, anchor them as one bundle.

    Raises Refused where the patient has no compartment, or the ledger refuses. `progress(done, total)` counts payloads
    twice: once sealed and stored, once anchored.
    """
    if not 1 <= len(payloads) <= records.BUNDLE_RECORDS_MAX:
        raise Refused(
            "records.bundle_too_large",
            f"{len(payloads)} records; a bundle has 1 to {records.BUNDLE_RECORDS_MAX}",
        )
    compartment, epoch_number, epoch = await general_compartment(session, patient)
    custodians = [(await session.identity_of(one)).encryption_key for one in epoch.custodians]
    bundle = new_id()
    sealed: list[tuple[bytes, SealedRecord]] = []
    total = 2 * len(payloads)
    for group in _grouped(payloads):
        part = await asyncio.to_thread(
            _seal_group, session, group, compartment, epoch_number, epoch.point, custodians
        )
        await session.rpc.put_envelopes([record.envelope for _, record in part])
        sealed.extend(part)
        progress(len(sealed), total)
    operations = [
        operation(
            "records.anchor",
            records.AnchorRecord(
                record=identifier,
                compartment=compartment,
                epoch=epoch_number,
                bundle=bundle,
                position=position,
                count=len(payloads),
                anchor=record.anchor,
                envelope=record.digest,
            ),
        )
        for position, (identifier, record) in enumerate(sealed)
    ]
    committed = []
    anchored = 0
    for part_operations in slices(operations):
        committed.append(await session.submit(part_operations))
        anchored += len(part_operations)
        progress(len(payloads) + anchored, total)
    return Imported(
        patient=patient,
        compartment=compartment,
        bundle=bundle,
        records=tuple(identifier for identifier, _ in sealed),
        transactions=tuple(one.id for one in committed),
        height=committed[-1].height,
    )


async def general_compartment(session: Session, patient: bytes) -> tuple[bytes, int, records.Epoch]:
    """The patient's compartment of the general class: its id, current epoch number and epoch."""
    opened = await session.state(records.PATIENTS, patient)
    if opened is None:
        raise Refused("records.unknown_compartment", f"patient {patient.hex()} has no compartments yet")
    identifier = opened.compartments[records.CLASSES.index(records.GENERAL)]
    compartment = await session.state(records.COMPARTMENTS, identifier)
    number = compartment.epoch if compartment is not None else 0
    epoch = await session.state(records.EPOCHS, identifier, records.epoch_bytes(number))
    if epoch is None:
        raise Refused("records.unknown_compartment", identifier.hex())
    return identifier, number, epoch


def _grouped(payloads: Sequence[Payload]) -> list[list[Payload]]:
    groups: list[list[Payload]] = []
    room = 0
    for payload in payloads:
        if not groups or len(groups[-1]) == ENVELOPES_PER_CALL_MAX or len(payload.raw) > room:
            groups.append([])
            room = ENVELOPE_CALL_BYTES
        groups[-1].append(payload)
        room -= len(payload.raw)
    return groups


def _seal_group(
    session: Session,
    group: Sequence[Payload],
    compartment: bytes,
    epoch: int,
    point: bytes,
    custodians: Sequence[bytes],
) -> list[tuple[bytes, SealedRecord]]:
    sealed = []
    for payload in group:
        identifier = new_id()
        context = Context(session.chain_id, identifier, compartment, epoch, session.identity)
        record = seal(payload.raw, context, point, session.wallet.author_keys, custodians, payload.header)
        sealed.append((identifier, record))
    return sealed
