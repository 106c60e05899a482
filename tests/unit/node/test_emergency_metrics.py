"""What monitors see of emergencies."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from consilium.contracts.emergency import OpenReview
from consilium.node.emergency_api import Alarms, Owed
from consilium.node.emergency_metrics import COUNTED, EmergencyMetrics
from tests.unit.contracts import care
from tests.unit.contracts.world import DORA, World


def test_alarms_and_events_are_counted() -> None:
    registry = CollectorRegistry()
    metrics = EmergencyMetrics(registry)
    world = care.with_licence(World().populate())
    for number in range(4):
        world.ok(DORA, care.declaring(world, str(number)))
        metrics.committed(world.events)
    events = "consilium_emergency_events_total"
    assert registry.get_sample_value(events, {"kind": "declared"}) == 4
    assert registry.get_sample_value(events, {"kind": "rate_alarm"}) == 1
    one = Owed(bytes(16), 5, (OpenReview(bytes(16), 1), OpenReview(bytes(16), 2)), 3, 0, 0)
    other = Owed(bytes([1]) * 16, 1, (), 0, 0, 0)
    for alarms, expected in (
        (Alarms(9, (one, other), 7, True, False), (6, 2, 7, 1)),
        (Alarms(9, (), 0, False, True), (0, 0, 0, 1)),
        (Alarms(9, (), 0, False, False), (0, 0, 0, 0)),
    ):
        metrics.looked(alarms)
        names = ("emergency_reviews_open", "emergency_reviews_overdue", "summary_openings_unreported")
        found = [registry.get_sample_value(f"consilium_{name}") for name in (*names, "summary_log_alarm")]
        assert tuple(found) == expected


def test_every_kind_that_is_counted_is_an_event_of_the_contracts() -> None:
    assert set(COUNTED) <= set(World().registry.events)
