"""How invented bundles are written down: as varied as real exports, down to the digits of a decimal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Layout:
    """How a bundle is written."""

    indent: str | None
    newline: str
    colon: str
    ascii_only: bool
    escaped_slashes: bool


LAYOUTS: Final = (
    Layout(indent="  ", newline="\n", colon=": ", ascii_only=False, escaped_slashes=False),
    Layout(indent=None, newline="", colon=":", ascii_only=False, escaped_slashes=False),
    Layout(indent="\t", newline="\r\n", colon=" : ", ascii_only=False, escaped_slashes=True),
    Layout(indent="    ", newline="\n", colon=":  ", ascii_only=True, escaped_slashes=True),
)


def written(value: Any, layout: Layout, depth: int = 0) -> str:
    """JSON in a layout. The standard library's writer cannot keep the digits of a Decimal."""
    if isinstance(value, dict):
        parts = [
            written(name, layout) + layout.colon + written(item, layout, depth + 1)
            for name, item in value.items()
        ]
        return _enclosed("{", parts, "}", layout, depth)
    if isinstance(value, list):
        return _enclosed("[", [written(item, layout, depth + 1) for item in value], "]", layout, depth)
    if isinstance(value, Decimal):
        return str(value)
    text = json.dumps(value, ensure_ascii=layout.ascii_only)
    return text.replace("/", "\\/") if layout.escaped_slashes else text


def _enclosed(opening: str, parts: Sequence[str], closing: str, layout: Layout, depth: int) -> str:
    if layout.indent is None:
        return opening + ",".join(parts) + closing
    inner = layout.newline + layout.indent * (depth + 1)
    return opening + inner + f",{inner}".join(parts) + layout.newline + layout.indent * depth + closing
