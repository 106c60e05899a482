"""FHIR's dates and periods as half-open intervals of milliseconds.

A date of FHIR may be a year, a month, a day, or an instant with an offset: it stands for all of that time. So a date
that ends a period means the end of that day, in a stated zone, and the interval's end is the first instant after it.

Source: FHIR R4 datatypes.html#dateTime, datatypes.html#Period.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, NamedTuple

from consilium.client.envelope import TIME_MS_MAX, TIME_MS_MIN

_DATE: Final = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?:T(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?P<fraction>\.[0-9]+)?(?P<zone>Z|[+-][0-9]{2}:[0-9]{2}))?)?)?"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

_WHEN: Final = (
    *("effectivePeriod", "effectiveDateTime", "effectiveInstant", "performedPeriod", "performedDateTime"),
    *("occurrencePeriod", "occurrenceDateTime", "billablePeriod", "servicedPeriod", "period", "started"),
    *("onsetPeriod", "onsetDateTime", "recordedDate", "authoredOn", "dateAsserted", "date", "sent", "issued"),
    *("created", "recorded", "startDate"),
)
"""Elements that say when a resource's facts are from, the most telling first."""


class Interval(NamedTuple):
    """From `start_ms` (inclusive) to `end_ms` (exclusive), milliseconds since 1970 UTC; None is without bound."""

    start_ms: int | None
    end_ms: int | None


def moment(text: str, zone: tzinfo = UTC) -> Interval:
    """The time that a date or dateTime stands for; `zone` is for those that have no offset. Raises ValueError."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no date of FHIR")
    year, month, day = int(match["year"]), int(match["month"] or 1), int(match["day"] or 1)
    if match["time"] is not None:
        start = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return Interval(_ms(start), _ms(start) + (1 if match["fraction"] else 1_000))
    start = datetime(year, month, day, tzinfo=zone)
    if match["month"] is None:
        after = datetime(year + 1, 1, 1, tzinfo=zone) if year < 9999 else None
    elif match["day"] is None:
        after = _next_month(year, month, zone)
    else:
        # the next calendar day in the zone, whatever the clocks do in between
        following = datetime(year, month, day) + timedelta(days=1)
        after = following.replace(tzinfo=zone)
    return Interval(_ms(start), TIME_MS_MAX if after is None else _ms(after))


def interval(period: Mapping[str, Any], zone: tzinfo = UTC) -> Interval:
    """A FHIR Period. Raises ValueError where a bound is no date or nothing lies between them."""
    start, end = period.get("start"), period.get("end")
    found = Interval(
        moment(start, zone).start_ms if start is not None else None,
        moment(end, zone).end_ms if end is not None else None,
    )
    if found.start_ms is not None and found.end_ms is not None and found.start_ms >= found.end_ms:
        raise ValueError("the period ends before it starts")
    return found


def data_period(resource: Mapping[str, Any], zone: tzinfo = UTC) -> Interval | None:
    """When the facts of a resource are from, or None where it does not say so in a way that can be read."""
    for name in _WHEN:
        value = resource.get(name)
        try:
            if isinstance(value, str):
                return moment(value, zone)
            if isinstance(value, dict) and ("start" in value or "end" in value):
                return interval(value, zone)
        except (ValueError, OverflowError):
            continue
    return None


def _next_month(year: int, month: int, zone: tzinfo) -> datetime | None:
    if month < 12:
        return datetime(year, month + 1, 1, tzinfo=zone)
    return datetime(year + 1, 1, 1, tzinfo=zone) if year < 9999 else None


def _ms(instant: datetime) -> int:
    return min(max((instant - _EPOCH) // _MILLISECOND, TIME_MS_MIN), TIME_MS_MAX)
