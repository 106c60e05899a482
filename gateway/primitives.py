"""The primitive types of FHIR R4 as JSON values: `REASON[type](value)` is None, or why the value is not one.

Formats are those of the specification (datatypes.html#primitive), and dates must exist in the calendar: the regular
expressions of the specification let 30 February pass. White space is the four characters of XML, not Unicode's.
"""

from __future__ import annotations

import binascii
import calendar
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

STRING_CHARS_MAX: Final = 1_048_576
INTEGER_MIN: Final = -(2**31)
INTEGER_MAX: Final = 2**31 - 1

_DATE: Final = r"(?P<year>[0-9]{4})(?:-(?P<month>0[1-9]|1[0-2])(?:-(?P<day>0[1-9]|[12][0-9]|3[01]))?)?"
_FULL_DATE: Final = r"(?P<year>[0-9]{4})-(?P<month>0[1-9]|1[0-2])-(?P<day>0[1-9]|[12][0-9]|3[01])"
_CLOCK: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_ZONE: Final = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_DAY_PRESENT: Final = r"(?(day)(?:T" + _CLOCK + _ZONE + r")?)"

_FORMATS: Final = {
    "canonical": re.compile(r"[^ \t\r\n]+"),
    "code": re.compile(r"[^ \t\r\n]+(?:[ \t\r\n][^ \t\r\n]+)*"),
    "id": re.compile(r"[A-Za-z0-9.-]{1,64}"),
    "oid": re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+"),
    "time": re.compile(_CLOCK),
    "uri": re.compile(r"[^ \t\r\n]+"),
    "url": re.compile(r"[^ \t\r\n]+"),
    "uuid": re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
}
_CALENDAR: Final = {
    "date": re.compile(_DATE),
    "dateTime": re.compile(_DATE + _DAY_PRESENT),
    "instant": re.compile(_FULL_DATE + "T" + _CLOCK + _ZONE),
}
_INTEGERS: Final = {
    "integer": (INTEGER_MIN, INTEGER_MAX),
    "positiveInt": (1, INTEGER_MAX),
    "unsignedInt": (0, INTEGER_MAX),
}
_DIV: Final = re.compile(r"[ \t\r\n]*<(?:[A-Za-z_][\w.-]*:)?div(?=[ \t\r\n/>]).*>[ \t\r\n]*", re.DOTALL)
_XML_SPACE: Final = str.maketrans("", "", " \t\r\n")


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "is no boolean (true or false, without quotes)"


def _integer(name: str) -> Callable[[Any], str | None]:
    low, high = _INTEGERS[name]

    def reason(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"is no {name} (a JSON number without fraction or exponent)"
        return None if low <= value <= high else f"is no {name}: it is not from {low} to {high}"

    return reason


def _decimal(value: Any) -> str | None:
    good = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return None if good else "is no decimal (a JSON number)"


def _text(name: str, value: Any) -> str | None:
    if not isinstance(value, str):
        return f"is no {name} (a JSON string)"
    if not value:
        return "is an empty string"
    if len(value) > STRING_CHARS_MAX:
        return f"has {len(value)} characters; the limit is {STRING_CHARS_MAX}"
    return None


def _string(value: Any) -> str | None:
    return _text("string", value)


def _markdown(value: Any) -> str | None:
    return _text("markdown", value)


def _formatted(name: str) -> Callable[[Any], str | None]:
    matches = _FORMATS[name].fullmatch

    def reason(value: Any) -> str | None:
        if isinstance(value, str) and matches(value) and len(value) <= STRING_CHARS_MAX:
            return None
        return _text(name, value) or f"has not the format of {'an' if name[0] in 'aiou' else 'a'} {name}"

    return reason


def _moment(name: str) -> Callable[[Any], str | None]:
    matches = _CALENDAR[name].fullmatch

    def reason(value: Any) -> str | None:
        if not isinstance(value, str):
            return f"is no {name} (a JSON string)"
        found = matches(value)
        if found is None:
            return f"has not the format of {'an' if name == 'instant' else 'a'} {name}"
        year, month, day = found["year"], found["month"], found["day"]
        if year == "0000":
            return "is in the year 0000, which FHIR does not know"
        if day is not None and int(day) > calendar.monthrange(int(year), int(month))[1]:
            return "is no day of the calendar"
        return None

    return reason


def _base64(value: Any) -> str | None:
    if not isinstance(value, str):
        return "is no base64Binary (a JSON string)"
    compact = value.translate(_XML_SPACE)
    if not compact:
        return "is an empty string"
    if len(compact) % 4:
        return "is not base64 (RFC 4648, with padding): its length is no multiple of 4"
    try:
        binascii.a2b_base64(compact.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        return "is not base64 (RFC 4648, with padding)"
    return None


def _xhtml(value: Any) -> str | None:
    reason = _text("xhtml", value)
    if reason is None and not _DIV.fullmatch(value):
        return "is no XHTML whose root is a div"
    return reason


REASON: Final[Mapping[str, Callable[[Any], str | None]]] = MappingProxyType(
    {
        "base64Binary": _base64,
        "boolean": _boolean,
        "decimal": _decimal,
        "markdown": _markdown,
        "string": _string,
        "xhtml": _xhtml,
    }
    | {name: _formatted(name) for name in _FORMATS}
    | {name: _moment(name) for name in _CALENDAR}
    | {name: _integer(name) for name in _INTEGERS}
)
