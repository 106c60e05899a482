"""`scripts/bench cluster`: a real cluster under load, in rounds.

Each round: the ceiling, transactions signed, a warm-up, a window of time in which everything is counted, the ceiling
again. A transaction counts when its block is durable on all live nodes: blocks above the least height of all at the
window's begin, up to the least height at its end, whose transactions are then read back from the chain. So what is
counted is what the ledger holds, not what clients were told.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from consilium.node.testing import LocalCluster
from scripts.benchmark import ceiling, delays, probe
from scripts.benchmark.load import Client, Tally
from scripts.benchmark.relay import Relay
from scripts.benchmark.report import given
from scripts.benchmark.workload import Request, Signer, settle_in

POOL_SPARE: Final = 1.5
"""So many times the transactions that a round is expected to use are signed for it."""
FIRST_GUESS: Final = 0.6
"""Of the ceiling: what the first round is expected to commit."""
DRAIN_S: Final = 30.0
SAMPLE_S: Final = 0.25

Progress = Callable[[str], None]


@dataclass(slots=True)
class Window:
    """What was seen in one window. `heights` are the least heights of all live nodes at its ends."""

    begun: probe.Glance
    ended: probe.Glance
    heights: tuple[int, int]
    tally: Tally
    samples: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since the window began, transactions answered since the warm-up began), again and again."""
    killed_s: float | None = None
    """When a node was killed (s, monotonic)."""


class Bench:
    """One cluster, and rounds on it."""

    def __init__(
        self, cluster: LocalCluster, options: argparse.Namespace, progress: Progress, relay: Relay
    ) -> None:
        self._cluster = cluster
        self._relay = relay
        self._options = options
        self._progress = progress
        self._live = list(range(cluster.size))
        self._expected_tps = 0.0

    async def run(self) -> dict[str, Any]:
        """Warm up, run the rounds, and give all figures with their medians."""
        options, cluster = self._options, self._cluster
        self._progress("enrolling patients")
        self._signer = Signer(cluster.session(0), await settle_in(cluster), options.operations)
        for _ in range(options.dead):
            await self._kill(self._live[-1])
        rounds = []
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            self._session = session
            for number in range(options.rounds):
                delayed = options.delay_ms > 0 and number % 2 == 1
                if options.delay_ms:
                    await asyncio.to_thread(self._delay, options.delay_ms if delayed else 0.0)
                rounds.append(await self._round(number, delayed))
        return summary(options, rounds, self._signer.transaction_bytes)

    def _delay(self, one_way_ms: float) -> None:
        if self._options.relay:
            self._relay.set_delay(one_way_ms)
        else:
            delays.set_delay(self._cluster, one_way_ms)

    async def _round(self, number: int, delayed: bool) -> dict[str, Any]:
        options = self._options
        before = await asyncio.to_thread(ceiling.measure)
        expected = self._expected_tps or FIRST_GUESS * before.tps(self._cluster.size)
        pools = await self._prepare(number, expected)
        gc.collect()
        gc.freeze()
        self._progress(f"round {number + 1} of {options.rounds}: load")
        window = await self._measure(pools, number)
        gc.unfreeze()
        after = await asyncio.to_thread(ceiling.measure)
        counted = await self._count(window)
        found = figures(options.operations, window, counted, before, after)
        found["delayed"] = delayed
        self._expected_tps = max(expected / 2, found["committed_tps"])
        self._progress(
            f"round {number + 1}: {found['committed_tps']:,.0f} tx/s, {found['ratio_to_ceiling']:.3f} of the ceiling"
        )
        return found

    async def _prepare(self, number: int, expected_tps: float) -> list[tuple[int, list[Request]]]:
        """For each client, its node and its calls."""
        options = self._options
        tip_ms = int((await self._cluster.clients[self._live[0]].status())["tip_time_ms"])
        self._signer.begin(tip_ms)
        clients = options.clients
        seconds = options.warm_up + options.seconds
        if options.rate:
            each = options.rate * seconds / clients * 1.05
        elif options.pool:
            each = options.pool / clients
        else:
            each = expected_tps * POOL_SPARE * seconds / clients
        each = max(options.batch, int(each / options.batch + 1) * options.batch)
        self._progress(f"round {number + 1} of {options.rounds}: signing {each * clients:,} transactions")
        nodes = [options.submit_to] if options.submit_to is not None else self._live
        pools = []
        for client in range(clients):
            node = nodes[client % len(nodes)]
            pools.append((node, await asyncio.to_thread(self._signer.requests, node, each, options.batch)))
        return pools

    async def _measure(self, pools: list[tuple[int, list[Request]]], number: int) -> Window:
        options, tally, stop = self._options, Tally(), asyncio.Event()
        clients = [
            Client(self._session, f"{self._cluster.nodes[node].url()}/rpc", requests, tally)
            for node, requests in pools
        ]
        first_s = time.perf_counter() + 0.1
        if options.rate:
            every_s = options.batch * len(clients) / options.rate
            loops = [
                client.open(stop, every_s, first_s + every_s * place / len(clients))
                for place, client in enumerate(clients)
            ]
        else:
            loops = [client.closed(stop) for client in clients]
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            return await self._watch(clients, tally, number, stop, tasks)
        finally:  # also where somebody stops the program: the session closes next
            for task in tasks:
                task.cancel()
            for ended_with in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended_with, Exception):
                    self._progress(f"a client ended early: {ended_with!r}")

    async def _watch(
        self,
        clients: list[Client],
        tally: Tally,
        number: int,
        stop: asyncio.Event,
        tasks: list[asyncio.Task[None]],
    ) -> Window:
        """The warm-up and the window; then `stop` is set, and answers that are due are awaited."""
        options = self._options
        await asyncio.sleep(options.warm_up)
        begun, low = await self._look()
        killed_s, victim = None, None
        samples: list[tuple[float, int]] = []
        while (passed := time.perf_counter() - begun.at_s) < options.seconds:
            if options.kill != "none" and killed_s is None and passed > options.seconds / 2:
                killed_s, victim = await self._kill_midway()
            await asyncio.sleep(min(SAMPLE_S, max(0.0, options.seconds - passed)))
            samples.append((time.perf_counter() - begun.at_s, sum(a.committed for a in tally.answers)))
            if all(client.exhausted for client in clients):
                self._progress("the prepared transactions ran out: give more with --pool")
                break
        ended, high = await self._look()
        stop.set()
        await asyncio.wait(tasks, timeout=DRAIN_S)
        if victim is not None and number + 1 < options.rounds:
            await self._cluster.restart(victim)
            self._live = sorted([*self._live, victim])
        return Window(begun, ended, (low, high), tally, samples, killed_s)

    async def _look(self) -> tuple[probe.Glance, int]:
        heights = await asyncio.gather(*(self._cluster.height(node) for node in self._live))
        return await probe.glance(self._cluster, self._session, self._live), min(heights)

    async def _kill_midway(self) -> tuple[float, int]:
        """Kill the primary, or another node. Returns when (s, monotonic), and which."""
        status = await self._cluster.clients[self._live[0]].status()
        nodes = [await self._cluster.clients[node].status() for node in self._live]
        primary = next(
            node for node, one in zip(self._live, nodes, strict=True) if one["node_id"] == status["primary"]
        )
        victim = primary if self._options.kill == "primary" else next(n for n in self._live if n != primary)
        killed_s = time.perf_counter()
        await self._kill(victim)
        return killed_s, victim

    async def _kill(self, node: int) -> None:
        self._live.remove(node)
        await self._cluster.kill(node)

    async def _count(self, window: Window) -> list[int]:
        """Transactions of each block in the window, as a node that lives has them; the same blocks on every node."""
        low, high = window.heights
        await self._cluster.wait_height(high, self._live)
        counts = []
        for height in range(low + 1, high + 1):
            block = await self._cluster.clients[self._live[0]].block(height)
            counts.append(len(block.transactions))
        hashes = {(await self._cluster.clients[node].block(high)).block.hash for node in self._live}
        if len(hashes) != 1:
            raise RuntimeError(f"nodes have different blocks at height {high}")
        return counts


