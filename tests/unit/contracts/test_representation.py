"""Managers, delegates and guardians: what each may do for a patient, and until when."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import consent, representation, settings
from consilium.contracts.classes import HIV
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.test_records import beginning
from tests.unit.contracts.world import APP, DAN, DORA, NORTH, PAUL, PETRA, SOUTH, WEST, World

GENERAL = [w.compartment_of(PETRA)]


@pytest.fixture
def world() -> World:
    return World().populate()


def managed(**changes: object) -> consent.GrantConsent:
    """What a manager may grant alone, or with something changed."""
    values: dict[str, object] = {"compartments": GENERAL, "not_after": w.START_MS + w.DAY_MS}
    return w.granting("m", SOUTH, **{**values, **changes})  # type: ignore[arg-type]


def test_a_manager_consents_to_care_within_bounds(world: World) -> None:
    world.ok(NORTH, managed())
    kept = consent.CONSENTS.get(world.state, w.some("consent/m"))
    assert kept is not None
    assert kept.granted_by == NORTH.id
    (event,) = world.events
    assert event.subjects == [PETRA.id, SOUTH.id, NORTH.id]
    assert world.ask(SOUTH, compartments=GENERAL).verdicts[0].allow
    world.ok(NORTH, w.revoking("m"))
    assert not world.ask(SOUTH, compartments=GENERAL).verdicts[0].allow


BEYOND = [
    {"compartments": None},
    {"compartments": [w.compartment_of(PETRA, HIV)]},
    {"purposes": ["TREAT", "HPAYMT"]},
    {"purposes": ["HRESCH"]},
    {"not_after": w.START_MS + settings.DEFAULTS.managed_consent_ms_max + w.DAY_MS},
    {"transferable": True},
]


@pytest.mark.parametrize("changes", BEYOND)
def test_more_needs_another_institutions_countersignature(world: World, changes: dict[str, object]) -> None:
    body = managed(**changes)
    assert world.refused(NORTH, body) == "consent.beyond_bounds"
    for involved in (NORTH, SOUTH):
        signed = w.attested(world, NORTH, body, "countersignature", involved)
        assert world.refused(NORTH, signed) == "attestation.not_independent"
    for person in (DAN, PAUL):
        signed = w.attested(world, NORTH, body, "countersignature", person)
        assert world.refused(NORTH, signed) == "attestation.not_independent"
    world.ok(NORTH, w.attested(world, NORTH, body, "countersignature", WEST))


def test_a_countersignature_is_for_one_body(world: World) -> None:
    signed = w.attested(world, NORTH, managed(purposes=["HPAYMT"]), "countersignature", WEST)
    wider = msgspec.structs.replace(signed, provisions=managed(purposes=["HRESCH"]).provisions)
    assert world.refused(NORTH, wider) == "attestation.bad_signature"
    world.ok(NORTH, signed)
    # And once: the consent's id is used.
    assert world.refused(NORTH, signed) == "consent.id_taken"


def test_to_everybody_is_beyond_bounds_and_a_denial_is_free(world: World) -> None:
    assert world.refused(NORTH, w.granting("all", None, compartments=GENERAL)) == "consent.beyond_bounds"
    world.ok(NORTH, w.granting("no", SOUTH, effect="deny", purposes=None))


def test_a_manager_never_signs_as_the_patient(world: World) -> None:
    for who in (NORTH, SOUTH):
        assert world.refused(who, managed(), sender=PETRA.id) == "identity.key_not_authorised"


def test_another_manager_or_institution_speaks_for_nobody(world: World) -> None:
    for who in (SOUTH, WEST, DAN, DORA, PAUL, APP):
        assert world.refused(who, managed()) == "consent.not_the_patient"


def test_a_delegate_has_the_managers_bounds_until_its_lease_ends(world: World) -> None:
    end = world.time_ms + 10 * w.STEP_MS
    world.ok(PETRA, care.appointing(DAN, capacity="delegate", not_after=end))
    assert world.refused(DAN, managed(not_after=end + 1)) == "consent.beyond_lease"
    assert world.refused(DAN, managed(not_after=end, purposes=["HPAYMT"])) == "consent.beyond_bounds"
    world.ok(DAN, managed(not_after=end))
    world.time_ms = end
    assert world.refused(DAN, managed(not_after=end + w.DAY_MS)) == "consent.not_the_patient"


def test_a_guardian_consents_to_more_and_never_to_what_is_sensitive(world: World) -> None:
    care.with_guardians(world, PAUL)
    world.ok(PAUL, managed(purposes=["HPAYMT", "HRESCH"]))
    sensitive = w.granting(
        "s", SOUTH, compartments=[w.compartment_of(PETRA, HIV)], not_after=care.QUARTER_DAY
    )
    assert world.refused(PAUL, sensitive) == "consent.beyond_bounds"
    world.ok(PAUL, w.attested(world, PAUL, sensitive, "countersignature", WEST))
    late = managed(not_after=care.QUARTER_DAY + 1)
    assert world.refused(PAUL, late) == "consent.beyond_lease"
    world.ok(PETRA, w.granting("p", SOUTH))
    world.ok(PAUL, w.revoking("p"))


def test_guardianship_ends_on_a_quarter_day_and_is_renewed(world: World) -> None:
    for wrong in (care.QUARTER_DAY + 1, care.QUARTER_DAY - w.DAY_MS, care.QUARTER_DAY + 31 * w.DAY_MS):
        body = care.appointing(PAUL, not_after=wrong)
        assert world.refused(PETRA, body) == "representation.not_a_quarter_day"
    world.ok(PETRA, care.appointing(PAUL))
    world.ok(PETRA, care.appointing(PAUL, not_after=care.NEXT_QUARTER_DAY, changes=1))
    account = representation.account_of(world.state, PETRA.id)
    assert account.representatives == [
        representation.Representative(PAUL.id, "guardian", care.NEXT_QUARTER_DAY)
    ]
    world.time_ms = care.QUARTER_DAY
    world.ok(PAUL, managed(not_after=care.QUARTER_DAY + w.DAY_MS))
    world.time_ms = care.NEXT_QUARTER_DAY
    assert world.refused(PAUL, w.granting("late", SOUTH, compartments=GENERAL)) == "consent.not_the_patient"


def test_a_guardian_reads_the_general_class_at_the_patients_request(world: World) -> None:
    care.with_guardians(world, PAUL)
    places = [w.compartment_of(PETRA), w.compartment_of(PETRA, HIV)]
    general, sensitive = world.ask(PAUL, compartments=places, purpose="PWATRNY").verdicts
    assert (general.allow, general.basis) == (True, "representative")
    assert (sensitive.allow, sensitive.basis) == (False, "no-basis")
    assert not world.ask(PAUL, compartments=GENERAL, purpose="TREAT").verdicts[0].allow
    # The patient reads all.
    assert all(v.allow for v in world.ask(PETRA, compartments=places, purpose="PATRQT").verdicts)
    assert not world.ask(DORA, compartments=GENERAL, purpose="PATRQT").verdicts[0].allow


def test_a_manager_appoints_guardians_with_another_institution_only(world: World) -> None:
    body = care.appointing(PAUL)
    assert world.refused(NORTH, body) == "attestation.missing"
    assert world.refused(SOUTH, body) == "representation.not_the_patient"
    delegate = care.appointing(DAN, capacity="delegate")
    signed = w.attested(world, NORTH, delegate, "countersignature", WEST)
    assert world.refused(NORTH, signed) == "representation.not_the_patient"
    signed = w.attested(world, NORTH, body, "countersignature", WEST)
    world.ok(NORTH, signed)
    # What was countersigned serves once, even after the patient dismissed the guardian.
    world.ok(PETRA, representation.Dismiss(PETRA.id, PAUL.id))
    assert world.refused(NORTH, signed) == "representation.out_of_date"


@pytest.mark.parametrize("who", [PETRA, NORTH, APP])
def test_who_represents_nobody(world: World, who: w.Actor) -> None:
    body = care.appointing(who, capacity="delegate")
    assert world.refused(PETRA, body) == "representation.bad_representative"


def test_the_patient_dismisses_and_a_representative_gives_up(world: World) -> None:
    care.with_guardians(world, PAUL, DAN)
    for who in (NORTH, SOUTH, DORA):
        dismissal = representation.Dismiss(PETRA.id, PAUL.id)
        assert world.refused(who, dismissal) == "representation.not_the_patient"
    world.ok(PETRA, representation.Dismiss(PETRA.id, PAUL.id))
    assert world.refused(PAUL, managed()) == "consent.not_the_patient"
    # Removing somebody who is not there removes nobody else.
    assert world.refused(PETRA, representation.Dismiss(PETRA.id, DORA.id)) == "representation.not_appointed"
    assert [one.identity for one in representation.account_of(world.state, PETRA.id).representatives] == [
        DAN.id
    ]
    world.ok(DAN, representation.Dismiss(PETRA.id, DAN.id))
    assert representation.account_of(world.state, PETRA.id).representatives == []


def test_representatives_are_few(world: World) -> None:
    for number in range(representation.REPRESENTATIVES_MAX):
        new = w.actor(f"friend {number}")
        world.ok(NORTH, world.enrolment(new, NORTH, "patient"))
        world.ok(PETRA, care.appointing(new, changes=number))
    body = care.appointing(DAN, changes=representation.REPRESENTATIVES_MAX)
    assert world.refused(PETRA, body) == "representation.too_many"


def test_a_manager_or_guardian_begins_epochs_and_a_delegate_does_not(world: World) -> None:
    world.ok(PETRA, care.appointing(PAUL), care.appointing(DAN, capacity="delegate", changes=1))
    world.ok(NORTH, beginning(PETRA))
    world.ok(PAUL, beginning(PETRA, "another"))
    assert world.refused(DAN, beginning(PETRA, "third")) == "records.not_yours"
