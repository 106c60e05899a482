"""Erasure: what was asked to be forgotten, what a law makes somebody keep, and who attested to have destroyed it.

The patient orders the erasure of records, of a compartment through an epoch, or of everything; a guardian, of what is
general. An institution orders only that of records it authored: the patient is told, and may contest it within a
period. What a hold covers (`retention`) is not erased, and the verdict says on which basis.

Carrying out leaves tombstones, and names the *holders*: the institutions that may have copies or shares. Each attests,
under its own key, that it has destroyed them; the erasure is complete when all have, and until then names who has not.
"""

from __future__ import annotations

from typing import Final

import msgspec

from consilium.contracts import records, representation, tombstones, weights
from consilium.contracts.calendar import DAY_MS
from consilium.contracts.forgetting import (
    ATTESTED,
    CARRIED,
    CONTESTED,
    ERASURES,
    HOLDERS_MAX,
    REQUESTED,
    Attested,
    AttestErasure,
    CarryOutErasure,
    ContestErasure,
    Erased,
    Erasure,
    ErasureAsked,
    ErasureVerdict,
    KeptBack,
    RequestErasure,
)
from consilium.contracts.keepers import KEEPERS, keepers_of
from consilium.contracts.operation import Contract, OperationSpec, Rank, Slot
from consilium.contracts.retention import covers, holds_on
from consilium.contracts.tombstones import (
    BLANK,
    ERASED_COMPARTMENTS,
    ERASED_PATIENTS,
    TOMBSTONES_MAX,
    Tombstone,
    Tombstones,
)
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import Overlay, StateReader

EPOCHS_PER_ERASURE_MAX: Final = 512
"""So many epochs are looked at for holders; a patient with more erases them in steps, each through a later epoch."""
EPOCHS_PER_TRANSACTION_MAX: Final = 4_096
"""And so many by all erasures of one transaction: what they cost every node has an end."""
CONTEST_MS: Final = 30 * DAY_MS
"""So long a patient may contest an erasure that an institution ordered."""
PENDING: Final = "pending"


# --- questions others ask -------------------------------------------------------------------------------------------


def holders_of(state: StateReader, record: records.Record) -> list[bytes]:
    """Who keeps a record's envelope: its author, and the custodians of its epoch."""
    epoch = records.EPOCHS.get(state, record.compartment, records.epoch_bytes(record.epoch))
    return [record.author, *(epoch.custodians if epoch is not None else [])]


def holders_in(state: StateReader, compartment: bytes, epoch: int) -> list[bytes]:
    """Who keeps envelopes of records in an epoch of a compartment, or shares of its key."""
    number = records.epoch_bytes(epoch)
    known = records.EPOCHS.get(state, compartment, number)
    keepers = KEEPERS.get(state, compartment, number)
    return [*(known.custodians if known is not None else []), *(keepers.institutions if keepers else [])]


# --- asking ---------------------------------------------------------------------------------------------------------


def _request(body: RequestErasure, context: OperationContext) -> ErasureVerdict:
    state = context.state
    if ERASURES.get(state, body.erasure) is not None:
        raise Refused("erasure.id_taken", body.erasure.hex())
    representation.require_patient(state, body.patient)
    _require_scope(body, state)
    contestable = _require_may_order(body, context)
    asked = Erasure(
        patient=body.patient,
        requested_by=context.sender,
        records=body.records,
        compartment=body.compartment,
        epoch=body.epoch,
        basis=body.basis,
        outcome="pending",
        requested_ms=context.time_ms,
        due_ms=context.time_ms + (CONTEST_MS if contestable else 0),
        carried_out_ms=None,
        kept=[],
        holders=[],
        attested=[],
    )
    if contestable:
        ERASURES.put(state, asked, body.erasure)
    else:
        asked = _apply(asked, body.erasure, context)
    told = ErasureAsked(body.erasure, asked.outcome, asked.due_ms)
    REQUESTED.emit(context, [body.patient, body.erasure, *_other(context.sender, body.patient)], told)
    return ErasureVerdict(body.erasure, asked.outcome, asked.due_ms, asked.kept, asked.holders)


