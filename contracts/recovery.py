"""Recovery: a patient who lost every key gets a new one, if guardians agree, and nobody objects in time.

One guardian proposes the new key, the others approve; with more than half of them (and never fewer than two, where
there are two) the waiting time of the network begins. During it any live key of the patient vetoes, and so does
nothing else. After it a guardian completes: the old keys end. Compartments keep their epochs, for the patient must
first be able to read; who fears for them begins new ones.

Each guardian has a proposal of its own, and nobody takes another's away: one guardian alone can neither replace
what the others agreed on nor begin its waiting time anew. A proposal that others approved stays until it is
completed, vetoed or lapses; who proposes a key that is proposed already approves it.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.contracts import keys, representation, settings
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.contracts.takeover import check_new_key, replace_keys
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

LIFETIME_MS: Final = 30 * 24 * 60 * 60 * 1000
"""A proposal that was not approved by then lapses, and so does one that was not completed so long after its waiting
time. Both are counted apart: a network may wait for longer than this."""


class ProposeRecovery(codec.Wire, frozen=True):
    """`recovery.propose`: by a guardian. `proof` as in `takeover`. It replaces the guardian's own proposal that nobody
    else approved."""

    patient: codec.Bytes16
    key: codec.Bytes32
    encryption_key: codec.Bytes32
    proof: codec.Bytes64


class ApproveRecovery(codec.Wire, frozen=True):
    """`recovery.approve`: by another guardian; `key` says which proposal is meant."""

    patient: codec.Bytes16
    key: codec.Bytes32


class VetoRecovery(codec.Wire, frozen=True):
    """`recovery.veto`: by the patient, with any key that still speaks."""

    key: codec.Bytes32


class CompleteRecovery(codec.Wire, frozen=True):
    """`recovery.complete`: by a guardian, when the waiting time is over."""

    patient: codec.Bytes16
    key: codec.Bytes32


class Recovery(codec.Wire, frozen=True):
    """A proposal. `approved_by` begins with who proposed; `ready_ms` is None while too few approve."""

    key: codec.Bytes32
    encryption_key: codec.Bytes32
    proof: codec.Bytes64
    proposer: codec.Bytes16
    proposed_ms: codec.Uint
    approved_by: Annotated[list[codec.Bytes16], msgspec.Meta(max_length=representation.REPRESENTATIVES_MAX)]
    ready_ms: codec.Uint | None


class Recoveries(codec.Wire, frozen=True):
    """A patient's open proposals, oldest first: one of each guardian at most."""

    proposals: Annotated[list[Recovery], msgspec.Meta(max_length=representation.REPRESENTATIVES_MAX)]


class RecoveryChanged(codec.Wire, frozen=True):
    """The data of the events: the proposed key, how many approve, when it can be completed."""

    key: codec.Bytes32
    approvals: codec.Uint
    ready_ms: codec.Uint | None


RECOVERIES: Final = Slot(keys.RECOVERY, (ID_BYTES,), Recoveries, 4_096)
PROPOSED: Final = EventKind("recovery.proposed", RecoveryChanged)
APPROVED: Final = EventKind("recovery.approved", RecoveryChanged)
VETOED: Final = EventKind("recovery.vetoed", RecoveryChanged)
COMPLETED: Final = EventKind("recovery.completed", RecoveryChanged)


def approvals_needed(guardians: int) -> int:
    """More than half."""
    return guardians // 2 + 1


def _guardians(patient: bytes, context: OperationContext) -> list[bytes]:
    """The patient's guardians now, of whom the sender is one. Raises Refused `recovery.not_a_guardian`."""
    representation.require_patient(context.state, patient)
    representation.speaks_as(context, patient)
    account = representation.account_of(context.state, patient)
    leases = representation.current(account, representation.GUARDIAN, context.time_ms)
    guardians = [one.identity for one in leases]
    if context.sender not in guardians:
        raise Refused("recovery.not_a_guardian", patient.hex())
    return guardians


def open_proposals(state: StateReader, patient: bytes, time_ms: int) -> list[Recovery]:
    """A patient's proposals that have not lapsed, oldest first."""
    known = RECOVERIES.get(state, patient)
    lasting = known.proposals if known else []
    return [one for one in lasting if time_ms < (one.ready_ms or one.proposed_ms) + LIFETIME_MS]


