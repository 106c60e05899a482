"""Tells the ledger what this custodian has released: in batches, one small transaction at a time.

The custodian writes each release to its journal before anything leaves (`storage.releases`); this task reads the
journal and says it on the ledger as long as there is something to say, after a crash as well. It waits a moment for
more before it speaks, so that a ward round is one transaction and not two hundred, and still each line of the
accounting shows its release within seconds. What the ledger refuses for good is said one by one, so that one bad item
holds up no other, and then given up, loudly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import structlog

from consilium.contracts.disclosures import ATTESTATIONS_MAX, AttestedRelease, AttestReleases
from consilium.contracts.registry import operation
from consilium.ledger.execution import OK
from consilium.ledger.transaction import Operation
from consilium.storage.releases import ReleaseJournal, Untold

GATHER_S: Final = 1.0
"""So long a release waits for others to be told with."""
PAUSE_S: Final = 2.0
PAUSE_MAX_S: Final = 60.0
FORGET_EVERY_S: Final = 300.0
KEPT_MS: Final = 60 * 60 * 1000
"""Rows stay so long after their window ends, for people who look."""
HOPELESS: Final = (
    "disclosure.no_decision",
    "disclosure.not_allowed",
    "disclosure.not_the_custodian",
    "disclosure.outside_window",
    "disclosure.too_many",
)
"""Refusals that another try would not change. All others (a pool that is full, a suspension) may pass."""

_log = structlog.get_logger("consilium.attesting")


class Speaker(Protocol):
    """Who says things on the ledger: `clerk.Clerk`."""

    async def say(self, operation: Operation) -> str:
        """Submit one operation, and wait until it is decided. Returns "ok", or the code of the refusal."""
        ...


class Attesting:
    """See the module. `look` from the event loop; `run` is a task of the node."""

    def __init__(
        self,
        journal: ReleaseJournal,
        speaker: Speaker,
        clock_ms: Callable[[], int],
        *,
        told: Callable[[str, int], None] = lambda outcome, count: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._journal = journal
        self._speaker = speaker
        self._clock_ms = clock_ms
        self._told = told
        self._sleep = sleep
        self._wake = asyncio.Event()
        if journal.waiting:
            self._wake.set()

    def look(self) -> None:
        """Something was released."""
        self._wake.set()

    async def run(self) -> None:
        """Tell what waits, and forget what is told and over, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_all(), name="attesting")
            group.create_task(self._forget(), name="forgetting releases")

    async def _tell_all(self) -> None:
        pause_s = PAUSE_S
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._sleep(GATHER_S)
            while self._journal.waiting:
                if await self.tell():
                    pause_s = PAUSE_S
                    continue
                await self._sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_MAX_S)

    async def tell(self) -> bool:
        """Tell the oldest releases that wait, in one transaction. False where the ledger would not hear it now."""
        batch = await asyncio.to_thread(self._journal.untold, ATTESTATIONS_MAX)
        if not batch:
            return True
        code = await self._say(batch)
        if code not in HOPELESS:
            return code == OK
        heard = True
        for one in batch:
            single = code if len(batch) == 1 else await self._say([one])
            if single in HOPELESS:
                _log.error(
                    "release.untellable",
                    code=single,
                    transaction=one.key.transaction.hex(),
                    operation=one.key.operation,
                    verdict=one.key.verdict,
                )
                await asyncio.to_thread(self._journal.told, [one])
            heard = heard and (single == OK or single in HOPELESS)
        return heard

    async def _say(self, batch: Sequence[Untold]) -> str:
        releases = [
            AttestedRelease(
                transaction=one.key.transaction,
                operation=one.key.operation,
                verdict=one.key.verdict,
                epoch=one.epoch,
                records=one.records,
                released_ms=one.released_ms,
            )
            for one in batch
        ]
        code = await self._speaker.say(operation("disclosure.attest", AttestReleases(releases)))
        if code == OK:
            await asyncio.to_thread(self._journal.told, batch)
        else:
            _log.warning("releases.not_told", code=code, releases=len(batch))
        self._told(code, len(batch))
        return code

    async def _forget(self) -> None:
        while True:
            await asyncio.to_thread(self._journal.forget, self._clock_ms() - KEPT_MS)
            await self._sleep(FORGET_EVERY_S)
