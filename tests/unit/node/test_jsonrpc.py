from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.node import jsonrpc
from consilium.node.jsonrpc import INVALID_REQUEST, PARSE_ERROR, Call, ErrorResponse, encode_answer, parse


def only(raw: bytes) -> Call | ErrorResponse:
    message = parse(raw, 50)
    assert not message.batch
    (item,) = message.items
    return item


def code(raw: bytes) -> int:
    item = only(raw)
    assert isinstance(item, ErrorResponse)
    assert item.id is None
    assert item.error.data.remedy
    return item.error.code


def test_a_call_is_read() -> None:
    assert only(b'{"jsonrpc":"2.0","method":"m","params":{"a":[1]},"id":"x"}') == Call(
        "m", {"a": [1]}, "x", False
    )
    assert only(b'{"jsonrpc":"2.0","method":"m","params":[1,2],"id":null}') == Call("m", [1, 2], None, False)
    assert only(b' {"jsonrpc":"2.0","method":"m"} ') == Call("m", {}, None, True)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"   ",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"nul",
        b"NaN",
        b'{"jsonrpc":"2.0","method":"m","params":[NaN],"id":1}',
        b'{"jsonrpc":"2.0","method":"m","params":[-Infinity],"id":1}',
        b'{"jsonrpc":"2.0","method":"m","id":1,"id":2}',
        b'{"jsonrpc":"2.0","method":"m","params":{"a":1,"a":1},"id":1}',
        b'{"jsonrpc":"2.0","method":"\\ud800","id":1}',
        b'{"jsonrpc":"2.0","method":"m","id":' + b"1" * 5_000 + b"}",
        b'{"jsonrpc":"2.0","method":"m","id":1} trailing',
        "{}".encode("utf-16"),
        b'"\\',
    ],
)
def test_what_is_no_json_is_a_parse_error(raw: bytes) -> None:
    assert code(raw) == PARSE_ERROR


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"1",
        b"null",
        b'"x"',
        b"{}",
        b'{"jsonrpc":"1.0","method":"m","id":null}',
        b'{"jsonrpc":2.0,"method":"m"}',
        b'{"jsonrpc":"2.0","method":1}',
        b'{"jsonrpc":"2.0","method":"m","params":"bar"}',
        b'{"jsonrpc":"2.0","method":"m","params":null}',
        b'{"jsonrpc":"2.0","method":"m","parms":{}}',
        b'{"jsonrpc":"2.0","method":"m","id":1.5}',
        b'{"jsonrpc":"2.0","method":"m","id":true}',
        b'{"jsonrpc":"2.0","method":"m","id":{}}',
        b'{"jsonrpc":"2.0","method":"m","id":9223372036854775808}',
        b'{"jsonrpc":"2.0","method":"m","id":"' + b"x" * 129 + b'"}',
        b'{"jsonrpc":"2.0","method":"' + b"m" * 65 + b'"}',
        b"[" * 17 + b"]" * 17,
        b"[" * 1_000_000,
        b"[" + b"1," * 50_000 + b"1]",
        b"[" + b",".join([b"1"] * 51) + b"]",
    ],
)
def test_what_is_json_but_no_request_is_invalid(raw: bytes) -> None:
    assert code(raw) == INVALID_REQUEST


def test_the_id_of_an_invalid_request_comes_back_where_it_can_be_read() -> None:
    item = only(b'{"jsonrpc":"2.0","method":1,"id":"x"}')
    assert isinstance(item, ErrorResponse)
    assert item.id == "x"
    assert "`method`" in item.error.message


def test_messages_say_what_to_change() -> None:
    def message(raw: bytes) -> str:
        item = only(raw)
        assert isinstance(item, ErrorResponse)
        return item.error.message

    assert "line 2, column 1" in message(b'{"a":\n')
    assert "offset 1" in message(b'"\xff"')
    assert "'a' stands twice" in message(b'{"a":1,"b":2,"a":3}')
    assert "'parms'" in message(b'{"jsonrpc":"2.0","method":"m","parms":{}}')
    assert "at most 50" in message(json.dumps([1] * 51).encode())


def test_a_pair_of_surrogates_is_a_character_and_half_of_one_is_not() -> None:
    assert isinstance(only(b'{"jsonrpc":"2.0","method":"\\ud83d\\ude00"}'), Call)
    assert code(b'{"jsonrpc":"2.0","method":"m","params":["\\ud83d"]}') == PARSE_ERROR


def test_hostile_strings_cost_one_pass() -> None:
    # Each of these made a naive scanner quadratic; the test's own timeout is the judge.
    for raw in (b'"' + b'\\"' * 4_000_000, b'"' + b'\\"' * 4_000_000 + b"\\", b'"' * 30_001):
        assert code(raw) in (PARSE_ERROR, INVALID_REQUEST)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_input_gets_calls_or_well_formed_errors(raw: bytes) -> None:
    message = parse(raw, 5)
    answers: list[Any] = [item for item in message.items if isinstance(item, ErrorResponse)]
    encoded = encode_answer(answers, message.batch)
    if encoded is not None:
        for answer in json.loads(encoded) if message.batch else [json.loads(encoded)]:
            assert answer["jsonrpc"] == "2.0"
            assert answer["error"]["code"] in (PARSE_ERROR, INVALID_REQUEST)
            assert answer["error"]["data"]["code"].startswith("rpc.")


some_values: st.SearchStrategy[Any] = st.sampled_from(["2.0", "m", 1, None, [], {}, {"a": 1}, True, 1.5])
nearly_requests = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("jsonrpc", "method", "params", "id", "extra"), some_values)
)


@given(nearly_requests)
def test_exactly_what_the_specification_allows_is_a_call(value: dict[str, Any]) -> None:
    """A dumb twin, written from the specification."""
    identifier = value.get("id")
    id_fits = type(identifier) in (str, int, type(None))
    fits = (
        value.get("jsonrpc") == "2.0"
        and type(value.get("method")) is str
        and type(value.get("params", [])) in (list, dict)
        and "extra" not in value
        and id_fits
    )
    item = only(json.dumps(value).encode())
    assert isinstance(item, Call) is fits
    if isinstance(item, Call):
        assert item.notification is ("id" not in value)
    else:
        assert item.id == (identifier if id_fits else None)


def test_depth_and_structure_at_their_limits_are_read() -> None:
    deep = b"[" * (jsonrpc.DEPTH_MAX - 1) + b"]" * (jsonrpc.DEPTH_MAX - 1)
    assert isinstance(only(b'{"jsonrpc":"2.0","method":"m","params":' + deep + b"}"), Call)
    brackets = b'"' + b"[" * 1_000 + b'"'
    assert isinstance(only(b'{"jsonrpc":"2.0","method":"m","params":[' + brackets + b"]}"), Call)
