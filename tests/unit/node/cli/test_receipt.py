"""`consilium receipt verify` on the receipts that the ledger is tested with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consilium.ledger.genesis import genesis_to_json
from consilium.node.cli.main import app
from tests.unit.ledger.receipts_world import Case, cases


def verify(case: Case, folder: Path, *more: str, status: int = 0) -> Any:
    receipt, genesis = folder / "receipt", folder / "genesis.json"
    receipt.write_bytes(case.receipt)
    genesis.write_bytes(genesis_to_json(case.genesis))
    arguments = ["receipt", "verify", str(receipt), "--genesis", str(genesis), "--json", *more]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


def trusting(case: Case) -> list[str]:
    return [] if case.trusted is None else ["--trusted-header", case.trusted.hex()]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_it_says_what_is_proved(case: Case, tmp_path: Path) -> None:
    answer = verify(case, tmp_path, *trusting(case))
    assert answer["valid"] is True
    for name in {"kind", "height", "top_height", "set_changes", "trusted_height"} & set(case.proves):
        assert answer[name] == case.proves[name]
    assert answer["words"]


def test_a_header_that_must_be_trusted(tmp_path: Path) -> None:
    case = next(case for case in cases() if case.trusted is not None)
    for more in ([], ["--trusted-header", "00" * 32]):
        assert verify(case, tmp_path, *more, status=1)["error"]["code"] == "receipt.untrusted"
    for bad in ("", "xyz", "00" * 31):
        answer = verify(case, tmp_path, "--trusted-header", bad, status=2)
        assert answer["error"]["code"] == "cli.bad_value"
