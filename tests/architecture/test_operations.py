"""Every operation of the ledger can be done by an application and by a person, or says why not."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import typer

from consilium.client import sdk
from consilium.contracts.registry import default_registry
from consilium.node.cli.main import app
from consilium.node.cli.operations import COMMANDS
from tests.architecture.rules import PROJECT

OPERATIONS = sorted(default_registry().operations)
PAGE = PROJECT / "docs" / "sdk.md"


def _function(operation: str) -> str:
    function = sdk.OPERATIONS[operation]
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def test_every_operation_has_a_function_or_a_reason() -> None:
    named = [*sdk.OPERATIONS, *sdk.NODES, *sdk.FOUNDERS]
    assert sorted(named) == OPERATIONS
    assert all(len(reason) > 20 for reason in (*sdk.NODES.values(), *sdk.FOUNDERS.values()))


def test_every_operation_has_a_command_or_the_same_reason() -> None:
    assert sorted([*COMMANDS, *sdk.NODES, *sdk.FOUNDERS]) == OPERATIONS


@pytest.mark.parametrize("operation", sorted(sdk.OPERATIONS))
def test_the_function_is_documented_and_reached_from_the_sdk(operation: str) -> None:
    function = sdk.OPERATIONS[operation]
    module = function.__module__.rpartition(".")[2]
    assert getattr(sdk, module).__name__ == function.__module__
    assert inspect.iscoroutinefunction(function)
    assert inspect.getdoc(function)


@pytest.mark.parametrize("command", sorted(set(COMMANDS.values())))
def test_the_command_is_there(command: str) -> None:
    found: Any = typer.main.get_command(app)
    for name in command.split():
        assert name in found.commands, command
        found = found.commands[name]


def test_the_function_makes_the_operation() -> None:
    """Its module, or the one that it calls, names the operation: a table that points elsewhere is caught."""
    for operation, function in sdk.OPERATIONS.items():
        source = inspect.getsource(inspect.getmodule(function))  # type: ignore[arg-type]
        assert f'"{operation}"' in source, operation


def test_the_page_has_the_same_table() -> None:
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| `([a-z_.]+)` \| `consilium ([a-z ]+)` \|$", PAGE.read_text("utf-8"), re.M
    )
    assert rows == [(one, _function(one), COMMANDS[one]) for one in sorted(sdk.OPERATIONS)]
    text = PAGE.read_text("utf-8")
    for name, reason in {**sdk.NODES, **sdk.FOUNDERS}.items():
        assert f"| `{name}` | {reason} |" in text
