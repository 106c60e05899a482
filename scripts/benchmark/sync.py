"""`scripts/bench sync`: how fast a node catches up, by blocks and by a snapshot, on real nodes.

Blocks: a cluster commits at its peak for a while (a closed loop); then, with the load gone, an observer with nothing
but genesis executes all of it, every client signature verified; then another one while 500 transactions a second are
held (an open loop). A rate is counted from the last look at which the newcomer had nothing until it is near the tip: so
what it takes to connect is left out, and nothing that it executes is. Every block is compared with a founder's
afterwards.

Snapshot: a state of so many keys is written to the founders' stores; an observer joins by a snapshot of it, is killed
half-way and started again, while transactions are committed one after the other to see what serving costs them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from consilium.client.rpc import RpcClient
from consilium.ledger.errors import Refused
from consilium.ledger.receipt import verify_receipt
from consilium.node.stores import request_staging
from consilium.node.testing import LocalCluster
from scripts.benchmark import grown
from scripts.benchmark.load import Client, Tally
from scripts.benchmark.probe import cpu_s
from scripts.benchmark.report import given
from scripts.benchmark.rounds import at
from scripts.benchmark.workload import Signer, settle_in

POLL_S: Final = 0.1
"""Asking costs the node that is asked."""
WAIT_S: Final = 900.0
LAG_BLOCKS: Final = 16
"""A newcomer that is so near to a growing chain's tip has caught up: from then on it is paced by the chain."""
SAMPLES: Final = 200
BATCH: Final = 64
LIVE_BATCH: Final = 10
LIVE_CLIENTS: Final = 8
HELD_SHARE: Final = 0.95
"""Of the offered rate: below, the machine had no room for it, and the ratio to it says little."""

Progress = Callable[[str], None]


