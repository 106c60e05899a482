"""The decision table: its rows, its meaning against the slow twin, exhaustively on a small world and on random ones."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.contracts import access, decision, identity
from consilium.contracts.consent import Consent, RevokeConsent
from tests.unit.contracts import world as w
from tests.unit.contracts.test_records import _SHARED
from tests.unit.contracts.twin import TABLE, Grant, Twin
from tests.unit.contracts.world import DORA, NORTH, PAUL, PETRA, SOUTH, World

NOW = 1_000


def test_the_table_is_the_file_in_the_order_of_the_design() -> None:
    rows = json.loads(TABLE.read_text())["rows"]
    assert [(r.condition, r.allow, r.basis) for r in decision.TABLE.rows] == [
        (r["condition"], r["allow"], r["basis"]) for r in rows
    ]
    assert [row["condition"] for row in rows] == [
        "erased_or_suspended",
        "emergency_deny",
        "legal_mandate",
        "break_glass",
        "matching_deny",
        "matching_permit",
        "network_policy",
        "otherwise",
    ]
    assert [row["allow"] for row in rows] == [False, False, True, True, False, True, True, False]


def _consents() -> list[Consent]:
    choices = itertools.product(
        ("permit", "deny"),
        (["TREAT"], ["ETREAT", "HPAYMT"]),
        (None, [b"A" * 16]),
        ((0, NOW), (0, NOW + 1), (NOW, NOW + 5), (NOW + 1, NOW + 5)),
        (None, 5),
    )
    return [
        Consent(PETRA.id, SOUTH.id, purposes, compartments, effect, start, end, 0, revoked)  # type: ignore[arg-type]
        for effect, purposes, compartments, (start, end), revoked in choices
    ]


def test_exhaustively_on_a_small_world() -> None:
    """Every pair of 64 consents, asked about two compartments and three purposes, with the reader standing or not."""
    consents = _consents()
    seen = set()
    for one, other in itertools.product(consents, consents):
        pair = ((b"1" * 16, one), (b"2" * 16, other))
        twin = Twin()
        twin.grants = [
            Grant(
                name=name,
                patient="petra",
                grantee="south",
                purposes=tuple(c.purposes),
                compartments=None if c.compartments is None else tuple(c.compartments),
                effect=c.effect,
                start=c.not_before,
                end=c.not_after,
                revoked=c.revoked_ms is not None,
            )
            for name, c in pair
        ]
        for standing in (True, False):
            twin.suspended = set() if standing else {"south"}
            facts = decision.Facts(PETRA.id, standing, pair)
            for compartment, purpose in ((b"A" * 16, "TREAT"), (b"B" * 16, "BTG"), (b"A" * 16, "HPAYMT")):
                ruling = decision.decide(decision.Question(facts, compartment, purpose, NOW))
                expected = twin.decide("south", "petra", compartment, purpose, NOW)
                assert (ruling.allow, ruling.basis, ruling.consent, ruling.until_ms) == expected
                seen.add(ruling.basis)
    assert seen == {"suspended", "denied", "consent", "no-basis"}


@pytest.mark.parametrize(("now", "allow"), [(NOW - 1, False), (NOW, True), (NOW + 4, True), (NOW + 5, False)])
def test_periods_are_half_open(now: int, allow: bool) -> None:
    consent = Consent(PETRA.id, SOUTH.id, ["TREAT"], None, "permit", NOW, NOW + 5, 0, None)
    facts = decision.Facts(PETRA.id, True, ((b"1" * 16, consent),))
    assert decision.decide(decision.Question(facts, b"A" * 16, "TREAT", now)).allow is allow


def test_another_patients_consent_says_nothing() -> None:
    consent = Consent(PAUL.id, SOUTH.id, ["TREAT"], None, "permit", 0, NOW + 5, 0, None)
    facts = decision.Facts(PETRA.id, True, ((b"1" * 16, consent),))
    assert decision.decide(decision.Question(facts, b"A" * 16, "TREAT", NOW)).basis == "no-basis"


NAMES = {"petra": PETRA, "paul": PAUL, "dora": DORA, "south": SOUTH, "north": NORTH}
PURPOSES = ("TREAT", "ETREAT", "BTG", "HPAYMT", "HRESCH")

grants = st.tuples(
    st.just("grant"),
    st.sampled_from(("petra", "paul")),
    st.sampled_from(("dora", "south", "north")),
    st.lists(st.sampled_from(PURPOSES), min_size=1, max_size=2),
    st.booleans(),
    st.sampled_from(("permit", "permit", "deny")),
    st.integers(-3, 6),
    st.integers(1, 20),
)
revocations = st.tuples(st.just("revoke"), st.integers(0, 8))
status = st.tuples(st.just("status"), st.booleans())
requests = st.tuples(st.just("ask"), st.sampled_from(("dora", "south", "north")), st.sampled_from(PURPOSES))


@given(st.lists(st.one_of(grants, revocations, status, requests, requests), max_size=14))
def test_histories_against_the_twin(steps: list[tuple]) -> None:
    """Through the whole contract: grants, revocations, suspensions and requests in any order."""
    world, twin = _SHARED.copy(), Twin(employer={"dora": "south"})
    for number, step in enumerate(steps):
        match step:
            case ("grant", patient, grantee, purposes, everything, effect, start, length):
                _grant(world, twin, number, patient, grantee, purposes, everything, effect, start, length)
            case ("revoke", which) if which < len(twin.grants) and not twin.grants[which].revoked:
                chosen = twin.grants[which]
                world.ok(NAMES[chosen.patient], RevokeConsent(chosen.name))
                twin.revoke(chosen.name)
            case ("status", suspend) if suspend != ("dora" in twin.suspended):
                world.ok(SOUTH, identity.Suspend(DORA.id) if suspend else identity.Reinstate(DORA.id))
                twin.suspended = {"dora"} if suspend else set()
            case ("ask", reader, purpose):
                _compare(world, twin, reader, purpose)


def _grant(world, twin, number, patient, grantee, purposes, everything, effect, start, length) -> None:
    compartments = None if everything else [w.compartment_of(NAMES[patient])]
    begin = world.time_ms + start * w.STEP_MS
    body = w.granting(
        f"history/{number}",
        NAMES[grantee],
        purposes=purposes,
        compartments=compartments,
        effect=effect,
        not_before=begin,
        not_after=begin + length * w.STEP_MS,
    )
    if body.not_after <= world.time_ms + w.STEP_MS:
        assert world.refused(NAMES[patient], body) == "consent.bad_period"
        return
    world.ok(NAMES[patient], body)
    scope = None if compartments is None else tuple(compartments)
    noted = Grant(
        body.consent, patient, grantee, tuple(purposes), scope, effect, body.not_before, body.not_after
    )
    twin.grants.append(noted)


def _compare(world: World, twin: Twin, reader: str, purpose: str) -> None:
    patients = ("petra", "paul")
    named = [w.compartment_of(NAMES[patient]) for patient in patients]
    if reader in twin.suspended:
        request = w.asking(compartments=named, purpose=purpose)
        assert world.refused(NAMES[reader], request) == "identity.suspended"
        return
    decided = world.ask(NAMES[reader], compartments=named, purpose=purpose)
    for patient, compartment, verdict in zip(patients, named, decided.verdicts, strict=True):
        allow, basis, consent, end = twin.decide(reader, patient, compartment, purpose, world.time_ms)
        assert (verdict.patient, verdict.compartment) == (NAMES[patient].id, compartment)
        assert (verdict.allow, verdict.basis, verdict.consent) == (allow, basis, consent)
        window = world.time_ms + access.RELEASE_WINDOW_MS
        assert verdict.valid_until == (min(window, end or window) if allow else 0)
