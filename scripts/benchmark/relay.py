"""Delay between validators where the kernel has no queues that delay: links in a process of their own.

The process carries every byte between nodes. On standard output it says where each node dials each other one (a line of
JSON: [[from, to, port], …]); from standard input it reads how long what it carries is under way (seconds, a line each
time), and answers with a line. What it costs is there with and without delay, so two rounds can be compared; and it is
counted neither as the nodes' nor as the load generator's.
"""

from __future__ import annotations

import asyncio
import json
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from consilium.node.links import Network, dial_through
from consilium.node.testing import LocalCluster

ROOT: Final = Path(__file__).resolve().parents[2]
ANSWER_TIMEOUT_S: Final = 30.0
END_TIMEOUT_S: Final = 10.0


class Relay:
    """The process, from `prepare` (before nodes start) to `close`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def prepare(self, cluster: LocalCluster) -> None:
        """Start it for a cluster's nodes, and have them dial through it. Blocks."""
        ports = [str(node.config().p2p.port) for node in cluster.nodes]
        command = [sys.executable, "-m", "scripts.benchmark.relay", *ports]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        dial_through(cluster.nodes, {(one, two): port for one, two, port in json.loads(self._line())})

    def set_delay(self, one_way_ms: float) -> None:
        """From now on everything between nodes takes so long each way. Blocks."""
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the relay does not run")
        self._process.stdin.write(f"{one_way_ms / 1e3}\n")
        self._process.stdin.flush()
        self._line()

    def close(self) -> None:
        """End it: it does when its input does. Blocks."""
        if self._process is not None:
            try:
                self._process.communicate(timeout=END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()

    def _line(self) -> str:
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("the relay does not run")
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_TIMEOUT_S)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            raise RuntimeError("the relay has ended, or says nothing")
        return line


async def _carry(p2p_ports: list[int]) -> None:
    network = Network(p2p_ports)
    await network.start()
    print(json.dumps([[*pair, port] for pair, port in network.ports.items()]), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        network.delay(float(line))
        print("set", flush=True)
    network.stop()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the benchmark, with which its input ends
    asyncio.run(_carry([int(port) for port in sys.argv[1:]]))
