"""What an institution does: enrol a patient, open the compartments, seal records, anchor them.

The order is what makes it safe. Share and envelopes are durable at the custodian before anything on the chain names
them, so an anchor never points to nothing; a bundle's records become visible with its last anchor, so a crash in the
middle leaves envelopes that nothing names, and nothing half-recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from consilium.client.classes import ClassMap, class_map_of, committed, verify_class_map
from consilium.client.envelope import Context, HeaderFields
from consilium.client.rpc import RpcClient
from consilium.client.sealing import SealedRecord, seal
from consilium.client.session import COMMIT_TIMEOUT_S, Session, new_id, slices
from consilium.client.sharing import CompartmentKey, make_compartment, seal_parcels
from consilium.client.wallet import KeptCompartment, Wallet
from consilium.contracts import identity as identities
from consilium.contracts import records, settings
from consilium.contracts.classes import CLASSES, GENERAL
from consilium.contracts.registry import operation
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import (
    OPERATION_BODY_BYTES_MAX,
    Operation,
    Transaction,
    Verified,
    identity_of,
)

ENVELOPES_PER_CALL_MAX: Final = 64
ENVELOPE_CALL_BYTES: Final = 4 * 1024 * 1024
BEHIND_ATTEMPTS: Final = 20
BEHIND_PAUSE_S: Final = 0.5
_NOBODY: Final[Mapping[bytes, RpcClient]] = {}


@dataclass(frozen=True, slots=True)
class Payload:
    """One record to import: its original bytes, what its author says about it, and its classes (codes, ascending)."""

    raw: bytes
    header: HeaderFields
    classes: tuple[int, ...] = (GENERAL,)


class _Place(NamedTuple):
    """To what a record is sealed: a compartment, those of its further classes, epoch, point, the custodians' keys."""

    compartment: bytes
    also: tuple[bytes, ...]
    epoch: int
    point: bytes
    custodians: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. `records` are the new ids in the order of the payloads, `compartments` what each is sealed
    to; `compartment` is the patient's general one."""

    patient: bytes
    compartment: bytes
    bundle: bytes
    records: tuple[bytes, ...]
    compartments: tuple[bytes, ...]
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
    session: Session,
    patient: Wallet,
    custodian: bytes,
    save: Callable[[Wallet], None],
    *,
    others: Mapping[bytes, RpcClient] = _NOBODY,
) -> Wallet:
    """Open every class of compartment for a patient, with secrets that the patient's wallet makes and keeps.

    The general one is kept by `custodian` alone, at whose node `session` (the patient's) is. The sensitive ones are
    kept by it and by further custodians, one more than the network demands, so that one may be missing: those of
    `others`, who are reached by these clients, or else the next of genesis, who get their shares later
    (`deliver_shares`). `save` makes the wallet durable before anything is published: a secret that was lost after its
    point is on the chain could never be made again. Running it again after a crash goes on where it stopped. Returns
    the wallet with its secrets.
    """
    opened = await session.state(records.PATIENTS, patient.identity)
    if opened is None:
        settled = await session.state(settings.SETTINGS) or settings.DEFAULTS
        least = settled.sensitive_threshold_min
        several = _sensitive_custodians(session, custodian, list(others), least + 1)
        fresh = {new_id(): code for code in CLASSES}
        made = []
        for identifier, code in sorted(fresh.items()):
            held = [custodian] if code == GENERAL else several
            threshold = 1 if code == GENERAL else min(least, len(held))
            secret = make_compartment(threshold, len(held))
            patient = patient.keeping(KeptCompartment(identifier, 0, secret))
            made.append(
                records.NewCompartment(
                    identifier,
                    code == GENERAL,
                    committed(session.chain_id, patient, identifier, code),
                    list(secret.commitments),
                    held,
                )
            )
        await asyncio.to_thread(save, patient)
        body = records.OpenCompartments(patient.identity, made)
        done = await session.submit([operation("records.open_compartments", body)], certified=True)
        for other in others.values():  # a custodian takes shares of what its own node knows as certified
            await other.wait(done.id, COMMIT_TIMEOUT_S, certified=True)
    await deliver_shares(session, patient, {custodian: session.rpc, **others})
    return patient


