"""Legal mandates: two institutions, one reader, whatever the patient says."""

from __future__ import annotations

import pytest

from consilium.contracts import access, ballot, mandates
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DAN, DORA, NORTH, PAUL, PETRA, SOUTH, WEST, World

PLACE = w.compartment_of(PETRA)


@pytest.fixture
def world() -> World:
    world = World().populate()
    world.ok(PETRA, w.granting("no", None, purposes=None, effect="deny"))
    return world


def ask(world: World, who: w.Actor = SOUTH, purpose: str = "HLEGAL", place: bytes = PLACE) -> access.Verdict:
    return world.ask(who, compartments=[place], purpose=purpose).verdicts[0]


def test_a_mandate_opens_to_its_reader_for_its_purpose(world: World) -> None:
    world.ok(WEST, care.mandating(world))
    assert world.events[0].subjects == [PETRA.id, WEST.id, SOUTH.id, NORTH.id]
    for who in (SOUTH, DORA):
        verdict = ask(world, who)
        assert (verdict.allow, verdict.basis, verdict.ground) == (True, "legal-mandate", w.some("mandate/m"))
    assert [event.kind for event in world.events] == ["access.notice", "access.decided"]
    assert not ask(world, purpose="TREAT").allow
    assert not ask(world, NORTH).allow
    assert not ask(world, place=w.compartment_of(PAUL)).allow


def test_a_mandate_may_name_compartments(world: World) -> None:
    world.ok(WEST, care.mandating(world, compartments=[w.compartment_of(PETRA, 1)]))
    assert not ask(world).allow
    assert ask(world, place=w.compartment_of(PETRA, 1)).allow


def test_it_ends_and_is_withdrawn(world: World) -> None:
    world.ok(WEST, care.mandating(world, lasts_ms=60_000))
    assert ask(world).valid_until == world.time_ms + 58_000
    world.time_ms += 60_000
    assert not ask(world).allow
    world.ok(WEST, care.mandating(world, "again"))
    withdrawal = mandates.WithdrawMandate(w.some("mandate/again"))
    for who in (NORTH, SOUTH, PETRA):
        assert world.refused(who, withdrawal) == "mandate.not_yours"
    world.ok(WEST, withdrawal)
    assert not ask(world).allow
    assert world.refused(WEST, withdrawal) == "mandate.withdrawn_already"


def test_it_is_worth_as_much_as_its_issuer(world: World) -> None:
    """A suspended authority could not even withdraw what it ordered, and nobody else may."""
    world.ok(WEST, care.mandating(world))
    asked = world.ask(SOUTH, compartments=[PLACE], purpose="HLEGAL")
    assert asked.verdicts[0].allow
    world.ok(NORTH, w.proposing("out", ballot.SuspendInstitution(WEST.id)))
    assert not ask(world).allow
    problem = access.still_stands(world.state, asked, asked.verdicts[0], world.time_ms)
    assert problem == "access.not_allowed"
    world.ok(NORTH, w.proposing("in", ballot.ReinstateInstitution(WEST.id)))
    assert ask(world).allow
    world.ok(NORTH, w.proposing("no authority", ballot.ChangeRoles(WEST.id, ["issuer"])))
    assert not ask(world).allow


def test_who_countersigns_is_neither_issuer_nor_reader_nor_a_person(world: World) -> None:
    assert world.refused(WEST, care.mandating(world, countersigner=None)) == "attestation.missing"
    for signer in (WEST, SOUTH, DAN, PAUL):
        body = care.mandating(world, countersigner=signer)
        assert world.refused(WEST, body) == "attestation.not_independent"
    # The reader's employer is involved as well.
    body = care.mandating(world, reader=DAN)
    assert world.refused(WEST, body) == "attestation.not_independent"


def test_only_an_authority_issues(world: World) -> None:
    for who in (NORTH, SOUTH, DORA):
        assert world.refused(who, care.mandating(world)) == "identity.role_missing"


def test_what_is_refused(world: World) -> None:
    assert world.refused(WEST, care.mandating(world, purposes=["X"])) == "consent.unknown_purpose"
    foreign = care.mandating(world, compartments=[w.compartment_of(PAUL)])
    assert world.refused(WEST, foreign) == "consent.foreign_compartment"
    assert world.refused(WEST, care.mandating(world, reader=PAUL)) == "consent.unknown_grantee"
    assert world.refused(WEST, care.mandating(world, lasts_ms=0)) == "consent.bad_period"
    world.ok(WEST, care.mandating(world))
    assert world.refused(WEST, care.mandating(world)) == "mandate.id_taken"
    for number in range(mandates.MANDATES_PER_PAIR_MAX - 1):
        world.ok(WEST, care.mandating(world, str(number)))
    assert world.refused(WEST, care.mandating(world, "more")) == "mandate.too_many"
