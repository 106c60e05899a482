"""Days of the calendar from block time, and the network's quarter days. Block time is UTC.

A lease that ends on a patient's eighteenth birthday would tell the birthday. Leases end on quarter days, the same for
everybody: midnight that begins 1 January, April, July and October.
"""

from __future__ import annotations

from typing import Final, NamedTuple

DAY_MS: Final = 24 * 60 * 60 * 1000
QUARTER_MONTHS: Final = (1, 4, 7, 10)


class Day(NamedTuple):
    """A date in the proleptic Gregorian calendar."""

    year: int
    month: int
    day: int


def day_of(time_ms: int) -> Day:
    """The date of a block time. Counted in years that begin in March, so that the leap day is the last of its year."""
    days = time_ms // DAY_MS
    era, of_era = divmod(days + 719_468, 146_097)
    year_of_era = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    day = of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return Day(year_of_era + 400 * era + (1 if month <= 2 else 0), month, day)


def is_quarter_day(time_ms: int) -> bool:
    """Whether the instant is the midnight that begins a quarter day."""
    date = day_of(time_ms)
    return time_ms % DAY_MS == 0 and date.day == 1 and date.month in QUARTER_MONTHS
