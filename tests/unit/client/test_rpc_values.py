from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.client.rpc_values import (
    BEFORE_ALL,
    Cursor,
    CursorText,
    ErrorData,
    EventAtValue,
    Hex,
    Hex32,
    HexKey,
    decode_json,
    encode_json,
    event_of,
    event_value,
)
from consilium.ledger.execution import Event


@given(st.binary(max_size=64))
def test_hexadecimal_goes_both_ways(raw: bytes) -> None:
    assert Hex.parse(Hex(raw).hex()) == raw


@pytest.mark.parametrize(
    "text", ["AB" * 32, "ab" * 31, "ab" * 33, "ab" * 31 + "a ", "ab" * 31 + "a\n", "", 5, None, b"ab" * 32]
)
def test_hexadecimal_has_one_form(text: object) -> None:
    with pytest.raises(ValueError, match="Expected"):
        Hex32.parse(text)


def test_a_state_key_has_its_own_bounds() -> None:
    assert HexKey.parse("ab" * 128) == b"\xab" * 128
    with pytest.raises(ValueError, match="2 to 256"):
        HexKey.parse("ab" * 129)


@given(st.integers(-1, 10**17), st.integers(-1, 10**9))
def test_cursors_go_both_ways(height: int, index: int) -> None:
    assert Cursor.parse(str(Cursor(height, index))) == Cursor(height, index)


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".1", "1.2.3", "01.2", "1.02", "-2.0", "+1.2", " 1.2", "1.2\n", "１.2", None, 1.2]
)
def test_a_cursor_has_one_form(text: object) -> None:
    with pytest.raises(ValueError, match="cursor"):
        Cursor.parse(text)


def test_cursors_are_ordered_as_the_chain_is() -> None:
    ordered = [BEFORE_ALL, Cursor(0, -1), Cursor(0, 0), Cursor(0, 10), Cursor(1, 0), Cursor(10, 0)]
    shuffled = ordered[3:] + ordered[:3]
    assert sorted(shuffled) == ordered


def test_now_stands_in_for_a_cursor() -> None:
    assert CursorText.parse("now") == "now"
    assert CursorText.parse("1.2") == "1.2"
    with pytest.raises(ValueError, match="cursor"):
        CursorText.parse("then")


EVENT = Event("consent.granted", [bytes(16), b"\x01" * 16], b"\x02" * 32, 3, 4, b"\x00\xff")


def test_an_event_goes_both_ways() -> None:
    raw = encode_json(EventAtValue(CursorText("1.2"), event_value(EVENT)))
    found = decode_json(raw, EventAtValue)
    assert found.cursor == "1.2"
    assert event_of(found.event) == EVENT
    assert b'"subjects":["00000000000000000000000000000000","' in raw


def test_members_of_a_later_version_are_ignored_and_absent_ones_are_not_sent() -> None:
    assert decode_json(b'{"code":"x.y","colour":"red"}', ErrorData) == ErrorData("x.y")
    assert encode_json(ErrorData("x.y")) == b'{"code":"x.y"}'


def test_a_wrong_member_is_named() -> None:
    raw = encode_json(EventAtValue(CursorText("1.2"), event_value(EVENT))).replace(b"02" * 32, b"02" * 31)
    with pytest.raises(msgspec.ValidationError, match=r"\$\.event\.transaction"):
        decode_json(raw, EventAtValue)
