"""Run simulated schedules of whole nodes: `scripts/simulate --seeds 1..1000 --nodes 4 7 --json`.

Exits 1 when a schedule violates a property, or does not run identically twice; prints the command that replays it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.simulation.schedule import Outcome, run_schedule  # noqa: E402

REGRESSIONS = ROOT / "tests" / "simulation" / "regressions.txt"
STORY_LINES = 120
CHUNK = 5
"""Schedules that a process is given at a time."""
AHEAD = 3
"""Chunks that wait for each process."""
REPLAYS_AT_ONCE = 200
REPLAY_TIMEOUT_S = 1_200
SHOWN_AS_FAILED_MAX = 100

Task = tuple[int, int]
"""Seed and number of validators."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="1..100", help="first..last, both included (default 1..100)")
    parser.add_argument(
        "--nodes",
        type=int,
        nargs="+",
        default=[4],
        choices=range(1, 21),
        metavar="N",
        help="validators; several numbers run every seed with each (default 4)",
    )
    parser.add_argument(
        "--minutes", type=float, help="from the first seed on for so long, whatever the last is"
    )
    parser.add_argument(
        "--at-least", type=int, default=0, help="with --minutes: and so many schedules at least"
    )
    parser.add_argument(
        "--regressions", action="store_true", help="first run every schedule that once failed"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--replay-every", type=int, default=50, help="run every so-many-th schedule twice; 0: none"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--verbose", action="store_true", help="print all that happened (for one schedule)")
    parser.add_argument("--traces", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def regressions() -> list[Task]:
    """The schedules of the file, in its order."""
    lines = [line.split() for line in REGRESSIONS.read_text().splitlines() if line and line[0] != "#"]
    return [(int(line[0]), int(line[1])) for line in lines]


@dataclass
class Summary:
    """What all schedules so far came to."""

    schedules: int = 0
    heights: list[int] = field(default_factory=list)
    under_faults: list[int] = field(default_factory=list)
    view_changes: list[int] = field(default_factory=list)
    recovery_ms: list[int] = field(default_factory=list)
    transactions: int = 0
    equivocations: int = 0
    older_copies: int = 0
    executed_again: int = 0
    stalled_at_founding: int = 0
    by_nodes: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    bites: Counter[str] = field(default_factory=Counter)
    attackers: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    failed: list[dict[str, Any]] = field(default_factory=list)
    again: dict[Task, str] = field(default_factory=dict)
    """The traces of those schedules that are to be run again."""

    def add(self, outcome: Outcome, replay_every: int, alone: bool) -> None:
        """One more."""
        if replay_every and self.schedules % replay_every == 0:
            self.again[outcome.seed, outcome.nodes] = outcome.trace
        self.schedules += 1
        self.heights.append(outcome.heights)
        self.stalled_at_founding += outcome.stalled_at_founding
        if not outcome.stalled_at_founding:
            self.under_faults.append(outcome.heights_under_faults)
        self.view_changes.append(outcome.view_changes)
        self.recovery_ms.append(outcome.recovery_ms)
        self.transactions += outcome.transactions
        self.equivocations += outcome.equivocations
        self.older_copies += outcome.older_copies
        self.executed_again += outcome.executed_again
        self.by_nodes[outcome.nodes] += 1
        self.faults += outcome.faults
        self.bites += outcome.bites
        self.attackers += outcome.attackers
        self.acts += outcome.acts
        if outcome.violation is not None:
            failed = {"seed": outcome.seed, "nodes": outcome.nodes, "violation": outcome.violation}
            self.failed.append(failed)
            print(f"VIOLATION {outcome.violation}\n  replay: {outcome.command}", file=sys.stderr)
            if alone:
                print("\n".join(outcome.story[-STORY_LINES:]), file=sys.stderr)

    def report(self, seconds: float, different: list[Task]) -> dict[str, Any]:
        """What is printed."""

        def median(values: list[int]) -> float:
            return statistics.median(values) if values else 0

        return {
            "schedules": self.schedules,
            "violations": len(self.failed),
            "excluded": 0,
            "stalled_at_founding": self.stalled_at_founding,
            "replayed": len(self.again),
            "replayed_identically": len(self.again) - len(different),
            "schedules_per_second": round(self.schedules / seconds, 2),
            "schedules_by_nodes": {str(nodes): self.by_nodes[nodes] for nodes in sorted(self.by_nodes)},
            "median_heights": median(self.heights),
            "median_heights_under_faults": median(self.under_faults),
            "min_heights_under_faults": min(self.under_faults, default=0),
            "median_view_changes": median(self.view_changes),
            "median_recovery_ms": median(self.recovery_ms),
            "max_recovery_ms": max(self.recovery_ms, default=0),
            "transactions_decided": self.transactions,
            "chains_executed_again": self.executed_again,
            "equivocations_proven": self.equivocations,
            "older_copies_not_found_out": self.older_copies,
            "faults": dict(sorted(self.faults.items())),
            "packets_and_hosts_met": dict(sorted(self.bites.items())),
            "attackers": dict(sorted(self.attackers.items())),
            "attackers_acts": dict(sorted(self.acts.items())),
            "failed": self.failed[:SHOWN_AS_FAILED_MAX],
        }


def several(tasks: list[Task]) -> list[Outcome]:
    outcomes = [run_schedule(*task) for task in tasks]
    gc.collect()  # none is collected while a schedule runs
    return outcomes


def calm() -> None:
    """At the start of a process: what is there for good is never looked at again by the collector."""
    gc.collect()
    gc.freeze()


def run_all(tasks: Iterator[Task], deadline: float | None, at_least: int, jobs: int) -> Iterator[Outcome]:
    """Run them in so many processes: all, or till the deadline and at least so many."""
    given = 0
    running: set[Future[list[Outcome]]] = set()
    with ProcessPoolExecutor(jobs, initializer=calm) as pool:
        while True:
            while len(running) < jobs * AHEAD:
                if deadline is not None and time.monotonic() >= deadline and given >= at_least:
                    break
                chunk = list(islice(tasks, CHUNK))
                if not chunk:
                    break
                given += len(chunk)
                running.add(pool.submit(several, chunk))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()


def replay(tasks: list[Task], traces: dict[Task, str], jobs: int) -> list[Task]:
    """Run the schedules again in processes with another hash seed; return those whose trace differs."""
    hash_seed = "7" if os.environ.get("PYTHONHASHSEED") != "7" else "8"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    parts = [tasks[at : at + REPLAYS_AT_ONCE] for at in range(0, len(tasks), REPLAYS_AT_ONCE)]
    if len(parts) == 1 and len(tasks) > jobs:
        parts = [tasks[at::jobs] for at in range(jobs)]
    different: list[Task] = []
    for start in range(0, len(parts), jobs):
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--traces"],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in parts[start : start + jobs]
        ]
        for process, part in zip(processes, parts[start : start + jobs], strict=True):
            if process.stdin is not None:
                process.stdin.write("".join(f"{seed} {nodes}\n" for seed, nodes in part))
                process.stdin.close()
        for process, part in zip(processes, parts[start : start + jobs], strict=True):
            printed = process.stdout.read().split() if process.stdout is not None else []
            process.wait(REPLAY_TIMEOUT_S)
            printed += [""] * (len(part) - len(printed))
            different += [task for task, trace in zip(part, printed, strict=False) if traces[task] != trace]
    return different


