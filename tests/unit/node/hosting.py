"""Running a driver, a machine that answers by a script instead of by the protocol, and the face of a node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

from consilium.client.envelope import envelope_digest
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
from consilium.node.custodian import Custodian
from consilium.node.executor import Commit
from consilium.node.service import Service
from consilium.storage.kv import MemoryKV
from consilium.storage.vault import Vault
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


def scripted(harness: Harness, index: int = 0, **answers: list[object]) -> tuple[HostedNode, Scripted]:
    node = HostedNode(harness, index)
    machine = Scripted({kind: answers[kind.__name__] for kind in KINDS if kind.__name__ in answers})
    node.driver._replica = machine  # type: ignore[assignment]
    return node, machine


class FakeMesh:
    """The mesh as the service sees it."""

    def __init__(self, node: HostedNode) -> None:
        self._node = node

    def connected(self) -> frozenset[bytes]:
        return self._node.outlet.connected()

    def peers(self) -> list[Any]:
        return [SimpleNamespace(key=key, connected=True) for key in sorted(self.connected())]


def service_of(node: HostedNode, vault: Vault | None = None, custodian: Custodian | None = None) -> Service:
    """The node's face, woken by its driver."""
    service = Service(
        name="test",
        role="validator",
        key=node.key.public,
        genesis=node.harness.genesis,
        executor=node.executor,
        driver=node.driver,
        replica=node.replica,
        mempool=node.mempool,
        mesh=FakeMesh(node),  # type: ignore[arg-type]
        vault=vault or Vault(MemoryKV(), envelope_digest, create=True),
        custodian=custodian,
        retry_after_ms=123,
        refused=lambda code: None,
        clock_ms=node.clock.now_ms,
    )

    def committed(commit: Commit) -> None:
        node.commits.append(commit)
        service.committed(commit)

    node.driver._on_commit = committed
    return service
