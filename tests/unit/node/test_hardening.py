"""No core dumps: in a process of its own, since nothing takes the settings back."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = """
import resource, sys
from consilium.node.hardening import keep_secrets_in, secrets_are_kept_in
resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
before = secrets_are_kept_in()
keep_secrets_in()
print(before, secrets_are_kept_in(), resource.getrlimit(resource.RLIMIT_CORE))
"""
DIE = """
import os, resource, signal, sys
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
if sys.argv[1] == "kept":
    from consilium.node.hardening import keep_secrets_in
    keep_secrets_in()
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGABRT)
"""


def run(code: str, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        check=False,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows whether a process is dumpable")
def test_a_process_is_dumpable_before_and_not_after() -> None:
    done = run(CHECK)
    assert done.stdout.split(maxsplit=2) == ["False", "True", "(0, 0)\n"], done.stderr


def test_a_process_that_dies_leaves_no_core(tmp_path: Path) -> None:
    done = run(DIE, "kept", folder=tmp_path)
    assert (done.returncode, done.stdout) == (-signal.SIGABRT, "ready\n"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_program_does_it_before_anything_else() -> None:
    seen = run(
        "import consilium.node.cli.main as main\n"
        "from consilium.node.hardening import secrets_are_kept_in\n"
        "main.app = lambda: print(secrets_are_kept_in())\n"
        "main.run()\n"
    )
    assert seen.stdout == "True\n", seen.stderr
