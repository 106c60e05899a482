"""Spans against a twin that finds them by counting brackets, and strictness case by case."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.gateway.json_spans import scan_bundle
from consilium.ledger.errors import Refused

_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=10,
)
_ENTRIES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "fullUrl": _TEXT,
            "resource": st.dictionaries(_TEXT, _VALUES, max_size=4),
            "request": _VALUES,
        },
    ),
    max_size=5,
)


def scan(raw: bytes) -> Any:
    return scan_bundle(raw, depth_max=64, values_max=2_000_000)


def spans_by_counting(raw: bytes) -> list[tuple[int, int] | None]:
    """The dumb twin: one byte after the other, knowing only strings, brackets and colons. Needs valid JSON."""
    spans: list[tuple[int, int] | None] = []
    stack: list[list[Any]] = []  # [bracket, key, key is complete]
    position, start = 0, -1
    while position < len(raw):
        octet = raw[position : position + 1]
        if octet == b'"':
            end = position + 1
            while raw[end : end + 1] != b'"':
                end += 2 if raw[end : end + 1] == b"\\" else 1
            if stack and stack[-1][0] == b"{" and not stack[-1][2]:
                stack[-1][1] = json.loads(raw[position : end + 1])
            position = end + 1
            continue
        if octet == b":":
            stack[-1][2] = True
        elif octet == b"," and stack[-1][0] == b"{":
            stack[-1][2] = False
        elif octet in (b"{", b"["):
            in_entries = len(stack) == 2 and stack[0][:2] == [b"{", "entry"] and stack[1][0] == b"["
            if in_entries:
                spans.append(None)
            entry_member = len(stack) == 3 and stack[0][:2] == [b"{", "entry"] and stack[2][0] == b"{"
            if entry_member and stack[1][0] == b"[" and stack[2][1] == "resource":
                start = position
            stack.append([octet, None, False])
        elif octet in (b"}", b"]"):
            stack.pop()
            if len(stack) == 3 and start >= 0 and stack[2][1] == "resource":
                spans[-1] = (start, position + 1)
                start = -1
        position += 1
    return spans


@given(
    entries=_ENTRIES,
    others=st.dictionaries(_TEXT.filter(lambda name: name != "entry"), _VALUES, max_size=3),
    indent=st.sampled_from([None, 0, 1, "\t"]),
    separators=st.sampled_from([(",", ":"), (" , ", " : "), (",\r\n", ":\t")]),
    ascii_only=st.booleans(),
    entries_last=st.booleans(),
)
def test_spans_are_those_of_the_twin(
    entries: Any, others: Any, indent: Any, separators: Any, ascii_only: bool, entries_last: bool
) -> None:
    value = others | {"entry": entries} if entries_last else {"entry": entries} | others
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=ascii_only)
    raw = text.encode("utf-8")
    scanned = scan(raw)
    assert scanned.value == value
    assert list(scanned.spans) == spans_by_counting(raw)
    for entry, span in zip(entries, scanned.spans, strict=True):
        assert (span is None) == ("resource" not in entry)
        if span is not None:
            assert json.loads(raw[slice(*span)]) == entry["resource"]


def test_bytes_of_a_resource_stay_as_they_are() -> None:
    resource = '{ "a" :1.10, "é":"\\u00e9\\/ ü" ,\r\n"n":[1E2, -0.0]}'.encode()
    raw = b'\xef\xbb\xbf {"x":"\xc3\xa9","\\u0065ntry":[{"resource":' + resource + b' },{"a":1}]}\n'
    scanned = scan(raw)
    assert scanned.spans[1] is None
    span = scanned.spans[0]
    assert span is not None
    assert raw[slice(*span)] == resource
    parsed = scanned.value["entry"][0]["resource"]
    assert parsed["a"] == Decimal("1.10")
    assert str(parsed["a"]) == "1.10"


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\ 01eE.-+tfnul\n', max_size=40).map(str.encode))
def test_accepts_nothing_that_the_standard_library_refuses(raw: bytes) -> None:
    try:
        scanned = scan(raw)
    except Refused:
        pass
    else:
        assert scanned.value == json.loads(raw.removeprefix(b"\xef\xbb\xbf"), parse_float=Decimal)


@pytest.mark.parametrize(
    ("raw", "code", "words"),
    [
        (b"", "bundle.empty", "0 bytes"),
        (b" \n", "bundle.empty", "white space"),
        (b'{"a":"\xff"}', "bundle.not_utf8", "byte 6"),
        ('{"a":1}'.encode("utf-16"), "bundle.not_utf8", "byte 0"),
        (b'\xef\xbb\xbf{"a":"\xff"}', "bundle.not_utf8", "byte 9"),
        (b'"\xed\xa0\x80"', "bundle.not_utf8", ""),
        (b'{"a":1} x', "bundle.not_json", "line 1 column 9"),
        (b'{"a":1', "bundle.not_json", "Expecting"),
        (b'{"a" 1}', "bundle.not_json", "':'"),
        (b'{"a":1,}', "bundle.not_json", "name"),
        (b'{"entry":[{"resource":{}},]}', "bundle.not_json", "line 1"),
        (b'{"entry":[{} {}]}', "bundle.not_json", "','"),
        (b"{'a':1}", "bundle.not_json", "name"),
        (b'{"a":NaN}', "bundle.not_json", "NaN"),
        (b'{"a":[-Infinity]}', "bundle.not_json", "-Infinity"),
        (b'{"a":1e9999}', "bundle.not_json", "range"),
        (b'{"a":1e99999999999999999999}', "bundle.not_json", "range"),
        (b'{"a":' + b"9" * 5_000 + b"}", "bundle.not_json", "number"),
        (b'{"a":01}', "bundle.not_json", "line 1"),
        (b'{"a":"\x01"}', "bundle.not_json", "control"),
        (b'{"a":"\\ud800"}', "bundle.not_json", "surrogate"),
        (b'{"\\ud800":1}', "bundle.not_json", "surrogate"),
        (b"<Bundle/>", "bundle.not_json", "line 1 column 1"),
        (b'{"a":1,"a":1}', "bundle.duplicate_key", "'a'"),
        (b'{"a":1,"\\u0061":2}', "bundle.duplicate_key", "'a'"),
        (
            b'{"entry":[{},{"resource":{"x":[0,{"k":1,"k":2}]}}]}',
            "bundle.duplicate_key",
            "entry[1].resource.x[1]",
        ),
        (b'{"entry":[],"entry":[]}', "bundle.duplicate_key", "'entry'"),
        (b'{"entry":[{"resource":{},"resource":{}}]}', "bundle.duplicate_key", "entry[0]"),
        (b"[" * 65 + b"]" * 65, "bundle.too_deep", "65"),
        (b"[" * 1_000_000, "bundle.too_deep", "1000000"),
        (b'{"a":' * 500_000, "bundle.too_deep", "500000"),
        (b"[" + b"1," * 2_000_001 + b"1]", "bundle.oversized", "values"),
    ],
)
def test_refusals(raw: bytes, code: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        scan(raw)
    assert caught.value.code == code
    assert words in caught.value.detail


def test_surrogate_pairs_are_characters() -> None:
    assert scan(b'{"a":"\\ud83d\\ude00"}').value == {"a": "\U0001f600"}


def test_brackets_in_strings_are_no_depth() -> None:
    assert scan(b'{"a":"' + b"[{" * 100 + b'\\"["}').value["a"].startswith("[{")


def test_hostile_quotes_are_read_once() -> None:
    """Quadratic time would take hours here: the limit on the test's own time is the check."""
    for raw in (b'"' + b'\\"' * 1_000_000, b'"' * 1_000_001, b'"\\' * 500_000):
        started = time.process_time()
        with pytest.raises(Refused) as caught:
            scan_bundle(raw, 64, 10**7)
        assert caught.value.code == "bundle.not_json"
        assert time.process_time() - started < 60
