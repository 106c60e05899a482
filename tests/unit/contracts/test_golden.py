"""One golden file for each operation: pre-state, input, and post-state or the code of the refusal.

`CONSILIUM_REWRITE_GOLDEN=1` writes the files anew: read the difference before committing it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgpack
import pytest

from consilium.contracts.registry import default_registry
from consilium.ledger.state import MemoryState
from tests.unit.contracts import golden_cases

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "contracts"
OPERATIONS = sorted(default_registry().operations)


def load(operation: str) -> list[dict[str, Any]]:
    return json.loads((FOLDER / f"{operation}.json").read_text(encoding="ascii"))


def dump(cases: list[dict[str, Any]]) -> str:
    return json.dumps(cases, indent=1) + "\n"


@pytest.fixture(scope="module")
def built() -> dict[str, list[dict[str, Any]]]:
    cases = golden_cases.build()
    if os.environ.get("CONSILIUM_REWRITE_GOLDEN"):
        for operation, found in cases.items():
            (FOLDER / f"{operation}.json").write_text(dump(found), encoding="ascii")
    return cases


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_files_are_what_the_cases_make(operation: str, built: dict[str, list[dict[str, Any]]]) -> None:
    assert load(operation) == json.loads(dump(built[operation]))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.usefixtures("built")
def test_from_the_file_alone(operation: str) -> None:
    cases = load(operation)
    for case in cases:
        state = MemoryState({bytes.fromhex(k): bytes.fromhex(v) for k, v in case["pre"].items()})
        outcome = golden_cases.perform(state, case)
        assert outcome == {key: case[key] for key in ("post", "result", "events", "refused") if key in case}
    assert any("post" in case for case in cases)
    assert any("refused" in case for case in cases)
    names = [case["name"] for case in cases]
    assert len(names) == len({*names})


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.usefixtures("built")
def test_another_messagepack_writes_the_same_bytes(operation: str) -> None:
    for case in load(operation):
        values = [case["body"], *case["pre"].values(), *case.get("post", {}).values()]
        values += [event["data"] for event in case.get("events", [])]
        for raw in (bytes.fromhex(value) for value in values if value is not None):
            assert msgpack.packb(msgpack.unpackb(raw, use_list=True), use_bin_type=True) == raw


def test_no_file_is_left_over() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == OPERATIONS
