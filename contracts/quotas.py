"""How much a member may add to what every node keeps for ever: bytes of state, by who answers for them.

State has no end of its own: requests, consents and anchors stay. So each institution has a quota for a day, and with it
whoever it enrolled but patients; a patient has one for thirty days, which the enrolment counts against the institution,
so that nobody grows by making patients. Quotas run off evenly: what was added a day ago, or thirty, counts no more. The
network changes them by vote (`ballot.ChangeQuotas`).

What is added is counted for everything. It is refused by what it is for: an import ends at the quota, care (`CARE`) at
twice the quota, so that a day's import stops no ward; a patient's reading (`READING`) ends at the quota, and what the
patient decides at twice that, so that who reads often still says who else may; and what takes rights away, governs, or
saves a life is never refused (`NEVER_REFUSED`). Those write little, and cannot be said again and again.

What somebody must add because another asked counts with who asked, if that is no patient (`caused`): else asking would
use up the quota of whoever has to answer.

What was added is summed up in memory and written once a block for everybody who added something.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

import msgspec

from consilium.contracts import identity, keys
from consilium.contracts.calendar import DAY_MS
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, Slot
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import Overlay, StateReader
from consilium.ledger.transaction import Operation

MEMBER_MS: Final = DAY_MS
PATIENT_MS: Final = 30 * DAY_MS
QUOTA_BYTES_MIN: Final = 4 * 1024
QUOTA_BYTES_MAX: Final = 1024**4
CARE_FACTOR: Final = 2

CARE: Final = frozenset(
    {
        "access.request",
        "disclosure.consult",
        "emergency.report_overdue",
        "erasure.request",
        "session.begin",
        "summary.report",
        "takeover.complete",
        "treatment.attest",
    }
)
"""Refused at `CARE_FACTOR` times the quota only, for institutions."""
READING: Final = frozenset({"access.request", "disclosure.consult"})
"""Refused to a patient at the quota; all else at `CARE_FACTOR` times that."""
NEVER_REFUSED: Final = frozenset(
    {
        "consent.revoke",
        "credential.revoke",
        "disclosure.attest",
        "emergency.close",
        "emergency.declare",
        "emergency.review",
        "erasure.attest",
        "erasure.carry_out",
        "erasure.contest",
        "governance.propose",
        "governance.ready",
        "governance.report_evidence",
        "governance.returned",
        "governance.vote",
        "identity.reinstate",
        "identity.revoke_key",
        "identity.suspend",
        "mandate.withdraw",
        "preferences.set",
        "recovery.veto",
        "representation.dismiss",
        "retention.lift",
        "session.end",
        "summary.withdraw",
        "teams.remove",
        "treatment.end",
    }
)
ENROLMENT: Final = "identity.enrol"

Bytes = Annotated[int, msgspec.Meta(ge=QUOTA_BYTES_MIN, le=QUOTA_BYTES_MAX)]


class Quotas(codec.Wire, frozen=True):
    """The network's choice in state, and the data of `quotas.changed`: how many bytes of state an institution adds in a
    day (`MEMBER_MS`), and a patient in thirty (`PATIENT_MS`)."""

    member_bytes: Bytes
    patient_bytes: Bytes


class Added(codec.Wire, frozen=True):
    """How many bytes somebody added of late, as of a block time."""

    bytes: codec.Uint
    at_ms: codec.Uint


class _Allowance(NamedTuple):
    payer: bytes
    quota: int
    period_ms: int
    code: str


DEFAULTS: Final = Quotas(member_bytes=1024**3, patient_bytes=64 * 1024)

QUOTAS: Final = Slot(keys.QUOTAS, (), Quotas, 32)
ADDED: Final = Slot(keys.ADDED, (ID_BYTES,), Added, 32)
CHANGED: Final = EventKind("quotas.changed", Quotas)


def current(state: StateReader) -> Quotas:
    """The network's quotas."""
    return QUOTAS.get(state) or DEFAULTS


def change(quotas: Quotas, context: OperationContext) -> None:
    """Put new quotas in place: who may do so is for the caller to ask."""
    QUOTAS.put(context.state, quotas)
    CHANGED.emit(context, [context.sender], quotas)


def added_by(state: StateReader, payer: bytes, quota: int, period_ms: int, time_ms: int) -> int:
    """How many bytes of somebody's quota are used at that block time."""
    known = ADDED.get(state, payer)
    if known is None:
        return 0
    return max(0, known.bytes - (time_ms - known.at_ms) * quota // period_ms)


class Meter:
    """Counts what the transactions of one block add. Implements `ledger.execution.Meter`."""

    def __init__(self, state: Overlay, time_ms: int) -> None:
        self._state = state
        self._time_ms = time_ms
        self._quotas = current(state)
        self._added: dict[bytes, int] = {}
        self._allowances: dict[bytes, _Allowance] = {}
        """By sender: who answers for an identity never changes."""

    def charge(self, operations: Sequence[Operation], context: OperationContext) -> None:
        """Count what a transaction added since the last one was kept. Raises Refused `quota.member_full`,
        `quota.patient_full`."""
        grown = self._state.growth() - sum(context.caused.values())
        for operation in operations:
            if operation.name == ENROLMENT:
                grown += self._quotas.patient_bytes
        if grown > 0:
            allowance = self._allowance(context.sender)
            grown += self._added_by(allowance)
            if grown > allowance.quota:
                limit = _limit(operations, allowance)
                if limit is not None and grown > limit:
                    raise Refused(allowance.code, f"{grown} of {limit} bytes would be used")
            self._added[allowance.payer] = grown
        for asker, size in context.caused.items():
            allowance = self._allowance(asker)
            if allowance.period_ms == MEMBER_MS:
                self._added[allowance.payer] = self._added_by(allowance) + size

    def close(self) -> None:
        """Write what was added: the block is at its end."""
        for payer, added in self._added.items():
            ADDED.put(self._state, Added(added, self._time_ms), payer)

    def _added_by(self, allowance: _Allowance) -> int:
        payer, quota, period_ms, _ = allowance
        added = self._added.get(payer)
        return added_by(self._state, payer, quota, period_ms, self._time_ms) if added is None else added

    def _allowance(self, sender: bytes) -> _Allowance:
        found = self._allowances.get(sender)
        if found is not None:
            return found
        known = identity.IDENTITIES.get(self._state, sender)
        if known is not None and known.kind == identity.PATIENT:
            allowance = _Allowance(sender, self._quotas.patient_bytes, PATIENT_MS, "quota.patient_full")
        else:
            payer = known.sponsor if known is not None and known.sponsor is not None else sender
            allowance = _Allowance(payer, self._quotas.member_bytes, MEMBER_MS, "quota.member_full")
        self._allowances[sender] = allowance
        return allowance


def _limit(operations: Sequence[Operation], allowance: _Allowance) -> int | None:
    """What the strictest of the operations may go up to; None where none of them is ever refused."""
    limit: int | None = None
    for operation in operations:
        if operation.name in NEVER_REFUSED:
            continue
        is_care = operation.name in CARE
        if allowance.period_ms == PATIENT_MS:
            is_care = operation.name not in READING
        if not is_care:
            return allowance.quota
        limit = CARE_FACTOR * allowance.quota
    return limit


CONTRACT: Final = Contract(name="quotas", operations=(), slots=(QUOTAS, ADDED), events=(CHANGED,))
