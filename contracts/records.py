"""Compartments and records: to what a patient's records are sealed, and which records exist.

A compartment is a patient's records of one sensitivity class. Every class is opened at once, under random ids in the
order of the ids, so that having a compartment says nothing; which class it is of stands in a commitment, but for the
general one. Its public key belongs to an epoch: records are sealed to the current one only. A record that is of several
classes is sealed to one of their compartments and names the others, and to read it takes a permit for each.

A record on the chain is a commitment and no more: `anchor` binds the author to header, ciphertext and key commitment,
and `envelope` is the digest under which vaults keep the bytes. Records come in bundles, which may take several
transactions; a record is visible when its bundle is complete, so nobody reads half a clinical act.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.contracts import identity, keys, representation, tombstones, weights
from consilium.contracts.classes import CLASSES, CLASSES_MAX
from consilium.contracts.keepers import KEEPERS, note_keepers
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Slot
from consilium.contracts.rekeying import OWN_KEYS, note_own_key, require_may_rekey, require_sharing
from consilium.ledger import codec
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

BUNDLE_RECORDS_MAX: Final = 8_192
CUSTODIANS_MAX: Final = 16
EPOCH_MAX: Final = tombstones.EPOCH_MAX
EPOCH_BYTES: Final = 2

EpochNumber = Annotated[int, msgspec.Meta(ge=0, le=EPOCH_MAX)]
Position = Annotated[int, msgspec.Meta(ge=0, lt=BUNDLE_RECORDS_MAX)]
Count = Annotated[int, msgspec.Meta(ge=1, le=BUNDLE_RECORDS_MAX)]
Commitments = Annotated[list[codec.Bytes32], msgspec.Meta(min_length=1, max_length=CUSTODIANS_MAX)]
"""Feldman's commitments, the compartment's public point first; as many as partials are needed to open (k)."""
Custodians = Annotated[list[codec.Bytes16], msgspec.Meta(min_length=1, max_length=CUSTODIANS_MAX)]
"""The institutions that hold shares (n): the one at place i has share index i + 1."""
FurtherCompartments = Annotated[list[codec.Bytes16], msgspec.Meta(max_length=CLASSES_MAX)]
"""The other compartments of a record of several classes, ascending."""


# --- bodies, results and event data ---------------------------------------------------------------------------------


class NewCompartment(codec.Wire, frozen=True):
    """One compartment to open. `compartment` is drawn at random by who opens it; `class_commitment` as `client.classes`
    has it."""

    compartment: codec.Bytes16
    general: bool
    class_commitment: codec.Bytes32
    commitments: Commitments
    custodians: Custodians


class OpenCompartments(codec.Wire, frozen=True):
    """`records.open_compartments`: one of every class, in the order of their ids, so that the order says nothing."""

    patient: codec.Bytes16
    compartments: Annotated[list[NewCompartment], msgspec.Meta(min_length=1, max_length=CLASSES_MAX)]


class BeginEpoch(codec.Wire, frozen=True):
    """`records.begin_epoch`: the compartment's next epoch has this key and these custodians."""

    compartment: codec.Bytes16
    commitments: Commitments
    custodians: Custodians


class AnchorRecord(codec.Wire, frozen=True):
    """`records.anchor`. `record` and `bundle` are random; the record has place `position` of `count` in the bundle.

    It is sealed to `compartment`; `also` are those of its other classes.
    """

    record: codec.Bytes16
    compartment: codec.Bytes16
    also: FurtherCompartments
    epoch: EpochNumber
    bundle: codec.Bytes16
    position: Position
    count: Count
    anchor: codec.Bytes32
    envelope: codec.Bytes32


class Anchored(codec.Wire, frozen=True):
    """The data of `records.anchored`."""

    record: codec.Bytes16
    compartment: codec.Bytes16
    also: FurtherCompartments
    bundle: codec.Bytes16
    position: Position
    count: Count


class Completed(codec.Wire, frozen=True):
    """The data of `records.completed`: from here on the bundle's records are visible."""

    bundle: codec.Bytes16
    count: Count


class EpochBegun(codec.Wire, frozen=True):
    """The data of `records.epoch_begun`, and the result of `records.begin_epoch`."""

    compartment: codec.Bytes16
    epoch: EpochNumber