def main() -> int:
    arguments = parse()
    if arguments.traces:
        return traces()
    first, _, last = arguments.seeds.partition("..")
    named = regressions() if arguments.regressions else []
    seeds = range(int(first), int(last or first) + 1) if arguments.minutes is None else count(int(first))
    if arguments.verbose:
        return show([(seed, nodes) for seed in seeds for nodes in arguments.nodes])
    started = time.monotonic()
    summary = Summary()
    if arguments.regressions:
        for outcome in run_all(iter(named), None, 0, arguments.jobs):
            summary.add(outcome, arguments.replay_every, alone=False)
    if not arguments.regressions or arguments.minutes is not None:
        deadline = None if arguments.minutes is None else started + arguments.minutes * 60
        tasks = ((seed, nodes) for seed in seeds for nodes in arguments.nodes)
        alone = isinstance(seeds, range) and len(seeds) * len(arguments.nodes) == 1
        for outcome in run_all(tasks, deadline, arguments.at_least, arguments.jobs):
            summary.add(outcome, arguments.replay_every, alone)
    seconds = time.monotonic() - started
    different = replay(list(summary.again), summary.again, arguments.jobs)
    for seed, nodes in different:
        print(f"NOT REPLAYED IDENTICALLY: seed {seed}, {nodes} nodes", file=sys.stderr)
    report = summary.report(seconds, different)
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name}: {value}")
    return 1 if summary.failed or different else 0


def traces() -> int:
    """Read "seed nodes" lines; print the trace of each."""
    calm()
    for line in sys.stdin:
        seed, nodes = line.split()
        print(run_schedule(int(seed), int(nodes)).trace, flush=True)
        gc.collect()
    return 0


def show(tasks: list[Task]) -> int:
    failed = 0
    for task in tasks:
        outcome = run_schedule(*task, story=True)
        failed += outcome.violation is not None
        print("\n".join(outcome.story))
        print(f"seed {outcome.seed}, {outcome.nodes} nodes: {outcome.violation or 'holds'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
