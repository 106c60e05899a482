"""Granting and revoking: by the patient alone, within bounds, and remembered."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import consent
from consilium.ledger import codec
from tests.unit.contracts import world as w
from tests.unit.contracts.world import APP, DORA, NOBODY, NORTH, PAUL, PETRA, SOUTH, World


@pytest.fixture
def world() -> World:
    return World().populate()


def test_a_grant_is_kept_and_told(world: World) -> None:
    body = w.granting("c", SOUTH, purposes=["TREAT", "HPAYMT"], compartments=[w.compartment_of(PETRA)])
    world.ok(PETRA, body)
    kept = consent.CONSENTS.get(world.state, body.consent)
    assert kept == consent.Consent(
        patient=PETRA.id,
        grantee=SOUTH.id,
        purposes=["TREAT", "HPAYMT"],
        compartments=[w.compartment_of(PETRA)],
        effect="permit",
        not_before=body.not_before,
        not_after=body.not_after,
        granted_ms=world.time_ms,
        revoked_ms=None,
    )
    assert consent.consents_between(world.state, PETRA.id, SOUTH.id) == [(body.consent, kept)]
    (event,) = world.events
    assert (event.kind, event.subjects) == ("consent.granted", [PETRA.id, SOUTH.id])
    assert codec.decode(event.data, consent.GrantConsent, 4_096) == body


def test_a_revoked_consent_is_remembered_and_decides_nothing(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH), w.granting("d", SOUTH))
    world.ok(PETRA, w.revoking("c"))
    kept = consent.CONSENTS.get(world.state, w.some("consent/c"))
    assert kept is not None
    assert kept.revoked_ms == world.time_ms
    left = consent.consents_between(world.state, PETRA.id, SOUTH.id)
    assert [identifier for identifier, _ in left] == [w.some("consent/d")]
    (event,) = world.events
    assert (event.kind, event.subjects) == ("consent.revoked", [PETRA.id, SOUTH.id])
    assert world.refused(PETRA, w.revoking("c")) == "consent.already_revoked"


def test_a_third_party_neither_grants_nor_revokes(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    # A manager, the grantee, another patient, a practitioner.
    for who in (NORTH, SOUTH, PAUL, DORA):
        assert world.refused(who, w.revoking("c")) == "consent.not_the_patient"
    for who in (NORTH, SOUTH, DORA, APP):
        assert world.refused(who, w.granting("d", SOUTH)) == "consent.not_the_patient"
    assert world.refused(NORTH, w.granting("d", SOUTH), sender=PETRA.id) == "identity.key_not_authorised"


def test_an_unknown_consent_removes_no_other(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    assert world.refused(PETRA, w.revoking("unknown")) == "consent.unknown"


def test_ids_are_used_once_even_after_revocation(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    assert world.refused(PAUL, w.granting("c", SOUTH)) == "consent.id_taken"
    world.ok(PETRA, w.revoking("c"))
    assert world.refused(PETRA, w.granting("c", SOUTH)) == "consent.id_taken"


@pytest.mark.parametrize("grantee", [NOBODY, PAUL, APP])
def test_grantees_are_institutions_and_practitioners(world: World, grantee: w.Actor) -> None:
    assert world.refused(PETRA, w.granting("c", grantee)) == "consent.unknown_grantee"


@pytest.mark.parametrize("purpose", ["treat", "TREATMENT", "PurposeOfUse", "X"])
def test_unknown_purposes_are_refused(world: World, purpose: str) -> None:
    body = w.granting("c", SOUTH, purposes=["TREAT", purpose])
    assert world.refused(PETRA, body) == "consent.unknown_purpose"


def test_compartments_are_the_patients_own(world: World) -> None:
    for foreign in (w.compartment_of(PAUL), w.some("none")):
        body = w.granting("c", SOUTH, compartments=[w.compartment_of(PETRA), foreign])
        assert world.refused(PETRA, body) == "consent.foreign_compartment"


def test_periods_are_half_open_and_not_over(world: World) -> None:
    later = world.time_ms + w.DAY_MS
    empty = w.granting("c", SOUTH, not_before=later, not_after=later)
    assert world.refused(PETRA, empty) == "consent.bad_period"
    over = w.granting("c", SOUTH, not_after=world.time_ms + w.STEP_MS)
    assert world.refused(PETRA, over) == "consent.bad_period"
    # Block time of the next block is the last instant but one.
    world.ok(PETRA, w.granting("c", SOUTH, not_after=world.time_ms + w.STEP_MS + 1))
    world.ok(PETRA, w.granting("d", SOUTH, not_before=later, not_after=later + 1))


def test_current_consents_are_bounded_and_expired_ones_make_room(world: World) -> None:
    most = consent.CONSENTS_PER_GRANTEE_MAX
    end = world.time_ms + 1_000 * w.STEP_MS
    world.ok(PETRA, *(w.granting(str(i), SOUTH, not_after=end) for i in range(most)))
    assert world.refused(PETRA, w.granting("more", SOUTH)) == "consent.too_many"
    world.ok(PETRA, w.granting("other grantee", NORTH))
    world.ok(PETRA, w.revoking("3"))
    world.ok(PETRA, w.granting("instead", SOUTH, not_after=end))
    assert world.refused(PETRA, w.granting("more", SOUTH)) == "consent.too_many"
    world.time_ms = end
    world.ok(PETRA, w.granting("more", SOUTH))
    left = consent.consents_between(world.state, PETRA.id, SOUTH.id)
    assert [identifier for identifier, _ in left] == [w.some("consent/more")]
    # What left the list is still there to be proved.
    assert consent.CONSENTS.get(world.state, w.some("consent/0")) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"purposes": []},
        {"purposes": ["TREAT"] * (consent.PURPOSES_PER_CONSENT_MAX + 1)},
        {"compartments": []},
        {"compartments": [bytes(16)] * (consent.COMPARTMENTS_PER_CONSENT_MAX + 1)},
        {"purposes": ["T" * 17]},
        {"effect": "maybe"},
        {"not_after": 2**63},
        {"grantee": bytes(15)},
    ],
)
def test_bounds_of_the_body(world: World, changes: dict[str, object]) -> None:
    body = msgspec.structs.replace(w.granting("c", SOUTH), **changes)
    assert world.refused(PETRA, body) == "codec.malformed"


def test_the_largest_consent_fits_its_slot(world: World) -> None:
    body = msgspec.structs.replace(
        w.granting("c", SOUTH),
        purposes=["PRECLINTRCH"] * consent.PURPOSES_PER_CONSENT_MAX,
        compartments=[w.compartment_of(PETRA)] * consent.COMPARTMENTS_PER_CONSENT_MAX,
    )
    world.ok(PETRA, body)
