from __future__ import annotations

from consilium.ledger.block import BLOCK_TRANSACTIONS_MAX
from consilium.node.pace import MEMORY, TARGET_S, TRANSACTIONS_MIN, Pace


def test_nothing_is_held_back_before_anything_is_known() -> None:
    pace = Pace()
    assert pace.transactions_max == BLOCK_TRANSACTIONS_MAX
    pace.committed(3, 5.0)
    assert pace.transactions_max == BLOCK_TRANSACTIONS_MAX


def test_a_block_holds_what_is_committed_in_good_time() -> None:
    pace = Pace()
    pace.committed(1_000, 1_000 * TARGET_S / 600)
    assert pace.transactions_max in (599, 600)


def test_it_stays_within_its_limits_and_comes_back() -> None:
    pace = Pace()
    pace.committed(100, 60.0)
    assert pace.transactions_max == TRANSACTIONS_MIN
    for _ in range(20 * MEMORY):
        pace.committed(1_000, 0.001)
    assert pace.transactions_max == BLOCK_TRANSACTIONS_MAX
