"""Running a driver, and a machine that answers by a script instead of by the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from consilium.consensus.io import (
    BatchesHeld,
    Input,
    MessageReceived,
    PeerHeight,
    Started,
    TimerFired,
    WorkPending,
)
from consilium.ledger.errors import InvariantBroken
from tests.unit.node.harness import Harness, HostedNode

KINDS = [Started, MessageReceived, PeerHeight, WorkPending, TimerFired, BatchesHeld]


@asynccontextmanager
async def running(node: HostedNode) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(node.driver.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, InvariantBroken):
            await task


class Scripted:
    """A machine that answers by a script and remembers its inputs."""

    def __init__(self, answers: dict[type, list[object]] | None = None) -> None:
        self.answers = answers or {}
        self.inputs: list[Input] = []

    def step(self, item: Input, now: object) -> list[object]:
        self.inputs.append(item)
        return self.answers.pop(type(item), [])

    def of(self, kind: type) -> list[object]:
        return [item for item in self.inputs if isinstance(item, kind)]


def scripted(harness: Harness, **answers: list[object]) -> tuple[HostedNode, Scripted]:
    node = HostedNode(harness)
    machine = Scripted({kind: answers[kind.__name__] for kind in KINDS if kind.__name__ in answers})
    node.driver._replica = machine  # type: ignore[assignment]
    return node, machine
