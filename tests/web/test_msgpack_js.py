"""The browser's MessagePack against the `msgpack` package: each value has one encoding, and all others are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgpack

MODULE = Path(__file__).resolve().parents[2] / "web" / "msgpack.js"
EDGES = sorted(
    {number + near for bits in (0, 5, 7, 8, 16, 32, 63) for number in [2**bits] for near in (-1, 0, 1)}
)
UINTS = [number for number in EDGES if number < 2**63]
SIZES = [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536]


def good() -> list[tuple[str, bytes]]:
    return [
        *(("uint", msgpack.packb(number)) for number in UINTS),
        *(("bin", msgpack.packb(bytes(size))) for size in SIZES),
        *(("str", msgpack.packb("a" * size)) for size in SIZES if size < 65_536),
        *(("str", msgpack.packb(text)) for text in ("é", "漢字" * 20, "\ufeffmark", "\U0001f3e5")),
        *(("array", msgpack.packb([1] * size)) for size in SIZES if size < 65_536),
    ]


def bad() -> list[tuple[str, bytes]]:
    wide = [
        ("uint", b"\xcc\x7f"),
        ("uint", b"\xcd\x00\xff"),
        ("uint", b"\xce\x00\x00\xff\xff"),
        ("uint", b"\xcf\x00\x00\x00\x00\xff\xff\xff\xff"),
        ("uint", b"\xd0\x01"),
        ("uint", b"\xff"),
        ("uint", b"\xcf\x80" + bytes(7)),
        ("uint", b"\xcb" + bytes(8)),
        ("uint", b"\xc0"),
        ("uint", b"\xc2"),
        ("bin", b"\xc5\x00\x01a"),
        ("bin", b"\xc6\x00\x00\x00\x01a"),
        ("bin", b"\xa1a"),
        ("bin", b"\xc6\xff\xff\xff\xff"),
        ("str", b"\xd9\x01a"),
        ("str", b"\xda\x00\x20" + b"a" * 32),
        ("str", b"\xc4\x01a"),
        ("str", b"\xa1\xff"),
        ("str", b"\xa3\xed\xa0\x80"),
        ("str", b"\xa2\xc0\x80"),
        ("array", b"\xdc\x00\x01\x01"),
        ("array", b"\xdd\x00\x00\x00\x01\x01"),
        ("array", b"\xdd\xff\xff\xff\xff"),
        ("array", b"\x81\x01\x01"),
    ]
    return [
        *wide,
        *((shape, raw[:-1]) for shape, raw in good()),
        *((shape, raw + b"\x00") for shape, raw in good()),
    ]


def test_one_encoding_for_each_value(run_node: Callable[..., str]) -> None:
    cases = [(shape, raw.hex()) for shape, raw in good()]
    assert json.loads(run_node("msgpack.mjs", str(MODULE), given=json.dumps(cases))) == [
        raw for _, raw in cases
    ]


def test_every_other_is_refused(run_node: Callable[..., str]) -> None:
    cases = [(shape, raw.hex()) for shape, raw in bad()]
    answers = json.loads(run_node("msgpack.mjs", str(MODULE), given=json.dumps(cases)))
    assert [case for case, answer in zip(cases, answers, strict=True) if answer is not None] == []
