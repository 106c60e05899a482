"""Recovery: a patient who lost every key gets a new one, if guardians agree, and nobody objects in time.

One guardian proposes the new key, the others approve; with more than half of them (and never fewer than two, where
there are two) the waiting time of the network begins. During it any live key of the patient vetoes, and so does
nothing else. After it a guardian completes: the old keys end. Compartments keep their epochs, for the patient must
first be able to read; who fears for them begins new ones.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.contracts import keys, representation, settings
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.contracts.takeover import replace_keys
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext


class ProposeRecovery(codec.Wire, frozen=True):
    """`recovery.propose`: by a guardian. `proof` as in `takeover`. It replaces a proposal that is not complete."""

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
    """A proposal. `ready_ms` is None while too few approve."""

    key: codec.Bytes32
    encryption_key: codec.Bytes32
    proof: codec.Bytes64
    approved_by: Annotated[list[codec.Bytes16], msgspec.Meta(max_length=representation.REPRESENTATIVES_MAX)]
    ready_ms: codec.Uint | None


class RecoveryChanged(codec.Wire, frozen=True):
    """The data of the events: the proposed key, how many approve, when it can be completed."""

    key: codec.Bytes32
    approvals: codec.Uint
    ready_ms: codec.Uint | None


RECOVERIES: Final = Slot(keys.RECOVERY, (ID_BYTES,), Recovery, 512)
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
    account = representation.account_of(context.state, patient)
    leases = representation.current(account, representation.GUARDIAN, context.time_ms)
    guardians = [one.identity for one in leases]
    if context.sender not in guardians:
        raise Refused("recovery.not_a_guardian", patient.hex())
    return guardians


def _propose(body: ProposeRecovery, context: OperationContext) -> None:
    guardians = _guardians(body.patient, context)
    proposed = Recovery(body.key, body.encryption_key, body.proof, [context.sender], None)
    _keep(proposed, body.patient, guardians, PROPOSED, context)


def _approve(body: ApproveRecovery, context: OperationContext) -> None:
    guardians = _guardians(body.patient, context)
    known = _known(body.patient, body.key, context)
    if context.sender in known.approved_by:
        raise Refused("recovery.approved_already", body.patient.hex())
    approved = msgspec.structs.replace(known, approved_by=[*known.approved_by, context.sender])
    _keep(approved, body.patient, guardians, APPROVED, context)


def _keep(
    recovery: Recovery, patient: bytes, guardians: list[bytes], kind: EventKind, context: OperationContext
) -> None:
    """Who is guardian no more does not count; the waiting time begins once, with the approval that was needed."""
    counted = [one for one in recovery.approved_by if one in guardians]
    ready_ms = recovery.ready_ms
    if ready_ms is None and len(counted) >= approvals_needed(len(guardians)):
        ready_ms = context.time_ms + settings.current(context.state).recovery_wait_ms
    kept = msgspec.structs.replace(recovery, approved_by=counted, ready_ms=ready_ms)
    RECOVERIES.put(context.state, kept, patient)
    kind.emit(context, [patient, *guardians[:7]], RecoveryChanged(kept.key, len(counted), ready_ms))


def _veto(body: VetoRecovery, context: OperationContext) -> None:
    known = _known(context.sender, body.key, context)
    context.state.delete(RECOVERIES.key(context.sender))
    told = RecoveryChanged(known.key, len(known.approved_by), known.ready_ms)
    VETOED.emit(context, [context.sender, *known.approved_by[:7]], told)


def _complete(body: CompleteRecovery, context: OperationContext) -> None:
    guardians = _guardians(body.patient, context)
    known = _known(body.patient, body.key, context)
    counted = [one for one in known.approved_by if one in guardians]
    if len(counted) < approvals_needed(len(guardians)):
        raise Refused("recovery.too_few_approvals", f"{len(counted)} of {len(guardians)} guardians")
    if known.ready_ms is None or context.time_ms < known.ready_ms:
        raise Refused("recovery.not_ready", f"ready at {known.ready_ms} ms")
    replace_keys(body.patient, known.key, known.encryption_key, known.proof, context)
    context.state.delete(RECOVERIES.key(body.patient))
    told = RecoveryChanged(known.key, len(counted), known.ready_ms)
    COMPLETED.emit(context, [body.patient, *guardians[:7]], told)


def _known(patient: bytes, key: bytes, context: OperationContext) -> Recovery:
    known = RECOVERIES.get(context.state, patient)
    if known is None or known.key != key:
        raise Refused("recovery.unknown", patient.hex())
    return known


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
