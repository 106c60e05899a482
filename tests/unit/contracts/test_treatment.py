"""Treatment relationships and the network's policy."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import access, preferences, settings, treatment
from consilium.contracts.classes import PSYCHIATRY
from consilium.ledger import codec
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DAN, DORA, NORTH, PAUL, PETRA, SOUTH, WEST, World

PLACE = w.compartment_of(PETRA)


@pytest.fixture
def world() -> World:
    return World().populate()


def ask(world: World, who: w.Actor = DORA, purpose: str = "TREAT", place: bytes = PLACE) -> access.Verdict:
    return world.ask(who, compartments=[place], purpose=purpose).verdicts[0]


def settle(world: World, **changes: object) -> None:
    settled = msgspec.structs.replace(settings.DEFAULTS, **changes)
    world.state.values[settings.SETTINGS.key()] = codec.encode(settled)


def test_the_policy_opens_the_general_class_while_the_encounter_lasts(world: World) -> None:
    assert ask(world).basis == "no-basis"
    world.ok(SOUTH, care.attesting(world))
    for who in (DORA, SOUTH):
        verdict = ask(world, who)
        assert (verdict.allow, verdict.basis, verdict.ground) == (True, "policy", w.some("treatment/t"))
    assert ask(world, purpose="BTG").basis == "policy"
    assert not ask(world, DAN).allow
    assert not ask(world, NORTH).allow
    world.ok(SOUTH, care.ending())
    assert not ask(world).allow


def test_never_for_research_payment_or_what_is_sensitive(world: World) -> None:
    world.ok(SOUTH, care.attesting(world))
    for purpose in ("HRESCH", "CLINTRCH", "HMARKT", "HPAYMT"):
        assert not ask(world, purpose=purpose).allow
    assert not ask(world, place=w.compartment_of(PETRA, PSYCHIATRY)).allow
    assert not ask(world, place=w.compartment_of(PAUL)).allow


def test_the_patient_opts_out_or_denies(world: World) -> None:
    world.ok(SOUTH, care.attesting(world))
    decision = world.ask(DORA, compartments=[PLACE])
    world.ok(PETRA, preferences.Preferences(emergency_deny=False, opt_out=True))
    assert not ask(world).allow
    code = access.still_stands(world.state, decision, decision.verdicts[0], world.time_ms)
    assert code == "access.not_allowed"
    world.ok(PETRA, preferences.Preferences(emergency_deny=False, opt_out=False))
    assert ask(world).basis == "policy"
    world.ok(PETRA, w.granting("no", DORA, effect="deny"))
    assert ask(world).basis == "denied"


def test_the_patient_ends_it_and_nobody_else_does(world: World) -> None:
    world.ok(SOUTH, care.attesting(world))
    for who in (NORTH, DORA, PAUL):
        assert world.refused(who, care.ending()) == "treatment.not_yours"
    world.ok(PETRA, care.ending())
    assert world.refused(SOUTH, care.ending()) == "treatment.ended_already"
    assert treatment.relationships_between(world.state, PETRA.id, SOUTH.id) == []


def test_it_ends_by_itself(world: World) -> None:
    world.ok(SOUTH, care.attesting(world, lasts_ms=60_000))
    assert ask(world).valid_until == world.time_ms + 58_000
    world.time_ms += 60_000
    assert not ask(world).allow


def test_for_those_who_treat_only(world: World) -> None:
    nurse = w.actor("nurse")
    world.ok(SOUTH, world.enrolment(nurse, SOUTH, "practitioner"))
    world.ok(SOUTH, care.attesting(world, practitioners=[DORA]))
    assert ask(world).allow
    assert not ask(world, nurse).allow
    assert not ask(world, SOUTH).allow


@pytest.mark.parametrize("witness", [PETRA, NORTH, DAN])
def test_a_witness_is_anybody_who_does_not_work_there(world: World, witness: w.Actor) -> None:
    world.ok(SOUTH, care.attesting(world, witness=witness))


def test_no_institution_attests_by_itself(world: World) -> None:
    assert world.refused(SOUTH, care.attesting(world, witness=None)) == "attestation.missing"
    # Paul is a patient whom South enrolled: it could have made him up, and signed with his key.
    for witness in (SOUTH, DORA, PAUL):
        body = care.attesting(world, witness=witness)
        assert world.refused(SOUTH, body) == "attestation.not_independent"
    stolen = care.attesting(world)
    assert world.refused(WEST, stolen) == "attestation.bad_signature"
    forged = w.attested(world, SOUTH, care.attesting(world, witness=None), "witness", PETRA, key=DORA)
    assert world.refused(SOUTH, forged) == "identity.key_not_authorised"


def test_a_network_may_do_without_witnesses_or_policy(world: World) -> None:
    settle(world, witness_required=False)
    world.ok(SOUTH, care.attesting(world, witness=None))
    assert ask(world).allow
    settle(world, policy_purposes=[])
    assert not ask(world).allow


def test_what_is_refused(world: World) -> None:
    assert world.refused(DORA, care.attesting(world, institution=DORA)) == "identity.not_an_institution"
    assert world.refused(SOUTH, care.attesting(world, patient=DAN)) == "records.not_a_patient"
    assert world.refused(SOUTH, care.attesting(world, practitioners=[SOUTH])) == "treatment.not_employed"
    world.ok(SOUTH, care.attesting(world))
    assert world.refused(SOUTH, care.attesting(world)) == "treatment.id_taken"
    for number in range(treatment.RELATIONSHIPS_PER_PAIR_MAX - 1):
        world.ok(SOUTH, care.attesting(world, str(number)))
    assert world.refused(SOUTH, care.attesting(world, "more")) == "treatment.too_many"
    world.time_ms += w.DAY_MS
    world.ok(SOUTH, care.attesting(world, "more"))
