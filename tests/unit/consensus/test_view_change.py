"""The mandate of a new primary, and how long views may take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.consensus.limits import (
    FAILURES_MAX,
    VIEW_TIMEOUT_MAX_MS,
    VIEW_TIMEOUT_MS,
    ReplicaConfig,
)
from consilium.consensus.messages import sign_pre_prepare, sign_view_change, verify_message
from consilium.consensus.view_change import mandate, view_timeout_ms
from tests.unit.consensus.parts import BLOCK, CHAIN, KEYS, OTHER, VALIDATORS, prepared

H = BLOCK.height
VIEW = 4
claims = st.lists(st.sampled_from([None, 0, 1, 2, 3]), min_size=4, max_size=4)


@given(claims, st.integers(0, 4))
def test_the_mandate_is_what_verification_accepts_and_demands_the_highest(
    drawn: list[int | None], count: int
) -> None:
    """Blocks alternate with views, so that the highest claim names one of two."""
    changes = []
    for index in range(count):
        view = drawn[index]
        what = None if view is None else prepared((BLOCK, OTHER)[view % 2], view)
        changes.append((index, sign_view_change(KEYS[index], CHAIN, H, VIEW, what)))
    given_ = mandate(changes, VALIDATORS.quorum)
    if count < VALIDATORS.quorum:
        assert given_ is None
        return
    assert given_ is not None
    highest = max((view for view in drawn[:count] if view is not None), default=None)
    expected = None if highest is None else (BLOCK, OTHER)[highest % 2]
    assert given_.block == expected
    message = sign_pre_prepare(KEYS[0], CHAIN, VIEW, expected or BLOCK, given_.justification)
    verify_message(message, CHAIN, VALIDATORS)


def test_timeouts_grow_by_halves_up_to_the_cap_and_stay_there() -> None:
    config = ReplicaConfig()
    times = [view_timeout_ms(config, failures) for failures in range(FAILURES_MAX + 1)]
    assert times[:4] == [600, 900, 1_350, 2_025]
    assert times[0] == VIEW_TIMEOUT_MS
    assert times[-1] == VIEW_TIMEOUT_MAX_MS
    assert times == sorted(times)
    assert view_timeout_ms(config, 10**6) == VIEW_TIMEOUT_MAX_MS


@pytest.mark.parametrize(
    "wrong",
    [
        {"view_timeout_ms": 0},
        {"view_timeout_ms": 10, "view_timeout_max_ms": 9},
        {"resend_first_ms": 0},
        {"resend_first_ms": 20, "resend_ms": 10},
        {"clock_bound_ms": -1},
        {"clock_bound_ms": 10, "proposal_age_max_ms": 9},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        ReplicaConfig(**wrong)