def figures(
    operations: int,
    window: Window,
    counts: list[int],
    before: ceiling.Ceiling,
    after: ceiling.Ceiling,
) -> dict[str, Any]:
    """One round in figures: so many operations in a transaction, `counts` transactions in the blocks of the window.

    Times are milliseconds, CPU is microseconds per transaction, unless the name says else. The ceiling is that of the
    nodes which live at the window's end: a dead one checks nothing, and its CPU time is not known any more.
    """
    begun, ended = window.begun, window.ended
    nodes = len(ended.cpu_s)
    seconds = ended.at_s - begun.at_s
    committed = sum(counts)
    at_best = (before.tps(nodes) + after.tps(nodes)) / 2
    inside = [a for a in window.tally.answers if begun.at_s <= a.done_s <= ended.at_s and a.committed]
    latencies = sorted((a.done_s - a.due_s) * 1e3 for a in inside for _ in range(a.committed))
    per_tx = 1e6 / committed if committed else 0.0
    verify_us = (before.verify_cpu_us + after.verify_cpu_us) / 2
    cpu = {node: (ended.cpu_s[node] - begun.cpu_s.get(node, 0.0)) * per_tx for node in ended.cpu_s}
    lag = ended.histogram(begun, "consilium_event_loop_lag_seconds")
    fsync = ended.histogram(begun, "consilium_fsync_seconds", 'store="chain"')
    execute = ended.histogram(begun, "consilium_block_execute_seconds")
    wire = {
        f"{lane}_{way}": sum(
            ended.grown(begun, f'consilium_peer_bytes_total{{direction="{way}",lane="{lane}"}}').values()
        )
        for lane in ("votes", "bulk")
        for way in ("in", "out")
    }
    found: dict[str, Any] = {
        "seconds": seconds,
        "committed_tps": committed / seconds,
        "committed_ops": committed * operations / seconds,
        "latency_ms": {
            name: at(latencies, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
        "verify_ceiling_tps": at_best,
        "verify_ceiling_before_after": [before.tps(nodes), after.tps(nodes)],
        "ratio_to_ceiling": committed / seconds / at_best,
        "ratio_by_cpu": by_cpu(
            nodes * verify_us, [*cpu.values(), (ended.own_cpu_s - begun.own_cpu_s) * per_tx]
        ),
        "verify_cpu_us": verify_us,
        "cpu_us_per_transaction": {
            "nodes": {f"node-{node}": value for node, value in cpu.items()},
            "node_mean": statistics.fmean(cpu.values()) if cpu else None,
            "load_generator": (ended.own_cpu_s - begun.own_cpu_s) * per_tx,
        },
        "rss_mib": {f"node-{node}": value / 2**20 for node, value in ended.rss_bytes.items()},
        "private_mib": {f"node-{node}": value / 2**20 for node, value in ended.private_bytes.items()},
        "event_loop_lag_ms_p99": scaled(probe.quantile(lag, 0.99)),
        "chain_write_ms": {
            "p50": scaled(probe.quantile(fsync, 0.5)),
            "p99": scaled(probe.quantile(fsync, 0.99)),
        },
        "execute_ms": {
            "p50": scaled(probe.quantile(execute, 0.5)),
            "p99": scaled(probe.quantile(execute, 0.99)),
        },
        "blocks_per_s": len(counts) / seconds,
        "transactions_per_block": committed / len(counts) if counts else 0.0,
        "wire_bytes_per_transaction": {
            name: value / committed if committed else 0.0 for name, value in wire.items()
        },
        "refused": dict(sorted(window.tally.codes.items())),
        "failed": window.tally.failed,
        "calls_lost": window.tally.lost,
        "sampled": window.samples,
    }
    if window.killed_s is not None:
        found |= failover(window)
    return found


def by_cpu(checks_us: float, spent_us: list[float]) -> float | None:
    """What the ratio to the ceiling would be if the cluster had the machine for itself and kept it busy: CPU time of
    the checks alone, by all CPU time that was spent for a transaction. Other programs hardly move it."""
    return checks_us / sum(spent_us) if sum(spent_us) else None


def failover(window: Window) -> dict[str, Any]:
    """How long after the kill the next answer came, and the next that says of a call made after it that it is
    committed."""
    killed = window.killed_s or 0.0
    later = [a.done_s for a in window.tally.answers if a.done_s > killed]
    # What was on its way at the kill does not count: the first answer to a call that left after it does.
    fresh = [a.done_s for a in window.tally.answers if a.due_s > killed and a.committed]
    return {
        "next_answer_ms": (min(later) - killed) * 1e3 if later else None,
        "next_commit_ms": (min(fresh) - killed) * 1e3 if fresh else None,
    }


def at(ordered: list[float], fraction: float) -> float | None:
    """A quantile of sorted values (the nearest rank above), or None where there are none."""
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] if ordered else None


def scaled(seconds: float | None) -> float | None:
    """Milliseconds."""
    return None if seconds is None else seconds * 1e3


def summary(
    options: argparse.Namespace, rounds: list[dict[str, Any]], transaction_bytes: int
) -> dict[str, Any]:
    """All rounds, and the median of every figure."""
    result: dict[str, Any] = {
        "options": given(options),
        "transaction_bytes": transaction_bytes,
        "rounds": rounds,
        "median": median(rounds),
    }
    if options.delay_ms:
        plain = median([one for one in rounds if not one["delayed"]])
        slow = median([one for one in rounds if one["delayed"]])
        result["median_without_delay"], result["median_with_delay"] = plain, slow
        if slow and plain:
            result["delayed_to_plain"] = slow["ratio_to_ceiling"] / plain["ratio_to_ceiling"]
    return result


def median(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of every number that the first round has, key by key, over the rounds that have it too."""
    found: dict[str, Any] = {}
    for name in rounds[0] if rounds else {}:
        values = [one[name] for one in rounds if one.get(name) is not None]
        if values and all(isinstance(value, dict) for value in values):
            found[name] = median(values)
        elif values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            found[name] = statistics.median(values)
    return found


async def run(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The whole command."""
    settings = (
        {"consensus": {"view_timeout_ms": options.view_timeout_ms}} if options.view_timeout_ms else None
    )
    relay = Relay()
    prepare = relay.prepare if options.relay else lambda cluster: None
    try:
        async with LocalCluster(options.nodes, settings=settings, prepare=prepare) as cluster:
            return await Bench(cluster, options, progress, relay).run()
    finally:
        await asyncio.to_thread(relay.close)
