"""What the documents say of `scripts/bench` can be asked of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import _bench
from scripts.benchmark import state

PROJECT = Path(__file__).resolve().parents[3]
_COMMAND = re.compile(r"scripts/bench +([a-z]+)([^`\n]*)")
_OPTION = re.compile(r"--[a-z][a-z-]*")


def documented() -> Iterator[tuple[str, str, str]]:
    """(page, command, options) of each command that a page names."""
    for page in [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]:
        for name, rest in _COMMAND.findall(page.read_text(encoding="utf-8")):
            yield page.name, name, rest


def options_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit) as ended:
        state.main(["--help"]) if command == "state" else _bench.parse([command, "--help"])
    assert ended.value.code == 0, command
    return set(_OPTION.findall(capsys.readouterr().out))


def test_every_command_and_option_that_a_page_names_exists(capsys: pytest.CaptureFixture[str]) -> None:
    named = list(documented())
    assert {"cluster", "steps", "state"} <= {command for _, command, _ in named}
    for page, command, rest in named:
        missing = set(_OPTION.findall(rest)) - options_of(command, capsys)
        assert not missing, f"{page}: scripts/bench {command} has no {', '.join(sorted(missing))}"


def test_what_is_no_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        _bench.parse(["nonsense"])
    assert "invalid choice" in capsys.readouterr().err


def test_a_cluster_is_measured_without_delay_and_faults_unless_it_is_said() -> None:
    options = _bench.parse(["cluster"])
    assert (options.nodes, options.dead, options.kill, options.delay_ms, options.rate) == (4, 0, "none", 0, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["cluster", "--clients", "0"],
        ["cluster", "--nodes", "4", "--dead", "4"],
        ["steps", "--blocks", "0"],
        ["steps", "--transactions", "-1"],
        ["rpc", "--clients", "0"],
    ],
)
def test_what_measures_nothing_is_refused_before_anything_starts(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _bench.parse(arguments)
    assert f"{arguments[-2]}: " in capsys.readouterr().err
