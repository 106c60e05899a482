"""Each primitive type of R4, with values on both sides of its border."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from consilium.gateway.definitions import types
from consilium.gateway.primitives import REASON

GOOD: dict[str, list[Any]] = {
    "base64Binary": ["SGk=", "QUJD", "QQ==", "SGVs bG8=", "QUJD\n"],
    "boolean": [True, False],
    "canonical": ["http://x/y|2", "#a"],
    "code": ["a", "a b", "<=", "é"],
    "date": ["2024", "2024-02", "2024-02-29", "0001-01-01", "9999-12-31"],
    "dateTime": [
        "2024",
        "2024-02",
        "2024-02-29",
        "2024-02-29T10:00:00Z",
        "2015-02-07T13:28:17.239-05:00",
        "2016-12-31T23:59:60Z",
        "2020-01-01T00:00:00+14:00",
    ],
    "decimal": [0, -1, Decimal("1.10"), Decimal("-0.0"), Decimal("1E+3")],
    "id": ["a", "A.b-9", "x" * 64],
    "instant": ["2015-02-07T13:28:17.239+02:00", "2017-01-01T00:00:00Z"],
    "integer": [0, -(2**31), 2**31 - 1],
    "markdown": ["# x", " "],
    "oid": ["urn:oid:1.2.840.113619", "urn:oid:2.0"],
    "positiveInt": [1, 2**31 - 1],
    "string": [" ", "a\nb", "\u00a0", "x" * 1_048_576],
    "time": ["00:00:00", "23:59:60.5"],
    "unsignedInt": [0, 2**31 - 1],
    "uri": ["http://a/é", "urn:x", "a"],
    "url": ["mailto:a@b", "https://x"],
    "uuid": ["urn:uuid:14867dba-fb11-1df3-0829-8e8e081b39e6"],
    "xhtml": ["<div/>", '<div xmlns="http://www.w3.org/1999/xhtml">a &amp; b</div>', "\n<x:div> </x:div>"],
}
BAD: dict[str, list[Any]] = {
    "base64Binary": ["", " ", "A", "QQ", "QQ=", "Q!==", "QUJD=", "QQ==QQ==", "é", 1],
    "boolean": ["true", 1, 0, {}],
    "canonical": ["", "a b", 1],
    "code": ["", " a", "a ", "a  b", "\ta", 1, True],
    "date": [
        "2024-13",
        "2024-02-30",
        "2023-02-29",
        "24-01-01",
        "2024-1-1",
        "2024-01-01T00:00:00Z",
        "0000-01-01",
        "2024-01-01 ",
        "",
        2024,
        "２０２４",
    ],
    "dateTime": [
        "2024-02-29T10:00:00",
        "2024-02-29T10:00Z",
        "2024-02-30T10:00:00Z",
        "2024-02T10:00:00Z",
        "2024-02-29 10:00:00Z",
        "2024-02-29T24:00:00Z",
        "2024-02-29T10:00:00+15:00",
        "0000",
        "yesterday",
        1,
    ],
    "decimal": ["1.0", True, "", None],
    "id": ["", "a_b", "x" * 65, "a b", "é", "a\n", 1],
    "instant": ["2017-01-01", "2017-01-01T00:00:00", "2017-02-29T00:00:00Z", "", 5],
    "integer": [2**31, -(2**31) - 1, Decimal("1.0"), True, "1"],
    "markdown": ["", 1],
    "oid": ["1.2.3", "urn:oid:3.1", "urn:oid:1.02", "urn:oid:1"],
    "positiveInt": [0, -1, 2**31, True],
    "string": ["", 1, True, [], "x" * 1_048_577],
    "time": ["24:00:00", "10:00", "10:00:00Z", "10:60:00", ""],
    "unsignedInt": [-1, 2**31, Decimal("0.5")],
    "uri": ["", "a b", "\n"],
    "url": ["", "a b"],
    "uuid": ["14867dba-fb11-1df3-0829-8e8e081b39e6", "urn:uuid:14867DBA-fb11-1df3-0829-8e8e081b39e6"],
    "xhtml": ["", "text", "<p>x</p>", "<divx/>", "<div", 1],
}


@pytest.mark.parametrize("name", sorted(REASON))
def test_border(name: str) -> None:
    for value in GOOD[name]:
        assert REASON[name](value) is None, value
    for value in BAD[name]:
        assert REASON[name](value), value


def test_every_primitive_type_is_known() -> None:
    named = {element.type for kind in types().values() for element in kind.members.values()}
    assert named - set(types()) == set(REASON)