# --- state ----------------------------------------------------------------------------------------------------------


class Compartment(codec.Wire, frozen=True):
    """Whose it is, whether it is the general one, its class in a commitment, and the current epoch."""

    patient: codec.Bytes16
    general: bool
    class_commitment: codec.Bytes32
    epoch: EpochNumber


class Epoch(codec.Wire, frozen=True):
    """The public side of one epoch's key. An ended epoch stays: its records are opened by its custodians."""

    commitments: Commitments
    custodians: Custodians
    begun_ms: codec.Uint

    @property
    def point(self) -> bytes:
        """What records are sealed to (32 bytes)."""
        return self.commitments[0]

    @property
    def threshold(self) -> int:
        """How many custodians' partials open a record."""
        return len(self.commitments)


class PatientCompartments(codec.Wire, frozen=True):
    """A patient's compartments, in the order of their ids."""

    compartments: Annotated[list[codec.Bytes16], msgspec.Meta(min_length=1, max_length=CLASSES_MAX)]


class Record(codec.Wire, frozen=True):
    """The commitment to one sealed record."""

    compartment: codec.Bytes16
    also: FurtherCompartments
    epoch: EpochNumber
    author: codec.Bytes16
    bundle: codec.Bytes16
    position: Position
    anchor: codec.Bytes32
    envelope: codec.Bytes32
    anchored_ms: codec.Uint