async def deliver_shares(session: Session, patient: Wallet, to: Mapping[bytes, RpcClient]) -> None:
    """Hand the patient's custodians the shares of the current epochs, those of `to`: by the clients of their nodes.

    A share that a custodian has already is taken again without harm. Raises Refused as the custodian does.
    """
    for identifier in (await _opened(session, session.identity)).compartments:
        number, epoch = await current_epoch(session, identifier)
        secret = patient.compartment_secret(identifier, number)
        if secret is None:
            continue
        holders = [await session.identity_of(one) for one in epoch.custodians]
        key = CompartmentKey(session.chain_id, identifier, number, secret.commitments)
        parcels = seal_parcels(secret, key, tuple(one.encryption_key for one in holders))
        for custodian, parcel in zip(epoch.custodians, parcels, strict=True):
            if custodian in to:
                await _deposited(to[custodian], parcel)


async def _deposited(custodian: RpcClient, parcel: bytes) -> None:
    """A node that has just started takes a moment to know what was erased. Raises Refused as the custodian does."""
    for left in reversed(range(BEHIND_ATTEMPTS)):
        try:
            await custodian.deposit_share(parcel)
        except Refused as refusal:
            if refusal.code != "vault.behind" or not left:
                raise
            await asyncio.sleep(BEHIND_PAUSE_S)
        else:
            return


def _sensitive_custodians(
    session: Session, custodian: bytes, others: Sequence[bytes], wanted: int
) -> list[bytes]:
    """Who keeps sensitive compartments: the custodian, the others, then the next founders that are custodians, up to
    as many as are wanted, or all of the others."""
    founders = []
    for founding in session.genesis.operations:
        if founding.name == "identity.found":
            body = codec.decode(founding.body, identities.FoundInstitution, OPERATION_BODY_BYTES_MAX)
            if identities.CUSTODIAN in body.roles:
                founders.append(identity_of(body.key))
    start = founders.index(custodian) + 1 if custodian in founders else 0
    ring = [*founders[start:], *founders[:start]]
    return list(dict.fromkeys([custodian, *others, *ring]))[: max(wanted, 1 + len(others))]


async def import_records(
    session: Session,
    patient: bytes,
    payloads: Sequence[Payload],
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    class_map: ClassMap | None = None,
    vaults: Sequence[RpcClient] = (),
    bundle: bytes | None = None,
    keep_last: Callable[[Verified[Transaction]], Awaitable[None]] | None = None,
) -> Imported:
    """Seal payloads to the compartments of their classes, store the envelopes, anchor them as one bundle.

    `class_map` is the patient's; without one, payloads of the general class alone can be sealed. The envelopes go to
    the session's node; those that others keep too, or alone, to `vaults`, their nodes. Without these the nodes fetch
    from the author's what is theirs. `bundle` is the new bundle's id, by which it can be asked for on the chain where
    the answer was lost; None makes one. `keep_last` is awaited with the transaction that makes the bundle whole before
    that leaves: until then nothing can. Raises Refused where the patient has no compartment, a map is missing or wrong,
    or the ledger refuses. `progress(done, total)` counts payloads twice: once sealed and stored, once anchored.
    """
    if not 1 <= len(payloads) <= records.BUNDLE_RECORDS_MAX:
        raise Refused(
            "records.bundle_too_large",
            f"{len(payloads)} records; a bundle has 1 to {records.BUNDLE_RECORDS_MAX}",
        )
    places = await _places(session, patient, payloads, class_map)
    bundle = bundle or new_id()
    own = session.wallet.encryption_public
    sealed: list[tuple[bytes, SealedRecord]] = []
    total = 2 * len(payloads)
    for group in _grouped(payloads):
        part = await asyncio.to_thread(_seal_group, session, group, places)
        await session.rpc.put_envelopes([record.envelope for _, record in part])
        shared = [
            record.envelope
            for (_, record), payload in zip(part, group, strict=True)
            if places[payload.classes].custodians != (own,)
        ]
        for vault in vaults if shared else ():
            await vault.put_envelopes(shared)
        # The envelopes are stored: what is left to say of them is short, whatever the bundle's size.
        sealed.extend((identifier, record._replace(envelope=b"")) for identifier, record in part)
        progress(len(sealed), total)
    operations = [
        operation(
            "records.anchor",
            records.AnchorRecord(
                record=identifier,
                compartment=places[payload.classes].compartment,
                also=list(places[payload.classes].also),
                epoch=places[payload.classes].epoch,
                bundle=bundle,
                position=position,
                count=len(payloads),
                anchor=record.anchor,
                envelope=record.digest,
            ),
        )
        for position, ((identifier, record), payload) in enumerate(zip(sealed, payloads, strict=True))
    ]
    committed_ = []
    anchored = 0
    for part_operations in slices(operations):
        anchored += len(part_operations)
        keep = keep_last if anchored == len(operations) else None
        committed_.append(await session.submit(part_operations, keep=keep))
        progress(len(payloads) + anchored, total)
    general, _, _ = await general_compartment(session, patient)
    return Imported(
        patient=patient,
        compartment=general,
        bundle=bundle,
        records=tuple(identifier for identifier, _ in sealed),
        compartments=tuple(places[payload.classes].compartment for payload in payloads),
        transactions=tuple(one.id for one in committed_),
        height=committed_[-1].height,
    )


