"""Days and quarter days against the standard library."""

from __future__ import annotations

import datetime

from hypothesis import given
from hypothesis import strategies as st

from consilium.contracts.calendar import DAY_MS, Day, day_of, is_quarter_day

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@given(st.integers(0, 253_402_300_799_999))
def test_days_against_the_standard_library(time_ms: int) -> None:
    date = (EPOCH + datetime.timedelta(milliseconds=time_ms)).date()
    assert day_of(time_ms) == Day(date.year, date.month, date.day)


def test_four_quarter_days_a_year_each_of_one_instant() -> None:
    start = (datetime.datetime(2023, 12, 31, tzinfo=datetime.UTC) - EPOCH) // datetime.timedelta(days=1)
    found = [day_of(day * DAY_MS) for day in range(start, start + 366) if is_quarter_day(day * DAY_MS)]
    assert [(day.month, day.day) for day in found] == [(1, 1), (4, 1), (7, 1), (10, 1)]
    quarter = 1_704_067_200_000
    assert is_quarter_day(quarter)
    assert not is_quarter_day(quarter + 1)
    assert not is_quarter_day(quarter - 1)
