"""Memories that are gone, stale or whole, on real nodes: nobody contradicts himself, and whoever may votes again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from consilium.ledger.block import CommitCertificate
from consilium.node.stores import init_stores
from consilium.node.testing import LocalCluster

pytestmark = pytest.mark.cluster

WAIT_S = 60.0
POLL_S = 0.05


async def voting(cluster: LocalCluster, index: int) -> dict[str, Any]:
    status = await cluster.clients[index].status()
    found: dict[str, Any] = status["voting"]
    return found


async def until_status(
    cluster: LocalCluster, index: int, condition: Callable[[dict[str, Any]], bool], timeout_s: float = WAIT_S
) -> dict[str, Any]:
    """Wait until a node's status is as wanted: it is another process, and can only be asked."""
    async with asyncio.timeout(timeout_s):
        while not condition(status := await cluster.clients[index].status()):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
    return status


async def nobody_contradicted(cluster: LocalCluster, *indexes: int) -> None:
    for index in indexes or range(cluster.size):
        assert (await cluster.clients[index].status())["evidence"] == 0


async def sealers_at(cluster: LocalCluster, of: int, height: int) -> list[bytes]:
    """The keys of those whose seals a node has at a height."""
    status = await cluster.clients[of].status()
    keys = [bytes.fromhex(one["key"]) for one in status["validators"]]
    certificate = (await cluster.clients[of].block(height)).certificate
    assert isinstance(certificate, CommitCertificate)
    return [keys[seal.validator] for seal in certificate.seals]


def node_key(cluster: LocalCluster, index: int) -> bytes:
    return bytes(cluster.nodes[index].card().node_key)


async def needs(cluster: LocalCluster, voter: int, dead: int) -> None:
    """Commit while `dead` is down: of four, every one of the rest must vote."""
    await cluster.kill(dead)
    alive = next(index for index in range(cluster.size) if index not in (voter, dead))
    committed = await cluster.commit(alive, timeout_s=WAIT_S)
    assert node_key(cluster, voter) in await sealers_at(cluster, alive, committed.height)
    await cluster.restart(dead)


async def test_a_whole_network_that_is_killed_goes_on() -> None:
    async with LocalCluster(4) as cluster:
        before = await cluster.commit(0)
        for index in range(4):
            await cluster.kill(index)
        await asyncio.gather(*(cluster.restart(index) for index in range(4)))
        after = await cluster.commit(1)
        assert after.height > before.height
        for index in range(4):
            assert (await voting(cluster, index))["memory"] == "intact"
        await nobody_contradicted(cluster)


async def test_one_dead_and_one_restarted_go_on() -> None:
    async with LocalCluster(4) as cluster:
        await cluster.commit(0)
        await cluster.kill(3)
        await cluster.kill(2)
        await cluster.restart(2)
        await cluster.commit(0)
        assert (await voting(cluster, 2))["memory"] == "intact"
        await nobody_contradicted(cluster, 0, 1, 2)


async def test_a_wiped_node_is_silent_for_as_long_as_it_must_and_votes_again() -> None:
    async with LocalCluster(4) as cluster:
        before = await cluster.commit(0)
        await cluster.kill(3)
        spoke_until = (
            await cluster.height(0) + 1
        )  # before it died it may have voted at the height being decided
        config = cluster.nodes[3].config()
        shutil.rmtree(config.data_dir)
        init_stores(config)
        await cluster.restart(3)
        found = await voting(cluster, 3)
        assert found["memory"] == "lost"
        assert found["from_height"] > before.height + 2
        status = await until_status(cluster, 3, lambda now: now["voting"]["silent"] == "")
        assert status["height"] + 1 >= found["from_height"]
        assert found["from_height"] > spoke_until + 1
        for height in range(spoke_until + 1, found["from_height"]):
            assert node_key(cluster, 3) not in await sealers_at(cluster, 0, height)
        told = await cluster.clients[0].events(kinds=["governance.returned"])
        assert len(told) >= 1
        await needs(cluster, voter=3, dead=0)
        await nobody_contradicted(cluster)


async def test_a_stale_copy_never_contradicts_and_rejoins() -> None:
    async with LocalCluster(4) as cluster:
        await cluster.commit(0)
        await cluster.stop_node(3)
        data = cluster.nodes[3].config().data_dir
        copy = data.with_name("an older copy")
        shutil.copytree(data, copy)
        await cluster.restart(3)
        # So that its vote is needed, and the others have its seals in their certificates.
        await cluster.kill(1)
        for _ in range(3):
            last = await cluster.commit(0)
        assert node_key(cluster, 3) in await sealers_at(cluster, 0, last.height)
        await cluster.restart(1)
        await cluster.kill(3)
        shutil.rmtree(data)
        copy.rename(data)
        await cluster.restart(3)
        found = await voting(cluster, 3)
        assert found["memory"] == "stale"
        assert found["from_height"] > last.height + 2
        await until_status(cluster, 3, lambda now: now["voting"]["silent"] == "")
        await needs(cluster, voter=3, dead=2)
        await nobody_contradicted(cluster)


async def test_more_than_f_wiped_at_once_halt_the_chain() -> None:
    async with LocalCluster(4) as cluster:
        before = await cluster.commit(0)
        for index in (2, 3):
            await cluster.kill(index)
            config = cluster.nodes[index].config()
            shutil.rmtree(config.data_dir)
            init_stores(config)
        for index in (2, 3):
            cluster._start(cluster.nodes[index])
        for index in (2, 3):
            with pytest.raises(TimeoutError):
                await cluster._ready([cluster.nodes[index]], 8.0)
        with pytest.raises(TimeoutError):
            await cluster.commit(0, timeout_s=3.0)
        assert await cluster.height(0) <= before.height + 1
        await nobody_contradicted(cluster, 0, 1)
