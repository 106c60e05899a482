"""Strict JSON for bundles, and where in the bytes each entry's resource stands.

An author seals the bytes that came in: whitespace, escapes and the digits of `1.10` are part of what was recorded, and
no parser gives them back. So the three outer levels of a bundle (bundle, entry list, entry) are read here by hand, and
every value below them by the standard library's scanner, which says where a value ends. One pass gives the values and
the spans: they cannot disagree.

Stricter than the standard library, as RFC 8259 advises for what two parties must read alike: UTF-8 only, no repeated
member names, no NaN or Infinity, no lone surrogates, nothing after the value; depth and number of values are bounded
before the parser runs. A byte order mark before the value is skipped (RFC 8259, section 8.1, lets a reader do so).

Source: RFC 8259; FHIR R4, json.html.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import accumulate
from typing import Any, Final, NoReturn

from consilium.ledger.errors import Refused

NUMBER_CHARS_MAX: Final = 400
NUMBER_EXPONENT_MAX: Final = 1_000
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A string, or one that never ends: were that no match, each quote in it would be tried, in quadratic time."""
_SURROGATE: Final = re.compile(r"\\u[dD][89abAB]")
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


@dataclass(frozen=True, slots=True)
class ScannedBundle:
    """A parsed document, and per item of its `entry` list the byte span of `resource` in the input (or None)."""

    value: Any
    spans: tuple[tuple[int, int] | None, ...]


class RepeatedMember(dict[str, Any]):
    """An object in which a member name comes twice: kept apart until it can be said where it stands."""

    name: str = ""


def scan_bundle(raw: bytes, depth_max: int, values_max: int) -> ScannedBundle:
    """Parse `raw` strictly; numbers with a fraction or exponent become Decimal.

    Raises Refused: `bundle.empty`, `bundle.not_utf8`, `bundle.too_deep`, `bundle.oversized` (values),
    `bundle.not_json`, `bundle.duplicate_key`.
    """
    if not raw.strip(b" \t\r\n"):
        raise Refused(
            "bundle.empty", "the file holds no bytes but white space" if raw else "the file has 0 bytes"
        )
    shift = len(BYTE_ORDER_MARK) if raw.startswith(BYTE_ORDER_MARK) else 0
    try:
        text = raw[shift:].decode("utf-8") if shift else raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("bundle.not_utf8", f"byte {error.start + shift} is not UTF-8") from None
    _check_shape(raw, depth_max, values_max)
    reader = _Reader(text)
    value = reader.document()
    if reader.repeated:
        path, name = _find_repeated(value, "")
        raise Refused(
            "bundle.duplicate_key", f"{path or 'the document'}: the member {name!r:.60} comes twice"
        )
    if _SURROGATE.search(text):
        _check_surrogates(value)
    return ScannedBundle(value, _byte_spans(text, reader.spans, shift))


def _check_shape(raw: bytes, depth_max: int, values_max: int) -> None:
    """Bound depth and number of values before anything is built; on text that is no JSON the bounds still hold.

    Parser and expression agree on where strings are up to the first syntax error, and no further does the parser go.
    """
    bare = _STRING.sub(b'"', raw)
    values = bare.count(b",") + bare.count(b"[") + bare.count(b"{")
    if values > values_max:
        raise Refused(
            "bundle.oversized", f"the document has about {values} values; the limit is {values_max}"
        )
    depth = max(accumulate(map(_STEP.__getitem__, bare.translate(None, _NOT_BRACKETS))), default=0)
    if depth > depth_max:
        raise Refused("bundle.too_deep", f"the document nests {depth} levels deep; the limit is {depth_max}")


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        raise Refused(
            "bundle.not_json", "a string has half of a surrogate pair, which is no character"
        ) from None


def _find_repeated(value: Any, path: str) -> tuple[str, str]:
    if isinstance(value, RepeatedMember):
        return path, value.name
    found = ("", "")
    if isinstance(value, dict):
        for key, item in value.items():
            found = _find_repeated(item, f"{path}.{key:.60}" if path else f"{key:.60}")
            if found[1]:
                break
    elif isinstance(value, list):
        for position, item in enumerate(value):
            found = _find_repeated(item, f"{path}[{position}]")
            if found[1]:
                break
    return found


