"""Take-over: the patient, of age or out of hospital, makes the account its own, in one transaction.

All old signing keys end, and with them whatever was signed with them and not yet included; the manager, delegates and
guardians go, and what they granted is void; every compartment begins an epoch under a key that the patient made, and
has its class hidden anew by what follows from the new wallet's root, so that its words and the chain find it. What
stays: shares and plaintext that others have kept cannot be taken back, only made useless for what is written from now
on.

The patient signs, and nobody else. Whose keys are lost, or were never the patient's, goes by recovery (`recovery`).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.contracts import identity, records, representation
from consilium.contracts.classes import CLASSES_MAX
from consilium.contracts.operation import Contract, EventKind, OperationSpec, Rank
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, Tag, verify
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext

_TAG: Final = Tag("consilium/take-over/1")


class TakeOver(codec.Wire, frozen=True):
    """`takeover.complete`. `proof` is a signature by the new key over `takeover_digest`; `epochs` has one for each of
    the patient's compartments, in the order of their ids, and so has `class_commitments`, or is empty where the patient
    does not know which is of which class: then they stay as they are."""

    patient: codec.Bytes16
    key: codec.Bytes32
    encryption_key: codec.Bytes32
    proof: codec.Bytes64
    epochs: Annotated[list[records.BeginEpoch], msgspec.Meta(max_length=CLASSES_MAX)]
    class_commitments: Annotated[list[codec.Bytes32], msgspec.Meta(max_length=CLASSES_MAX)]


class TakenOver(codec.Wire, frozen=True):
    """The data of `takeover.completed`."""

    key: codec.Bytes32
    generation: codec.Uint


COMPLETED: Final = EventKind("takeover.completed", TakenOver)


def takeover_digest(
    *, chain_id: bytes, patient: bytes, key: bytes, encryption_key: bytes, generation: int
) -> Digest:
    """What the new key signs (32 bytes). `generation` is the account's as it is now, so that a proof serves once."""
    return _TAG.digest(codec.encode((chain_id, patient, key, encryption_key, generation)))


def check_new_key(
    patient: bytes, key: bytes, encryption_key: bytes, proof: bytes, context: OperationContext
) -> identity.Identity:
    """The patient, whose the new key could become. Raises Refused `identity.bad_proof`, `.key_taken`."""
    state = context.state
    known = representation.require_patient(state, patient)
    digest = takeover_digest(
        chain_id=context.chain_id,
        patient=patient,
        key=key,
        encryption_key=encryption_key,
        generation=representation.account_of(state, patient).generation,
    )
    if not verify(key, digest, proof):
        raise Refused("identity.bad_proof")
    if identity.KEYS.get(state, key) is not None:
        raise Refused("identity.key_taken", key.hex())
    return known


def replace_keys(
    patient: bytes, key: bytes, encryption_key: bytes, proof: bytes, context: OperationContext
) -> identity.Identity:
    """End every key of the patient, and let the new one speak. Raises Refused `identity.bad_proof`, `.key_taken`."""
    state = context.state
    known = check_new_key(patient, key, encryption_key, proof, context)
    for old in known.keys:
        entry = identity.KEYS.get(state, old)
        if entry is not None:
            identity.KEYS.put(state, msgspec.structs.replace(entry, revoked_ms=context.time_ms), old)
            identity.KEY_REVOKED.emit(context, [patient], identity.KeyChanged(old))
    identity.KEYS.put(state, identity.KeyEntry(patient, context.time_ms, None), key)
    changed = msgspec.structs.replace(known, keys=[key], encryption_key=encryption_key)
    identity.IDENTITIES.put(state, changed, patient)
    identity.KEY_ADDED.emit(context, [patient], identity.KeyChanged(key))
    return known


def _take_over(body: TakeOver, context: OperationContext) -> None:
    state = context.state
    capacity = representation.capacity_of(state, context.sender, body.patient, context.time_ms)
    # Not the manager: with a key of its own making it would become the patient, and nobody could tell.
    if capacity != representation.PATIENT:
        raise Refused("records.not_yours", body.patient.hex())
    known = replace_keys(body.patient, body.key, body.encryption_key, body.proof, context)
    opened = records.PATIENTS.get(state, body.patient)
    compartments = opened.compartments if opened is not None else []
    if [epoch.compartment for epoch in body.epochs] != compartments:
        raise Refused("takeover.epochs_incomplete", f"{len(compartments)} compartments, in the order of ids")
    hidden = body.class_commitments
    if hidden and not len(hidden) == len({*hidden}) == len(compartments):
        raise Refused("takeover.classes_incomplete", f"{len(compartments)} compartments, each with its own")
    for epoch in body.epochs:
        records.begin_epoch(epoch, context)
    for compartment, commitment in zip(compartments if hidden else [], hidden, strict=True):
        records.hide_class(compartment, commitment, context)
    account = representation.account_of(state, body.patient)
    generation = account.generation + 1
    emptied = representation.Account(None, [], generation, account.changes + 1)
    representation.ACCOUNTS.put(state, emptied, body.patient)
    gone = [one.identity for one in account.representatives]
    subjects = [body.patient, *([known.sponsor] if known.sponsor is not None else []), *gone]
    COMPLETED.emit(context, list(dict.fromkeys(subjects))[:8], TakenOver(body.key, generation))


CONTRACT: Final = Contract(
    name="takeover",
    operations=(OperationSpec("takeover.complete", TakeOver, _take_over, rank=Rank.TAKES_RIGHTS),),
    events=(COMPLETED,),
)
