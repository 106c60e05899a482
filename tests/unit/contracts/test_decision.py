"""The decision table: its rows, its meaning against the slow twin, exhaustively on a small world and on random ones."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.contracts import access, decision, emergency, identity, mandates, treatment
from consilium.contracts.conditions import Condition, Conditions, RecordFacts
from consilium.contracts.consent import EVERYBODY, Consent, Provision, RevokeConsent
from consilium.contracts.facts import Facts
from tests.unit.contracts import world as w
from tests.unit.contracts.test_records import _SHARED
from tests.unit.contracts.twin import TABLE, Emergency, Grant, Mandate, Rule, Treatment, Twin
from tests.unit.contracts.world import DORA, NORTH, PAUL, PETRA, SOUTH, WEST, World

NOW = 1_000
GENERAL, SENSITIVE = b"A" * 16, b"B" * 16
TEAM = b"T" * 16
IDS = {"petra": PETRA.id, "south": SOUTH.id, "dora": DORA.id, "north": NORTH.id, "team": TEAM}
PURPOSES = ("TREAT", "BTG", "HPAYMT", "PWATRNY")
DIGEST = b"D" * 32


def test_the_table_is_the_file_in_the_order_of_the_design() -> None:
    rows = json.loads(TABLE.read_text())["rows"]
    assert [(r.condition, r.allow, r.basis) for r in decision.TABLE.rows] == [
        (r["condition"], r["allow"], r["basis"]) for r in rows
    ]
    assert [(row["condition"], row["allow"]) for row in rows] == [
        ("erased", False),
        ("suspended", False),
        ("emergency_deny", False),
        ("legal_mandate", True),
        ("break_glass", True),
        ("matching_deny", False),
        ("matching_permit", True),
        ("representative", True),
        ("network_policy", True),
        ("otherwise", False),
    ]


# --- one world, told to both ------------------------------------------------------------------------------------------


def consent_of(grant: Grant) -> Consent:
    """The consent on the chain for what the twin has noted."""
    provisions = [
        Provision(
            depth=rule.depth,
            effect=rule.effect,  # type: ignore[arg-type]
            actors=None if rule.actors is None else [IDS[actor] for actor in rule.actors],
            purposes=None if rule.purposes is None else list(rule.purposes),
            compartments=None if rule.compartments is None else list(rule.compartments),
            not_before=rule.start,
            not_after=rule.end,
            conditional=rule.condition is not None,
        )
        for rule in grant.rules
    ]
    hidden = any(rule.condition is not None for rule in grant.rules)
    digest = (grant.name * 2) if hidden else None
    return Consent(PETRA.id, provisions, digest, None, False, PETRA.id, 0, None, 0, None)


def conditions_of(grant: Grant) -> dict[bytes, Conditions]:
    found = [
        Condition(place, resource_types=[rule.condition])
        for place, rule in enumerate(grant.rules)
        if rule.condition is not None
    ]
    return {grant.name * 2: Conditions(1, bytes(32), grant.name, found)} if found else {}


def facts_of(twin: Twin, reader: str) -> Facts:
    """What `gather` would find for Dora of South, or for South itself, about Petra."""
    readers = [reader, *([twin.employer[reader]] if reader in twin.employer else [])]
    member = [TEAM] if reader in twin.teams.get("team", set()) else []
    return Facts(
        patient=PETRA.id,
        reader=IDS[reader],
        standing=not {*readers, "petra"} & twin.suspended,
        erased="petra" in twin.erased,
        parties=(*(IDS[one] for one in readers), *member, EVERYBODY),
        consents=tuple((g.name, consent_of(g)) for g in twin._speaking(reader, "petra")),
        mandates=tuple(
            (
                m.name,
                mandates.Mandate(
                    PETRA.id,
                    IDS[m.reader],
                    list(m.purposes),
                    None if m.compartments is None else list(m.compartments),
                    m.start,
                    m.end,
                    WEST.id,
                    NORTH.id,
                    0,
                    None,
                ),
            )
            for who in readers
            for m in twin.mandates
            if m.reader == who
        ),
        glasses=tuple(
            (
                e.name,
                emergency.Glass(
                    PETRA.id,
                    DORA.id,
                    SOUTH.id,
                    "danger-to-life",
                    bytes(16),
                    None,
                    e.start,
                    e.end,
                    0,
                    None,
                    None,
                    None,
                    False,
                ),
            )
            for e in twin.emergencies
            if e.clinician == reader
        ),
        relationships=tuple(
            (
                t.name,
                treatment.Relationship(
                    PETRA.id,
                    SOUTH.id,
                    None if t.people is None else [IDS[one] for one in t.people],
                    t.start,
                    t.end,
                    None,
                    None,
                ),
            )
            for t in twin.treatments
            if t.institution == twin.employer.get(reader, reader)
        ),
        policy_purposes=twin.policy,
        emergency_deny="petra" in twin.emergency_deny,
        opt_out="petra" in twin.opt_out,
    )


def compare(twin: Twin, reader: str, record: str | None = None) -> set[str]:
    """Ask both about both compartments for every purpose. Returns the bases that were met."""
    facts = facts_of(twin, reader)
    opened = {digest: one for grant in twin.grants for digest, one in conditions_of(grant).items()}
    known = None if record is None else RecordFacts(NORTH.id, record, ())
    met = set()
    for compartment, purpose in itertools.product((GENERAL, SENSITIVE), PURPOSES):
        asked = decision.Question(
            facts, compartment, compartment == GENERAL, purpose, NOW, known, opened if record else None
        )
        ruling = decision.decide(asked)
        expected = twin.decide(reader, "petra", compartment, purpose, NOW, record)
        found = (ruling.allow, ruling.basis, ruling.ground, ruling.until_ms, bool(ruling.obligations))
        assert found == expected, (compartment, purpose, twin)
        met.add(ruling.basis)
    return met


def rules() -> list[tuple[Rule, ...]]:
    """Consents of one or two rules, of every kind."""
    simple = [
        Rule(effect, start, end, 0, actors, purposes, compartments)
        for effect, actors, purposes, compartments, (start, end) in itertools.product(
            ("permit", "deny"),
            (None, ("dora",), ("south",), ("team",)),
            (("TREAT",), ("ETREAT", "HPAYMT")),
            (None, (SENSITIVE,)),
            ((0, NOW), (0, NOW + 1), (NOW, NOW + 5), (NOW + 1, NOW + 5)),
        )
    ]
    nested = [
        (Rule(outer, 0, NOW + 9, 0, None), Rule(inner, 0, NOW + 5, 1, actors, purposes, None, condition))
        for outer, inner, actors, purposes, condition in itertools.product(
            ("permit", "deny"), ("permit", "deny"), (None, ("dora",)), (("BTG",), None), (None, "X")
        )
        if not (inner == "permit" and purposes is None)
    ]
    hidden = [(Rule(effect, 0, NOW + 5, 0, None, ("TREAT",), None, "X"),) for effect in ("permit", "deny")]
    return [*((rule,) for rule in simple), *nested, *hidden]


RULES = rules()


def small_world() -> Twin:
    return Twin(employer={"dora": "south"}, teams={"team": {"dora"}}, general={GENERAL})


def test_every_consent_alone_and_with_every_flag() -> None:
    """Each consent under each combination of everything else there is, asked with and without the record."""
    seen = set()
    chosen = [RULES[index] for index in range(0, len(RULES), 5)] + RULES[-12:]
    flags = list(itertools.product((False, True), repeat=6))
    for number, (one, flag) in enumerate(itertools.product(chosen, flags)):
        suspended, denied, mandated, broken, treated, opted = flag
        twin = small_world()
        twin.grants = [Grant(b"1" * 16, "petra", one)]
        twin.suspended = {"south"} if suspended else set()
        twin.erased = {"petra"} if number % 17 == 0 else set()
        twin.emergency_deny = {"petra"} if denied else set()
        twin.opt_out = {"petra"} if opted else set()
        if mandated:
            twin.mandates = [Mandate(b"m" * 16, "petra", "south", ("HPAYMT",), (SENSITIVE,), 0, NOW + 2)]
        if broken:
            twin.emergencies = [Emergency(b"g" * 16, "petra", "dora", NOW, NOW + 3)]
        if treated:
            twin.treatments = [Treatment(b"t" * 16, "petra", "south", ("dora",), 0, NOW + 4)]
        seen |= compare(twin, ("dora", "south")[number % 2])
    assert seen == {
        *("erased", "suspended", "emergency-deny", "legal-mandate", "break-glass"),
        *("denied", "consent", "policy", "no-basis"),
    }


def test_every_pair_of_consents() -> None:
    """Of a third of all consents each with each; what is hidden is asked again with records of two types."""
    chosen = [RULES[index] for index in range(0, len(RULES), 6)] + RULES[-8:]
    for one, other in itertools.product(chosen, chosen):
        twin = small_world()
        twin.grants = [Grant(b"1" * 16, "petra", one), Grant(b"2" * 16, "petra", other)]
        compare(twin, "dora")
        if any(rule.condition for rule in (*one, *other)):
            compare(twin, "dora", "X")
            compare(twin, "dora", "Y")


def test_every_single_consent_for_every_reader() -> None:
    for one in RULES:
        for reader in ("dora", "south"):
            for member in (True, False):
                twin = small_world()
                twin.teams = {"team": {"dora"} if member else set()}
                twin.grants = [Grant(b"1" * 16, "petra", one)]
                compare(twin, reader)


trees = st.lists(
    st.builds(
        Rule,
        effect=st.sampled_from(("permit", "deny")),
        start=st.sampled_from((0, NOW, NOW + 1)),
        end=st.integers(NOW + 2, NOW + 9),
        depth=st.integers(1, 3),
        actors=st.sampled_from((None, ("dora",), ("south",), ("team", "north"))),
        purposes=st.sampled_from((("TREAT",), ("BTG",), ("HPAYMT", "ETREAT"))),
        compartments=st.sampled_from((None, (GENERAL,), (SENSITIVE,))),
        condition=st.sampled_from((None, None, "X")),
    ),
    max_size=5,
)


@given(st.sampled_from(RULES), trees, st.sampled_from((None, "X", "Y")))
def test_deep_consents(root: tuple[Rule, ...], below: list[Rule], record: str | None) -> None:
    twin = small_world()
    tree = (root[0], *sorted(below, key=lambda rule: rule.depth))
    twin.grants = [Grant(b"1" * 16, "petra", tree)]
    compare(twin, "dora", record)


@pytest.mark.parametrize(("now", "allow"), [(NOW - 1, False), (NOW, True), (NOW + 4, True), (NOW + 5, False)])
def test_periods_are_half_open(now: int, allow: bool) -> None:
    twin = small_world()
    twin.grants = [Grant(b"1" * 16, "petra", (Rule("permit", NOW, NOW + 5),))]
    asked = decision.Question(facts_of(twin, "south"), GENERAL, True, "TREAT", now)
    assert decision.decide(asked).allow is allow


def test_a_condition_that_nobody_can_open_counts_against_the_reader() -> None:
    record = RecordFacts(NORTH.id, "X", ())
    for effect, allow in (("permit", False), ("deny", False)):
        twin = small_world()
        hidden = Rule(effect, 0, NOW + 5, 1, None, ("TREAT",), None, "X")
        root = Rule("permit" if effect == "deny" else "deny", 0, NOW + 5)
        twin.grants = [Grant(b"1" * 16, "petra", (root, hidden))]
        asked = decision.Question(facts_of(twin, "south"), GENERAL, True, "TREAT", NOW, record, {})
        assert decision.decide(asked).allow is allow


@pytest.mark.parametrize(
    ("reader", "purpose", "general", "allow"),
    [
        ("patient", "PATRQT", True, True),
        ("patient", "PATRQT", False, True),
        ("patient", "TREAT", True, False),
        ("guardian", "PWATRNY", True, True),
        ("guardian", "PWATRNY", False, False),
        ("guardian", "HRESCH", True, False),
        ("late", "PWATRNY", True, False),
    ],
)
def test_the_patient_and_who_represents_one(reader: str, purpose: str, general: bool, allow: bool) -> None:
    lease = {"guardian": NOW + 1, "late": NOW}.get(reader)
    facts = Facts(PETRA.id, PAUL.id, True, is_patient=reader == "patient", lease_ms=lease)
    ruling = decision.decide(decision.Question(facts, GENERAL, general, purpose, NOW))
    assert (ruling.allow, ruling.basis) == (allow, "representative" if allow else "no-basis")
    assert ruling.until_ms == (lease if allow else None)


# --- through the whole contract ---------------------------------------------------------------------------------------

NAMES = {"petra": PETRA, "paul": PAUL, "dora": DORA, "south": SOUTH, "north": NORTH}
ASKED = ("TREAT", "ETREAT", "BTG", "HPAYMT", "HRESCH")

grants = st.tuples(
    st.just("grant"),
    st.sampled_from(("petra", "paul")),
    st.sampled_from(("dora", "south", "north")),
    st.lists(st.sampled_from(ASKED), min_size=1, max_size=2),
    st.booleans(),
    st.sampled_from(("permit", "permit", "deny")),
    st.integers(-3, 6),
    st.integers(1, 20),
)
revocations = st.tuples(st.just("revoke"), st.integers(0, 8))
status = st.tuples(st.just("status"), st.booleans())
requests = st.tuples(st.just("ask"), st.sampled_from(("dora", "south", "north")), st.sampled_from(ASKED))


@given(st.lists(st.one_of(grants, revocations, status, requests, requests), max_size=14))
def test_histories_against_the_twin(steps: list[tuple]) -> None:
    """Grants, revocations, suspensions and requests in any order."""
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
    end = begin + length * w.STEP_MS
    body = w.granting(
        f"history/{number}",
        NAMES[grantee],
        patient=NAMES[patient],
        purposes=purposes,
        compartments=compartments,
        effect=effect,
        not_before=begin,
        not_after=end,
    )
    if end <= world.time_ms + w.STEP_MS:
        assert world.refused(NAMES[patient], body) == "consent.bad_period"
        return
    world.ok(NAMES[patient], body)
    scope = None if compartments is None else tuple(compartments)
    rule = Rule(effect, begin, end, 0, (grantee,), tuple(purposes), scope)
    twin.grants.append(Grant(body.consent, patient, (rule,)))


def _compare(world: World, twin: Twin, reader: str, purpose: str) -> None:
    patients = ("petra", "paul")
    named = [w.compartment_of(NAMES[patient]) for patient in patients]
    if reader in twin.suspended:
        request = w.asking(compartments=named, purpose=purpose)
        assert world.refused(NAMES[reader], request) == "identity.suspended"
        return
    decided = world.ask(NAMES[reader], compartments=named, purpose=purpose)
    for patient, compartment, verdict in zip(patients, named, decided.verdicts, strict=True):
        allow, basis, ground, end, _ = twin.decide(reader, patient, compartment, purpose, world.time_ms)
        assert (verdict.patient, verdict.compartment) == (NAMES[patient].id, compartment)
        assert (verdict.allow, verdict.basis, verdict.ground) == (allow, basis, ground)
        window = world.time_ms + access.RELEASE_WINDOW_MS
        assert verdict.valid_until == (min(window, end or window) if allow else 0)
