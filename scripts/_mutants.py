"""Make small faults, one at a time, in a copy of the project, and show that the suites notice every one.

    scripts/mutants --json                  the faults chosen by hand, and 32 drawn by seed 1
    scripts/mutants --hand 3 --random 3     a few of each, those drawn by the same seed
    scripts/mutants --only "ring"           by part of a name
    scripts/mutants --list                  all names, and where

Exits 1 where a fault survives, 2 where the suites fail without any.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.mutants.catalogue import Drawn, Mutant, at_random, by_hand, chosen  # noqa: E402
from tests.mutants.ground import Ground, Suite, all_of, suites_for, tests  # noqa: E402
from tests.mutants.operators import lot  # noqa: E402


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a mutant: the suite that killed it, or none; what that suite failed at; whether it hung."""

    mutant: Mutant
    suite: str
    killer: str
    hung: bool
    seconds: float


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="faults whose name contains this"
    )
    parser.add_argument("--hand", type=int, metavar="N", help="so many of those chosen by hand (default all)")
    parser.add_argument("--random", type=int, default=32, metavar="N", help="so many drawn ones (default 32)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="copies at a time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--list", action="store_true", help="print the faults, and make none")
    return parser.parse_args()


def told(mutant: Mutant) -> str:
    """Where it is and what it does; the names of drawn ones begin with their file."""
    return f"{mutant.file}:{mutant.line} {mutant.name.removeprefix(mutant.file).strip()}"


def suites_of(mutant: Mutant) -> tuple[Suite, ...]:
    """A fault that names its test must fail that one; any other may be noticed by whichever suite sees its file."""
    return (tests("named test", mutant.test),) if mutant.test else suites_for(mutant.file)


def judge(ground: Ground, mutant: Mutant) -> Fate:
    """Make the fault, run suites until one fails, and take the fault back."""
    started = time.monotonic()
    whole = ground.read(mutant.file)
    ground.write(mutant.file, mutant.faulty)
    try:
        for suite in suites_of(mutant):
            run = ground.run(suite)
            if run.failed:
                return Fate(mutant, suite.name, run.killer, run.hung, time.monotonic() - started)
    finally:
        ground.write(mutant.file, whole)
    return Fate(mutant, "", "", False, time.monotonic() - started)


def unharmed(ground: Ground, mutants: list[Mutant]) -> list[str]:
    """What the suites fail at although no fault was made."""
    named = sorted({mutant.test for mutant in mutants if mutant.test})
    suites = all_of([suite for mutant in mutants if not mutant.test for suite in suites_of(mutant)])
    runs = [ground.run(suite) for suite in [*([tests("named tests", *named)] if named else []), *suites]]
    return [f"{run.killer}\n{run.output}" for run in runs if run.failed]


def every_fate(mutants: list[Mutant], grounds: list[Ground]) -> list[Fate]:
    """Each mutant in whichever copy is free."""
    free: queue.Queue[Ground] = queue.Queue()
    for ground in grounds:
        free.put(ground)

    def one(mutant: Mutant) -> Fate:
        ground = free.get()
        try:
            fate = judge(ground, mutant)
        finally:
            free.put(ground)
        how = f"{fate.suite}{', hung' if fate.hung else ''}: {fate.killer}" if fate.suite else "SURVIVED"
        print(f"{told(mutant)}\n    {how}", file=sys.stderr, flush=True)
        return fate

    with ThreadPoolExecutor(len(grounds)) as pool:
        return list(pool.map(one, mutants))


def summary(fates: list[Fate], drawn: Drawn, seed: int, seconds: float) -> dict[str, Any]:
    dead = [fate for fate in fates if fate.suite]
    origins = {
        origin: {
            "mutants": sum(fate.mutant.origin == origin for fate in fates),
            "killed": sum(fate.mutant.origin == origin for fate in dead),
        }
        for origin in ("hand", "random")
    }
    return {
        "mutants": len(fates),
        "killed": len(dead),
        "survived": [told(fate.mutant) for fate in fates if not fate.suite],
        "by_origin": origins,
        "by_suite": dict(sorted(Counter(fate.suite for fate in dead).items())),
        "hung": sum(fate.hung for fate in dead),
        "equivalent": drawn.equivalent,
        "seed": seed,
        "places_to_draw_from": drawn.places,
        "named_tests": {fate.mutant.test: fate.mutant.name for fate in dead if fate.mutant.test},
        "seconds": round(seconds, 1),
    }


def main() -> int:
    arguments = parse()
    started = time.monotonic()
    chosen_by_hand = by_hand(ROOT)
    if arguments.hand is not None:
        chosen_by_hand.sort(key=lambda mutant: lot(arguments.seed, mutant.name))
        del chosen_by_hand[arguments.hand :]
    drawn = at_random(ROOT, arguments.random, arguments.seed)
    mutants = chosen([*chosen_by_hand, *drawn.mutants], arguments.only)
    if arguments.list:
        print("\n".join(f"{one.origin}: {told(one)}" for one in mutants))
        return 0
    if not mutants:
        print("no fault has such a name", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        count = max(1, min(arguments.jobs, len(mutants)))
        grounds = [stack.enter_context(Ground()) for _ in range(count)]
        failed = unharmed(grounds[0], mutants)
        if failed:
            print("the suites fail without any fault:\n" + "\n".join(failed), file=sys.stderr)
            return 2
        fates = every_fate(mutants, grounds)
    result = summary(fates, drawn, arguments.seed, time.monotonic() - started)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name}: {value}")
    return 1 if result["survived"] else 0


if __name__ == "__main__":
    sys.exit(main())
