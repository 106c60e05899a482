"""Passing on: once, never wider, never longer, and dead with its parent."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import access, consent, identity
from consilium.contracts.classes import HIV
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DAN, DORA, NORTH, PETRA, SOUTH, World

PLACE = w.compartment_of(PETRA)
END = w.START_MS + 30 * w.DAY_MS


@pytest.fixture
def world() -> World:
    world = World().populate()
    lent = w.granting("c", SOUTH, purposes=["TREAT", "HPAYMT"], compartments=[PLACE], transferable=True)
    world.ok(PETRA, lent)
    return world


def part(**changes: object) -> object:
    return care.passing_on(**{"compartments": [PLACE], **changes})  # type: ignore[arg-type]


def test_a_part_is_passed_on_and_opens(world: World) -> None:
    assert not world.ask(DAN, compartments=[PLACE]).verdicts[0].allow
    world.ok(SOUTH, part(purposes=["ETREAT"]))  # type: ignore[arg-type]
    verdict = world.ask(DAN, compartments=[PLACE], purpose="BTG").verdicts[0]
    assert (verdict.allow, verdict.ground) == (True, w.some("consent/passed"))
    assert not world.ask(DAN, compartments=[PLACE]).verdicts[0].allow
    assert not world.ask(NORTH, compartments=[PLACE], purpose="BTG").verdicts[0].allow


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"purposes": ["TREAT", "HRESCH"]}, "delegation.wider"),
        ({"compartments": None}, "delegation.wider"),
        ({"compartments": [PLACE, w.compartment_of(PETRA, HIV)]}, "delegation.wider"),
        ({"not_after": END + 1}, "delegation.longer"),
    ],
)
def test_never_wider_never_longer(world: World, changes: dict[str, object], code: str) -> None:
    assert world.refused(SOUTH, part(**changes)) == code  # type: ignore[arg-type]


def test_not_before_the_parent_begins(world: World) -> None:
    later = w.granting("l", SOUTH, not_before=world.time_ms + 60_000, transferable=True)
    world.ok(PETRA, later)
    body = care.passing_on("l", not_before=world.time_ms)
    assert world.refused(SOUTH, body) == "delegation.longer"


def test_only_the_grantee_itself_passes_on(world: World) -> None:
    for who in (NORTH, DORA, DAN, PETRA):
        assert world.refused(who, part()) == "delegation.not_the_grantee"  # type: ignore[arg-type]


def test_depth_one(world: World) -> None:
    world.ok(SOUTH, part())  # type: ignore[arg-type]
    again = care.passing_on("passed", NORTH, label="again", compartments=[PLACE])
    assert world.refused(DAN, again) == "delegation.too_deep"


def test_it_dies_with_its_parent_and_stays_dead_at_release(world: World) -> None:
    world.ok(SOUTH, part())  # type: ignore[arg-type]
    decision = world.ask(DAN, compartments=[PLACE])
    assert decision.verdicts[0].allow
    world.ok(PETRA, w.revoking("c"))
    assert not world.ask(DAN, compartments=[PLACE]).verdicts[0].allow
    code = access.still_stands(world.state, decision, decision.verdicts[0], world.time_ms)
    assert code == "access.consent_ended"
    assert world.refused(SOUTH, part(label="new")) == "delegation.parent_ended"  # type: ignore[arg-type]


def test_it_sleeps_while_who_passed_it_on_is_suspended(world: World) -> None:
    world.ok(PETRA, w.granting("d", DORA, transferable=True))
    world.ok(DORA, care.passing_on("d"))
    assert world.ask(DAN, compartments=[PLACE]).verdicts[0].allow
    world.ok(SOUTH, identity.Suspend(DORA.id))
    assert not world.ask(DAN, compartments=[PLACE]).verdicts[0].allow
    world.ok(SOUTH, identity.Reinstate(DORA.id))
    assert world.ask(DAN, compartments=[PLACE]).verdicts[0].allow


@pytest.mark.parametrize("by", [PETRA, SOUTH])
def test_the_patient_and_who_passed_it_on_revoke_it(world: World, by: w.Actor) -> None:
    world.ok(SOUTH, part())  # type: ignore[arg-type]
    assert world.refused(DAN, w.revoking("passed")) == "consent.not_the_patient"
    world.ok(by, w.revoking("passed"))
    assert not world.ask(DAN, compartments=[PLACE]).verdicts[0].allow


def test_what_may_not_be_passed_on(world: World) -> None:
    world.ok(PETRA, w.granting("fixed", SOUTH))
    world.ok(PETRA, w.granting("no", SOUTH, effect="deny", transferable=True))
    nested = msgspec.structs.replace(
        w.granting("nested", SOUTH, transferable=True),
        provisions=[w.provision(SOUTH), w.provision(SOUTH, depth=1, effect="deny", purposes=["BTG"])],
    )
    world.ok(PETRA, nested)
    for label in ("fixed", "no", "nested"):
        body = care.passing_on(label, label=f"from {label}")
        assert world.refused(SOUTH, body) == "delegation.not_transferable"
    assert world.refused(SOUTH, care.passing_on("none")) == "consent.unknown"


def test_hidden_conditions_hold_for_what_is_passed_on(world: World) -> None:
    hidden = msgspec.structs.replace(
        w.granting("h", SOUTH, transferable=True),
        provisions=[w.provision(SOUTH, conditional=True)],
        obligations=b"o" * 32,
    )
    world.ok(PETRA, hidden)
    world.ok(SOUTH, care.passing_on("h"))
    decision = world.ask(DAN, compartments=[PLACE])
    (verdict,) = decision.verdicts
    assert (verdict.allow, verdict.obligations) == (True, [b"o" * 32])
    owed = access.owed_conditions(world.state, decision, verdict, world.time_ms)
    assert owed == {b"o" * 32: [w.some("consent/h")]}


def test_what_died_with_its_parent_takes_nobodys_place(world: World) -> None:
    """Whoever may pass on must not be able to keep the patient from saying anything about the same actor."""
    for number in range(consent.CONSENTS_OF_OTHERS_MAX):
        world.ok(SOUTH, part(label=f"passed {number}"))  # type: ignore[arg-type]
    assert world.refused(SOUTH, part(label="one more")) == "consent.too_many"  # type: ignore[arg-type]
    own = consent.CONSENTS_PER_GRANTEE_MAX - consent.CONSENTS_OF_OTHERS_MAX
    for number in range(own):
        world.ok(PETRA, w.granting(f"no {number}", DAN, effect="deny"))
    denial = w.granting("no", DAN, effect="deny")
    assert world.refused(PETRA, denial) == "consent.too_many"
    world.ok(PETRA, w.revoking("c"))
    world.ok(PETRA, denial)
    assert len(consent.consents_between(world.state, PETRA.id, DAN.id)) == own + 1
