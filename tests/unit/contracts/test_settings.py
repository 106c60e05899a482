"""The network's settings: founded once, or as the program has them."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import settings
from consilium.ledger.errors import Refused
from consilium.ledger.execution import execute_genesis
from consilium.ledger.state import MemoryState
from tests.unit.contracts.world import World


def founded(*bodies: settings.Settings) -> MemoryState:
    world, state = World(), MemoryState()
    operations = [*world.genesis.operations, *(world.operation(body) for body in bodies)]
    genesis = msgspec.structs.replace(world.genesis, operations=operations)
    state.apply(execute_genesis(genesis, state, world.registry).changes)
    return state


def test_where_nothing_is_stated_the_defaults_hold() -> None:
    assert settings.current(founded()) == settings.DEFAULTS


def test_what_the_founders_state_holds() -> None:
    lax = msgspec.structs.replace(settings.DEFAULTS, sensitive_threshold_min=1, policy_purposes=[])
    assert settings.current(founded(lax)) == lax


def test_they_are_stated_once() -> None:
    with pytest.raises(Refused, match=r"settings\.already_founded"):
        founded(settings.DEFAULTS, settings.DEFAULTS)


@pytest.mark.parametrize("purpose", ["HRESCH", "CLINTRCHPC", "HMARKT"])
def test_research_and_marketing_always_need_consent(purpose: str) -> None:
    bad = msgspec.structs.replace(settings.DEFAULTS, policy_purposes=["TREAT", purpose])
    with pytest.raises(Refused, match=r"settings\.bad_policy"):
        founded(bad)


@pytest.mark.parametrize(
    "changes",
    [
        {"sensitive_threshold_min": 0},
        {"sensitive_threshold_min": 17},
        {"glass_ms_max": 0},
        {"review_ms": settings.PERIOD_MS_MAX + 1},
        {"glass_alarm_count": 0},
        {"policy_purposes": ["TREAT"] * 17},
    ],
)
def test_bounds(changes: dict[str, object]) -> None:
    with pytest.raises(Refused):
        founded(msgspec.structs.replace(settings.DEFAULTS, **changes))