def _other(sender: bytes, patient: bytes) -> list[bytes]:
    return [] if sender == patient else [sender]


def _require_scope(body: RequestErasure, state: StateReader) -> None:
    """What is named is the patient's, and not erased yet. What was spared may be asked for again."""
    if tombstones.nobody_spared(ERASED_PATIENTS.get(state, body.patient)):
        raise Refused("erasure.erased", body.patient.hex())
    if body.records is not None:
        if body.compartment is not None or body.epoch is not None:
            raise Refused("erasure.bad_scope", "records, or a compartment, or the whole patient")
        if len({*body.records}) != len(body.records):
            raise Refused("erasure.bad_scope", "a record is named twice")
        for identifier in body.records:
            known = records.RECORDS.get(state, identifier)
            if known is None or records.patient_of(state, known) != body.patient:
                raise Refused("erasure.unknown_record", identifier.hex())
            if records.is_erased(state, known):
                raise Refused("erasure.erased", identifier.hex())
        return
    if (body.compartment is None) != (body.epoch is None):
        raise Refused("erasure.bad_scope", "a compartment is erased through an epoch")
    if body.compartment is not None and body.epoch is not None:
        compartment = _require_compartment(body.compartment, body.patient, state)
        if body.epoch > compartment.epoch:
            raise Refused("erasure.bad_scope", f"the compartment is in its epoch {compartment.epoch}")
        if tombstones.shares_erased(state, body.patient, body.compartment, body.epoch):
            raise Refused("erasure.erased", body.compartment.hex())


def _require_compartment(compartment: bytes, patient: bytes, state: StateReader) -> records.Compartment:
    known = records.COMPARTMENTS.get(state, compartment)
    if known is None or known.patient != patient:
        raise Refused("records.unknown_compartment", compartment.hex())
    return known


def _require_may_order(body: RequestErasure, context: OperationContext) -> bool:
    """Whether it can be contested first: what its author orders, and not the patient. Raises `erasure.not_yours`."""
    state, sender = context.state, context.sender
    capacity = representation.speaks_as(context, body.patient)
    if capacity == representation.PATIENT:
        return False
    named = [records.RECORDS.get(state, one) for one in body.records or []]
    if capacity == representation.GUARDIAN:
        places = [place for one in named if one is not None for place in (one.compartment, *one.also)]
        if body.compartment is not None:
            places.append(body.compartment)
        known = [records.COMPARTMENTS.get(state, place) for place in places]
        if places and all(one is not None and one.general for one in known):
            return False
    if named and all(one is not None and one.author == sender for one in named):
        return True
    raise Refused("erasure.not_yours", body.patient.hex())


def _contest(body: ContestErasure, context: OperationContext) -> None:
    asked = _pending(body.erasure, context.state)
    capacity = representation.speaks_as(context, asked.patient)
    if capacity not in (representation.PATIENT, representation.GUARDIAN):
        raise Refused("erasure.not_yours", body.erasure.hex())
    ERASURES.put(context.state, msgspec.structs.replace(asked, outcome="contested"), body.erasure)
    CONTESTED.emit(context, [asked.patient, body.erasure, asked.requested_by], body)


def _pending(erasure: bytes, state: StateReader) -> Erasure:
    known = ERASURES.get(state, erasure)
    if known is None:
        raise Refused("erasure.unknown", erasure.hex())
    if known.outcome != PENDING:
        raise Refused("erasure.not_pending", known.outcome)
    return known


def _carry_out(body: CarryOutErasure, context: OperationContext) -> ErasureVerdict:
    asked = _pending(body.erasure, context.state)
    if asked.requested_by != context.sender:
        raise Refused("erasure.not_yours", body.erasure.hex())
    if context.time_ms < asked.due_ms:
        raise Refused("erasure.contestable", f"until {asked.due_ms} ms")
    done = _apply(asked, body.erasure, context)
    return ErasureVerdict(body.erasure, done.outcome, done.due_ms, done.kept, done.holders)