async def run(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The whole command."""
    found: dict[str, Any] = {"options": given(options)}
    if options.seconds:
        found["blocks"] = await _blocks(options, progress)
    if options.keys:
        found["snapshot"] = await _snapshot(options, progress)
    return found


# ---- by blocks


async def _blocks(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    by_blocks = {"sync": {"mode": "blocks"}}
    async with LocalCluster(4, observers=2, observer_settings=by_blocks) as cluster:
        signer = Signer(cluster.session(0), await settle_in(cluster), 1)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            peak = await _peak(cluster, session, signer, options, progress)
            progress(f"peak: {peak['tps']:,.0f} tx/s; an idle cluster is caught up with")
            idle = await _caught_up(cluster, 0)
            progress(f"by blocks, others idle: {idle['tps']:,.0f} tx/s; at {options.rate:,.0f} tx/s:")
            stop = asyncio.Event()
            load, tally = _live(cluster, session, signer, options, stop)
            await asyncio.sleep(options.warm_up)
            began_s, before = time.perf_counter(), sum(one.committed for one in tally.answers)
            live = await _caught_up(cluster, LAG_BLOCKS)
            held = (sum(one.committed for one in tally.answers) - before) / (time.perf_counter() - began_s)
            stop.set()
            await asyncio.gather(*load)
    live["held_tps"], live["held"] = held, held >= HELD_SHARE * options.rate
    progress(f"by blocks, live: {live['tps']:,.0f} tx/s while {held:,.0f} tx/s were committed")
    return {
        "peak": peak,
        "idle": idle,
        "live": live,
        "ratio_to_peak": idle["tps"] / peak["tps"],
        "ratio_by_cpu": 4 * peak["cpu_us"] / idle["cpu_us"] if idle["cpu_us"] else None,
        "ratio_to_live": live["tps"] / max(held, 1.0),
    }


async def _peak(
    cluster: LocalCluster,
    session: aiohttp.ClientSession,
    signer: Signer,
    options: argparse.Namespace,
    progress: Progress,
) -> dict[str, Any]:
    tally, stop = Tally(), asyncio.Event()
    each = int(options.expected * (options.seconds + options.warm_up) / options.clients / BATCH + 1) * BATCH
    progress(f"signing {each * options.clients:,} transactions")
    signer.begin(int((await cluster.clients[0].status())["tip_time_ms"]))
    clients = []
    for number in range(options.clients):
        node = number % cluster.size
        requests = await asyncio.to_thread(signer.requests, node, each, BATCH)
        clients.append(Client(session, f"{cluster.nodes[node].url()}/rpc", requests, tally))
    progress("peak")
    tasks = [asyncio.create_task(client.closed(stop)) for client in clients]
    await asyncio.sleep(options.warm_up)
    began_s = time.perf_counter()
    before = sum(one.committed for one in tally.answers)
    used_s = -cpu_s(cluster, range(4))
    await asyncio.sleep(options.seconds)
    passed_s = time.perf_counter() - began_s
    count = sum(one.committed for one in tally.answers) - before
    used_s += cpu_s(cluster, range(4))
    stop.set()
    await asyncio.gather(*tasks)
    exhausted = any(client.exhausted for client in clients)
    if exhausted:
        progress("the prepared transactions ran out: the peak may be higher; give more with --expected")
    return {"tps": count / passed_s, "cpu_us": used_s / 4 / max(count, 1) * 1e6, "exhausted": exhausted}


def _live(
    cluster: LocalCluster,
    session: aiohttp.ClientSession,
    signer: Signer,
    options: argparse.Namespace,
    stop: asyncio.Event,
) -> tuple[list[asyncio.Task[None]], Tally]:
    tally = Tally()
    each = int(options.rate * options.live_seconds / LIVE_CLIENTS / LIVE_BATCH + 1) * LIVE_BATCH
    every_s = LIVE_BATCH * LIVE_CLIENTS / options.rate
    first_s = time.perf_counter() + 0.5
    tasks = []
    for number in range(LIVE_CLIENTS):
        node = number % 4
        requests = signer.requests(node, each, LIVE_BATCH)
        client = Client(session, f"{cluster.nodes[node].url()}/rpc", requests, tally)
        begin_s = max(first_s, time.perf_counter()) + every_s * number / LIVE_CLIENTS
        tasks.append(asyncio.create_task(client.open(stop, every_s, begin_s)))
    return tasks, tally


async def _caught_up(cluster: LocalCluster, lag_blocks: int) -> dict[str, Any]:
    """Start the next observer, and count what it executes until it stands where founder 0 does, or so many blocks
    below: at a peak sixteen of them hold more than all before."""
    node = cluster.observers.pop(0)
    cluster.nodes.append(node)
    index = node.index
    cluster._start(node)
    founder = cluster.clients[0]
    seen: list[tuple[float, int, float]] = []
    async with asyncio.timeout(WAIT_S):
        while not node.config().ports_path.exists():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(POLL_S)
        # It listens, and has asked nobody yet.
        seen.append((time.perf_counter(), 0, cpu_s(cluster, [index])))
        async with RpcClient(node.url(), node.token()) as client:
            while True:
                try:
                    height = int((await client.status())["height"])
                except Refused:  # too busy to answer, not without blocks
                    continue
                if not height:
                    seen.clear()
                seen.append((time.perf_counter(), height, cpu_s(cluster, [index])))
                if height and height >= int((await founder.status())["height"]) - lag_blocks:
                    break
                await asyncio.sleep(POLL_S)
            count = await _same_blocks(founder, client, low=seen[0][1], high=height)
    (first_s, low, before_s), (last_s, high, after_s) = seen[0], seen[-1]
    await cluster.stop_node(index)
    seconds = max(last_s - first_s, 1e-6)
    return {
        "tps": count / seconds,
        "transactions": count,
        "blocks": high - low,
        "seconds": seconds,
        "cpu_us": (after_s - before_s) / max(count, 1) * 1e6,
    }


async def _same_blocks(founder: RpcClient, newcomer: RpcClient, *, low: int, high: int) -> int:
    """How many transactions are in a newcomer's blocks above `low`. Raises RuntimeError where a founder has others."""
    count = 0
    for height in range(low + 1, high + 1):
        stored = [await one.block(height) for one in (founder, newcomer)]
        if stored[0].block != stored[1].block or stored[0].transactions != stored[1].transactions:
            raise RuntimeError(f"the newcomer has another block at height {height}")
        count += len(stored[0].transactions)
    return count


# ---- by a snapshot


async def _snapshot(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    def prepare(cluster: LocalCluster) -> None:
        grown.grow(cluster, options.keys, lambda text: None)
        request_staging(cluster.observers[0].config())

    progress(f"writing a state of {options.keys:,} keys")
    async with LocalCluster(4, observers=1, prepare=prepare) as cluster:
        for _ in range(3):
            await cluster.commit(0)
        alone = await _latencies(cluster, asyncio.sleep(options.quiet))
        progress("joining by a snapshot")
        serving_s = cpu_s(cluster, range(4))
        joined: dict[str, Any] = {}
        served = await _latencies(cluster, _join(cluster, options, joined, progress))
        joined["serving_cpu_s"] = (cpu_s(cluster, range(4)) - serving_s) / 4
        joined["commit_ms_alone"], joined["commit_ms_serving"] = _summary(alone), _summary(served)
        joined["same"] = await _same(cluster, options.keys)
    return joined


async def _join(
    cluster: LocalCluster, options: argparse.Namespace, joined: dict[str, Any], progress: Progress
) -> None:
    node = cluster.observers.pop(0)
    cluster.nodes.append(node)
    began_s = time.perf_counter()
    cluster._start(node)
    killed = 0
    phases: dict[str, float] = {}
    async with asyncio.timeout(WAIT_S):
        while True:
            status = await _status(cluster, node.index)
            fetching = None if status is None else status["sync"]["fetching"]
            if fetching is not None:
                phases.setdefault(fetching["phase"], time.perf_counter() - began_s)
                joined["sources"] = max(joined.get("sources", 0), fetching["sources"])
                if not killed and fetching["keys"] > options.keys // 2:
                    killed = fetching["keys"]
                    await cluster.kill(node.index)
                    cluster._start(node)
                    progress(f"killed with {killed:,} keys, and started again")
                elif killed and "kept_keys" not in joined and fetching["phase"] != "asking":
                    joined["kept_keys"] = fetching["keys"]
            if status is not None and status["sync"]["base_height"]:
                phases.setdefault("serving again", time.perf_counter() - began_s)
                if status["healthy"]:
                    break
            await asyncio.sleep(POLL_S)
    joined |= {
        "seconds": time.perf_counter() - began_s,
        "killed_at_keys": killed,
        "phases_s": phases,
        "newcomer_cpu_s": cpu_s(cluster, [node.index]),
    }
    client = RpcClient(node.url(), node.token())
    cluster.clients.append(await client.__aenter__())
    progress(f"joined in {joined['seconds']:.1f} s")
    if not killed:
        progress("it had all before it could be killed: give more --keys")


async def _status(cluster: LocalCluster, index: int) -> dict[str, Any] | None:
    node = cluster.nodes[index]
    if not node.config().ports_path.exists():
        return None
    try:
        async with RpcClient(node.url(), node.token(), timeout_s=5) as client:
            return dict(await client.status())
    except (Refused, OSError):
        return None


async def _latencies(cluster: LocalCluster, while_this: Any) -> list[float]:
    """Commit one transaction after the other while something else goes on; the times in ms."""
    work = asyncio.ensure_future(while_this)
    taken: list[float] = []
    while not work.done():
        began_s = time.perf_counter()
        await cluster.commit(len(taken) % 4)
        taken.append((time.perf_counter() - began_s) * 1e3)
        await asyncio.sleep(0.05)
    await work
    return taken


def _summary(latencies: list[float]) -> dict[str, float | None]:
    ordered = sorted(latencies)
    return {
        "count": len(ordered),
        "median": statistics.median(ordered),
        "p90": at(ordered, 0.9),
        "max": ordered[-1],
    }


async def _same(cluster: LocalCluster, keys: int) -> dict[str, Any]:
    """Compare the newcomer with a founder: the state root, and proofs of keys drawn at random, present and absent."""
    founder, newcomer = cluster.clients[0], cluster.clients[-1]
    await cluster.commit(0)
    height = await cluster.height(0)
    await cluster.wait_height(height, [cluster.nodes[-1].index])
    headers = [(await one.block(height)).block.header for one in (founder, newcomer)]
    if headers[0] != headers[1]:
        raise RuntimeError("the newcomer has another header")
    chance = random.Random(1)
    for _ in range(SAMPLES):
        number = chance.randrange(2 * keys)
        proved = [
            verify_receipt(await one.state_receipt(grown.key_of(number), height - 1), cluster.genesis)
            for one in (founder, newcomer)
        ]
        expected = grown.value_of(number) if number < keys else None
        if not proved[0].value == proved[1].value == expected:
            raise RuntimeError(f"the newcomer has another value of key {number}")
    return {"height": height, "state_root": headers[1].state_root.hex(), "keys_proved": SAMPLES}
