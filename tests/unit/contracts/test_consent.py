"""Granting and revoking: by the patient alone, within bounds, and remembered."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import access, consent
from consilium.contracts.conditions import Condition, Conditions, RecordFacts
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
        provisions=body.provisions,
        obligations=None,
        source=None,
        transferable=False,
        granted_by=PETRA.id,
        generation=0,
        parent=None,
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
    for who in (SOUTH, PAUL, DORA, APP):
        assert world.refused(who, w.granting("d", SOUTH)) == "consent.not_the_patient"
    assert world.refused(NORTH, w.granting("d", SOUTH), sender=PETRA.id) == "identity.key_not_authorised"


def test_an_unknown_consent_removes_no_other(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    assert world.refused(PETRA, w.revoking("unknown")) == "consent.unknown"


def test_ids_are_used_once_even_after_revocation(world: World) -> None:
    world.ok(PETRA, w.granting("c", SOUTH))
    assert world.refused(PAUL, w.granting("c", SOUTH, patient=PAUL)) == "consent.id_taken"
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
        {"actors": [bytes(15)]},
        {"actors": []},
        {"depth": 4},
        {"depth": -1},
    ],
)
def test_bounds_of_the_body(world: World, changes: dict[str, object]) -> None:
    body = w.granting("c", SOUTH)
    root = msgspec.structs.replace(body.provisions[0], **changes)
    assert world.refused(PETRA, msgspec.structs.replace(body, provisions=[root])) == "codec.malformed"


@pytest.mark.parametrize("changes", [{"provisions": []}, {"patient": bytes(15)}, {"obligations": bytes(31)}])
def test_bounds_of_the_consent(world: World, changes: dict[str, object]) -> None:
    body = msgspec.structs.replace(w.granting("c", SOUTH), **changes)
    assert world.refused(PETRA, body) == "codec.malformed"
    many = msgspec.structs.replace(body, provisions=w.granting("c", SOUTH).provisions * 9)
    assert world.refused(PETRA, many) == "codec.malformed"


def test_the_largest_consent_fits_its_slot_and_event(world: World) -> None:
    root = w.provision(
        SOUTH,
        purposes=["PRECLINTRCH"] * consent.PURPOSES_PER_CONSENT_MAX,
        compartments=[w.compartment_of(PETRA)] * consent.COMPARTMENTS_PER_CONSENT_MAX,
        conditional=True,
    )
    deeper = msgspec.structs.replace(root, depth=1)
    body = msgspec.structs.replace(
        w.granting("c", SOUTH), provisions=[root, *[deeper] * 7], obligations=bytes(32)
    )
    world.ok(PETRA, body)


# --- provisions -------------------------------------------------------------------------------------------------------


def nested(*provisions: consent.Provision) -> consent.GrantConsent:
    return msgspec.structs.replace(w.granting("n", SOUTH), provisions=list(provisions))


@pytest.mark.parametrize("depths", [(1,), (0, 0), (0, 2, 1), (1, 0)])
def test_a_consent_has_one_root_and_goes_down(world: World, depths: tuple[int, ...]) -> None:
    body = nested(*(w.provision(SOUTH, depth=depth) for depth in depths))
    assert world.refused(PETRA, body) == "consent.bad_depths"


def test_the_deepest_provision_that_matches_wins(world: World) -> None:
    """Everybody may read for treatment; Dora may not; but Dora may in an emergency."""
    world.ok(
        PETRA,
        nested(
            w.provision(None),
            w.provision(DORA, depth=1, effect="deny", purposes=None),
            w.provision(DORA, depth=2, purposes=["ETREAT"]),
        ),
    )
    place = [w.compartment_of(PETRA)]
    for who, purpose, allow in (
        (NORTH, "TREAT", True),
        (SOUTH, "TREAT", True),
        (DORA, "TREAT", False),
        (DORA, "BTG", True),
        (NORTH, "HPAYMT", False),
    ):
        (verdict,) = world.ask(who, compartments=place, purpose=purpose).verdicts
        assert verdict.allow is allow, (who.name, purpose)
    (verdict,) = world.ask(DORA, compartments=place).verdicts
    assert (verdict.basis, verdict.ground) == ("denied", w.some("consent/n"))


def test_a_consent_to_everybody_is_found_once_for_all(world: World) -> None:
    world.ok(PETRA, w.granting("all", None))
    assert [i for i, _ in consent.consents_between(world.state, PETRA.id, consent.EVERYBODY)] == [
        w.some("consent/all")
    ]
    assert world.ask(DORA, compartments=[w.compartment_of(PETRA)]).verdicts[0].allow
    world.ok(PETRA, w.revoking("all"))
    assert consent.consents_between(world.state, PETRA.id, consent.EVERYBODY) == []
    assert not world.ask(DORA, compartments=[w.compartment_of(PETRA)]).verdicts[0].allow


def test_a_permit_says_for_what(world: World) -> None:
    assert world.refused(PETRA, w.granting("c", SOUTH, purposes=None)) == "consent.purpose_missing"
    world.ok(PETRA, w.granting("c", SOUTH, purposes=None, effect="deny"))
    for purpose in ("TREAT", "HRESCH", "PATRQT"):
        (verdict,) = world.ask(SOUTH, compartments=[w.compartment_of(PETRA)], purpose=purpose).verdicts
        assert verdict.basis == "denied"


def test_conditions_stand_in_a_document_or_nowhere(world: World) -> None:
    hidden = w.provision(SOUTH, conditional=True)
    assert world.refused(PETRA, nested(hidden)) == "consent.conditions_incomplete"
    plain = msgspec.structs.replace(w.granting("c", SOUTH), obligations=bytes(32))
    assert world.refused(PETRA, plain) == "consent.conditions_incomplete"
    world.ok(PETRA, msgspec.structs.replace(nested(hidden), obligations=bytes(32)))


def test_what_conditions_leave_open_is_owed(world: World) -> None:
    root, exception = w.provision(SOUTH), w.provision(SOUTH, depth=1, effect="deny", conditional=True)
    world.ok(PETRA, msgspec.structs.replace(nested(root, exception), obligations=b"o" * 32))
    decision = world.ask(DORA, compartments=[w.compartment_of(PETRA)])
    (verdict,) = decision.verdicts
    assert (verdict.allow, verdict.basis, verdict.obligations) == (True, "consent", [b"o" * 32])
    owed = access.owed_conditions(world.state, decision, verdict, world.time_ms)
    assert owed == {b"o" * 32: [w.some("consent/n")]}
    opened = {b"o" * 32: Conditions(1, bytes(32), w.some("consent/n"), [Condition(1, resource_types=["X"])])}
    for kind, permitted in (("X", False), ("Y", True)):
        facts = RecordFacts(NORTH.id, kind, ())
        found = access.permits_record(world.state, decision, verdict, world.time_ms, facts, opened)
        assert found is permitted
        assert not access.permits_record(world.state, decision, verdict, world.time_ms, facts, {})


def test_a_source_is_a_record_of_the_patient(world: World) -> None:
    body = msgspec.structs.replace(w.granting("c", SOUTH), source=w.record_id("original"))
    assert world.refused(PETRA, body) == "consent.unknown_source"
    world.ok(SOUTH, w.anchoring("original", PAUL))
    assert world.refused(PETRA, body) == "consent.unknown_source"
    world.ok(NORTH, w.anchoring("mine", PETRA))
    world.ok(PETRA, msgspec.structs.replace(body, source=w.record_id("mine")))


def test_actors_are_few(world: World) -> None:
    many = msgspec.structs.replace(w.provision(SOUTH), actors=[SOUTH.id] * 9)
    assert world.refused(PETRA, nested(many)) == "codec.malformed"
    new = [w.actor(f"staff {number}") for number in range(9)]
    for one in new:
        world.ok(SOUTH, world.enrolment(one, SOUTH, "practitioner"))
    spread = [w.provision(SOUTH), *(w.provision(one, depth=1) for one in new[:7])]
    world.ok(PETRA, nested(*spread))
    two = msgspec.structs.replace(w.provision(new[0], depth=1), actors=[new[7].id, new[8].id])
    assert world.refused(PETRA, nested(*spread[:7], two)) == "consent.too_many_actors"
