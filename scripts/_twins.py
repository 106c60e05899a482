"""Two honest copies of one validator, and every division of the hosts: `scripts/twins --views 4 --json`.

Walks through all scenarios of the given number of views, breadth-first, with equal joint states merged; then heals, and
demands progress. `--samples N` draws N scenarios instead, for greater councils. Exits 1 when a property is violated.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.simulation.twins.half import Council, Cut  # noqa: E402
from tests.simulation.twins.sample import Ran, draw, read, run_plainly, write  # noqa: E402
from tests.simulation.twins.walk import CUTS, View, Walk, two_way  # noqa: E402

FAILURES_SHOWN = 5


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/twins", description=__doc__.splitlines()[0])
    parser.add_argument("--views", type=int, default=4, help="views before healing (default 4)")
    parser.add_argument("--nodes", type=int, default=4, help="validators (default 4)")
    parser.add_argument(
        "--twinned",
        type=int,
        nargs="+",
        default=[0],
        metavar="PLACE",
        help="whose twin takes part (default 0)",
    )
    parser.add_argument("--cuts", type=int, default=0, help="how many views may be cut short too (default 0)")
    parser.add_argument("--states-max", type=int, default=400_000, help="joint states kept at each depth")
    parser.add_argument(
        "--heal-max", type=int, default=400_000, help="last states from which progress is demanded"
    )
    parser.add_argument("--plain", type=int, default=50, help="scenarios run plainly too, and compared")
    parser.add_argument("--samples", type=int, default=0, help="draw so many scenarios instead of walking")
    parser.add_argument("--ways", type=int, default=2, help="parts of a division, in samples (default 2)")
    parser.add_argument("--seed", type=int, default=1, help="of samples and of comparisons (default 1)")
    parser.add_argument("--replay", metavar="SCENARIO", help="run one scenario, and tell it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if len(set(arguments.twinned)) != len(arguments.twinned) or max(arguments.twinned) >= arguments.nodes:
        parser.error("--twinned names different places below --nodes")
    if arguments.nodes + len(arguments.twinned) > 10:
        parser.error("at most ten hosts: scenarios are written with one digit each")
    return arguments


def main() -> int:
    arguments = parse()
    # Millions of small values live until the walk is over, none in cycles: looking for some takes most of the time.
    gc.disable()
    if arguments.replay:
        ran = run_plainly(council_of(arguments), read(arguments.replay))
        print("\n".join(ran.story))
        return 1 if ran.violation else 0
    started, cpu = time.monotonic(), time.process_time()
    summary = sampled(arguments) if arguments.samples else walked(arguments)
    summary["seconds"] = round(time.monotonic() - started, 1)
    summary["cpu_seconds"] = round(time.process_time() - cpu, 1)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    else:
        for name, value in summary.items():
            print(f"{name}: {value}")
    return 1 if summary["violations"] or summary.get("different") else 0


def council_of(arguments: argparse.Namespace) -> Council:
    return Council(arguments.nodes, tuple(arguments.twinned))


def walked(arguments: argparse.Namespace) -> dict[str, object]:
    walk = Walk(council_of(arguments), arguments.cuts, arguments.states_max)
    for _ in range(arguments.views):
        depth = walk.deepen()
        covered = "complete" if depth.complete else f"limited to {depth.states} by --states-max"
        print(
            f"{depth.views} views: {sum(depth.scenarios)} scenarios, {depth.found} states, {depth.merged} merged, "
            f"{depth.halves} halves run, {covered}",
            file=sys.stderr,
            flush=True,
        )
    healed, heal_views, _ = walk.heal(arguments.heal_max)
    plain, different = compared(arguments, walk)
    for failure in walk.failures[:FAILURES_SHOWN]:
        report(arguments, failure.views, failure.violation)
    last = walk.depths[-1]
    return {
        "nodes": arguments.nodes,
        "twinned": arguments.twinned,
        "views": arguments.views,
        "scenarios": sum(last.scenarios),
        "scenarios_by_cuts": last.scenarios,
        "violations": len(walk.failures),
        "heights_decided": last.heights,
        "states": [depth.found for depth in walk.depths],
        "kept": [depth.states for depth in walk.depths],
        "merged": [depth.merged for depth in walk.depths],
        "halves_run": [depth.halves for depth in walk.depths],
        "complete": last.complete,
        "healed_states": healed,
        "healed_within_views": heal_views,
        "equivocations_seen": walk.council.equivocations,
        "plain": plain,
        "different": different,
        "result": walk.trace,
    }


def compared(arguments: argparse.Namespace, walk: Walk) -> tuple[int, int]:
    """Run scenarios plainly: how many, and how many of them do not end in a state that the walk reached."""
    chance = random.Random(arguments.seed)
    known = {state.portrait for state in walk.layer}
    divisions = two_way(len(walk.council.keys))
    count = arguments.plain if walk.depths[-1].complete and not walk.failures else 0
    different = 0
    for _ in range(count):
        cut_views = chance.sample(range(arguments.views), min(arguments.cuts, arguments.views))
        views: list[View] = [(chance.choice(divisions), Cut.WHOLE) for _ in range(arguments.views)]
        for index in cut_views:
            views[index] = (views[index][0], chance.choice(CUTS))
        ran = run_plainly(council_of(arguments), views, heal=False)
        if ran.violation is not None or ran.portrait not in known:
            different += 1
            report(arguments, views, ran.violation or "the walk did not reach where this scenario ends")
    return count, different


def sampled(arguments: argparse.Namespace) -> dict[str, object]:
    chance = random.Random(arguments.seed)
    council = council_of(arguments)
    runs: list[Ran] = []
    trace = hashlib.sha256()
    for _ in range(arguments.samples):
        views = draw(len(council.keys), arguments.views, arguments.ways, chance)
        ran = run_plainly(council, views)
        runs.append(ran)
        trace.update("\n".join(ran.story).encode())
        if ran.violation is not None:
            report(arguments, views, ran.violation)
    return {
        "nodes": arguments.nodes,
        "twinned": arguments.twinned,
        "views": arguments.views,
        "ways": arguments.ways,
        "seed": arguments.seed,
        "scenarios": len(runs),
        "violations": sum(ran.violation is not None for ran in runs),
        "heights_decided": max(ran.decided for ran in runs),
        "states": len({ran.portrait for ran in runs}),
        "merged": 0,
        "complete": False,
        "healed_within_views": max(ran.healed_views for ran in runs),
        "equivocations_seen": council.equivocations,
        "result": trace.hexdigest(),
    }


def report(arguments: argparse.Namespace, views: list[View] | tuple[View, ...], violation: str) -> None:
    twinned = " ".join(str(place) for place in arguments.twinned)
    print(
        f"VIOLATION {violation}\n  replay: scripts/twins --nodes {arguments.nodes} --twinned {twinned} "
        f"--replay {write(views)}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(main())
