"""Real nodes, killed, frozen, cut off: with one of four down the chain grows; with two it stands; it never forks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from consilium.ledger.errors import Refused
from consilium.node.testing import LocalCluster
from tests.cluster.chains import common_chain, primary_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

STANDSTILL_S = 4.0
"""Several view changes long: whatever could be decided by two of four would be."""


async def test_every_node_commits_and_all_have_the_same_chain() -> None:
    async with LocalCluster(nodes=4) as cluster:
        committed = [await cluster.commit(index) for index in range(4)]
        await cluster.wait_height(max(one.height for one in committed))
        chain = await common_chain(cluster)
        assert len(chain) > committed[-1].height
        for one in committed:
            for client in cluster.clients:
                assert (await client.transaction(one.id)).leaf == one.leaf


async def test_a_killed_primary_is_replaced_and_catches_up() -> None:
    async with LocalCluster(nodes=4) as cluster:
        await cluster.commit(0)
        primary = await primary_of(cluster)
        other = (primary + 1) % 4
        await cluster.kill(primary)
        after = await cluster.commit(other)
        await cluster.restart(primary)
        await cluster.wait_height(after.height, [primary])
        again = await cluster.commit(primary)
        await cluster.wait_height(again.height)
        await common_chain(cluster)


async def test_kills_at_any_moment_under_load_lose_and_fork_nothing() -> None:
    async with LocalCluster(nodes=4) as cluster:
        committed: list[bytes] = []
        ending = asyncio.Event()

        async def load(index: int) -> None:
            while not ending.is_set():
                # The node that serves this load is the one that dies: then there is nothing to say.
                with contextlib.suppress(Refused, TimeoutError):
                    committed.append((await cluster.commit(index, timeout_s=5)).id)

        async with asyncio.TaskGroup() as group:
            for index in range(4):
                group.create_task(load(index))
            for victim in (1, 2, await primary_of(cluster)):
                reached = len(committed) + 5
                await cluster.kill(victim)
                await _until(partial(_has, committed, reached))
                await cluster.restart(victim)
            ending.set()
        last = await cluster.commit(0)
        await cluster.wait_height(last.height)
        await common_chain(cluster)
        for client in cluster.clients:
            for identifier in committed:
                assert (await client.transaction(identifier)).id == identifier


async def test_a_frozen_node_is_missed_by_nobody_and_catches_up() -> None:
    async with LocalCluster(nodes=4) as cluster:
        await cluster.commit(0)
        frozen = await primary_of(cluster)
        other = (frozen + 1) % 4
        await cluster.pause(frozen)
        for _ in range(3):
            last = await cluster.commit(other)
        await cluster.resume(frozen)
        await cluster.wait_height(last.height, [frozen])
        await common_chain(cluster)


async def test_one_cut_off_node_is_left_behind_and_two_stop_the_chain() -> None:
    async with LocalCluster(nodes=4, cuttable=True) as cluster:
        await cluster.commit(0)
        cluster.cut_off(3)
        last = await cluster.commit(0)
        assert await cluster.height(3) < last.height
        cluster.heal()
        await cluster.wait_height(last.height)

        cluster.partition([0, 1], [2, 3])
        before = [await cluster.height(index) for index in range(4)]
        tries = [asyncio.create_task(cluster.commit(index, timeout_s=STANDSTILL_S)) for index in range(4)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert all(isinstance(one, TimeoutError | Refused) for one in outcomes), outcomes
        # A block whose certificate was on its way when the cut came may still land; nothing new is decided.
        after = [await cluster.height(index) for index in range(4)]
        assert max(after) <= max(before) + 1
        await common_chain(cluster)

        cluster.heal()
        again = await cluster.commit(2)
        await cluster.wait_height(again.height)
        await common_chain(cluster)


async def test_two_killed_nodes_stop_the_chain_and_it_goes_on_with_three() -> None:
    async with LocalCluster(nodes=4) as cluster:
        last = await cluster.commit(0)
        await cluster.wait_height(last.height + 1)
        await cluster.kill(2)
        await cluster.kill(3)
        with pytest.raises((TimeoutError, Refused)):
            await cluster.commit(0, timeout_s=STANDSTILL_S)
        await cluster.restart(2)
        again = await cluster.commit(1)
        await cluster.wait_height(again.height, [0, 1, 2])
        await common_chain(cluster, [0, 1, 2])


def _has(committed: Sequence[bytes], count: int) -> bool:
    return len(committed) >= count


async def _until(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - other processes decide it
            await asyncio.sleep(0.02)
