"""Every command can be learnt from its own help, can be used by programs, and stands in docs/cli.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from consilium.node.cli.main import app

PAGE = Path(__file__).resolve().parents[4] / "docs" / "cli.md"
README = Path(__file__).resolve().parents[4] / "README.md"
ROOT = typer.main.get_command(app)


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, one in inner.items():
        yield from _commands(one, (*path, name))


COMMANDS = dict(_commands(ROOT))
NAMES = sorted(" ".join(path) for path in COMMANDS)


def _examples(command: Any) -> list[str]:
    return (command.epilog or "").split("\n\n")[1:]


def test_the_commands_that_the_project_promises_are_there() -> None:
    promised = {
        *("node init", "node start", "node status"),
        *("cluster create", "cluster start", "cluster status", "cluster stop"),
        *("keys create", "keys show", "records import", "records list", "records read"),
        *("consent grant", "consent revoke", "consent list", "access log", "receipt get", "receipt verify"),
    }
    assert promised <= set(NAMES)


def test_the_readme_lists_every_command() -> None:
    rows = re.findall(
        r"^\| (`[a-z]+`)? ?\| (`[a-z]+`(?:, `[a-z]+`)*)", README.read_text(encoding="utf-8"), re.MULTILINE
    )
    listed = [
        " ".join(filter(None, (group.strip("`"), name)))
        for group, names in rows
        for name in re.findall("[a-z]+", names)
    ]
    assert sorted(listed) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_an_example_and_json(name: str) -> None:
    command = COMMANDS[tuple(name.split())]
    assert (command.help or "").strip()
    assert any("--json" in parameter.opts for parameter in command.params)
    examples = _examples(command)
    assert examples
    assert all(one.startswith(f"consilium {name}") for one in examples)
    for parameter in command.params:
        if any(opt.startswith("-") for opt in parameter.opts):
            assert parameter.help, f"{name} {parameter.opts}"


@pytest.mark.parametrize("name", NAMES)
def test_no_command_takes_a_passphrase_as_an_argument(name: str) -> None:
    options = {opt for parameter in COMMANDS[tuple(name.split())].params for opt in parameter.opts}
    assert not options & {"--passphrase", "--password"}


@pytest.mark.parametrize("name", NAMES)
def test_help_is_printed(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_command_stands_in_the_page_with_its_example(name: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    sections = re.split(r"^### ", text, flags=re.MULTILINE)
    section = next((one for one in sections if one.startswith(f"`consilium {name}`")), None)
    assert section is not None, f"docs/cli.md has no section `consilium {name}`"
    assert f"\nconsilium {name}" in section
    for parameter in COMMANDS[tuple(name.split())].params:
        for opt in parameter.opts:
            if opt.startswith("--") and opt not in ("--json", "--help", "--node", "--passphrase-file"):
                assert f"`{opt}" in section, f"docs/cli.md: `consilium {name}` does not mention {opt}"


def test_the_page_has_no_command_that_is_gone() -> None:
    named = re.findall(r"^### `consilium ([a-z ]+)`", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(named) == NAMES


@pytest.mark.parametrize("arguments", [[], ["node"], ["records"]])
def test_a_bare_group_shows_its_help(arguments: list[str]) -> None:
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 2
    assert "Usage" in shown.output


def test_wrong_usage_is_status_2() -> None:
    assert CliRunner().invoke(app, ["node", "status"]).exit_code == 2
    assert CliRunner().invoke(app, ["nonsense"]).exit_code == 2
    assert CliRunner().invoke(app, ["cluster", "create", "x", "--nodes", "0"]).exit_code == 2