class Bundle(codec.Wire, frozen=True):
    """How much of a bundle is anchored. Bit p of `positions` (little-endian) says that position p is; it is emptied
    when the bundle is complete."""

    patient: codec.Bytes16
    count: Count
    anchored: Annotated[int, msgspec.Meta(ge=0, le=BUNDLE_RECORDS_MAX)]
    positions: Annotated[bytes, msgspec.Meta(max_length=BUNDLE_RECORDS_MAX // 8)]

    @property
    def complete(self) -> bool:
        """Whether its records are visible."""
        return self.anchored == self.count


COMPARTMENTS: Final = Slot(keys.COMPARTMENT, (ID_BYTES,), Compartment, 128)
EPOCHS: Final = Slot(keys.EPOCH, (ID_BYTES, EPOCH_BYTES), Epoch, 1_024)
PATIENTS: Final = Slot(keys.PATIENT, (ID_BYTES,), PatientCompartments, 1_024)
RECORDS: Final = Slot(keys.RECORD, (ID_BYTES,), Record, 1_024)
BUNDLES: Final = Slot(keys.BUNDLE, (ID_BYTES, ID_BYTES), Bundle, 2_048)

OPENED: Final = EventKind("records.compartments_opened", PatientCompartments)
EPOCH_BEGUN: Final = EventKind("records.epoch_begun", EpochBegun)
ANCHORED: Final = EventKind("records.anchored", Anchored)
COMPLETED: Final = EventKind("records.completed", Completed)


# --- questions others ask -------------------------------------------------------------------------------------------


def epoch_bytes(epoch: int) -> bytes:
    """An epoch as a part of a state key."""
    return epoch.to_bytes(EPOCH_BYTES, "big")


def visible_record(state: StateReader, record: bytes) -> Record | None:
    """The record, if it is anchored, its bundle is complete, and it was not erased."""
    known, erased = known_record(state, record)
    return None if erased else known


def known_record(state: StateReader, record: bytes) -> tuple[Record | None, bool]:
    """The record, if it is anchored and its bundle is complete, and whether it was erased."""
    known = RECORDS.get(state, record)
    bundle = BUNDLES.get(state, known.author, known.bundle) if known is not None else None
    if known is None or bundle is None or not bundle.complete:
        return None, False
    return known, is_erased(state, known)


def is_erased(state: StateReader, record: Record) -> bool:
    """Whether a record was erased: by itself, or with a compartment or the patient."""
    blank = record.envelope == tombstones.BLANK
    return blank or tombstones.covered(state, patient_of(state, record), record)


def patient_of(state: StateReader, record: Record) -> bytes:
    """Whose record it is."""
    known = COMPARTMENTS.get(state, record.compartment)
    if known is None:
        raise InvariantBroken("a record is in a compartment that was never opened")
    return known.patient


# --- handlers -------------------------------------------------------------------------------------------------------


def _open_compartments(body: OpenCompartments, context: OperationContext) -> None:
    state = context.state
    _require_speaks_for(body.patient, context)
    if PATIENTS.get(state, body.patient) is not None:
        raise Refused("records.already_open", body.patient.hex())
    _require_every_class(body.compartments)
    for new in body.compartments:
        if COMPARTMENTS.get(state, new.compartment) is not None:
            raise Refused("records.id_taken", new.compartment.hex())
        require_sharing(new.commitments, new.custodians, new.general, context)
        compartment = Compartment(body.patient, new.general, new.class_commitment, 0)
        COMPARTMENTS.put(state, compartment, new.compartment)
        epoch = Epoch(new.commitments, new.custodians, context.time_ms)
        EPOCHS.put(state, epoch, new.compartment, epoch_bytes(0))
        note_own_key(new.compartment, body.patient, context)
    opened = PatientCompartments([new.compartment for new in body.compartments])
    PATIENTS.put(state, opened, body.patient)
    OPENED.emit(context, [body.patient, context.sender], opened)


def _require_every_class(new: list[NewCompartment]) -> None:
    if len(new) != len(CLASSES) or [one.general for one in new].count(True) != 1:
        raise Refused("records.classes_incomplete", f"{len(CLASSES)} compartments, of which one is general")
    if len({one.class_commitment for one in new}) != len(new):
        raise Refused("records.classes_incomplete", "two compartments have one class commitment")
    ids = [one.compartment for one in new]
    if ids != sorted({*ids}):
        raise Refused("records.order_says_something", "compartments stand in the order of their ids")


def _begin_epoch(body: BeginEpoch, context: OperationContext) -> EpochBegun:
    known = COMPARTMENTS.get(context.state, body.compartment)
    if known is None:
        raise Refused("records.unknown_compartment", body.compartment.hex())
    _require_speaks_for(known.patient, context)

    def begun_ms(number: int) -> int:
        epoch = EPOCHS.get(context.state, body.compartment, epoch_bytes(number))
        return epoch.begun_ms if epoch is not None else 0

    require_may_rekey(body.compartment, known.patient, known.epoch, begun_ms, context)
    return begin_epoch(body, context)


def begin_epoch(body: BeginEpoch, context: OperationContext) -> EpochBegun:
    """Begin a compartment's next epoch: who may do so is for the caller to ask. Raises Refused `records.*`."""
    state = context.state
    known = COMPARTMENTS.get(state, body.compartment)
    if known is None:
        raise Refused("records.unknown_compartment", body.compartment.hex())
    if known.epoch >= EPOCH_MAX:
        raise Refused("records.last_epoch", body.compartment.hex())
    current = EPOCHS.get(state, body.compartment, epoch_bytes(known.epoch))
    if current is not None and current.point == body.commitments[0]:
        raise Refused("records.key_unchanged", body.compartment.hex())
    require_sharing(body.commitments, body.custodians, known.general, context)
    number = known.epoch + 1
    COMPARTMENTS.put(state, msgspec.structs.replace(known, epoch=number), body.compartment)
    epoch = Epoch(body.commitments, body.custodians, context.time_ms)
    EPOCHS.put(state, epoch, body.compartment, epoch_bytes(number))
    note_own_key(body.compartment, known.patient, context)
    begun = EpochBegun(body.compartment, number)
    EPOCH_BEGUN.emit(context, [known.patient, context.sender], begun)
    return begun


def hide_class(compartment: bytes, class_commitment: bytes, context: OperationContext) -> None:
    """Have another commitment stand for the class of a compartment that is there: who may do so is for the caller to
    ask. Whether it is the general one stays as it is; the rest nobody here can check, then as now."""
    known = COMPARTMENTS.get(context.state, compartment)
    if known is None:
        raise Refused("records.unknown_compartment", compartment.hex())
    changed = msgspec.structs.replace(known, class_commitment=class_commitment)
    COMPARTMENTS.put(context.state, changed, compartment)


def _require_speaks_for(patient: bytes, context: OperationContext) -> None:
    """The patient itself, its guardian, or the institution that manages it."""
    representation.require_patient(context.state, patient)
    if tombstones.patient_erased(context.state, patient):
        raise Refused("erasure.erased", patient.hex())
    capacity = representation.capacity_of(context.state, context.sender, patient, context.time_ms)
    if capacity not in (representation.PATIENT, representation.GUARDIAN, representation.MANAGER):
        raise Refused("records.not_yours", patient.hex())


def _anchor(body: AnchorRecord, context: OperationContext) -> None:
    state, author = context.state, context.sender
    identity.require_role(state, author, identity.AUTHOR)
    compartment = COMPARTMENTS.get(state, body.compartment)
    if compartment is None:
        raise Refused("records.unknown_compartment", body.compartment.hex())
    if body.epoch != compartment.epoch:
        raise Refused("records.epoch_ended", f"the current epoch is {compartment.epoch}, not {body.epoch}")
    if RECORDS.get(state, body.record) is not None:
        raise Refused("records.id_taken", body.record.hex())
    if tombstones.patient_erased(state, compartment.patient) or tombstones.epoch_erased(
        state, body.compartment, body.epoch
    ):
        raise Refused("erasure.erased", body.compartment.hex())
    if body.also:
        _note_further(body, compartment.patient, context)
    bundle = _with_position(body, compartment.patient, context)
    BUNDLES.put(state, bundle, author, body.bundle)
    record = Record(
        compartment=body.compartment,
        also=body.also,
        epoch=body.epoch,
        author=author,
        bundle=body.bundle,
        position=body.position,
        anchor=body.anchor,
        envelope=body.envelope,
        anchored_ms=context.time_ms,
    )
    RECORDS.put(state, record, body.record)
    note_keepers(state, [author], body.compartment, epoch_bytes(body.epoch))
    subjects = [compartment.patient, author]
    told = Anchored(body.record, body.compartment, body.also, body.bundle, body.position, body.count)
    ANCHORED.emit(context, subjects, told)
    if bundle.complete:
        COMPLETED.emit(context, subjects, Completed(body.bundle, body.count))


def _note_further(body: AnchorRecord, patient: bytes, context: OperationContext) -> None:
    """The other compartments are the same patient's, ascending, and not the one that the record is sealed to.

    Who keeps the record is noted in each: it is erased with any of them.
    """
    context.charge(weights.FURTHER_CLASS * len(body.also))
    if body.also != sorted({*body.also} - {body.compartment}):
        raise Refused("records.bad_classes", "further compartments ascend, and are others")
    epoch = EPOCHS.get(context.state, body.compartment, epoch_bytes(body.epoch))
    keeping = [context.sender, *(epoch.custodians if epoch is not None else [])]
    for identifier in body.also:
        known = COMPARTMENTS.get(context.state, identifier)
        if known is None or known.patient != patient:
            raise Refused("records.bad_classes", identifier.hex())
        note_keepers(context.state, keeping, identifier, epoch_bytes(known.epoch))


def _with_position(body: AnchorRecord, patient: bytes, context: OperationContext) -> Bundle:
    """The bundle with one position more. Raises Refused where the position, count or patient does not fit it."""
    bundle = BUNDLES.get(context.state, context.sender, body.bundle)
    if bundle is None:
        bundle = Bundle(patient, body.count, 0, b"")
    if bundle.patient != patient or bundle.count != body.count:
        raise Refused("records.bundle_mismatch", body.bundle.hex())
    bit = 1 << body.position
    taken = int.from_bytes(bundle.positions, "little")
    if body.position >= body.count or bundle.complete or taken & bit:
        raise Refused("records.position_taken", f"position {body.position} of {body.count}")
    anchored = bundle.anchored + 1
    taken |= bit
    positions = b"" if anchored == body.count else taken.to_bytes((taken.bit_length() + 7) // 8, "little")
    return Bundle(patient, body.count, anchored, positions)


CONTRACT: Final = Contract(
    name="records",
    operations=(
        OperationSpec("records.open_compartments", OpenCompartments, _open_compartments),
        OperationSpec("records.begin_epoch", BeginEpoch, _begin_epoch, EpochBegun),
        OperationSpec("records.anchor", AnchorRecord, _anchor),
    ),
    slots=(COMPARTMENTS, EPOCHS, PATIENTS, RECORDS, KEEPERS, BUNDLES, OWN_KEYS),
    events=(OPENED, EPOCH_BEGUN, ANCHORED, COMPLETED),
)