def _propose(body: ProposeRecovery, context: OperationContext) -> None:
    guardians = _guardians(body.patient, context)
    check_new_key(body.patient, body.key, body.encryption_key, body.proof, context)
    known = _open(body.patient, guardians, context)
    for one in known:
        if one.key == body.key:
            _approve(ApproveRecovery(body.patient, body.key), context)
            return
        if one.proposer == context.sender and one.approved_by != [context.sender]:
            raise Refused("recovery.pending", one.key.hex())
    proposed = Recovery(
        key=body.key,
        encryption_key=body.encryption_key,
        proof=body.proof,
        proposer=context.sender,
        proposed_ms=context.time_ms,
        approved_by=[context.sender],
        ready_ms=None,
    )
    others = [one for one in known if one.proposer != context.sender]
    _keep(proposed, others, body.patient, guardians, PROPOSED, context)


def _approve(body: ApproveRecovery, context: OperationContext) -> None:
    guardians = _guardians(body.patient, context)
    known = _open(body.patient, guardians, context)
    found = _named(known, body.patient, body.key)
    if context.sender in found.approved_by:
        raise Refused("recovery.approved_already", body.patient.hex())
    approved = msgspec.structs.replace(found, approved_by=[*found.approved_by, context.sender])
    others = [one for one in known if one.key != body.key]
    _keep(approved, others, body.patient, guardians, APPROVED, context)


def _open(patient: bytes, guardians: list[bytes], context: OperationContext) -> list[Recovery]:
    """The proposals of those who are guardians still, with the approvals of such."""
    return [
        msgspec.structs.replace(one, approved_by=[who for who in one.approved_by if who in guardians])
        for one in open_proposals(context.state, patient, context.time_ms)
        if one.proposer in guardians
    ]


def _keep(
    recovery: Recovery,
    others: list[Recovery],
    patient: bytes,
    guardians: list[bytes],
    kind: EventKind,
    context: OperationContext,
) -> None:
    """The waiting time begins once, with the approval that was needed."""
    counted = recovery.approved_by
    ready_ms = recovery.ready_ms
    if ready_ms is None and len(counted) >= approvals_needed(len(guardians)):
        ready_ms = context.time_ms + settings.current(context.state).recovery_wait_ms
    kept = msgspec.structs.replace(recovery, ready_ms=ready_ms)
    together = sorted([*others, kept], key=lambda one: one.proposed_ms)
    RECOVERIES.put(context.state, Recoveries(together), patient)
    kind.emit(context, [patient, *guardians[:7]], RecoveryChanged(kept.key, len(counted), ready_ms))


def _veto(body: VetoRecovery, context: OperationContext) -> None:
    known = open_proposals(context.state, context.sender, context.time_ms)
    vetoed = _named(known, context.sender, body.key)
    left = [one for one in known if one.key != body.key]
    RECOVERIES.put(context.state, Recoveries(left), context.sender)
    told = RecoveryChanged(vetoed.key, len(vetoed.approved_by), vetoed.ready_ms)
    VETOED.emit(context, [context.sender, *vetoed.approved_by[:7]], told)


def _complete(body: CompleteRecovery, context: OperationContext) -> None:
    guardians = _guardians(body.patient, context)
    found = _named(_open(body.patient, guardians, context), body.patient, body.key)
    counted = found.approved_by
    if len(counted) < approvals_needed(len(guardians)):
        raise Refused("recovery.too_few_approvals", f"{len(counted)} of {len(guardians)} guardians")
    if found.ready_ms is None or context.time_ms < found.ready_ms:
        raise Refused("recovery.not_ready", f"ready at {found.ready_ms} ms")
    replace_keys(body.patient, found.key, found.encryption_key, found.proof, context)
    context.state.delete(RECOVERIES.key(body.patient))
    told = RecoveryChanged(found.key, len(counted), found.ready_ms)
    COMPLETED.emit(context, [body.patient, *guardians[:7]], told)


def _named(known: list[Recovery], patient: bytes, key: bytes) -> Recovery:
    for one in known:
        if one.key == key:
            return one
    raise Refused("recovery.unknown", patient.hex())


CONTRACT: Final = Contract(
    name="recovery",
    operations=(
        OperationSpec("recovery.propose", ProposeRecovery, _propose),
        OperationSpec("recovery.approve", ApproveRecovery, _approve),
        OperationSpec("recovery.veto", VetoRecovery, _veto, rank=Rank.TAKES_RIGHTS),
        OperationSpec("recovery.complete", CompleteRecovery, _complete),
    ),
    slots=(RECOVERIES,),
    events=(PROPOSED, APPROVED, VETOED, COMPLETED),
)
