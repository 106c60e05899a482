"""Delay between validators, by the kernel: netem on the loopback of a network namespace of our own.

Where a kernel has that; `relay` does it otherwise. The command starts itself again inside the namespace; only packets
from or to the ports on which validators listen for each other are delayed, so clients see the delay of agreement and
not one of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Final

from consilium.node.testing import LocalCluster

INSIDE: Final = "CONSILIUM_BENCH_NAMESPACE"
_BAND: Final = "1:3"


def enter_namespace() -> bool:
    """Start this program again in a network namespace whose kernel delays packets, unless it is in one. False where
    that is not to be had here."""
    if os.environ.get(INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return True
    if not all(shutil.which(tool) for tool in ("unshare", "ip", "tc")):
        return False
    namespace = ["unshare", "--map-root-user", "--net"]
    queues = ("root handle 1: prio", f"parent {_BAND} netem delay 1ms")
    attempt = " && ".join(f"tc qdisc add dev lo {queue}" for queue in queues)
    if subprocess.run([*namespace, "sh", "-c", attempt], capture_output=True, check=False).returncode == 0:
        os.environ[INSIDE] = "1"
        os.execvp(namespace[0], [*namespace, sys.executable, *sys.argv])
    return False


def set_delay(cluster: LocalCluster, one_way_ms: float) -> None:
    """From now on packets between validators take so long each way; 0 ends it."""
    subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], capture_output=True, check=False)
    if not one_way_ms:
        return
    _delay_band(one_way_ms)
    for node in cluster.nodes:
        for side in ("dport", "sport"):
            match = ["match", "ip", side, str(node.config().p2p.port), "0xffff"]
            _tc(
                "filter",
                "add",
                "dev",
                "lo",
                "protocol",
                "ip",
                "parent",
                "1:0",
                "prio",
                "1",
                "u32",
                *match,
                "flowid",
                _BAND,
            )


def _delay_band(one_way_ms: float) -> None:
    """A band of the loopback whose packets are delayed; filters choose which."""
    _tc("qdisc", "add", "dev", "lo", "root", "handle", "1:", "prio", "bands", "3", "priomap", *["0"] * 16)
    netem = ["netem", "limit", "100000", "delay", f"{one_way_ms}ms"]
    _tc("qdisc", "add", "dev", "lo", "parent", _BAND, "handle", "30:", *netem)


def _tc(*arguments: str) -> None:
    done = subprocess.run(["tc", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"tc {' '.join(arguments)}: {done.stderr.strip()}")
