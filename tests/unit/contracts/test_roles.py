"""Roles and settings that governance changes: they hold from that block on, and what stood on them falls."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import emergency, identity, settings
from consilium.contracts.ballot import ChangeRoles, ChangeSettings
from consilium.ledger import codec
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DORA, NORTH, PETRA, SOUTH, WEST, World


@pytest.fixture
def world() -> World:
    return care.with_licence(World().populate())


def test_an_issuer_that_is_none_any_more_has_licensed_nobody(world: World) -> None:
    world.ok(DORA, care.declaring(world))
    world.ok(NORTH, w.proposing("out", ChangeRoles(WEST.id, ["authority"])))
    assert [event.kind for event in world.events][:1] == ["governance.roles_changed"]
    assert world.refused(DORA, care.declaring(world, "b")) == "credential.issuer_not_accredited"
    verdict = world.ask(DORA, compartments=[w.compartment_of(PETRA)], purpose="BTG").verdicts[0]
    assert not verdict.allow
    assert world.refused(WEST, care.licensing(world, DORA, "another")) == "identity.role_missing"
    # And back: the old licences stand again.
    world.ok(NORTH, w.proposing("in", ChangeRoles(WEST.id, ["authority", "issuer"])))
    assert world.ask(DORA, compartments=[w.compartment_of(PETRA)], purpose="BTG").verdicts[0].allow


def test_a_new_authority(world: World) -> None:
    assert world.refused(SOUTH, care.mandating(world)) == "identity.role_missing"
    known = identity.IDENTITIES.get(world.state, SOUTH.id)
    assert known is not None
    world.ok(NORTH, w.proposing("p", ChangeRoles(SOUTH.id, sorted([*known.roles, "authority"]))))
    assert world.refused(SOUTH, care.mandating(world)) != "identity.role_missing"


def test_only_institutions_have_roles_and_each_once(world: World) -> None:
    for who in (PETRA, DORA):
        body = w.proposing("p", ChangeRoles(who.id, ["issuer"]))
        assert world.refused(NORTH, body) == "identity.not_an_institution"
    twice = w.proposing("p", ChangeRoles(SOUTH.id, ["issuer", "issuer"]))
    assert world.refused(NORTH, twice) == "identity.bad_roles"
    assert world.refused(NORTH, w.proposing("p", ChangeRoles(bytes(16), []))) == "identity.unknown"


def test_settings_hold_from_then_on(world: World) -> None:
    shorter = msgspec.structs.replace(settings.DEFAULTS, glass_ms_max=60_000, second_person=False)
    world.ok(NORTH, w.proposing("s", ChangeSettings(shorter)))
    (told,) = [event for event in world.events if event.kind == "settings.changed"]
    assert codec.decode(told.data, settings.Settings, 1_024) == shorter
    assert world.refused(DORA, care.declaring(world, second=None)) == "emergency.bad_period"
    world.ok(DORA, care.declaring(world, second=None, lasts_ms=50_000))
    assert emergency.GLASSES.get(world.state, care.glass()) is not None


def test_no_vote_opens_research_without_consent(world: World) -> None:
    wide = msgspec.structs.replace(settings.DEFAULTS, policy_purposes=["HRESCH"])
    assert world.refused(NORTH, w.proposing("s", ChangeSettings(wide))) == "settings.bad_policy"
