"""What a running node answers about emergencies: the part of `node.api` that is theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from consilium.contracts.emergency import OpenReview, Reason
from consilium.contracts.summaries import SummaryOpening


@dataclass(frozen=True, slots=True)
class Owed:
    """What an institution owes: `overdue` are reviews whose time is over, `open` counts all that wait, `uncounted`
    those beyond its list, `told` the overdue ones that were told on the chain, `late` its openings that were
    reported late."""

    institution: bytes
    open: int
    overdue: tuple[OpenReview, ...]
    uncounted: int
    told: int
    late: int


@dataclass(frozen=True, slots=True)
class Alarms:
    """What needs somebody's attention, at block time `time_ms`.

    `unreported` are openings of summaries in this node's own log that the chain does not know, `is_overdue` whether
    they should be there by now, `is_damaged` whether the log itself cannot be read.
    """

    time_ms: int
    institutions: tuple[Owed, ...]
    unreported: int
    is_overdue: bool
    is_damaged: bool


@dataclass(frozen=True, slots=True)
class Signer:
    """One of the two who open a summary: who, with which licence, with which key, and the signature of the request."""

    identity: bytes
    credential: bytes
    key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class HandedOut:
    """A sealed summary, and the entry that the node's log has of it, signed by the institution."""

    envelope: bytes
    entry: SummaryOpening
    institution_key: bytes
    signature: bytes


class EmergencyDesk(Protocol):
    """See the module."""

    async def alarms(self) -> Alarms:
        """Reviews that are overdue, in the whole network; openings that are unreported, of this node."""
        ...

    async def deposit_summary(self, patient: bytes, envelope: bytes) -> None:
        """Keep a sealed summary that the chain says is placed with this node's institution. Durable on return.

        Raises Refused `summary.not_yours`, `summary.unknown`, `codec.oversized`, `store.*`."""
        ...

    async def open_summary(
        self, patient: bytes, reason: Reason, opened_ms: int, signers: Sequence[Signer]
    ) -> HandedOut:
        """Write an entry of the log, then hand out a patient's sealed summary; only while no quorum answers.

        Raises Refused `summary.*`, `credential.*`, `identity.*`, `vault.unknown`."""
        ...