# --- carrying out ---------------------------------------------------------------------------------------------------


def _apply(asked: Erasure, identifier: bytes, context: OperationContext) -> Erasure:
    """Leave tombstones on all that no hold keeps, and name the holders of it."""
    if asked.records is not None:
        done = _erase_records(asked, identifier, context)
    else:
        done = _erase_places(asked, identifier, context)
    ERASURES.put(context.state, done, identifier)
    return done


def _erase_records(asked: Erasure, identifier: bytes, context: OperationContext) -> Erasure:
    state = context.state
    standing = holds_on(state, asked.patient, context.time_ms)
    context.charge(weights.ERASED_RECORD * len(asked.records or []))
    kept: list[KeptBack] = []
    erased: list[bytes] = []
    envelopes: list[bytes] = []
    holders: dict[bytes, None] = {}
    for one in asked.records or []:
        known = records.RECORDS.get(state, one)
        if known is None or records.is_erased(state, known):
            continue  # erased by another order while this one could be contested
        keeping = [(hold, value) for hold, value in standing if covers(value, known)]
        if keeping:
            hold, value = keeping[0]
            kept.append(KeptBack(one, hold, value.holder, value.basis, value.not_after))
            continue
        erased.append(one)
        envelopes.append(known.envelope)
        holders.update(dict.fromkeys(holders_of(state, known)))
        blank = msgspec.structs.replace(known, anchor=BLANK, envelope=BLANK)
        records.RECORDS.put(state, blank, one)
    told = Erased(identifier, asked.patient, erased or None, envelopes, None, None)
    return _done(asked, kept, holders, told if erased else None, context)


def _erase_places(asked: Erasure, identifier: bytes, context: OperationContext) -> Erasure:
    """A compartment through an epoch, or all of the patient's compartments. Authors with a hold are spared."""
    state = context.state
    standing = [
        (one, hold)
        for one, hold in holds_on(state, asked.patient, context.time_ms)
        if asked.compartment is None or hold.compartment in (None, asked.compartment)
    ]
    kept = [KeptBack(None, one, hold.holder, hold.basis, hold.not_after) for one, hold in standing]
    told = Erased(identifier, asked.patient, None, [], asked.compartment, asked.epoch)
    if any(hold.everything for _, hold in standing):
        return msgspec.structs.replace(asked, outcome="refused", kept=kept)
    spared = sorted({hold.holder for _, hold in standing})
    holders: dict[bytes, None] = {}
    places = _places(asked, state)
    epochs = sum(last + 1 - first for _, first, last in places)
    context.charge(weights.ERASED_EPOCH * epochs)
    context.weighed += epochs
    if context.weighed > EPOCHS_PER_TRANSACTION_MAX:
        raise Refused(
            "erasure.too_large", f"more than {EPOCHS_PER_TRANSACTION_MAX} epochs in one transaction"
        )
    for compartment, first, last in places:
        for epoch in range(first, last + 1):
            holders.update(dict.fromkeys(holders_in(state, compartment, epoch)))
    if asked.compartment is None:
        holders.update(dict.fromkeys(keepers_of(state, asked.patient)))
    if asked.compartment is not None and asked.epoch is not None:
        number = records.epoch_bytes(min(asked.epoch + 1, records.EPOCH_MAX))
        following = records.EPOCHS.get(state, asked.compartment, number)
        ended_ms = following.begun_ms if following is not None else context.time_ms
        stone = Tombstone(identifier, asked.epoch, ended_ms, spared)
        _leave(ERASED_COMPARTMENTS, stone, asked.compartment, state)
    else:
        stone = Tombstone(identifier, records.EPOCH_MAX, context.time_ms, spared)
        _leave(ERASED_PATIENTS, stone, asked.patient, state)
    return _done(asked, kept, holders, told, context)


