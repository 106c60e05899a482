"""Nodes cut off from each other by real cables, in network namespaces that the test makes: where the machine allows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.load import RESUME_S_MAX

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

PROCESS = Path(__file__).with_name("apart.py")
TIMEOUT_S = 200.0


def apart() -> list[str]:
    """The command that runs another one in namespaces of its own; skips the test, saying why, where it cannot be."""
    if sys.platform != "linux" or not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("network namespaces need Linux, iproute2 and util-linux")
    command = ["unshare", "--net", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    probe = "mount -t tmpfs none /run && ip netns add probe && ip link add name p type bridge"
    tried = subprocess.run(
        [*command, "sh", "-c", probe], capture_output=True, text=True, check=False, timeout=30
    )
    if tried.returncode != 0:
        pytest.skip(f"this machine does not let us make network namespaces: {tried.stderr.strip()[:200]}")
    return command


def test_cut_off_by_silent_loss_and_healed(measured: Callable[[str, object], None]) -> None:
    done = subprocess.run(
        [*apart(), sys.executable, str(PROCESS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    figures = json.loads(done.stdout)
    for name, value in figures.items():
        measured(name, value)
    assert figures.keys() == {
        "one_cut_off_is_back_s",
        "resumed_after_short_cut_s",
        "resumed_after_long_cut_s",
    }
    assert max(figures.values()) <= RESUME_S_MAX
