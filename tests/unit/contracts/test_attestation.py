"""Second signatures: over the very body, by who may, once."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import identity
from consilium.contracts.attestation import attestation_digest, institution_of
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import APP, DORA, NOBODY, NORTH, PAUL, PETRA, SOUTH, World


@pytest.fixture
def world() -> World:
    return World().populate()


def test_every_part_of_what_is_signed_counts(world: World) -> None:
    body = care.attesting(world, witness=None)
    parts = {"chain_id": world.chain_id, "sender": SOUTH.id, "operation": "treatment.attest", "body": body}
    changed: list[dict[str, object]] = [
        {},
        {"chain_id": bytes(32)},
        {"sender": NORTH.id},
        {"operation": "treatment.end"},
        {"body": msgspec.structs.replace(body, patient=PAUL.id)},
    ]
    digests = {attestation_digest(**{**parts, **change}) for change in changed}  # type: ignore[arg-type]
    assert len(digests) == 5


def test_a_changed_body_is_not_attested(world: World) -> None:
    body = care.attesting(world)
    for change in ({"patient": PAUL.id}, {"not_after": body.not_after - 1}, {"relationship": bytes(16)}):
        assert world.refused(SOUTH, msgspec.structs.replace(body, **change)) == "attestation.bad_signature"


def test_who_attests_must_stand_with_a_key_of_its_own(world: World) -> None:
    world.ok(SOUTH, identity.Suspend(DORA.id))
    body = care.attesting(world, institution=NORTH, witness=DORA)
    assert world.refused(NORTH, body) == "identity.suspended"
    unknown = care.attesting(world, witness=NOBODY)
    assert world.refused(SOUTH, unknown) == "identity.unknown"
    bare = care.attesting(world, witness=None)
    forged = w.attested(world, SOUTH, bare, "witness", PETRA, key=PAUL)
    assert world.refused(SOUTH, forged) == "identity.key_not_authorised"


def test_whose_people_somebody_is(world: World) -> None:
    expected = {SOUTH: SOUTH.id, DORA: SOUTH.id, APP: SOUTH.id, PETRA: None, NOBODY: None}
    assert {who: institution_of(world.state, who.id) for who in expected} == expected