def _places(asked: Erasure, state: StateReader) -> list[tuple[bytes, int, int]]:
    """The compartments that are meant, each with the first and last epoch that are and were not erased for everybody:
    who has many epochs erases them in steps."""
    if asked.compartment is not None and asked.epoch is not None:
        ends = [(asked.compartment, asked.epoch)]
    else:
        opened = records.PATIENTS.get(state, asked.patient)
        found = [
            (one, records.COMPARTMENTS.get(state, one))
            for one in (opened.compartments if opened is not None else [])
        ]
        ends = [(one, known.epoch) for one, known in found if known is not None]
    places = [(one, min(tombstones.first_unerased(state, one), last + 1), last) for one, last in ends]
    if sum(last + 1 - first for _, first, last in places) > EPOCHS_PER_ERASURE_MAX:
        raise Refused("erasure.too_large", f"more than {EPOCHS_PER_ERASURE_MAX} epochs")
    return places


def _leave(slot: Slot[Tombstones], stone: Tombstone, place: bytes, state: Overlay) -> None:
    """Add a tombstone, in place of those that it says everything of."""
    earlier = slot.get(state, place)
    left = [one for one in (earlier.stones if earlier is not None else []) if not _within(one, stone)]
    if len(left) >= TOMBSTONES_MAX:
        raise Refused("erasure.too_many", f"{len(left)} tombstones differ")
    slot.put(state, Tombstones([*left, stone]), place)


def _within(earlier: Tombstone, stone: Tombstone) -> bool:
    reached = earlier.epoch <= stone.epoch and earlier.until_ms <= stone.until_ms
    return reached and all(one in earlier.spared for one in stone.spared)


def _done(
    asked: Erasure,
    kept: list[KeptBack],
    holders: dict[bytes, None],
    told: Erased | None,
    context: OperationContext,
) -> Erasure:
    if len(holders) > HOLDERS_MAX:
        raise Refused("erasure.too_many_holders", f"{len(holders)}; the limit is {HOLDERS_MAX}")
    if told is None and kept:
        return msgspec.structs.replace(asked, outcome="refused", kept=kept)
    if told is not None:
        subjects = [asked.patient, told.erasure, *_other(asked.requested_by, asked.patient)]
        CARRIED.emit(context, subjects, told)
    return msgspec.structs.replace(
        asked,
        outcome="partly" if kept else "carried-out",
        carried_out_ms=context.time_ms,
        kept=kept,
        holders=sorted(holders),
    )


def _attest(body: AttestErasure, context: OperationContext) -> Attested:
    known = ERASURES.get(context.state, body.erasure)
    if known is None:
        raise Refused("erasure.unknown", body.erasure.hex())
    if known.carried_out_ms is None or context.sender not in known.holders:
        raise Refused("erasure.not_a_holder", context.sender.hex())
    if context.sender in known.attested:
        raise Refused("erasure.attested_already", body.erasure.hex())
    attested = msgspec.structs.replace(known, attested=[*known.attested, context.sender])
    ERASURES.put(context.state, attested, body.erasure)
    told = Attested(body.erasure, context.sender, attested.complete, len(attested.missing))
    ATTESTED.emit(context, [known.patient, body.erasure, context.sender], told)
    return told


CONTRACT: Final = Contract(
    name="erasure",
    operations=(
        OperationSpec("erasure.request", RequestErasure, _request, ErasureVerdict, rank=Rank.TAKES_RIGHTS),
        OperationSpec("erasure.contest", ContestErasure, _contest, rank=Rank.TAKES_RIGHTS),
        OperationSpec(
            "erasure.carry_out", CarryOutErasure, _carry_out, ErasureVerdict, rank=Rank.TAKES_RIGHTS
        ),
        OperationSpec("erasure.attest", AttestErasure, _attest, Attested),
    ),
    slots=(ERASURES, ERASED_COMPARTMENTS, ERASED_PATIENTS),
    events=(REQUESTED, CONTESTED, CARRIED, ATTESTED),
)
