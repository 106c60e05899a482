"""Observers on real nodes: they follow, serve and hand in without a vote; however they behave, validators agree on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consilium.client import recording
from consilium.client.wallet import Wallet
from consilium.ledger import codec
from consilium.ledger.crypto import SigningKey
from consilium.ledger.receipt import verify_receipt
from consilium.node.files import load_node_key
from consilium.node.peer_messages import LIMITS, BlocksRequest, Kind
from consilium.node.snapshot_messages import LeavesRequest, PartRequest, RunRequest, SnapshotRequest
from consilium.node.testing import LocalCluster
from consilium.p2p.mesh import Address, Lane, Mesh, MeshPolicy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

WAIT_S = 180.0
COMMITS = 12


async def test_observers_follow_serve_and_hand_in() -> None:
    async with LocalCluster(4, observers=3) as cluster:
        await cluster.commit(0, WAIT_S)
        indexes = [await cluster.join_observer(WAIT_S) for _ in range(3)]
        done = await cluster.commit(1, WAIT_S)
        await cluster.wait_height(done.height + 1, indexes, WAIT_S)
        for index in indexes:
            client = cluster.clients[index]
            status = await client.status()
            assert (status["role"], status["healthy"]) == ("observer", True)
            assert status["node_id"] not in {one["key"] for one in status["validators"]}
            proved = verify_receipt(await client.verdict_receipt(done.id), cluster.genesis)
            assert proved.transaction_id == done.id
        # A founder's transaction by way of an observer.
        session = cluster.session(indexes[0], cluster.institution(0))
        newcomer = Wallet.create("application", "application")
        async with asyncio.timeout(WAIT_S):
            handed_in = await session.submit([recording.enrolment(session, "application", newcomer)])
        await cluster.wait_height(handed_in.height, timeout_s=WAIT_S)
        # Without the observers the validators go on, and without any of them the others follow.
        await cluster.stop_node(indexes[0])
        after = await cluster.commit(2, WAIT_S)
        await cluster.wait_height(after.height, indexes[1:], WAIT_S)


class Flood:
    """An observer's key in wrong hands: it asks for everything as fast as it can, and reads nothing."""

    def __init__(self, key: SigningKey, cluster: LocalCluster, policy: MeshPolicy) -> None:
        self.sent = 0
        members: dict[bytes, Address | None] = {}
        for node in cluster.nodes:
            config = node.config()
            members[load_node_key(config.key_path).public] = Address(config.p2p.host, config.p2p.port)
        self._mesh = Mesh(
            key=key,
            chain_id=cluster.genesis.chain_id,
            members=members,
            listen=Address("127.0.0.1", 0),
            limits=LIMITS,
            handler=self._read_nothing,
            policy=policy,
        )

    async def _read_nothing(self, peer: bytes, kind: int, body: bytes) -> None:
        await asyncio.Event().wait()

    async def run(self, reached: asyncio.Event) -> None:
        questions: list[tuple[Kind, Any]] = [
            (Kind.BLOCKS_REQUEST, BlocksRequest(1, 64)),
            (Kind.SNAPSHOT_REQUEST, SnapshotRequest(None)),
            (Kind.PART_REQUEST, PartRequest(1, b"")),
            (Kind.RUN_REQUEST, RunRequest(5, 512)),
            (Kind.LEAVES_REQUEST, LeavesRequest(5, 512)),
        ]
        await self._mesh.start()
        running = asyncio.create_task(self._mesh.run())
        try:
            while True:
                for peer in self._mesh.connected():
                    for kind, question in questions:
                        self.sent += self._mesh.send(peer, kind, codec.encode(question), Lane.BULK)
                if self.sent > 1_000:
                    reached.set()
                await asyncio.sleep(0.001)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await self._mesh.stop()


async def test_a_flood_from_observers_that_read_nothing_stops_no_vote() -> None:
    async with LocalCluster(4, observers=3) as cluster:
        await cluster.commit(0, WAIT_S)
        keys = [load_node_key(node.config().key_path) for node in cluster.observers]
        floods = [Flood(key, cluster, MeshPolicy(backoff_max_s=0.5)) for key in keys]
        reached = [asyncio.Event() for _ in floods]
        tasks = [asyncio.create_task(flood.run(event)) for flood, event in zip(floods, reached, strict=True)]
        try:
            async with asyncio.timeout(WAIT_S):
                await asyncio.gather(*(event.wait() for event in reached))
                before = sum(flood.sent for flood in floods)
                for number in range(COMMITS):
                    await cluster.commit(number % 4, WAIT_S)
            assert sum(flood.sent for flood in floods) > before
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        done = await cluster.commit(0, WAIT_S)
        await cluster.wait_height(done.height, timeout_s=WAIT_S)
