"""Every way to encode a value: the codec accepts the canonical one, and refuses all the others.

Canonical is what the `msgpack` package packs, an implementation apart from the codec's.
"""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from consilium.ledger import codec
from consilium.ledger.errors import Refused

BYTES_MAX = 1_024
KINDS: dict[str, Any] = {
    "nil": type(None),
    "bool": bool,
    "binary": bytes,
    "bignum": int,
    "number": int,
    "string": str,
    "array": list[Any],
    "map": dict[str, Any],
}


def check(kind: Any, value: Any, encodings: list[bytes]) -> None:
    canonical = msgpack.packb(value)
    assert canonical in encodings
    assert codec.encode(value) == canonical
    for raw in encodings:
        if raw == canonical:
            assert codec.decode(raw, kind, BYTES_MAX) == value
            continue
        with pytest.raises(Refused) as refused:
            codec.decode(raw, kind, BYTES_MAX)
        assert refused.value.code in ("codec.malformed", "codec.not_canonical"), raw.hex()


def parse(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


def value_of(entry: dict[str, Any]) -> tuple[Any, Any] | None:
    """A case's kind and value; None for floats, timestamps and extensions, which are never on the wire."""
    for label, kind in KINDS.items():
        if label in entry:
            value = entry[label]
            if label == "binary":
                return kind, parse(value)
            if label in ("number", "bignum"):
                return None if int(value) != value and label == "number" else (kind, int(value))
            return kind, value
    assert "timestamp" in entry or "ext" in entry
    return None


def test_the_published_suite(vectors) -> None:
    checked = refused = 0
    for entries in vectors("msgpack/msgpack-test-suite.json").values():
        for entry in entries:
            encodings = [parse(text) for text in entry["msgpack"]]
            case = value_of(entry)
            if case is None:
                refused += 1
                for raw in encodings:
                    refused_as_anything_wire(raw)
            else:
                checked += 1
                check(*case, encodings)
    assert checked > 40
    assert refused > 10


def refused_as_anything_wire(raw: bytes) -> None:
    """Floats, timestamps and extensions have no place in a wire value."""
    for kind in (int, str, bytes, bool, type(None), list[int], codec.Uint):
        with pytest.raises(Refused):
            codec.decode(raw, kind, BYTES_MAX)


OWN: list[tuple[Any, Any, list[str]]] = [
    (int, 0, ["00", "cc00", "cd0000", "ce00000000", "cf0000000000000000", "d000", "d10000", "ca00000000"]),
    (int, 200, ["ccc8", "cd00c8", "ce000000c8", "d100c8", "d2000000c8"]),
    (int, 65_536, ["ce00010000", "cf0000000000010000", "d200010000"]),
    (int, -1, ["ff", "d0ff", "d1ffff", "d2ffffffff", "d3ffffffffffffffff"]),
    (str, "é", ["a2c3a9", "d902c3a9", "da0002c3a9", "db00000002c3a9"]),
    (bytes, b"\x01", ["c40101", "c5000101", "c60000000101"]),
    (list[int], [1], ["9101", "dc000101", "dd0000000101", "91cc01"]),
    (dict[str, int], {"a": 1}, ["81a16101", "de0001a16101", "df00000001a16101", "82a16102a16101"]),
]


@pytest.mark.parametrize(("kind", "value", "encodings"), OWN)
def test_a_suite_of_ones_own(kind: Any, value: Any, encodings: list[str]) -> None:
    check(kind, value, [bytes.fromhex(text) for text in encodings])


@pytest.mark.parametrize(
    "raw", ["ca3f800000", "cb3ff0000000000000", "d6ff00000000", "d40100", "c1", "", "0000"]
)
def test_what_is_no_wire_value_is_refused(raw: str) -> None:
    refused_as_anything_wire(bytes.fromhex(raw))
