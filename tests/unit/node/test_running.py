"""A node in the foreground ends at a signal, or with standard input where that was asked for."""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.ledger.errors import InvariantBroken
from consilium.node import running
from consilium.node.config import Config
from consilium.p2p.mesh import Mesh

CONFIG = cast(Config, SimpleNamespace(log=SimpleNamespace(level="warning", format="json")))
WAIT_S = 30.0


class Lying(Mesh):
    """Another mesh."""


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is set for a whole process stays as it is for the tests."""
    monkeypatch.setattr(running, "configure_logging", lambda level, form: None)
    monkeypatch.setattr(running, "share_interpreter", lambda: None)


def node_that(monkeypatch: pytest.MonkeyPatch, begun: Any = lambda: None) -> list[type[Mesh]]:
    """A node that does something, and ends when it is told to; returns the meshes that were given."""
    given: list[type[Mesh]] = []

    async def run_node(config: Config, stop: asyncio.Event, *, mesh: type[Mesh]) -> None:
        assert config is CONFIG
        given.append(mesh)
        begun()
        async with asyncio.timeout(WAIT_S):
            await stop.wait()

    monkeypatch.setattr(running, "run_node", run_node)
    return given


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    given = node_that(monkeypatch, lambda: os.kill(os.getpid(), number))
    running.run_in_foreground(CONFIG)
    assert given == [Mesh]


def test_the_end_of_standard_input_ends_it_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()

    def begun() -> None:
        os.write(writing, b"not the end")
        os.close(writing)

    with os.fdopen(reading) as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        given = node_that(monkeypatch, begun)
        running.run_in_foreground(CONFIG, stop_on_eof=True, mesh=Lying)
    assert given == [Lying]


def test_what_ends_a_node_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_node(config: Config, stop: asyncio.Event, *, mesh: type[Mesh]) -> None:
        raise InvariantBroken("roots differ")

    monkeypatch.setattr(running, "run_node", run_node)
    with pytest.raises(InvariantBroken, match="roots differ"):
        running.run_in_foreground(CONFIG)
