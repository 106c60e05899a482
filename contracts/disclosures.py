"""Disclosures: custodians attest what they released, and who asks for a patient's accounting is written into it.

Decided is not disclosed. A custodian says in batches what it has handed out on which verdict, so that a line of the
accounting shows both; the ledger checks that the verdict was an allow, that it was this custodian's to release, and
that it was within the window. What a custodian releases and does not attest, the ledger cannot see.

Who reads an accounting asks the ledger first, as whoever reads a record does: the patient, who represents the patient,
or an auditor with a credential. A denial is a verdict here too, and stands in the accounting that it would have opened.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.contracts import access, accounting, credentials, identity, keys, records, representation
from consilium.contracts.accounting import (
    AccountingConsulted,
    ConsultBasis,
    OperationIndex,
    RecordsReleased,
    ReleasedCount,
    VerdictIndex,
)
from consilium.contracts.operation import ID_BYTES, Contract, OperationSpec, Rank, Slot
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

ATTESTATIONS_MAX: Final = 256
"""Releases in one operation: its body then has less than 15 KiB."""
CONSULTATION_VERSION: Final = 1
CONSULTATION_WINDOW_MS: Final = 15 * 60 * 1000
VERDICT_BYTES: Final = 2
REPRESENTING: Final = (representation.GUARDIAN, representation.DELEGATE)


class AttestedRelease(codec.Wire, frozen=True):
    """How many records of one verdict the sender has released so far, and when it released the last of them (its own
    clock, milliseconds since 1970). `epoch` is one in which the sender is a custodian of the compartment."""

    transaction: codec.Bytes32
    operation: OperationIndex
    verdict: VerdictIndex
    epoch: records.EpochNumber
    records: ReleasedCount
    released_ms: codec.Uint


class AttestReleases(codec.Wire, frozen=True):
    """`disclosure.attest`: by a custodian of the compartments, or one that was."""

    releases: Annotated[list[AttestedRelease], msgspec.Meta(min_length=1, max_length=ATTESTATIONS_MAX)]


class ReleaseEntry(codec.Wire, frozen=True):
    """What state holds of one custodian's releases on one verdict."""

    records: ReleasedCount
    released_ms: codec.Uint
    attested_ms: codec.Uint


class ConsultAccounting(codec.Wire, frozen=True):
    """`disclosure.consult`: `credential` is an auditor's, and None for everybody else."""

    patient: codec.Bytes16
    credential: codec.Bytes16 | None


class Consultation(codec.Wire, frozen=True):
    """The result of `disclosure.consult`, and what state holds under its transaction and operation.

    `valid_until` (block time, exclusive) is 0 for a denial.
    """

    version: codec.Uint
    patient: codec.Bytes16
    reader: codec.Bytes16
    key: codec.Bytes32
    time_ms: codec.Uint
    allow: bool
    basis: ConsultBasis
    credential: codec.Bytes16 | None
    valid_until: codec.Uint


RELEASES: Final = Slot(
    keys.RELEASE,
    (access.TRANSACTION_ID_BYTES, access.OPERATION_INDEX_BYTES, VERDICT_BYTES, ID_BYTES),
    ReleaseEntry,
    64,
)
CONSULTATIONS: Final = Slot(
    keys.CONSULTATION, (access.TRANSACTION_ID_BYTES, access.OPERATION_INDEX_BYTES), Consultation, 256
)


def release_place(transaction: bytes, operation: int, verdict: int, custodian: bytes) -> tuple[bytes, ...]:
    """The parts of a key of RELEASES."""
    number = verdict.to_bytes(VERDICT_BYTES, "big")
    return (transaction, access.operation_bytes(operation), number, custodian)


# --- attesting ------------------------------------------------------------------------------------------------------


def _attest(body: AttestReleases, context: OperationContext) -> None:
    # No role is asked for: who was one of the custodians of an epoch still answers for what it releases of it.
    for one in body.releases:
        _attest_one(one, context)


