"""How long a small block waits: a share of what the last one took, within bounds, and only where it may gain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.node.company import ENOUGH_TRANSACTIONS, SHARE, WAIT_S_MAX, WAIT_S_MIN, Company


def test_a_first_block_waits_for_nobody() -> None:
    assert Company().wait_s(100.0, 0) == 0.0


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2 * ENOUGH_TRANSACTIONS))
def test_the_wait_ends_a_share_of_a_block_after_the_block_before(
    took_s: float, later_s: float, transactions: int
) -> None:
    company = Company()
    company.begun(10.0)
    company.committed(10.0 + took_s)
    now_s = 10.0 + took_s + later_s
    wait_s = company.wait_s(now_s, transactions)
    if transactions >= ENOUGH_TRANSACTIONS:
        assert wait_s == 0.0
        return
    whole_s = min(max(took_s * SHARE, WAIT_S_MIN), WAIT_S_MAX)
    assert wait_s == pytest.approx(max(0.0, whole_s - later_s), abs=1e-9)


def test_what_another_primary_took_is_not_known_here() -> None:
    company = Company()
    company.begun(0.0)
    company.committed(0.06)
    company.committed(5.0)
    assert company.wait_s(5.0, 1) == pytest.approx(0.06 * SHARE)
