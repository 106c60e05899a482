"""Every layout writes the same value, with the digits of its decimals."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from consilium.gateway.synthetic_layout import LAYOUTS, Layout, written


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_value(layout: Layout) -> None:
    value: dict[str, Any] = {
        "a": [1, Decimal("1.10"), {"é/": 'ü\n"/'}],
        "b": {},
        "c": [],
        "d": None,
        "e": True,
    }
    text = written(value, layout)
    assert json.loads(text, parse_float=Decimal) == value
    assert "1.10" in text
    assert text.isascii() == layout.ascii_only


def test_layouts_differ() -> None:
    value = {"a": ["é/"]}
    assert len({written(value, layout) for layout in LAYOUTS}) == len(LAYOUTS)
