"""Credentials: who issues them to whom, and when they stop to say anything."""

from __future__ import annotations

import pytest

from consilium.contracts import credentials
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import APP, DORA, NOBODY, NORTH, PETRA, SOUTH, WEST, World

LICENCE = w.some("credential/licence")


@pytest.fixture
def world() -> World:
    return World().populate()


def problem(world: World, who: w.Actor = DORA, kind: str = "licence") -> str | None:
    return credentials.problem_of(world.state, LICENCE, who.id, kind, world.time_ms)


def test_a_credential_says_one_thing_of_one_subject(world: World) -> None:
    assert problem(world) == "credential.unknown"
    world.ok(WEST, care.licensing(world))
    assert problem(world) is None
    assert problem(world, SOUTH) == "credential.unknown"
    assert problem(world, kind="part2") == "credential.unknown"


def test_an_institution_may_be_a_part_2_program(world: World) -> None:
    world.ok(WEST, care.licensing(world, SOUTH, kind="part2"))
    assert problem(world, SOUTH, "part2") is None


def test_only_the_issuer_takes_it_back_and_once(world: World) -> None:
    world.ok(WEST, care.licensing(world))
    revocation = credentials.RevokeCredential(LICENCE)
    for who in (NORTH, SOUTH, DORA):
        assert world.refused(who, revocation) == "credential.not_the_issuer"
    world.ok(WEST, revocation)
    assert problem(world) == "credential.revoked"
    assert world.refused(WEST, revocation) == "credential.revoked"
    unknown = credentials.RevokeCredential(w.some("none"))
    assert world.refused(WEST, unknown) == "credential.unknown"


def test_what_is_refused(world: World) -> None:
    for who in (NORTH, DORA, PETRA):
        assert world.refused(who, care.licensing(world)) == "identity.role_missing"
    for subject in (PETRA, APP):
        assert world.refused(WEST, care.licensing(world, subject)) == "credential.bad_subject"
    assert world.refused(WEST, care.licensing(world, NOBODY)) == "identity.unknown"
    world.ok(WEST, care.licensing(world))
    assert world.refused(WEST, care.licensing(world)) == "credential.id_taken"
