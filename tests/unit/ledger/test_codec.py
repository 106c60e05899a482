"""The codec: one encoding for each value, by two MessagePack implementations; hostile bytes are Refused."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.ledger import codec
from consilium.ledger.errors import Refused
from tests.unit.ledger.wire_cases import KINDS, samples

BYTES_MAX = 4 * 1024 * 1024


class Number(codec.Wire, frozen=True):
    value: codec.Uint


class Texts(codec.Wire, frozen=True):
    texts: Annotated[list[Annotated[str, msgspec.Meta(max_length=3)]], msgspec.Meta(max_length=2)]


class Fixed(codec.Wire, frozen=True):
    short: codec.Bytes16
    middle: codec.Bytes32
    long: codec.Bytes64


class Apple(codec.Wire, frozen=True, tag="apple"):
    value: codec.Uint


class Pear(codec.Wire, frozen=True, tag="pear"):
    value: bytes


class Basket(codec.Wire, frozen=True):
    fruit: Apple | Pear | None


def code_of(raw: bytes, kind: Any, bytes_max: int = BYTES_MAX) -> str:
    with pytest.raises(Refused) as raised:
        codec.decode(raw, kind, bytes_max)
    return raised.value.code


def by_package(raw: bytes) -> Any:
    """The independent twin: the value, or None where it is not one value in its shortest form."""
    try:
        value = msgpack.unpackb(raw, raw=False, strict_map_key=False)
    except (ValueError, msgpack.UnpackException, RecursionError):
        return None
    return value if msgpack.packb(value) == raw else None


def plain(value: Any) -> Any:
    """A Wire value as the lists that MessagePack knows."""
    return msgspec.to_builtins(value, builtin_types=(bytes,))


# ---- bounds


@pytest.mark.parametrize(
    "value", [0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, codec.UINT_MAX]
)
def test_numbers(value: int) -> None:
    raw = codec.encode(Number(value))
    assert raw == msgpack.packb([value])
    assert codec.decode(raw, Number, 10) == Number(value)


@pytest.mark.parametrize("value", [-1, -(2**63), 2**63, 2**64 - 1, 1.0, True, None, "1", b"1", [1], {}])
def test_what_is_no_number(value: Any) -> None:
    assert code_of(msgpack.packb([value]), Number) == "codec.malformed"


@pytest.mark.parametrize("sizes", list(itertools.product((15, 16, 17), (31, 32, 33), (63, 64, 65))))
def test_fixed_sizes(sizes: tuple[int, int, int]) -> None:
    raw = msgpack.packb([bytes(size) for size in sizes])
    if sizes == (16, 32, 64):
        assert codec.decode(raw, Fixed, 200) == Fixed(bytes(16), bytes(32), bytes(64))
    else:
        assert code_of(raw, Fixed) == "codec.malformed"


@pytest.mark.parametrize(
    ("texts", "good"),
    [([], True), (["", "漢字é"], True), (["abcd"], False), (["a"] * 3, False), ([b"a"], False)],
)
def test_bounded_lists_of_bounded_texts(texts: list[Any], good: bool) -> None:
    raw = msgpack.packb([texts])
    if good:
        assert codec.decode(raw, Texts, 100) == Texts(texts)
    else:
        assert code_of(raw, Texts) == "codec.malformed"


@pytest.mark.parametrize("value", [["apple", 1], ["pear", b"x"], None])
def test_unions(value: Any) -> None:
    raw = msgpack.packb([value])
    assert codec.encode(codec.decode(raw, Basket, 100)) == raw


@pytest.mark.parametrize(
    "value", [["apple", b"x"], ["plum", 1], ["apple"], [], ["apple", 1, 2], [0, 1], "apple"]
)
def test_what_is_in_no_union(value: Any) -> None:
    assert code_of(msgpack.packb([value]), Basket) == "codec.malformed"


def test_the_limit_is_on_the_raw_bytes() -> None:
    raw = codec.encode(Number(300))
    assert codec.decode(raw, Number, len(raw)) == Number(300)
    assert code_of(raw, Number, len(raw) - 1) == "codec.oversized"
    assert code_of(b"\xc1" * 1000, Number, 999) == "codec.oversized"


def test_the_message_names_types_and_unions() -> None:
    with pytest.raises(Refused, match="no Number"):
        codec.decode(b"", Number, 10)
    for kind in (Apple | Pear, list[Number]):
        assert code_of(b"", kind) == "codec.malformed"
        assert code_of(b"12", kind, 1) == "codec.oversized"


# ---- shapes that are no values


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x90",
        b"\x91",
        b"\x92\x01\x01",
        b"\x91\x01\x00",
        b"\x81\xa5value\x01",
        b"\xc1",
        b"\x91\xc1",
        b"\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\x91\xdd\xff\xff\xff\xff",
        b"\xdc\xff\xff" + b"\x01" * 100,
        b"\x91\xc9\xff\xff\xff\xff\x01",
        b"\x91\xd6\xff\x00\x00\x00\x01",
        b"\x91" * 100_000,
        b"\xdf\xff\xff\xff\xff",
    ],
)
def test_no_number(raw: bytes) -> None:
    assert code_of(raw, Number) == "codec.malformed"


@pytest.mark.parametrize(
    "raw",
    [
        b"\x91\xcc\x01",
        b"\x91\xcd\x00\x80",
        b"\x91\xce\x00\x00\x01\x00",
        b"\x91\xcf\x00\x00\x00\x00\x00\x01\x00\x00",
        b"\x91\xd0\x01",
        b"\x91\xd3\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\xdc\x00\x01\x01",
        b"\xdd\x00\x00\x00\x01\x01",
    ],
)
def test_longer_forms_of_the_same_number(raw: bytes) -> None:
    assert code_of(raw, Number) == "codec.not_canonical"


def widened(raw: bytes) -> list[bytes]:
    """Every encoding of the same value with one head in a longer form."""
    found: list[bytes] = []

    def head_at(at: int) -> tuple[int, list[bytes], int]:
        """(length of the head, its longer forms, elements behind it) ; bytes of strings count into the head."""
        first = raw[at]
        if first < 0x80:
            return 1, [bytes((0xCC, first)), bytes((0xCD, 0, first))], 0
        if first & 0xF0 == 0x90:
            return 1, [bytes((0xDC, 0, first & 15)), bytes((0xDD, 0, 0, 0, first & 15))], first & 15
        if first & 0xE0 == 0xA0:
            size = first & 31
            tail = raw[at + 1 : at + 1 + size]
            return 1 + size, [bytes((0xD9, size)) + tail, bytes((0xDA, 0, size)) + tail], 0
        width = {0xC4: 1, 0xC5: 2, 0xD9: 1, 0xDA: 2}.get(first)
        if width is not None:
            size = int.from_bytes(raw[at + 1 : at + 1 + width], "big")
            tail = raw[at + 1 + width : at + 1 + width + size]
            longer = bytes((first + 1,)) + size.to_bytes(2 * width, "big") + tail
            return 1 + width + size, [longer], 0
        if first == 0xDC:
            return 3, [b"\xdd\x00\x00" + raw[at + 1 : at + 3]], int.from_bytes(raw[at + 1 : at + 3], "big")
        if first in (0xCC, 0xCD, 0xCE):
            size = 1 << first - 0xCC
            return 1 + size, [bytes((first + 1,)) + bytes(size) + raw[at + 1 : at + 1 + size]], 0
        assert first in (0xCF, 0xC0), hex(first)
        return (9, [], 0) if first == 0xCF else (1, [], 0)

    def walk(at: int) -> int:
        length, longer, elements = head_at(at)
        found.extend(raw[:at] + form + raw[at + length :] for form in longer)
        at += length
        for _ in range(elements):
            at = walk(at)
        return at

    assert walk(0) == len(raw)
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_wire_types_have_one_encoding(kind: Any) -> None:
    for value in samples(kind.name):
        raw = codec.encode(value)
        assert msgpack.packb(plain(value)) == raw
        assert codec.decode(raw, kind.type, kind.bytes_max) == value
        others = widened(raw)
        assert len(others) > 5
        for other in others:
            assert by_package(other) is None
            assert code_of(other, kind.type, BYTES_MAX) == "codec.not_canonical"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_wire_types_have_all_their_fields_and_no_more(kind: Any) -> None:
    for value in samples(kind.name):
        fields = plain(value)
        assert code_of(msgpack.packb(fields[:-1]), kind.type) == "codec.malformed"
        assert code_of(msgpack.packb([*fields, None]), kind.type) == "codec.malformed"
        assert code_of(msgpack.packb({"0": 1}), kind.type) == "codec.malformed"


# ---- anything


def check_anything(raw: bytes, kind: Any) -> None:
    try:
        value = codec.decode(raw, kind.type, kind.bytes_max)
    except Refused:
        return
    assert codec.encode(value) == raw
    assert by_package(raw) == plain(value)


@settings(max_examples=400)
@given(st.sampled_from(KINDS), st.data())
def test_changed_bytes(kind: Any, data: st.DataObject) -> None:
    raw = bytearray(codec.encode(data.draw(st.sampled_from(samples(kind.name)))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(raw) - 1, 400)))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    check_anything(bytes(raw), kind)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=70)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=20,
)


@settings(max_examples=300)
@given(st.sampled_from(KINDS), VALUES)
def test_any_message_pack(kind: Any, value: Any) -> None:
    check_anything(msgpack.packb(value), kind)


@settings(max_examples=300)
@given(st.sampled_from(KINDS), st.binary(max_size=80))
def test_any_bytes(kind: Any, raw: bytes) -> None:
    check_anything(raw, kind)