def _attest_one(one: AttestedRelease, context: OperationContext) -> None:
    state = context.state
    decision = access.DECISIONS.get(state, one.transaction, access.operation_bytes(one.operation))
    if decision is None or one.verdict >= len(decision.verdicts):
        raise Refused("disclosure.no_decision", one.transaction.hex())
    verdict = decision.verdicts[one.verdict]
    if not verdict.allow or verdict.patient is None or verdict.compartment is None:
        raise Refused("disclosure.not_allowed", one.transaction.hex())
    epoch = records.EPOCHS.get(state, verdict.compartment, records.epoch_bytes(one.epoch))
    # Records of an earlier epoch are released by its custodians.
    if one.epoch > verdict.epoch or epoch is None or context.sender not in epoch.custodians:
        raise Refused("disclosure.not_the_custodian", verdict.compartment.hex())
    if not decision.time_ms <= one.released_ms < verdict.valid_until:
        raise Refused("disclosure.outside_window", str(one.released_ms))
    if verdict.records is not None and one.records > len(verdict.records):
        raise Refused("disclosure.too_many", f"{one.records} of {len(verdict.records)} records")
    place = release_place(one.transaction, one.operation, one.verdict, context.sender)
    known = RELEASES.get(state, *place)
    if known is not None and known.records >= one.records:
        return  # said before: a custodian that is not sure says it again
    entry = ReleaseEntry(one.records, one.released_ms, context.time_ms)
    RELEASES.put(state, entry, *place)
    if known is None:
        size = len(RELEASES.key(*place)) + len(codec.encode(entry))
        context.caused[decision.reader] = context.caused.get(decision.reader, 0) + size
    released = RecordsReleased(
        patient=verdict.patient,
        number=0,
        custodian=context.sender,
        reader=decision.reader,
        institution=decision.institution,
        request=one.transaction,
        request_operation=one.operation,
        verdict=one.verdict,
        compartment=verdict.compartment,
        also=verdict.also,
        records=one.records,
        released_ms=one.released_ms,
    )
    accounting.tell_released(released, context)


# --- consulting -----------------------------------------------------------------------------------------------------


def basis_of(
    state: StateReader, reader: bytes, patient: bytes, credential: bytes | None, time_ms: int
) -> ConsultBasis:
    """On what ground somebody may see a patient's accounting at that block time: `no-basis` where on none.

    A manager is not among them: it opened the account, and represents nobody in law.
    """
    if reader == patient:
        return "patient"
    if representation.capacity_of(state, reader, patient, time_ms) in REPRESENTING:
        return "representative"
    if credential is not None:
        problem = credentials.problem_of(state, credential, reader, credentials.AUDITOR, time_ms)
        return "no-basis" if problem is not None else "auditor"
    return "no-basis"


def _consult(body: ConsultAccounting, context: OperationContext) -> Consultation:
    state = context.state
    reader = identity.require(state, context.sender)
    if reader.kind == identity.APPLICATION:
        raise Refused("access.not_a_reader", context.sender.hex())
    known = identity.IDENTITIES.get(state, body.patient)
    if known is None or known.kind != identity.PATIENT:
        raise Refused("records.not_a_patient", body.patient.hex())
    basis = basis_of(state, context.sender, body.patient, body.credential, context.time_ms)
    allow = basis != accounting.NO_BASIS
    consultation = Consultation(
        version=CONSULTATION_VERSION,
        patient=body.patient,
        reader=context.sender,
        key=context.key,
        time_ms=context.time_ms,
        allow=allow,
        basis=basis,
        credential=body.credential if basis == accounting.AUDITOR else None,
        valid_until=context.time_ms + CONSULTATION_WINDOW_MS if allow else 0,
    )
    number = access.operation_bytes(context.operation)
    CONSULTATIONS.put(state, consultation, context.transaction, number)
    told = AccountingConsulted(
        patient=body.patient,
        number=0,
        reader=context.sender,
        institution=reader.sponsor if reader.kind == identity.PRACTITIONER else None,
        allow=allow,
        basis=basis,
        credential=consultation.credential,
    )
    accounting.tell_consulted(told, context)
    return consultation


def consultation_problem(state: StateReader, consultation: Consultation, time_ms: int) -> str | None:
    """None where a node may answer a committed consultation at block time `time_ms`, else the code of why not."""
    if not consultation.allow:
        return "accounting.denied"
    if not consultation.time_ms <= time_ms < consultation.valid_until:
        return "access.window_closed"
    problem = identity.key_standing(state, consultation.reader, consultation.key, time_ms)
    if problem is not None:
        return problem
    now = basis_of(state, consultation.reader, consultation.patient, consultation.credential, time_ms)
    return None if now == consultation.basis else "accounting.denied"


CONTRACT: Final = Contract(
    name="disclosure",
    operations=(
        OperationSpec("disclosure.attest", AttestReleases, _attest),
        OperationSpec("disclosure.consult", ConsultAccounting, _consult, Consultation, rank=Rank.USES_RIGHTS),
    ),
    slots=(accounting.HEADS, RELEASES, CONSULTATIONS),
    events=(accounting.RELEASED, accounting.CONSULTED, accounting.OPENED),
)