async def class_map_from(session: Session, patient: Wallet) -> ClassMap:
    """The class map of a patient whose wallet is at hand. Raises Refused `records.unknown_compartment`."""
    return class_map_of(session.chain_id, patient, await _compartments(session, patient.identity))


async def general_compartment(session: Session, patient: bytes) -> tuple[bytes, int, records.Epoch]:
    """The patient's compartment of the general class: its id, current epoch number and epoch."""
    for identifier, compartment in (await _compartments(session, patient)).items():
        if compartment.general:
            return identifier, *(await current_epoch(session, identifier))
    raise Refused("records.unknown_compartment", f"patient {patient.hex()} has no general compartment")


async def current_epoch(session: Session, compartment: bytes) -> tuple[int, records.Epoch]:
    """The epoch of a compartment that records are sealed to now, and its number."""
    known = await session.state(records.COMPARTMENTS, compartment)
    number = known.epoch if known is not None else 0
    epoch = await session.state(records.EPOCHS, compartment, records.epoch_bytes(number))
    if epoch is None:
        raise Refused("records.unknown_compartment", compartment.hex())
    return number, epoch


async def _opened(session: Session, patient: bytes) -> records.PatientCompartments:
    opened = await session.state(records.PATIENTS, patient)
    if opened is None:
        raise Refused("records.unknown_compartment", f"patient {patient.hex()} has no compartments yet")
    return opened


async def _compartments(session: Session, patient: bytes) -> dict[bytes, records.Compartment]:
    found = {}
    for identifier in (await _opened(session, patient)).compartments:
        known = await session.state(records.COMPARTMENTS, identifier)
        if known is not None:
            found[identifier] = known
    return found


async def _places(
    session: Session, patient: bytes, payloads: Sequence[Payload], class_map: ClassMap | None
) -> dict[tuple[int, ...], _Place]:
    """Where the payloads of each combination of classes are sealed to."""
    compartments = await _compartments(session, patient)
    if class_map is not None:
        if class_map.patient != patient:
            raise Refused("records.class_map_wrong", class_map.patient.hex())
        verify_class_map(class_map, session.chain_id, compartments)
    places: dict[tuple[int, ...], _Place] = {}
    for classes in dict.fromkeys(payload.classes for payload in payloads):
        if not [code for code in classes if code != GENERAL]:
            identifier, number, epoch = await general_compartment(session, patient)
            further: tuple[bytes, ...] = ()
        elif class_map is None:
            raise Refused("records.class_map_missing", patient.hex())
        else:
            # what is sensitive is never general as well
            codes = sorted({code for code in classes if code != GENERAL})
            identifier, *rest = [class_map.compartment(code) for code in codes]
            number, epoch = await current_epoch(session, identifier)
            further = tuple(sorted(rest))
        custodians = tuple([(await session.identity_of(one)).encryption_key for one in epoch.custodians])
        places[classes] = _Place(identifier, further, number, epoch.point, custodians)
    return places


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
    session: Session, group: Sequence[Payload], places: Mapping[tuple[int, ...], _Place]
) -> list[tuple[bytes, SealedRecord]]:
    sealed = []
    for payload in group:
        place = places[payload.classes]
        identifier = new_id()
        context = Context(session.chain_id, identifier, place.compartment, place.epoch, session.identity)
        keys = session.wallet.author_keys
        record = seal(payload.raw, context, place.point, keys, place.custodians, payload.header)
        sealed.append((identifier, record))
    return sealed
