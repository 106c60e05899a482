"""Dates and periods of FHIR as half-open intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.gateway.periods import Interval, data_period, interval, moment

EAST = timezone(timedelta(hours=2))


def ms(year: int, month: int, day: int, *clock: int, zone=UTC) -> int:
    time_of_day = datetime(year, month, day, tzinfo=zone) + timedelta(
        **dict(zip(("hours", "minutes", "seconds"), clock, strict=False))
    )
    return (time_of_day - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2022", ms(2022, 1, 1), ms(2023, 1, 1)),
        ("2022-12", ms(2022, 12, 1), ms(2023, 1, 1)),
        ("2024-02", ms(2024, 2, 1), ms(2024, 3, 1)),
        ("2022-12-31", ms(2022, 12, 31), ms(2023, 1, 1)),
        ("2022-12-31T10:00:00Z", ms(2022, 12, 31, 10), ms(2022, 12, 31, 10, 0, 1)),
        ("2022-12-31T10:00:00+02:00", ms(2022, 12, 31, 8), ms(2022, 12, 31, 8, 0, 1)),
        ("2022-12-31T10:00:00.25Z", ms(2022, 12, 31, 10) + 250, ms(2022, 12, 31, 10) + 251),
        ("1066-10-14", ms(1066, 10, 14), ms(1066, 10, 15)),
    ],
)
def test_a_date_stands_for_all_of_its_time(text: str, start: int, end: int) -> None:
    assert moment(text) == Interval(start, end)


def test_a_date_that_ends_a_period_means_the_end_of_that_day_in_the_zone() -> None:
    assert interval({"end": "2022-12-31"}, EAST) == Interval(None, ms(2023, 1, 1, zone=EAST))
    assert interval({"start": "2022-01-01"}, EAST) == Interval(ms(2022, 1, 1, zone=EAST), None)
    one_day = interval({"start": "2022-01-01", "end": "2022-01-01"})
    assert one_day == Interval(ms(2022, 1, 1), ms(2022, 1, 2))


@pytest.mark.parametrize(
    "text", ["", "22", "2022-13", "2022-02-30", "2022-1-1", "2022-01-01T10:00", "next year"]
)
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        moment(text)
    assert data_period({"date": text}) is None


def test_a_period_that_ends_before_it_starts_is_none() -> None:
    with pytest.raises(ValueError, match="before"):
        interval({"start": "2022-02-01", "end": "2022-01-31"})


def test_the_last_year_ends() -> None:
    for text in ("9999", "9999-12"):
        found = moment(text)
        assert found.start_ms is not None
        assert found.end_ms is not None
        assert found.start_ms < found.end_ms


@given(st.dates(min_value=datetime(1, 1, 2).date(), max_value=datetime(9998, 12, 30).date()))
def test_a_day_has_24_hours_in_utc(day) -> None:
    found = moment(day.isoformat())
    assert found.start_ms is not None
    assert found.end_ms == found.start_ms + 86_400_000


def test_the_most_telling_date_of_a_resource_counts() -> None:
    resource = {"issued": "2022-01-05", "effectiveDateTime": "2022-01-03"}
    assert data_period(resource) == moment("2022-01-03")
    assert data_period({"period": {"start": "2022-01-01"}, "status": "planned"}) == Interval(
        ms(2022, 1, 1), None
    )
    assert data_period({"status": "final"}) is None
    assert data_period({"effectiveDateTime": "rubbish", "issued": "2022-01-05"}) == moment("2022-01-05")
