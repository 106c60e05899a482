"""Conditions against a record's header: yes, no, and what the header leaves open."""

from __future__ import annotations

import itertools

import pytest

from consilium.contracts.conditions import (
    CONDITIONS_BYTES_MAX,
    CONFIDENTIALITY,
    NAMES_MAX,
    PROVISIONS_MAX,
    REFERENCES_MAX,
    Condition,
    Conditions,
    RecordFacts,
    Truth,
    meets,
)
from consilium.ledger import codec

YES, MAYBE, NO = Truth.YES, Truth.MAYBE, Truth.NO
HERE, THERE = b"h" * 16, b"t" * 16


def record(**changes: object) -> RecordFacts:
    values: dict[str, object] = {"institution": HERE, "resource_type": "Observation", "instances": (HERE,)}
    return RecordFacts(**{**values, **changes})  # type: ignore[arg-type]


def ask(facts: RecordFacts, **demands: object) -> Truth:
    return meets(Condition(0, **demands), facts)  # type: ignore[arg-type]


def test_a_condition_that_demands_nothing_is_met() -> None:
    assert ask(record()) == YES


@pytest.mark.parametrize("field", ["resource_types", "instances", "institutions"])
def test_what_is_always_known(field: str) -> None:
    same: object = ["Observation"] if field == "resource_types" else [THERE, HERE]
    other: object = ["Patient"] if field == "resource_types" else [THERE]
    for is_cut in (False, True):
        assert ask(record(is_cut=is_cut), **{field: same}) == YES
        assert ask(record(is_cut=is_cut), **{field: other}) == NO


@pytest.mark.parametrize(("demand", "field"), [("authors", "authors"), ("related", "related")])
def test_what_may_have_been_cut(demand: str, field: str) -> None:
    assert ask(record(**{field: (THERE,)}), **{demand: [THERE]}) == YES
    assert ask(record(), **{demand: [THERE]}) == NO
    assert ask(record(is_cut=True), **{demand: [THERE]}) == MAYBE
    assert ask(record(is_cut=True, **{field: (THERE,)}), **{demand: [THERE]}) == YES


def test_what_is_related_is_the_thing_itself_too() -> None:
    assert ask(record(), related=[HERE]) == YES


def test_levels_are_a_scale() -> None:
    for stated, low, high in itertools.product(range(6), (None, *range(6)), (None, *range(6))):
        found = ask(record(labels=(CONFIDENTIALITY[stated], "PSY")), level_min=low, level_max=high)
        expected = (low is None or stated >= low) and (high is None or stated <= high)
        assert found == (YES if expected else NO)
    assert ask(record(labels=("PSY",)), level_max=3) == MAYBE
    assert ask(record(labels=("N", "R")), level_max=3) == NO


@pytest.mark.parametrize(
    ("first", "last", "truth"),
    [
        (10, 20, YES),
        (9, 20, MAYBE),
        (10, 21, MAYBE),
        (0, 30, MAYBE),
        (0, 10, NO),
        (20, 30, NO),
        (19, 20, YES),
        (None, 20, MAYBE),
        (10, None, MAYBE),
        (None, 10, NO),
        (20, None, NO),
        (None, None, MAYBE),
    ],
)
def test_periods_are_half_open(first: int | None, last: int | None, truth: Truth) -> None:
    facts = record(period_start_ms=first, period_end_ms=last)
    assert ask(facts, period_start_ms=10, period_end_ms=20) == truth


def test_a_period_open_at_one_side() -> None:
    assert ask(record(period_start_ms=5, period_end_ms=6), period_end_ms=6) == YES
    assert ask(record(period_start_ms=5, period_end_ms=6), period_start_ms=5) == YES
    assert ask(record(period_start_ms=5, period_end_ms=6), period_start_ms=6) == NO


def test_all_that_is_demanded_must_hold() -> None:
    facts = record(labels=("N",), is_cut=True)
    assert ask(facts, resource_types=["Observation"], authors=[THERE]) == MAYBE
    assert ask(facts, resource_types=["Patient"], authors=[THERE]) == NO


def test_the_largest_document_fits() -> None:
    full = [
        Condition(
            place,
            ["n" * 64] * NAMES_MAX,
            instances=[HERE] * REFERENCES_MAX,
            authors=[HERE] * REFERENCES_MAX,
            institutions=[HERE] * REFERENCES_MAX,
            related=[HERE] * REFERENCES_MAX,
            labels=["n" * 64] * NAMES_MAX,
            level_min=0,
            level_max=5,
            period_start_ms=-1,
            period_end_ms=1,
        )
        for place in range(PROVISIONS_MAX)
    ]
    document = Conditions(1, bytes(32), bytes(16), full[:3])
    assert len(codec.encode(document)) <= CONDITIONS_BYTES_MAX
    assert document.of(1) == full[1]
    assert document.of(7) is None
