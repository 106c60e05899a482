"""Four nodes, each in a network namespace of its own, on a switch that this program makes: real cables to pull.

    unshare --net --mount python tests/cluster/apart.py     (run by test_namespaces.py; prints JSON)

The program itself must stand in namespaces of its own: there it may make what it likes, the machine's own network is
not touched, and all of it is gone when the program ends, however it ends. Every node has two cables: one to the switch,
for the other nodes, and one to the program alone, for its RPC. Pulling the first one loses packets silently, in
mid-sentence, as a broken line does; nobody is told that a connection has ended.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from consilium.ledger.errors import Refused
from consilium.node.cluster import NodeFolder
from consilium.node.founding import Place
from consilium.node.processes import PROGRAM
from consilium.node.testing import LocalCluster

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.cluster.load import Load, stands

SIZE = 4
P2P_PORT, RPC_PORT = 7100, 7200
COMMAND_TIMEOUT_S = 10
LONG_CUT_S = 8.0
"""Longer than the mesh waits for a silent peer: connections are given up, and must be made again."""
SHORT_CUT_S = 3.0
"""Shorter than that: connections survive, and TCP has to find out by itself that the line is back."""
LOAD = 12


def run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=COMMAND_TIMEOUT_S, capture_output=True, text=True)


class Switch:
    """The cables: of node i, `w{i}` is the switch's end, `m{i}` the program's."""

    def __enter__(self) -> Switch:
        # `ip netns` keeps its names here; ours must not meet the machine's.
        run("mount", "-t", "tmpfs", "none", "/run")
        run("ip", "link", "set", "lo", "up")
        for bridge in ("left", "right"):
            run("ip", "link", "add", bridge, "type", "bridge")
            run("ip", "link", "set", bridge, "up")
        for index in range(SIZE):
            name = f"node-{index}"
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            for end, inner in ((f"w{index}", "wire"), (f"m{index}", "face")):
                run("ip", "link", "add", end, "type", "veth", "peer", "name", inner, "netns", name)
                run("ip", "link", "set", end, "up")
                run("ip", "-n", name, "link", "set", inner, "up")
            run("ip", "-n", name, "address", "add", f"10.71.0.{index + 1}/24", "dev", "wire")
            run("ip", "-n", name, "address", "add", f"10.72.{index}.2/24", "dev", "face")
            run("ip", "address", "add", f"10.72.{index}.1/24", "dev", f"m{index}")
        self.heal()
        return self

    def __exit__(self, *_: object) -> None:
        for index in range(SIZE):
            run("ip", "netns", "del", f"node-{index}")

    def heal(self) -> None:
        """Everybody on one switch."""
        for index in range(SIZE):
            run("ip", "link", "set", f"w{index}", "up", "master", "left")

    def partition(self, others: Iterable[int]) -> None:
        """Plug these into the second switch."""
        for index in others:
            run("ip", "link", "set", f"w{index}", "master", "right")

    def pull(self, index: int) -> None:
        """Pull one cable."""
        run("ip", "link", "set", f"w{index}", "down")


def place(index: int) -> Place:
    address = f"10.71.0.{index + 1}"
    return Place(f"{address}:{P2P_PORT}", (address, P2P_PORT), (f"10.72.{index}.2", RPC_PORT))


def program(node: NodeFolder) -> tuple[str, ...]:
    return ("ip", "netns", "exec", node.name, *PROGRAM)


async def play(switch: Switch) -> dict[str, float]:
    """Cut, look, heal, measure; the figures in seconds. Raises AssertionError where something is lost or forks."""
    figures: dict[str, float] = {}
    everybody = list(range(SIZE))
    places = [place(index) for index in everybody]
    async with LocalCluster(SIZE, program=program, places=places) as cluster:
        async with Load(cluster, everybody) as load:
            await load.more(LOAD)
            switch.pull(3)
            await load.more(LOAD)
            switch.heal()
            began_s = time.monotonic()
            await cluster.wait_height(await cluster.height(0), [3], timeout_s=60.0)
            figures["one_cut_off_is_back_s"] = round(time.monotonic() - began_s, 2)
            for name, cut_s in (("short_cut", SHORT_CUT_S), ("long_cut", LONG_CUT_S)):
                await load.more(LOAD)
                switch.partition([2, 3])
                await stands(cluster, everybody, cut_s)
                switch.heal()
                figures[f"resumed_after_{name}_s"] = round(await load.resumed_s(time.monotonic()), 2)
            await load.more(LOAD)
        await load.nothing_lost(everybody)
        for index in everybody:
            assert (await cluster.clients[index].status())["evidence"] == 0
    return figures


def main() -> None:
    with Switch() as switch:
        try:
            print(json.dumps(asyncio.run(play(switch))))
        except Refused as refusal:
            sys.exit(str(refusal))


if __name__ == "__main__":
    main()
