"""What one request may cost, and hold: beyond it there is a refusal with a name, for every node the same."""

from __future__ import annotations

import pytest

from consilium.contracts import decision, teams
from consilium.contracts.classes import CLASSES
from consilium.contracts.consent import CONSENTS_PER_GRANTEE_MAX, GrantConsent
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DORA, PAUL, PETRA, SOUTH, Actor, World, some

TEAMS = [some(f"team/{number}") for number in range(teams.TEAMS_PER_MEMBER_MAX)]


@pytest.fixture
def world() -> World:
    """Dora is in as many teams as one may be."""
    world = World().populate()
    for team in TEAMS:
        world.ok(SOUTH, care.forming(team=team), teams.AdmitMember(team, DORA.id))
    return world


def consent_to(
    team: bytes, number: int, *, patient: Actor = PETRA, conditional: bool = False
) -> GrantConsent:
    label = f"{patient.name}/{team.hex()}/{number}"
    obligations = some(f"conditions/{label}", 32) if conditional else None
    rule = w.provision(team, conditional=conditional)
    return GrantConsent(some(f"consent/{label}"), patient.id, [rule], obligations)


def test_more_conditions_than_a_verdict_has_room_for_are_refused_by_name(world: World) -> None:
    fill = decision.OBLIGATIONS_MAX // CONSENTS_PER_GRANTEE_MAX
    for team in TEAMS[:fill]:
        grants = [consent_to(team, i, conditional=True) for i in range(CONSENTS_PER_GRANTEE_MAX)]
        world.ok(PETRA, *grants)
    (verdict,) = world.ask(DORA, compartments=[w.compartment_of(PETRA)]).verdicts
    assert len(verdict.obligations) == decision.OBLIGATIONS_MAX
    world.ok(PETRA, consent_to(TEAMS[fill], 0, conditional=True))
    asked = w.asking(compartments=[w.compartment_of(PETRA)])
    assert world.refused(DORA, asked) == "access.too_many_conditions"


def test_a_request_weighs_a_bounded_number_of_consents(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for patient in (PETRA, PAUL):
        world.ok(patient, *(consent_to(TEAMS[0], i, patient=patient) for i in range(10)))
    monkeypatch.setattr(decision, "CONSENTS_WEIGHED_MAX", 10 * len(CLASSES))
    of_one = [w.compartment_of(PETRA, code) for code in CLASSES]
    world.ask(DORA, compartments=of_one)
    both = [*of_one, w.compartment_of(PAUL)]
    assert world.refused(DORA, w.asking(compartments=both)) == "access.too_many_consents"


def test_the_bound_is_of_all_requests_of_a_transaction(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.ok(PETRA, *(consent_to(TEAMS[0], number) for number in range(10)))
    monkeypatch.setattr(decision, "CONSENTS_WEIGHED_MAX", 30)
    asked = w.asking(compartments=[w.compartment_of(PETRA)])
    world.ok(DORA, *[asked] * 3)
    assert world.refused(DORA, *[asked] * 4) == "access.too_many_consents"
    world.ok(DORA, asked)


def test_what_is_asked_of_one_compartment_twice_is_weighed_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision, "CONSENTS_WEIGHED_MAX", 3)
    world.ok(PETRA, consent_to(TEAMS[0], 0))
    first, second, third = sorted(w.compartment_of(PETRA, code) for code in (1, 2, 3))
    codes = {w.compartment_of(PETRA, code): code for code in (1, 2, 3)}
    named = []
    for place, chosen in enumerate(([first], [first, second], [first, third], [first, second, third])):
        body = w.anchoring(f"x{place}", PETRA, bundle=f"x{place}", classes=[codes[one] for one in chosen])
        world.ok(SOUTH, body)
        named.append(body.record)
    assert [verdict.allow for verdict in world.ask(DORA, records_=named).verdicts] == [True] * 4


def test_all_consents_that_one_reader_can_have_are_weighed_for_a_record_of_every_class() -> None:
    """So what is refused as too many can always be asked for in parts."""
    parties = teams.TEAMS_PER_MEMBER_MAX + 3  # the reader, its employer, and everybody
    assert parties * CONSENTS_PER_GRANTEE_MAX * len(CLASSES) <= decision.CONSENTS_WEIGHED_MAX
