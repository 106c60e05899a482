"""Run simulated schedules of consensus: `scripts/simulate --seeds 1..1000 --nodes 4 --json`.

Exits 1 when a schedule violates a property, or does not run identically twice; prints the command that replays it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.simulation.schedule import Outcome, run_schedule  # noqa: E402

STORY_LINES = 120


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
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--replay-every", type=int, default=50, help="run every so-many-th schedule twice; 0: none"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--verbose", action="store_true", help="print all that happened (for one schedule)")
    parser.add_argument("--traces", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def one(task: tuple[int, int]) -> Outcome:
    return run_schedule(*task)


def replayed(tasks: list[tuple[int, int]], traces: dict[tuple[int, int], str]) -> list[tuple[int, int]]:
    """Run the schedules again in a process with another hash seed; return those whose trace differs."""
    different = []
    for nodes in sorted({nodes for _, nodes in tasks}):
        for seed in [seed for seed, n in tasks if n == nodes]:
            command = [
                sys.executable,
                __file__,
                "--seeds",
                f"{seed}..{seed}",
                "--nodes",
                str(nodes),
                "--traces",
            ]
            environment = {**os.environ, "PYTHONHASHSEED": str(seed % 1_000 + 7)}
            printed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
            if printed.stdout.strip() != traces[seed, nodes]:
                different.append((seed, nodes))
    return different


def main() -> int:
    arguments = parse()
    first, _, last = arguments.seeds.partition("..")
    tasks = [(seed, nodes) for seed in range(int(first), int(last or first) + 1) for nodes in arguments.nodes]
    if arguments.traces or arguments.verbose:
        return show(tasks, arguments.traces)
    started = time.monotonic()
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for outcome in pool.map(one, tasks, chunksize=4):
            outcomes.append(outcome)
            if outcome.violation is not None:
                print(f"VIOLATION {outcome.violation}\n  replay: {outcome.command}", file=sys.stderr)
                print("\n".join(outcome.story[-STORY_LINES:] if len(tasks) == 1 else []), file=sys.stderr)
    seconds = time.monotonic() - started
    every = arguments.replay_every
    again = tasks[::every] if every else []
    different = replayed(again, {(o.seed, o.nodes): o.trace for o in outcomes})
    for seed, nodes in different:
        print(f"NOT REPLAYED IDENTICALLY: seed {seed}, {nodes} nodes", file=sys.stderr)
    faults: Counter[str] = Counter()
    for outcome in outcomes:
        faults.update(outcome.faults)
    violated = [o for o in outcomes if o.violation is not None]
    summary = {
        "schedules": len(outcomes),
        "violations": len(violated),
        "excluded": 0,
        "replayed": len(again),
        "replayed_identically": len(again) - len(different),
        "schedules_per_second": round(len(outcomes) / seconds, 2),
        "median_heights": statistics.median(o.heights for o in outcomes),
        "median_view_changes": statistics.median(o.view_changes for o in outcomes),
        "median_recovery_ms": statistics.median(o.recovery_ms for o in outcomes),
        "max_recovery_ms": max(o.recovery_ms for o in outcomes),
        "equivocations_proven": sum(o.equivocations for o in outcomes),
        "faults": dict(sorted(faults.items())),
        "failed": [{"seed": o.seed, "nodes": o.nodes, "violation": o.violation} for o in violated],
    }
    if arguments.json:
        print(json.dumps(summary, indent=2))
    else:
        for name, value in summary.items():
            print(f"{name}: {value}")
    return 1 if violated or different else 0


def show(tasks: list[tuple[int, int]], traces: bool) -> int:
    failed = 0
    for task in tasks:
        outcome = one(task)
        failed += outcome.violation is not None
        if traces:
            print(outcome.trace)
        else:
            print("\n".join(outcome.story))
            print(
                f"seed {outcome.seed}, {outcome.nodes} nodes: {outcome.violation or 'holds'}; {outcome}"[:400]
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
