"""Evidence that this node saw, on its way to the ledger: queued, submitted once, tried again while it may succeed.

All validators see the same contradiction. So that not all of them submit it, each waits longer the further its key is
from the accused one's in the order of keys, and looks first whether the ledger has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from consilium.consensus.evidence import Evidence
from consilium.contracts import ballot
from consilium.contracts.registry import operation
from consilium.ledger.execution import OK
from consilium.ledger.state import StateReader
from consilium.ledger.validators import ValidatorSet
from consilium.node.clerk import Clerk

QUEUED_MAX: Final = 64
KNOWN_MAX: Final = 1_024
TRIES_MAX: Final = 5
TURN_S: Final = 0.5
"""So long each one waits for the one whose turn is before."""
PAUSE_S: Final = 2.0
FINAL: Final = (
    OK,
    "evidence.invalid",
    "governance.evidence_known",
    "governance.not_validator",
    "identity.suspended",
)
"""Answers after which another try would change nothing. Evidence of the height in progress is tried again."""

_log = structlog.get_logger("consilium.whistle")


class Whistle:
    """See the module. `blow` from the event loop; `run` is a task of the node."""

    def __init__(
        self,
        key: bytes,
        clerk: Clerk,
        state: Callable[[], StateReader],
        validators: Callable[[], ValidatorSet],
        turn_s: float = TURN_S,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._key = key
        self._clerk = clerk
        self._state = state
        self._validators = validators
        self._turn_s = turn_s
        self._pause_s = pause_s
        self._queue: asyncio.Queue[Evidence] = asyncio.Queue(maxsize=QUEUED_MAX)
        self._known: dict[tuple[bytes, int, int], None] = {}

    def blow(self, evidence: Evidence) -> bool:
        """Take evidence for submission. False where it is known here, accuses this node itself (others are told the
        same), or too much of it waits."""
        name = (evidence.validator, evidence.height, evidence.kind)
        if evidence.validator == self._key or name in self._known or self._queue.full():
            return False
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[name] = None
        self._queue.put_nowait(evidence)
        return True

    async def run(self) -> None:
        """Submit what is queued, one after the other, until cancelled."""
        while True:
            evidence = await self._queue.get()
            if await asyncio.to_thread(self._told, evidence):
                continue
            await asyncio.sleep(self._turn(evidence.validator) * self._turn_s)
            await self._submit(evidence)

    async def _submit(self, evidence: Evidence) -> None:
        code = ""
        for _ in range(TRIES_MAX):
            if await asyncio.to_thread(self._told, evidence):
                return
            said = operation("governance.report_evidence", ballot.ReportEvidence(evidence))
            code = await self._clerk.say(said)
            if code in FINAL:
                break
            await asyncio.sleep(self._pause_s)
        _log.info("evidence.reported", validator=evidence.validator.hex(), height=evidence.height, code=code)

    def _told(self, evidence: Evidence) -> bool:
        """Whether the ledger has it, or as much against this validator as it takes: who lies at every height must not
        make everybody else fill blocks with reports that are refused."""
        state = self._state()
        faults = ballot.FAULTS.get(state, evidence.validator)
        if faults is not None and faults.count >= ballot.FAULTS_MAX:
            return True
        place = (evidence.validator, evidence.height.to_bytes(8, "big"), bytes((evidence.kind,)))
        return ballot.PROVED_FAULTS.get(state, *place) is not None

    def _turn(self, accused: bytes) -> int:
        """How many others report before this node."""
        order = sorted(one for one in (*self._validators().keys, self._key) if one != accused)
        first = sum(1 for one in order if one < accused)
        return (order.index(self._key) - first) % len(order)
