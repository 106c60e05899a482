"""The matrix of crashes: `scripts/crash --cycles 100 --json`.

Four real nodes agree while clients work. Every cycle takes one of them down: killed at random, killed just before or
after it wrote to its disk, killed while it catches up; with the end of its log lost, a bit flipped, its disk full, its
syncs failing; or all four at once. Every commit that was acknowledged must be on every node at the end, no two votes
of a validator may contradict each other, every node that comes back must reach the head, and a damaged store must be
refused by name. Exits 1 where anything did not hold. A seed repeats the choices, not the timing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from consilium.client.rpc_values import Hex32  # noqa: E402
from consilium.ledger.crypto import SigningKey  # noqa: E402
from consilium.node.config import write_peers  # noqa: E402
from consilium.node.config_sections import Peer  # noqa: E402
from consilium.node.logs import configure_logging  # noqa: E402
from consilium.node.ports import Reservation  # noqa: E402
from consilium.node.testing import LocalCluster  # noqa: E402
from consilium.p2p.mesh import Address  # noqa: E402
from scripts.crash_matrix import overheard  # noqa: E402
from scripts.crash_matrix.audit import audit  # noqa: E402
from scripts.crash_matrix.fleet import Fleet  # noqa: E402
from scripts.crash_matrix.load import Load  # noqa: E402
from scripts.crash_matrix.matrix import KINDS, Matrix  # noqa: E402
from scripts.crash_matrix.report import Report  # noqa: E402
from scripts.crash_matrix.wiretap import Wiretap  # noqa: E402

NODES = 4
WRITE_BUFFER_BYTES = 256 * 1024
"""Small, so that stores have tables to damage, and compactions to be killed in."""
PROGRESS_EVERY = 10
TAP_TIMEOUT_S = 20.0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/crash", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cycles", type=int, default=50, help="how often a node is taken down (default 50)")
    parser.add_argument("--seed", type=int, default=1, help="of the choices (default 1)")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), help="default: all")
    parser.add_argument("--folder", type=Path, help="keep the cluster here (default: a temporary folder)")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after so long, whatever is left")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser.parse_args()


async def run(arguments: argparse.Namespace) -> Report:
    """Found a cluster, run the cycles, stop it, read its disks."""
    report = Report()
    began_s = time.monotonic()
    key = SigningKey(secrets.token_bytes(32))
    with Reservation(1) as reserved:
        address = Address("127.0.0.1", reserved.ports[0])
        settings: dict[str, dict[str, Any]] = {
            "storage": {"write_buffer_bytes": WRITE_BUFFER_BYTES},
            "log": {"level": "warning"},
        }
        folder = arguments.folder or Path(tempfile.mkdtemp(prefix="consilium-crash-")) / "cluster"
        program = (sys.executable, "-P", str(Path(overheard.__file__)))
        cluster = LocalCluster(NODES, folder, keep=True, settings=settings, program=lambda node: program)
        async with cluster:
            fleet = Fleet(cluster)
            members = {
                bytes(node.card().node_key): Address(node.config().p2p.host, node.config().p2p.port)
                for node in cluster.nodes
            }
            for node in cluster.nodes:
                config = node.config()
                write_peers(
                    config.peers_path, [*config.p2p.peers, Peer(key=Hex32(key.public), address=str(address))]
                )
            reserved.yield_to_nodes()
            try:
                for node in cluster.nodes:  # they read who else may listen when they start
                    await fleet.kill(node.index)
                    fleet.launch(node.index)
                await asyncio.gather(*(fleet.healthy(node.index) for node in cluster.nodes))
                async with Wiretap(key, cluster.genesis.chain_id, address.port, members) as tap:
                    await tap.hears_all(TAP_TIMEOUT_S)
                    load = Load(fleet, arguments.seed)
                    async with load:
                        matrix = Matrix(fleet, load, tap, report, arguments.seed, arguments.kinds)
                        await cycles(matrix, arguments, began_s)
                    # The fleet runs the nodes, so the cluster does not know which are up.
                    await fleet.cluster.wait_height(await fleet.head(), fleet.up())
                    report.votes_heard = tap.ballots.votes
                    report.contradicting_votes = len(tap.ballots.contradictions)
                    report.violations += tap.ballots.contradictions
            finally:
                await fleet.end()
    await asyncio.to_thread(audit, cluster.nodes, cluster.genesis.chain_id, load.acknowledged, report)
    report.seconds = time.monotonic() - began_s
    if arguments.folder is None and report.good:
        shutil.rmtree(folder.parent)
    else:
        print(f"the cluster is kept in {cluster.folder}", file=sys.stderr)
    return report


async def cycles(matrix: Matrix, arguments: argparse.Namespace, began_s: float) -> None:
    """All cycles, or as many as the time allows; a node that does not come back ends them."""
    for number in range(1, arguments.cycles + 1):
        if arguments.minutes and time.monotonic() - began_s > 60 * arguments.minutes:
            return
        try:
            await matrix.cycle()
        except Exception as error:  # noqa: BLE001  # said in the report, which is why it is made
            matrix.report.violated(f"cycle {number}: {type(error).__name__}: {error}")
            return
        if number % PROGRESS_EVERY == 0:
            report = matrix.report
            print(
                f"{number} cycles in {time.monotonic() - began_s:.0f} s: {report.kills} kills, "
                f"{len(report.violations)} violations",
                file=sys.stderr,
                flush=True,
            )


def main() -> int:
    """Run, print, judge."""
    arguments = parse()
    configure_logging("error", "console")
    report = asyncio.run(run(arguments))
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        for name, value in report.as_json().items():
            print(f"{name}: {value}")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
