"""The verifier for browsers, run by Node on the same golden receipts: it proves and refuses what the product does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
GOLDEN = PROJECT / "tests" / "golden" / "ledger" / "receipts.json"
FLIP_STRIDE = 5


@pytest.fixture(scope="module")
def results(run_node: Callable[..., str]) -> dict[str, dict[str, Any]]:
    printed = run_node("receipts.mjs", str(PROJECT / "web" / "receipt.js"), str(GOLDEN), str(FLIP_STRIDE))
    return {result["name"]: result for result in json.loads(printed)}


def entries() -> list[dict[str, Any]]:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))["receipts"]


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry["name"])
def test_it_says_what_the_file_says(entry: dict[str, Any], results: dict[str, dict[str, Any]]) -> None:
    result = results[entry["name"]]
    if "proves" not in entry:
        assert "refused" in result
        return
    expected, proves = entry["proves"], result["proves"]
    names = {
        "kind": "kind",
        "height": "height",
        "certified_height": "certifiedHeight",
        "time_ms": "timeMs",
        "top_height": "topHeight",
        "set_changes": "setChanges",
        "trusted_height": "trustedHeight",
        "transaction": "transaction",
        "code": "code",
        "key": "key",
        "value": "value",
    }
    assert {name: proves.get(theirs) for name, theirs in names.items()} == expected


def test_flipped_bytes_prove_nothing(results: dict[str, dict[str, Any]]) -> None:
    assert {name: result["survivors"] for name, result in results.items() if result["survivors"]} == {}
    assert sum("proves" in result for result in results.values()) > 5
