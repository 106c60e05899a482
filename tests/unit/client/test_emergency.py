"""What somebody was told of emergencies: every kind that there is, with the emergency that it is about."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from consilium.client import emergency
from consilium.client.rpc import Cursor, EventAt
from consilium.contracts import emergency as contract
from consilium.contracts import settings
from consilium.ledger.execution import Event
from tests.unit.contracts import care, summarising
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DORA, PETRA, SOUTH, WEST, World


class Node:
    """The events of a world, as a node tells them."""

    def __init__(self) -> None:
        self.told: list[Event] = []

    async def events(self, after: Cursor, limit: int, kinds: Sequence[str], subject: bytes) -> list[EventAt]:
        items = [EventAt(Cursor(height, 0), event) for height, event in enumerate(self.told)]
        return [
            one
            for one in items
            if one.cursor > after and one.event.kind in kinds and subject in one.event.subjects
        ][:limit]


@pytest.fixture
def node() -> Node:
    """Four emergencies: one is read in and reviewed, one closed, one overdue; and an opened summary."""
    world, node = care.with_licence(summarising.switch_on(World().populate())), Node()

    def did(who: w.Actor, body: object) -> None:
        world.ok(who, body)  # type: ignore[arg-type]
        node.told += world.events

    for label in "abcd":
        did(DORA, care.declaring(world, label))
    did(DORA, w.asking(compartments=[w.compartment_of(PETRA)], purpose="BTG"))
    did(WEST, contract.ReviewEmergency(care.glass("a"), "justified"))
    did(SOUTH, contract.Close(care.glass("b")))
    world.ok(SOUTH, summarising.setting_key(world))
    did(SOUTH, summarising.reporting(world))
    world.time_ms += settings.DEFAULTS.review_ms
    did(PETRA, contract.ReportOverdue(care.glass("c")))
    return node


async def test_the_patient_is_told_everything(node: Node) -> None:
    found = await emergency.notices_of(node, PETRA.id)  # type: ignore[arg-type]
    kinds = [one.kind for one in found]
    assert kinds.count("emergency.declared") == 4
    by_kind = {one.kind: one.glass for one in found}
    assert by_kind["emergency.reviewed"] == care.glass("a")
    assert by_kind["emergency.closed"] == care.glass("b")
    assert by_kind["emergency.review_overdue"] == care.glass("c")
    # which of the four opened it: one of those that last longest
    assert by_kind["access.notice"] in [care.glass(label) for label in "abcd"]
    assert by_kind["summary.opened"] is not None
    assert "emergency.rate_alarm" not in kinds


async def test_the_employer_is_told_of_a_clinician_who_declares_too_many(node: Node) -> None:
    found = await emergency.notices_of(node, SOUTH.id)  # type: ignore[arg-type]
    (alarm,) = [one for one in found if one.kind == "emergency.rate_alarm"]
    assert (alarm.glass, DORA.id in alarm.subjects) == (None, True)
