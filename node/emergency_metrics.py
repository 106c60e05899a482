"""What a node counts about emergencies, for monitors: alarms that somebody should hear."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from consilium.contracts import emergency, summaries
from consilium.ledger.execution import Event
from consilium.node.emergency_api import Alarms

COUNTED: Final = {
    emergency.DECLARED.name: "declared",
    emergency.REVIEWED.name: "reviewed",
    emergency.OVERDUE.name: "review_overdue",
    emergency.RATE_ALARM.name: "rate_alarm",
    summaries.OPENED.name: "summary_opened",
}


class EmergencyMetrics:
    """See the module; `node.metrics` has one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "consilium_emergency_events",
            "What blocks told of emergencies since the start, by kind",
            ["kind"],
            registry=registry,
        )
        self._open = Gauge(
            "consilium_emergency_reviews_open",
            "Emergencies of the network that wait for a review",
            registry=registry,
        )
        self._overdue = Gauge(
            "consilium_emergency_reviews_overdue", "Those whose review is overdue", registry=registry
        )
        self._unreported = Gauge(
            "consilium_summary_openings_unreported",
            "Openings in this node's log that the chain does not know",
            registry=registry,
        )
        self._alarm = Gauge(
            "consilium_summary_log_alarm",
            "1 where openings should have been reported by now, or the log is damaged",
            registry=registry,
        )

    def committed(self, events: Iterable[Event]) -> None:
        """Events of a block."""
        for event in events:
            kind = COUNTED.get(event.kind)
            if kind is not None:
                self._events.labels(kind).inc()

    def looked(self, alarms: Alarms) -> None:
        """The alarms as they are now."""
        self._open.set(sum(owed.open for owed in alarms.institutions))
        self._overdue.set(sum(len(owed.overdue) for owed in alarms.institutions))
        self._unreported.set(alarms.unreported)
        self._alarm.set(int(alarms.is_overdue or alarms.is_damaged))
