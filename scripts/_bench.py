"""Measure the speed of the product: `scripts/bench cluster --rounds 5 --seconds 10`.

Every figure stands beside what the machine itself can do, measured in the same run. docs/performance.md says what the
figures mean, and which were measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.benchmark import access, delays, observers, report, rounds, rpc, state, steps, sync  # noqa: E402

COUNTED = (
    "nodes",
    "rounds",
    "clients",
    "batch",
    "operations",
    "transactions",
    "blocks",
    "patients",
    "records",
    "repeats",
)
"""Options of which none would measure nothing."""
INTERRUPTED = 130


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command, of all but `state`. SystemExit where they are wrong, or for help."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="cluster|steps|rpc|access|sync|observers|state"
    )
    _cluster(commands.add_parser("cluster", help="a cluster under load: throughput, latency, CPU, memory"))
    _steps(commands.add_parser("steps", help="CPU time of each step of a transaction's life at a node"))
    _rpc(commands.add_parser("rpc", help="reading: status, state with proof, receipts, decisions"))
    _access(commands.add_parser("access", help="from a request to plaintext: decisions, releases, the log"))
    _sync(commands.add_parser("sync", help="catching up: by blocks, and by a snapshot of the state"))
    _observers(commands.add_parser("observers", help="what observers cost the validators that they follow"))
    # It reads its own options: see main.
    commands.add_parser("state", help="the state trie with its store, without a network", add_help=False)
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    for name in COUNTED:
        if getattr(options, name, 1) < 1:
            commands.choices[options.command].error(f"--{name}: at least 1")
    if options.command == "cluster" and not 0 <= options.dead < options.nodes:
        commands.choices["cluster"].error(f"--dead: 0 to {options.nodes - 1}, of so many nodes")
    return options


def _cluster(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--nodes", type=int, default=4, help="validators (default 4)")
    add("--rounds", type=int, default=5, help="rounds that are measured (default 5)")
    add("--seconds", type=float, default=10.0, help="each round's window (default 10)")
    add("--warm-up", type=float, default=3.0, help="load before each window, in seconds (default 3)")
    add("--clients", type=int, default=32, help="WebSocket clients, over all live nodes (default 32)")
    add("--batch", type=int, default=64, help="transactions in one call (default 64)")
    add("--rate", type=float, default=0.0, help="open loop: transactions per second offered; 0: closed loop")
    add("--operations", type=int, default=1, help="operations in a transaction (default 1)")
    add("--submit-to", type=int, help="hand everything in at this node (default: all, in turn)")
    add("--pool", type=int, default=0, help="transactions signed for a round (default: what it should need)")
    add("--dead", type=int, default=0, help="nodes that are killed before the first round")
    add(
        "--kill",
        choices=("none", "node", "primary"),
        default="none",
        help="kill a node in the middle of each round",
    )
    add("--delay-ms", type=float, default=0.0, help="every second round: delay between validators, each way")
    add("--view-timeout-ms", type=int, default=0, help="another patience with a primary than the default")
    add("--plot", type=Path, metavar="FILE.png", help="draw throughput and latency (needs matplotlib)")
    parser.set_defaults(relay=False)  # main says whether delay takes a relay here


def _steps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--transactions", type=int, default=1_000, help="in a block (default 1,000)")
    parser.add_argument("--operations", type=int, default=1, help="operations in a transaction (default 1)")
    parser.add_argument("--blocks", type=int, default=10, help="blocks that are measured (default 10)")
    parser.add_argument(
        "--fill", type=int, default=30_000, help="transactions in the chain before (default 30,000)"
    )


def _rpc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=3.0, help="for each kind of query (default 3)")
    parser.add_argument("--clients", type=int, default=8, help="connections (default 8)")


def _sync(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seconds", type=float, default=10.0, help="at the peak, to be caught up with (default 10; 0: none)")
    add("--warm-up", type=float, default=3.0, help="load before it is counted, in seconds (default 3)")
    add("--clients", type=int, default=16, help="WebSocket clients at the peak (default 16)")
    add("--expected", type=float, default=3_000.0, help="a peak that is not passed, tx/s (default 3,000)")
    add("--rate", type=float, default=500.0, help="held live, tx/s (default 500)")
    add("--live-seconds", type=float, default=60.0, help="so long it is held at most (default 60)")
    add("--keys", type=int, default=100_000, help="of the state for the snapshot (default 100,000; 0: none)")
    add("--quiet", type=float, default=5.0, help="of commits without a newcomer, in seconds (default 5)")


def _observers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--observers", type=int, default=8, help="so many (default 8)")
    add("--rate", type=float, default=150.0, help="held, tx/s (default 150)")
    add("--batch", type=int, default=5, help="transactions in one call (default 5)")
    add("--seconds", type=float, default=15.0, help="each window (default 15)")


def _access(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--patients", type=int, default=40, help="in the ward (default 40; a full round: 200)")
    add("--records", type=int, default=100, help="of each patient (default 100; a full round: 500)")
    add("--denied", type=float, default=0.05, help="share of patients who permit nothing (default 0.05)")
    add("--repeats", type=int, default=10, help="readings of one chart (default 10)")
    add("--seconds", type=float, default=10.0, help="of asking for decisions (default 10)")
    add("--clients", type=int, default=32, help="who ask at the same time (default 32)")
    add("--long-chart", type=int, default=10_000, help="records of who grants one consent (default 10,000)")


def main() -> int:
    if sys.argv[1:2] == ["state"]:
        return state.main(sys.argv[2:])
    options = parse()

    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if options.command == "cluster":
        options.relay = bool(options.delay_ms) and not delays.enter_namespace()
        if options.plot is not None:
            report.require_plots()
        found = asyncio.run(rounds.run(options, progress))
        if options.plot is not None:
            report.plot(found, options.plot)
    elif options.command == "sync":
        found = asyncio.run(sync.run(options, progress))
    elif options.command == "observers":
        found = asyncio.run(observers.run(options, progress))
    elif options.command == "access":
        found = asyncio.run(access.run(options, progress))
    elif options.command == "steps":
        found = steps.run(options, progress)
    else:
        found = asyncio.run(rpc.run(options, progress))
    if options.json or "median" not in found:
        print(json.dumps(found, indent=2))
    else:
        report.show(options.command, found)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)
