"""Preferences: what is not named stays as it was, and only the patient says them."""

from __future__ import annotations

from consilium.client import preferences
from consilium.contracts.preferences import Preferences
from tests.unit.client.acting import code_of, network


async def test_one_preference_is_changed_at_a_time() -> None:
    async with network() as care:
        who = care.petra.identity
        assert await preferences.preferences_of(care.south, who) == Preferences(
            emergency_deny=False, opt_out=False, summary_opt_out=False
        )
        now, _ = await preferences.set_preferences(care.patient, emergency_deny=True)
        assert now == Preferences(emergency_deny=True, opt_out=False, summary_opt_out=False)
        await care.tick()
        now, _ = await preferences.set_preferences(care.patient, opt_out=True)
        await care.tick()
        now, _ = await preferences.set_preferences(care.patient, emergency_deny=False)
        await care.tick()
        assert await preferences.preferences_of(care.south, who) == now
        assert now == Preferences(emergency_deny=False, opt_out=True, summary_opt_out=False)


async def test_an_institution_has_none() -> None:
    async with network() as care:
        assert await code_of(preferences.set_preferences(care.north, opt_out=True)) != "ok"
