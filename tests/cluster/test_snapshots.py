"""Joining by a snapshot, on real nodes: what a newcomer answers is what its peers answer, and a crash costs nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consilium.client.rpc import RpcClient
from consilium.contracts import keys
from consilium.ledger import codec
from consilium.ledger.block import BLOCK_BYTES_MAX, Block
from consilium.ledger.errors import Refused
from consilium.ledger.receipt import verify_receipt
from consilium.node.stores import CHAIN_FOLDER, SYNCED_FOLDER, SYNCING_FOLDER, request_staging
from consilium.node.testing import LocalCluster
from consilium.storage import schema
from consilium.storage.leveldb import LevelKV
from consilium.storage.pruning import lowest_writes, prune_writes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SETTINGS: dict[str, dict[str, Any]] = {"storage": {"snapshot_every_s": 1}, "log": {"level": "info"}}
WAIT_S = 180.0
POLL_S = 0.05


async def commits(cluster: LocalCluster, count: int) -> list[bytes]:
    """Ids of transactions that were committed, one after the other."""
    return [(await cluster.commit(number % 4, WAIT_S)).id for number in range(count)]


async def until_base(client: RpcClient) -> dict[str, Any]:
    """Wait until the node runs on a chain that came as a snapshot, and follows."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                status = await client.status()
                if status["sync"]["base_height"] and status["healthy"]:
                    return status
            except Refused:  # it starts again
                pass
            await asyncio.sleep(POLL_S)


async def held(cluster: LocalCluster, above: int) -> None:
    """Wait until the founders offer a snapshot of a later height; blocks are made meanwhile."""
    async with asyncio.timeout(WAIT_S):
        while max((await cluster.clients[0].status())["sync"]["snapshots"], default=0) <= above:
            await cluster.commit(0, WAIT_S)
    # The one before is offered until the next header certifies this one.
    done = await cluster.commit(0, WAIT_S)
    await cluster.wait_height(done.height, range(4), WAIT_S)


async def code(call: Any) -> str:
    try:
        await call
    except Refused as refusal:
        return refusal.code
    return "ok"


async def test_an_observer_joins_by_a_snapshot_and_answers_as_its_peers() -> None:
    async with LocalCluster(4, settings=SETTINGS, observers=1, observer_settings=SETTINGS) as cluster:
        old = await commits(cluster, 6)
        await held(cluster, 6)
        request_staging(cluster.observers[0].config())
        index = await cluster.join_observer(WAIT_S)
        status = await until_base(cluster.clients[index])
        base = status["sync"]["base_height"]
        assert base > 6
        assert status["role"] == "observer"
        data = cluster.nodes[index].config().data_dir
        names = {path.name for path in data.iterdir()}
        assert CHAIN_FOLDER in names
        assert not names & {SYNCING_FOLDER, SYNCED_FOLDER}

        # What is decided from now on reaches it, and both prove the same.
        new = (await commits(cluster, 3))[-1]
        await cluster.commit(0, WAIT_S)
        height = await cluster.height(0)
        await cluster.wait_height(height, [index], WAIT_S)
        founder, newcomer = cluster.clients[0], cluster.clients[index]
        settings = keys.SETTINGS
        proofs = [await one.state_receipt(settings, height - 1) for one in (founder, newcomer)]
        first, second = (verify_receipt(raw, cluster.genesis) for raw in proofs)
        assert (first.value, first.height) == (second.value, second.height)
        blocks = [await one.block(height) for one in (founder, newcomer)]
        assert blocks[0].block == blocks[1].block
        verdict = verify_receipt(await newcomer.verdict_receipt(new), cluster.genesis)
        assert verdict.leaf is not None
        assert verdict.transaction_id == new

        # An old receipt is extended by it, and not made by it: it says why.
        receipt = await founder.verdict_receipt(old[0])
        assert verify_receipt(await newcomer.extend_receipt(receipt), cluster.genesis).height < base
        assert await code(newcomer.verdict_receipt(old[0])) in (
            "chain.height_pruned",
            "chain.before_snapshot",
        )
        assert await code(newcomer.verdict_receipt(bytes(32))) == "chain.before_snapshot"


async def test_an_observer_whose_peers_have_pruned_takes_a_snapshot_by_itself() -> None:
    """Nobody has the first blocks any more: `keep_blocks` is small, and block time has passed the window."""
    pruning = {**SETTINGS, "storage": {"snapshot_every_s": 1, "keep_blocks": 1}}
    async with LocalCluster(4, settings=pruning, observers=1, observer_settings=SETTINGS) as cluster:
        await commits(cluster, 3)
        # Committed is what one node has: the one that comes last must have the blocks too that are deleted.
        await cluster.wait_height(3, range(4), WAIT_S)
        for index in range(4):
            await cluster.stop_node(index)
        for node in cluster.nodes:
            pretend_pruned(node.config(), 3)
        for index in range(4):
            cluster._start(cluster.nodes[index])
        await cluster._ready(cluster.nodes, WAIT_S)
        for client, node in zip(cluster.clients, cluster.nodes, strict=True):
            await client.__aexit__(None, None, None)
            await client.__aenter__()
            assert node.url()
        await held(cluster, 3)
        node = cluster.observers.pop(0)
        cluster.nodes.append(node)
        cluster._start(node)
        async with asyncio.timeout(WAIT_S):
            while not node.config().ports_path.exists():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(POLL_S)
        async with RpcClient(node.url(), node.token()) as newcomer:
            status = await until_base(newcomer)
            assert status["sync"]["base_height"] >= 3


def pretend_pruned(config: Any, below: int) -> None:
    """Delete blocks as pruning does: real pruning keeps those of the last ten minutes."""
    store = LevelKV(config.data_dir / CHAIN_FOLDER)
    try:
        writes = lowest_writes(below)
        for height in range(1, below):
            raw = store.get(schema.at_height(schema.BLOCK, height))
            assert raw is not None
            writes += [
                write
                for write in prune_writes(store, codec.decode(raw, Block, BLOCK_BYTES_MAX))
                # What a node needs of the window of repetition it keeps.
                if write[0][:1] not in (schema.LEAVES, schema.SEEN)
            ]
        store.write(writes, sync=True)
    finally:
        store.close()