def _byte_spans(
    text: str, spans: list[tuple[int, int] | None], shift: int
) -> tuple[tuple[int, int] | None, ...]:
    """Character spans, in ascending order, as byte spans of the input."""
    ascii_only = text.isascii()
    found: list[tuple[int, int] | None] = []
    characters, octets = 0, shift
    for span in spans:
        if span is None:
            found.append(None)
            continue
        ends = []
        for position in span:
            octets += position - characters if ascii_only else len(text[characters:position].encode("utf-8"))
            characters = position
            ends.append(octets)
        found.append((ends[0], ends[1]))
    return tuple(found)


def _number(text: str) -> Decimal:
    if len(text) > NUMBER_CHARS_MAX:
        raise ValueError(f"a number has more than {NUMBER_CHARS_MAX} characters")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError("a number is out of range") from None
    if number and abs(number.adjusted()) > NUMBER_EXPONENT_MAX:
        raise ValueError("a number is out of range")
    return number


def _integer(text: str) -> int:
    if len(text) > NUMBER_CHARS_MAX:
        raise ValueError(f"a number has more than {NUMBER_CHARS_MAX} characters")
    return int(text)


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


class _Reader:
    """Recursive descent over the three outer levels; the standard library's scanner below them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.spans: list[tuple[int, int] | None] = []
        self.repeated = False
        self._scan = json.JSONDecoder(
            object_pairs_hook=self._members, parse_float=_number, parse_int=_integer, parse_constant=_constant
        ).raw_decode

    def document(self) -> Any:
        """The one value of the text. Raises Refused `bundle.not_json`."""
        start = self._space(0)
        try:
            if self.text.startswith("{", start):
                value, end = self._object(start, self._bundle_member)
            else:
                value, end = self._scan(self.text, start)
            end = self._space(end)
            if end != len(self.text):
                raise json.JSONDecodeError("Extra data", self.text, end)
        except json.JSONDecodeError as error:
            place = f"line {error.lineno} column {error.colno}"
            raise Refused("bundle.not_json", f"{place}: {error.msg}") from None
        except ValueError as error:
            raise Refused("bundle.not_json", str(error)) from None
        return value

    def _bundle_member(self, name: str, start: int) -> tuple[Any, int]:
        if name == "entry" and self.text.startswith("[", start):
            return self._array(start, self._entry)
        return self._scan(self.text, start)

    def _entry(self, start: int) -> tuple[Any, int]:
        self.spans.append(None)
        if self.text.startswith("{", start):
            return self._object(start, self._entry_member)
        return self._scan(self.text, start)

    def _entry_member(self, name: str, start: int) -> tuple[Any, int]:
        value, end = self._scan(self.text, start)
        if name == "resource":
            self.spans[-1] = (start, end)
        return value, end

    def _members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) == len(pairs):
            return members
        self.repeated = True
        marked = RepeatedMember(members)
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                marked.name = name
                break
            seen.add(name)
        return marked

    def _space(self, position: int) -> int:
        matched = _SPACE.match(self.text, position)
        return matched.end() if matched else position

    def _object(self, start: int, member: Callable[[str, int], tuple[Any, int]]) -> tuple[Any, int]:
        pairs: list[tuple[str, Any]] = []
        position = self._space(start + 1)
        if self.text.startswith("}", position):
            return {}, position + 1
        while True:
            if not self.text.startswith('"', position):
                raise json.JSONDecodeError("Expecting a member name in double quotes", self.text, position)
            name, position = self._scan(self.text, position)
            position = self._space(position)
            if not self.text.startswith(":", position):
                raise json.JSONDecodeError("Expecting ':'", self.text, position)
            value, position = member(name, self._space(position + 1))
            pairs.append((name, value))
            position, more = self._after(position, "}")
            if not more:
                return self._members(pairs), position

    def _array(self, start: int, item: Callable[[int], tuple[Any, int]]) -> tuple[Any, int]:
        items: list[Any] = []
        position = self._space(start + 1)
        if self.text.startswith("]", position):
            return items, position + 1
        while True:
            value, position = item(position)
            items.append(value)
            position, more = self._after(position, "]")
            if not more:
                return items, position

    def _after(self, position: int, closing: str) -> tuple[int, bool]:
        """Behind an item: the position of the next one and True, or the position behind `closing` and False."""
        position = self._space(position)
        if self.text.startswith(",", position):
            return self._space(position + 1), True
        if self.text.startswith(closing, position):
            return position + 1, False
        raise json.JSONDecodeError(f"Expecting ',' or '{closing}'", self.text, position)
