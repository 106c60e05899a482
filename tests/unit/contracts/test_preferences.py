"""What a patient decides once for everybody."""

from __future__ import annotations

import pytest

from consilium.contracts.preferences import DEFAULTS, Preferences, preferences_of
from tests.unit.contracts import care
from tests.unit.contracts.world import DAN, NORTH, PAUL, PETRA, SOUTH, World


@pytest.fixture
def world() -> World:
    return care.with_guardians(World().populate(), PAUL)


def test_what_was_never_said_is_no(world: World) -> None:
    assert preferences_of(world.state, PETRA.id) == DEFAULTS == Preferences(False, False)


def test_only_the_patient_says_so_and_only_of_itself(world: World) -> None:
    chosen = Preferences(emergency_deny=True, opt_out=True)
    for who in (NORTH, SOUTH, DAN):
        assert world.refused(who, chosen) == "consent.not_the_patient"
    # A guardian says it of itself, and of nobody else.
    world.ok(PAUL, chosen)
    assert preferences_of(world.state, PETRA.id) == DEFAULTS
    world.ok(PETRA, chosen)
    assert preferences_of(world.state, PETRA.id) == chosen
    assert [(event.kind, event.subjects) for event in world.events] == [("preferences.changed", [PETRA.id])]
