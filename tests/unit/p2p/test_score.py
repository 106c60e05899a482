"""Faults add up, time forgives, bans grow and are forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consilium.p2p.policy import MeshPolicy
from consilium.p2p.score import Score

POLICY = MeshPolicy(
    penalty_max=100, recovery_per_s=1.0, ban_first_s=10.0, ban_max_s=35.0, ban_memory_s=1_000.0
)


def test_a_spotless_peer_has_no_score_and_no_ban() -> None:
    score = Score(POLICY)
    assert (score.value(5.0), score.banned_s(5.0)) == (0.0, 0.0)


def test_time_forgives() -> None:
    score = Score(POLICY)
    assert not score.fault(60, 0.0)
    assert score.value(10.0) == -50.0
    assert not score.fault(49, 10.0)
    assert score.value(10.0) == -99.0
    assert score.value(500.0) == 0.0


def test_bans_double_up_to_a_limit_and_start_anew_after_long_peace() -> None:
    score = Score(POLICY)
    now_s = 0.0
    for length_s in (10.0, 20.0, 35.0, 35.0):
        assert score.fault(100, now_s)
        assert score.banned_s(now_s) == length_s
        assert not score.fault(100, now_s + 1.0), "who is banned is not banned again"
        now_s += length_s
        assert score.banned_s(now_s) == 0.0
        assert score.value(now_s) == 0.0
    now_s += POLICY.ban_memory_s + 1.0
    assert score.fault(100, now_s)
    assert score.banned_s(now_s) == 10.0


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), max_size=30))
def test_the_penalty_is_that_of_a_second_by_second_twin(faults: list[tuple[int, int]]) -> None:
    score, penalty, now_s = Score(POLICY), 0, 0
    for weight, pause_s in faults:
        for _ in range(pause_s):
            now_s += 1
            penalty = max(0, penalty - 1)
        penalty += weight
        if score.fault(weight, float(now_s)):
            assert penalty >= 100
            return
        assert score.value(float(now_s)) == -penalty > -100
