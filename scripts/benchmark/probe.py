"""Looking at the nodes from outside: CPU and memory of their processes, their heights, their counters."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil  # type: ignore[import-untyped]

from consilium.node.testing import LocalCluster

_LINE = re.compile(r"^([a-z_]+)(?:\{([^}]*)\})? ([-+0-9.eEinfNa]+)$", re.MULTILINE)
_PRIVATE = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)
_BOUND = re.compile(r'le="([^"]+)"')

Series = dict[str, float]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and those that it started have used: CPU seconds so far, resident bytes (what they share counts
    for each), and those of them that are of no file (zero where the system does not tell)."""

    cpu_s: float
    rss_bytes: int
    private_bytes: int


@dataclass(frozen=True, slots=True)
class Glance:
    """All nodes at one moment: of each its `Usage`, and what its /metrics say. `own_cpu_s` is this program's."""

    at_s: float
    cpu_s: Mapping[int, float]
    rss_bytes: Mapping[int, int]
    private_bytes: Mapping[int, int]
    series: Mapping[int, Series]
    own_cpu_s: float

    def grown(self, earlier: Glance, name: str) -> dict[int, float]:
        """How much a counter (with its labels, as /metrics writes them) grew since, by node."""
        return {
            node: found.get(name, 0.0) - earlier.series.get(node, {}).get(name, 0.0)
            for node, found in self.series.items()
        }

    def histogram(self, earlier: Glance, name: str, label: str = "") -> list[tuple[float, float]]:
        """Upper bounds (s) with the observations since, up to each, of all nodes; `label` as /metrics has it."""
        totals: dict[float, float] = {}
        for node, found in self.series.items():
            for key, value in found.items():
                bound = _BOUND.search(key)
                if key.startswith(f"{name}_bucket{{") and label in key and bound is not None:
                    before = earlier.series.get(node, {}).get(key, 0.0)
                    totals[float(bound[1])] = totals.get(float(bound[1]), 0.0) + value - before
        return sorted(totals.items())


async def glance(cluster: LocalCluster, session: aiohttp.ClientSession, nodes: list[int]) -> Glance:
    """Look at these nodes now."""
    texts = await asyncio.gather(*(_metrics(cluster, session, node) for node in nodes))
    used = {node: usage(pid) for node in nodes if (pid := cluster.pid(node)) is not None}
    own = psutil.Process().cpu_times()
    series = {node: _parsed(text) for node, text in zip(nodes, texts, strict=True)}
    return Glance(
        time.perf_counter(),
        {node: one.cpu_s for node, one in used.items()},
        {node: one.rss_bytes for node, one in used.items()},
        {node: one.private_bytes for node, one in used.items()},
        series,
        own.user + own.system,
    )


def family(pid: int) -> list[psutil.Process]:
    """A process, and those that it started: a node has others check signatures. Raises psutil.NoSuchProcess."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def usage(pid: int) -> Usage:
    """What `family` has used. Raises psutil.NoSuchProcess."""
    cpu_s, rss_bytes, private_bytes = 0.0, 0, 0
    for one in family(pid):
        with one.oneshot():
            times = one.cpu_times()
            cpu_s += times.user + times.system
            rss_bytes += one.memory_info().rss
            private_bytes += _private_bytes(one.pid)
    return Usage(cpu_s, rss_bytes, private_bytes)


def cpu_s(cluster: LocalCluster, nodes: Iterable[int]) -> float:
    """CPU seconds that nodes have used so far, all together. Raises RuntimeError where one of them does not run."""
    total = 0.0
    for node in nodes:
        pid = cluster.pid(node)
        if pid is None:
            raise RuntimeError(f"node {node} does not run")
        total += usage(pid).cpu_s
    return total


def _private_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = _PRIVATE.search(status)
    return int(found[1]) * 1024 if found else 0


async def _metrics(cluster: LocalCluster, session: aiohttp.ClientSession, node: int) -> str:
    async with session.get(f"{cluster.nodes[node].url()}/metrics") as response:
        return await response.text()


def _parsed(text: str) -> Series:
    return {
        name if not labels else f"{name}{{{labels}}}": float(value)
        for name, labels, value in _LINE.findall(text)
    }


def quantile(histogram: list[tuple[float, float]], fraction: float) -> float | None:
    """A quantile of a cumulative histogram, interpolated within its bucket; None where it is empty."""
    total = histogram[-1][1] if histogram else 0.0
    if total <= 0:
        return None
    wanted = fraction * total
    low, below = 0.0, 0.0
    for bound, upto in histogram:
        if upto >= wanted:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / (upto - below if upto > below else 1.0)
        low, below = bound, upto
    return low
