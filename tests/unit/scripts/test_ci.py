"""What `.ci/run` runs exists, and takes the arguments that it is given."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from scripts import _crash, _demo, _mutants, _simulate, _twins

PROJECT = Path(__file__).resolve().parents[3]
PARSERS = {
    "scripts/simulate": _simulate.parse,
    "scripts/twins": _twins.parse,
    "scripts/mutants": _mutants.parse,
    "scripts/crash": _crash.parse,
    "scripts/demo": _demo.parse,
}
PLAIN = ("scripts/check", "scripts/test")


def steps() -> list[list[str]]:
    lines = (PROJECT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.strip().startswith("step ")]


def test_everything_is_run() -> None:
    assert sorted(step[0] for step in steps()) == sorted([*PLAIN, *PARSERS])


@pytest.mark.parametrize("step", steps(), ids=lambda step: step[0])
def test_a_step_takes_its_arguments(step: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    name, *arguments = step
    assert os.access(PROJECT / name, os.X_OK)
    if name in PARSERS:
        monkeypatch.setattr("sys.argv", step)
        PARSERS[name]()
    else:
        assert name in PLAIN
        assert arguments == []
