"""Meshes on loopback, and peers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from consilium.ledger.crypto import SigningKey
from consilium.p2p.connection import Connection
from consilium.p2p.dialer import Dialer
from consilium.p2p.frame import Lane
from consilium.p2p.mesh import Mesh
from consilium.p2p.policy import Address, LanePolicy, MeshPolicy
from consilium.p2p.tls import Credentials

CHAIN = bytes(range(32))
LIMITS = {1: 1_000, 2: 4 << 20, 9: 16}
HOST = "127.0.0.1"
PATIENCE_S = 20.0

FAST = MeshPolicy(
    votes=LanePolicy(64, 64 << 10, 64, 64 << 10),
    bulk=LanePolicy(64, 8 << 20, 4, 1 << 20),
    dial_timeout_s=2.0,
    handshake_timeout_s=2.0,
    backoff_first_s=0.02,
    backoff_max_s=0.2,
    grace_s=0.1,
    beat_s=0.1,
    silence_timeout_s=2.0,
    stall_timeout_s=2.0,
    close_timeout_s=0.5,
)


def signing_key(number: int) -> SigningKey:
    return SigningKey(bytes([number]) * 32)


@dataclass
class Node:
    """A mesh with a handler that writes down what it was given."""

    mesh: Mesh
    received: list[tuple[bytes, int, bytes]]
    arrived: asyncio.Event
    gate: asyncio.Event
    refusal: list[Exception] = field(default_factory=list)

    @property
    def key(self) -> bytes:
        return self.mesh.key

    @property
    def address(self) -> Address:
        return Address(HOST, self.mesh.port)

    def knows(self, keys: frozenset[bytes]) -> bool:
        return self.mesh.connected() >= keys

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something was received, or a peer changed, that makes the condition true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.arrived.clear()
                arrived = asyncio.create_task(self.arrived.wait())
                changed = asyncio.create_task(self.mesh.until(condition))
                _, pending = await asyncio.wait({arrived, changed}, return_when=asyncio.FIRST_COMPLETED)
                for task in pending:
                    task.cancel()


async def eventually(condition: Callable[[], Any]) -> None:
    """For counters that nobody announces: asked again each turn of the event loop, a few milliseconds apart."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Net:
    """Some nodes that know each other."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.rogues: list[Rogue] = []

    async def node(
        self,
        number: int,
        members: Iterable[int] = (),
        *,
        policy: MeshPolicy = FAST,
        chain: bytes = CHAIN,
        listen: Address | None = None,
    ) -> Node:
        received: list[tuple[bytes, int, bytes]] = []
        arrived, gate = asyncio.Event(), asyncio.Event()
        gate.set()
        refusal: list[Exception] = []

        async def handler(peer: bytes, kind: int, body: bytes) -> None:
            await gate.wait()
            received.append((peer, kind, body))
            arrived.set()
            if refusal:
                raise refusal[0]

        mesh = Mesh(
            key=signing_key(number),
            chain_id=chain,
            members={signing_key(member).public: None for member in members},
            listen=listen or Address(HOST, 0),
            limits=LIMITS,
            handler=handler,
            policy=policy,
        )
        await mesh.start()
        node = Node(mesh, received, arrived, gate, refusal)
        self.nodes.append(node)
        return node

    async def full(self, count: int, *, policy: MeshPolicy = FAST) -> list[Node]:
        """`count` nodes, all connected to all."""
        nodes = [await self.node(number + 1, policy=policy) for number in range(count)]
        addresses = {node.key: node.address for node in nodes}
        for node in nodes:
            node.mesh.set_members(addresses)
        await self.connected(nodes)
        return nodes

    async def connected(self, nodes: list[Node]) -> None:
        for node in nodes:
            others = frozenset(other.key for other in nodes) - {node.key}
            await node.until(partial(node.knows, others))

    async def eventually(self, condition: Callable[[], Any]) -> None:
        await eventually(condition)

    async def fill(self, node: Node, key: bytes) -> int:
        """Send bulk to a peer until its outbox refuses; returns how many messages of 1 MiB it took."""
        taken = 0
        while node.mesh.send(key, 2, taken.to_bytes(4, "big") * (1 << 18), Lane.BULK):
            taken += 1
            await asyncio.sleep(0)
        return taken

    def rogue(self, number: int, *, chain: bytes = CHAIN) -> Rogue:
        rogue = Rogue(number, chain)
        self.rogues.append(rogue)
        return rogue

    async def close(self) -> None:
        for rogue in self.rogues:
            await rogue.close()
        for node in self.nodes:
            node.gate.set()
            await node.mesh.stop()


class Rogue:
    """Has a member's key and gets its websockets like a member; what it does with them is up to the test."""

    def __init__(self, number: int, chain: bytes) -> None:
        self.signing_key = signing_key(number)
        self.key = self.signing_key.public
        self.credentials = Credentials(self.signing_key)
        self.dialer = Dialer(chain, FAST)
        self.connections: list[Connection] = []

    async def dial(self, node: Node, lane: Lane) -> Connection | None:
        context = self.credentials.client_context(node.key)
        connection = await self.dialer.dial(node.key, node.address, context, lane)
        if connection is not None:
            self.connections.append(connection)
        return connection

    async def close(self) -> None:
        for connection in self.connections:
            connection.hang_up(reset=True)
            await connection.finish(1.0)
        await self.dialer.close()


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    net = Net()
    yield net
    await net.close()


@pytest.fixture
def fast() -> MeshPolicy:
    return FAST
