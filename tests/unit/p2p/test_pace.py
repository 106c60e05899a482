"""A lane's pace: a burst is free, then messages are spaced, and a pause is forgiven."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.p2p.pace import BURST_MESSAGES, Pace

PER_S = 100


def test_a_burst_is_free_and_what_follows_is_spaced() -> None:
    pace = Pace(PER_S)
    assert [pace.wait_s(5.0) for _ in range(BURST_MESSAGES)] == [0.0] * BURST_MESSAGES
    waits = [pace.wait_s(5.0) for _ in range(3)]
    assert waits == pytest.approx([1 / PER_S, 2 / PER_S, 3 / PER_S])


def test_who_keeps_the_pace_never_waits() -> None:
    pace = Pace(PER_S)
    assert not any(pace.wait_s(number / (PER_S - 1)) for number in range(20 * PER_S))


def test_a_pause_earns_one_burst_and_no_more() -> None:
    pace = Pace(PER_S)
    for _ in range(2 * BURST_MESSAGES):
        pace.wait_s(0.0)
    waits = [pace.wait_s(1_000.0) for _ in range(BURST_MESSAGES + 1)]
    assert [wait > 0 for wait in waits] == [False] * BURST_MESSAGES + [True]


@given(st.lists(st.floats(0, 0.1), max_size=600))
def test_no_more_than_the_burst_and_the_pace_pass_in_any_time(gaps: list[float]) -> None:
    """However the messages come: each is handed on when its wait is over, as the mesh does."""
    pace, now_s = Pace(PER_S), 0.0
    handed: list[float] = []
    for gap in gaps:
        now_s += gap
        now_s += pace.wait_s(now_s)
        handed.append(now_s)
    for first, start_s in enumerate(handed[:: max(1, len(handed) // 8)]):
        first *= max(1, len(handed) // 8)
        within = sum(1 for at_s in handed[first:] if at_s <= start_s + 1.0)
        assert within <= BURST_MESSAGES + PER_S + 1
