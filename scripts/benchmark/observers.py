"""`scripts/bench observers`: what observers cost the validators that they follow.

The same load is held (an open loop), first on a cluster alone, then with so many observers. What counts is the
validators' CPU time for a transaction, for on one machine observers take their own share of the cores too; once they
have joined they run at the lowest priority, so that latency says something of the validators as well.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import psutil  # type: ignore[import-untyped]

from consilium.node.testing import LocalCluster
from scripts.benchmark.load import Client, Tally
from scripts.benchmark.probe import cpu_s, family
from scripts.benchmark.report import given
from scripts.benchmark.rounds import at
from scripts.benchmark.workload import Signer, settle_in

CLIENTS: Final = 8
LOWEST_PRIORITY: Final = 19

Progress = Callable[[str], None]


async def run(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The whole command."""
    async with LocalCluster(4, observers=options.observers) as cluster:
        signer = Signer(cluster.session(0), await settle_in(cluster), 1)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            alone = await _held(cluster, session, signer, options)
            progress(f"alone: {alone['cpu_us']:.0f} µs of CPU a transaction and validator")
            for _ in range(options.observers):
                index = await cluster.join_observer(timeout_s=300)
                _give_way(cluster.pid(index))
            followed = await _held(cluster, session, signer, options)
            progress(f"{options.observers} observers: {followed['cpu_us']:.0f} µs")
        height = min([await cluster.height(index) for index in range(4)])
        await cluster.wait_height(height, timeout_s=300)
    return {
        "options": given(options),
        "alone": alone,
        "followed": followed,
        "cpu_ratio": followed["cpu_us"] / alone["cpu_us"],
    }


def _give_way(pid: int | None) -> None:
    """Lower the priority of a process and of those that it started. Linux keeps one for each thread."""
    if pid is None:
        raise RuntimeError("an observer that has just joined does not run")
    for one in family(pid):
        for number in [thread.id for thread in one.threads()] if psutil.LINUX else [one.pid]:
            os.setpriority(os.PRIO_PROCESS, number, LOWEST_PRIORITY)


async def _held(
    cluster: LocalCluster, session: aiohttp.ClientSession, signer: Signer, options: argparse.Namespace
) -> dict[str, Any]:
    """One window of the load."""
    tally, stop = Tally(), asyncio.Event()
    signer.begin(int((await cluster.clients[0].status())["tip_time_ms"]))
    each = int(options.rate * (options.seconds + 5) / CLIENTS / options.batch + 1) * options.batch
    every_s = options.batch * CLIENTS / options.rate
    clients = [
        Client(
            session,
            f"{cluster.nodes[number % 4].url()}/rpc",
            await asyncio.to_thread(signer.requests, number % 4, each, options.batch),
            tally,
        )
        for number in range(CLIENTS)
    ]
    first_s = time.perf_counter() + 0.2
    before_s = cpu_s(cluster, range(4))
    tasks = [
        asyncio.create_task(client.open(stop, every_s, first_s + every_s * place / CLIENTS))
        for place, client in enumerate(clients)
    ]
    began_s = time.perf_counter()
    await asyncio.sleep(options.seconds)
    stop.set()
    await asyncio.gather(*tasks)
    passed_s = time.perf_counter() - began_s
    count = sum(one.committed for one in tally.answers)
    waits = sorted((one.done_s - one.due_s) * 1e3 for one in tally.answers)
    return {
        "tps": count / passed_s,
        "cpu_us": (cpu_s(cluster, range(4)) - before_s) / 4 / max(count, 1) * 1e6,
        "median_ms": statistics.median(waits),
        "p90_ms": at(waits, 0.9),
    }
