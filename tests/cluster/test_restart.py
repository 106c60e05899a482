"""Memories that are gone, stale or whole, on real nodes: nobody contradicts himself, and whoever may votes again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consilium.ledger.block import CommitCertificate
from consilium.node.config import Config
from consilium.node.stores import CHAIN_FOLDER, init_stores, read_genesis
from consilium.node.testing import LocalCluster
from consilium.storage.chain import ChainStore
from consilium.storage.leveldb import LevelKV

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


def stored_height(config: Config) -> int:
    """How high the chain of a stopped node is."""
    store = LevelKV(config.data_dir / CHAIN_FOLDER)
    try:
        return ChainStore(store, read_genesis(config).chain_id).tip.height
    finally:
        store.close()


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


async def same_chain(cluster: LocalCluster, index: int, of: int) -> None:
    """Both have the same blocks at every height, and so, by the roots in the headers, the same state."""
    top = await cluster.height(of)
    await cluster.wait_height(top, [index], WAIT_S)
    for height in range(top + 1):
        mine, theirs = [(await cluster.clients[one].block(height)).block for one in (index, of)]
        assert mine == theirs
        assert mine.header.hash == theirs.header.hash


def cut_log(chain: Path) -> int:
    """Lose the second half of LevelDB's newest log, as a disk does whose cache was not written. How many bytes."""
    log = max(path for path in chain.glob("*.log") if path.stat().st_size)
    size = log.stat().st_size
    with log.open("r+b") as file:
        file.truncate(size // 2)
    return size - size // 2


async def test_a_store_that_lost_its_tail_follows_and_never_contradicts() -> None:
    """LevelDB opens it without a word, at an older height. The promise is whole: it keeps it silent up to there."""
    async with LocalCluster(4) as cluster:
        await cluster.commit(0)
        await cluster.kill(1)  # so that 3 must vote, and has promised at the last heights
        for _ in range(8):
            last = await cluster.commit(0)
        assert node_key(cluster, 3) in await sealers_at(cluster, 0, last.height)
        await cluster.kill(3)
        await cluster.restart(1)
        config = cluster.nodes[3].config()
        assert cut_log(config.data_dir / CHAIN_FOLDER) > 0
        below = stored_height(config)
        assert 0 <= below < last.height
        for _ in range(3):
            await cluster.commit(0)
        await cluster.restart(3)
        assert (await voting(cluster, 3))["memory"] == "intact"
        await until_status(cluster, 3, lambda now: now["voting"]["silent"] == "")
        await same_chain(cluster, 3, of=0)
        await needs(cluster, voter=3, dead=2)
        await nobody_contradicted(cluster)


async def test_a_chain_of_an_older_height_beside_a_whole_promise_follows_and_never_contradicts() -> None:
    """Whoever puts back the chain's folder alone from a copy: its word is newer than its blocks."""
    async with LocalCluster(4) as cluster:
        await cluster.commit(0)
        await cluster.stop_node(3)
        config = cluster.nodes[3].config()
        chain = config.data_dir / CHAIN_FOLDER
        copy = config.data_dir.with_name("an older chain")
        shutil.copytree(chain, copy)
        below = stored_height(config)
        await cluster.restart(3)
        await cluster.kill(1)
        for _ in range(5):
            last = await cluster.commit(0)
        assert node_key(cluster, 3) in await sealers_at(cluster, 0, last.height)
        await cluster.kill(3)
        await cluster.restart(1)
        shutil.rmtree(chain)
        copy.rename(chain)
        assert stored_height(config) == below < last.height
        await cluster.commit(0)
        await cluster.restart(3)
        assert (await voting(cluster, 3))["memory"] == "intact"
        await until_status(cluster, 3, lambda now: now["voting"]["silent"] == "")
        await same_chain(cluster, 3, of=0)
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
