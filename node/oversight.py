"""Emergencies are not forgotten: overdue reviews are counted and told, and the log of openings reaches the chain.

What is owed stands in state, where one entry names the institutions that owe; so every node sees the same. A review
that is overdue is told on the chain by a node of another institution than the one that owes it; so that not all do,
each waits longer the further its key is from the emergency's id in the order of keys, and looks first. An
institution's own node reports its openings as soon as blocks are decided again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from consilium.contracts import emergency, records, settings, summaries
from consilium.contracts.emergency import Reason
from consilium.contracts.registry import operation
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OK
from consilium.ledger.state import StateReader
from consilium.ledger.validators import ValidatorSet
from consilium.node.clerk import Clerk
from consilium.node.config import Config
from consilium.node.emergency_api import Alarms, HandedOut, Owed, Signer
from consilium.node.emergency_metrics import EmergencyMetrics
from consilium.node.opening import Parts
from consilium.node.service import Service
from consilium.node.summaries import SummaryDesk
from consilium.storage.height import Tip
from consilium.storage.shares import ShareVault

LOOK_S: Final = 2.0
TURN_MS: Final = 10_000
"""So long each node waits for the one whose turn to report is before."""
REPORTS_PER_LOOK_MAX: Final = 16
TOLD: Final = (OK, "emergency.not_overdue", "emergency.reported_already")
"""Answers after which another try would change nothing."""
FORGET_LOOKS: Final = 30
"""At one of so many looks, summaries that the chain names no more are removed; they are not opened before either."""

_log = structlog.get_logger("consilium.oversight")


def oversee(
    parts: Parts,
    config: Config,
    service: Service,
    connected: Callable[[], frozenset[bytes]],
    metrics: EmergencyMetrics,
    clock_ms: Callable[[], int],
) -> Oversight:
    """The oversight of a node, built and made known to its service."""
    executor, key = parts.executor, parts.key.public
    store, desk, clerk = executor.store, None, None
    if parts.wallet is not None:
        clerk = Clerk(parts.wallet, parts.genesis.chain_id, service, lambda: store.tip.time_ms, clock_ms)
        desk = SummaryDesk(
            folder=config.data_dir / "emergency",
            wallet=parts.wallet,
            chain_id=parts.genesis.chain_id,
            tip=lambda: store.tip,
            state=lambda: store.state,
            clock_ms=clock_ms,
        )

    def reaches_quorum() -> bool:
        validators = executor.context.validators
        reached = {*connected(), key}
        return len([one for one in validators.keys if one in reached]) >= validators.quorum

    oversight = Oversight(
        key=key,
        tip=lambda: store.tip,
        state=lambda: store.state,
        validators=lambda: executor.context.validators,
        reaches_quorum=reaches_quorum,
        desk=desk,
        clerk=clerk,
        counted=metrics.looked,
        shares=parts.shares if parts.wallet is not None else None,
    )
    service.desk, service.oversight = oversight, oversight.status
    return oversight


class Oversight:
    """Implements `EmergencyDesk`. `run` is a task of the node; `counted` is told the alarms at each look."""

    def __init__(
        self,
        *,
        key: bytes,
        tip: Callable[[], Tip],
        state: Callable[[], StateReader],
        validators: Callable[[], ValidatorSet],
        reaches_quorum: Callable[[], bool],
        desk: SummaryDesk | None,
        clerk: Clerk | None,
        counted: Callable[[Alarms], None],
        shares: ShareVault | None = None,
        look_s: float = LOOK_S,
    ) -> None:
        self._key = key
        self._tip = tip
        self._state = state
        self._validators = validators
        self._reaches_quorum = reaches_quorum
        self._desk = desk
        self._clerk = clerk
        self._counted = counted
        self._shares = shares
        self._counted_shares = 0
        self._alone = 0
        self._look_s = look_s
        self._looks = 0
        self._seen_height: int | None = None
        self._returned_ms: int | None = None
        """Block time of the first block after the newest opening: since then its report is owed."""
        self._told: dict[bytes, None] = {}
        self._last: Alarms | None = None

    async def alarms(self) -> Alarms:
        """As `EmergencyDesk`."""
        return await asyncio.to_thread(self._alarms)

    async def deposit_summary(self, patient: bytes, envelope: bytes) -> None:
        """As `EmergencyDesk`."""
        await asyncio.to_thread(self._required().deposit, patient, envelope)

    async def open_summary(
        self, patient: bytes, reason: Reason, opened_ms: int, signers: Sequence[Signer]
    ) -> HandedOut:
        """As `EmergencyDesk`."""
        in_reach = self._reaches_quorum()
        handed = await asyncio.to_thread(
            self._required().open, patient, reason, opened_ms, signers, in_reach=in_reach
        )
        _log.warning("summary.opened", sequence=handed.entry.sequence, height=handed.entry.height)
        return handed

    def forget(self) -> None:
        """Remove the summaries that must not be opened any more. Blocks for the disk."""
        if self._desk is not None:
            self._desk.forget(self._state())

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._look_s)

    async def look(self) -> None:
        """Look, count, report, tell, once."""
        self._looks += 1
        alarms = await self.alarms()
        await asyncio.to_thread(self._count_alone)
        self._last = alarms
        self._counted(alarms)
        if self._desk is not None and self._looks % FORGET_LOOKS == 1:
            await asyncio.to_thread(self._desk.forget, self._state())
        if self._clerk is not None:
            await self._report_openings(self._clerk)
            await self._tell_overdue(self._clerk, alarms)

    def status(self) -> dict[str, Any]:
        """For `NodeApi.status`, as of the last look."""
        seen = self._last
        if seen is None:
            return {}
        overdue = sum(len(owed.overdue) for owed in seen.institutions)
        emergencies = {
            "reviews_open": sum(owed.open for owed in seen.institutions),
            "reviews_overdue": overdue,
            "openings_unreported": seen.unreported,
            "alarm": bool(seen.is_overdue or seen.is_damaged or overdue),
        }
        return {"emergencies": emergencies, "alone": self._alone}

    def _count_alone(self) -> None:
        """How many of the compartments kept here this custodian opens by itself (k = 1)."""
        shares = self._shares
        if shares is None or shares.share_count() == self._counted_shares:
            return
        self._counted_shares = shares.share_count()
        state = self._state()
        found = [
            records.EPOCHS.get(state, compartment, records.epoch_bytes(number))
            for compartment, number in shares.kept()
        ]
        self._alone = sum(1 for epoch in found if epoch is not None and epoch.threshold == 1)

    def _alarms(self) -> Alarms:
        state, time_ms = self._state(), self._tip().time_ms
        owed = []
        for institution in emergency.institutions_owing(state):
            reviews = emergency.reviews_of(state, institution)
            owed.append(
                Owed(
                    institution=institution,
                    open=len(reviews.open) + reviews.uncounted,
                    overdue=emergency.overdue_reviews(reviews, time_ms),
                    uncounted=reviews.uncounted,
                    told=reviews.reported,
                    late=summaries.openings_of(state, institution).late,
                )
            )
        unreported = self._desk.unreported(state) if self._desk is not None else 0
        allowed_ms = settings.current(state).summary_report_ms
        since_ms = self._returned_ms
        return Alarms(
            time_ms=time_ms,
            institutions=tuple(owed),
            unreported=unreported,
            is_overdue=unreported > 0 and since_ms is not None and time_ms >= since_ms + allowed_ms,
            is_damaged=self._desk is not None and bool(self._desk.log.damage),
        )

    async def _report_openings(self, clerk: Clerk) -> None:
        """Entries in their order, once a block is newer than the newest of them."""
        desk = self._required()
        tip = self._tip()
        if tip.height == self._seen_height:
            return
        self._seen_height = tip.height
        for _ in range(REPORTS_PER_LOOK_MAX):
            try:
                logged = await asyncio.to_thread(desk.next_report, self._state())
            except Refused as refusal:
                _log.error("summary.log_damaged", detail=refusal.detail)
                return
            if logged is None:
                self._returned_ms = None
                return
            if tip.time_ms < logged.entry.opened_ms or tip.height <= logged.entry.height:
                return
            if self._returned_ms is None:
                self._returned_ms = tip.time_ms
            body = summaries.ReportOpening(
                logged.entry, logged.institution_key, logged.signature, self._returned_ms
            )
            code = await clerk.say(operation("summary.report", body))
            _log.warning("summary.reported", sequence=logged.entry.sequence, code=code)
            if code not in (OK, "summary.out_of_order"):
                self._seen_height = None  # again at the next look
                return

    async def _tell_overdue(self, clerk: Clerk, alarms: Alarms) -> None:
        """At most one report at a look: others take their turns."""
        for owed in alarms.institutions:
            if owed.institution == clerk.institution:
                continue
            for review in owed.overdue:
                if review.glass in self._told:
                    continue
                if alarms.time_ms < review.due_ms + self._turn(review.glass, owed.institution) * TURN_MS:
                    continue
                self._remember(review.glass)
                known = await asyncio.to_thread(emergency.GLASSES.get, self._state(), review.glass)
                if known is None or known.is_reported:
                    continue
                body = emergency.ReportOverdue(review.glass)
                code = await clerk.say(operation("emergency.report_overdue", body))
                _log.warning("emergency.overdue_told", glass=review.glass.hex(), code=code)
                if code not in TOLD:
                    self._told.pop(review.glass, None)  # again at a later look
                return

    def _remember(self, glass: bytes) -> None:
        if len(self._told) >= emergency.OPEN_REVIEWS_MAX * 4:
            del self._told[next(iter(self._told))]
        self._told[glass] = None

    def _turn(self, glass: bytes, owing: bytes) -> int:
        """How many others report before this node: those of other institutions, in the order of keys from the id on."""
        others = [one.key for one in self._validators().validators if one.institution != owing]
        order = sorted({*others, self._key})
        first = sum(1 for one in order if one[: len(glass)] < glass) % len(order)
        return (order.index(self._key) - first) % len(order)

    def _required(self) -> SummaryDesk:
        if self._desk is None:
            raise Refused("summary.not_yours", "this node has no institution's wallet")
        return self._desk
