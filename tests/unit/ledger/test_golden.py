"""One golden file for each wire type of the ledger: bytes, what they mean, what is hashed, and bytes to be refused.

`CONSILIUM_REWRITE_GOLDEN=1 python -m pytest tests/unit/ledger` writes the files anew: read the difference before you
commit it, since it changes the network's format. Receipts have their file in `test_receipt.py`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgpack
import pytest

from consilium.ledger import codec
from tests.unit.ledger import wire_cases
from tests.unit.ledger.wire_cases import KINDS, Kind

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "ledger"
by_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def load(kind: Kind) -> list[dict[str, Any]]:
    return json.loads((FOLDER / f"{kind.name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def built() -> dict[str, list[dict[str, Any]]]:
    made = wire_cases.build()
    if os.environ.get("CONSILIUM_REWRITE_GOLDEN"):
        for name, cases in made.items():
            (FOLDER / f"{name}.json").write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")
    return made


@by_kind
def test_the_files_are_what_the_code_makes(kind: Kind, built: dict[str, list[dict[str, Any]]]) -> None:
    assert load(kind) == json.loads(json.dumps(built[kind.name]))


@by_kind
@pytest.mark.usefixtures("built")
def test_from_the_file_alone(kind: Kind) -> None:
    for case in load(kind):
        raw = bytes.fromhex(case["raw"])
        if "refused" in case:
            assert wire_cases.refusal_of(kind, raw) == case["refused"]
            continue
        assert wire_cases.refusal_of(kind, raw) is None
        value = codec.decode(raw, kind.type, kind.bytes_max)
        assert {name: digest.hex() for name, digest in kind.digests(value).items()} == {
            name: case[name] for name in kind.digests(value)
        }


@by_kind
def test_the_fields_are_the_bytes_by_another_decoder(kind: Kind) -> None:
    for case in load(kind):
        if "refused" not in case:
            assert wire_cases.shown(msgpack.unpackb(bytes.fromhex(case["raw"]))) == case["fields"]


@by_kind
def test_each_file_has_both_kinds_of_cases(kind: Kind) -> None:
    cases = load(kind)
    assert sum("fields" in case for case in cases) >= 2
    refused = [case for case in cases if "refused" in case]
    assert len(refused) >= 6
    assert all(case["refused"] for case in refused)
    assert len({case["name"] for case in cases}) == len(cases)
