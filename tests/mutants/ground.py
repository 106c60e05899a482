"""A private copy of the project, in which a fault is made, the suites run, and the fault is taken back.

The working tree is never touched. Every run goes through `inside.py`, which refuses to start unless what it imports
lies in the copy. Compiled files of a faulty source are removed, so that no run sees another one's.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
LEFT_OUT: Final = shutil.ignore_patterns(
    ".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "node_modules", "build", "dist"
)
TEST_TIMEOUT_S: Final = 60
SUITE_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Suite:
    """What can kill: `arguments` of `inside.py`, run from the copy."""

    name: str
    arguments: tuple[str, ...]


def tests(name: str, *paths: str) -> Suite:
    """Some of the tests, up to the first failure."""
    return Suite(
        name, ("pytest", "-x", "--tb=no", "-p", "no:cacheprovider", f"--timeout={TEST_TIMEOUT_S}", *paths)
    )


def schedules(first: int, last: int) -> Suite:
    """The simulator with these seeds."""
    names = ("--seeds", f"{first}..{last}", "--nodes", "4", "7", "--jobs", "1", "--replay-every", "0")
    return Suite("simulator", ("simulate", *names))


CONSENSUS: Final = tests("unit/consensus", "tests/unit/consensus")
SCENARIOS: Final = tests("scenarios", "tests/scenarios")
LIMITS: Final = "tests/unit/consensus/test_limits.py"
PROMISE: Final = tests(
    "unit/storage", "tests/unit/storage/test_promise.py", "tests/unit/node/test_promises.py", LIMITS
)
DRIVER: Final = tests(
    "unit/node",
    *(
        f"tests/unit/node/test_{name}.py"
        for name in ("driver", "driver_order", "driver_work", "restart", "showing")
    ),
    LIMITS,
)
SIMULATOR: Final = (schedules(1, 2), schedules(3, 6), schedules(7, 12))


def suites_for(file: str) -> tuple[Suite, ...]:
    """The suites that can see a fault in this file, the cheapest first."""
    if file.startswith("storage/"):
        return (PROMISE, DRIVER)
    if file.startswith("node/"):
        return (DRIVER, *SIMULATOR)
    return (CONSENSUS, SCENARIOS, *SIMULATOR, DRIVER)


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one suite. `killer` is the test that failed first, or the schedule that was violated."""

    failed: bool
    killer: str
    hung: bool
    seconds: float
    output: str


class Ground:
    """One copy. Use it in a `with` statement, from one thread."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="consilium-mutants-"))
        self.root = self._folder / "project"

    def __enter__(self) -> Ground:
        shutil.copytree(PROJECT, self.root, symlinks=True, ignore=LEFT_OUT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def read(self, file: str) -> bytes:
        """A file of the copy."""
        return (self.root / file).read_bytes()

    def write(self, file: str, source: bytes) -> None:
        """Replace a file of the copy, and forget what was compiled of it."""
        path = self.root / file
        path.write_bytes(source)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()

    def run(self, suite: Suite, timeout_s: float = SUITE_TIMEOUT_S) -> Run:
        """Run one suite as the copy stands. Raises RuntimeError where the suite itself does not work."""
        inside = self.root / "tests" / "mutants" / "inside.py"
        arguments = [
            *suite.arguments,
            *([f"--basetemp={self._folder}/tmp"] if suite.arguments[0] == "pytest" else []),
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.root / "src"),
            "PYTHONHASHSEED": "0",
            "PYTHONSAFEPATH": "1",
        }
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, str(inside), str(self.root), *arguments],
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        hung = False
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            hung = True
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        code = process.returncode
        if not hung and code not in (0, 1, 2) and code >= 0:
            raise RuntimeError(f"{suite.name} ended with {code}, not with a verdict:\n{output[-3_000:]}")
        killer = "" if code == 0 else _killer(output)
        hung = hung or "Timeout (>" in output
        if code != 0 and not killer and not hung:
            if suite.arguments[0] == "pytest" and code > 0:
                raise RuntimeError(f"{suite.name} failed, but at no test:\n{output[-3_000:]}")
            killer = output.strip().rpartition("\n")[2][:160] or f"signal {-code}"
        return Run(code != 0, killer, hung, time.monotonic() - started, output[-3_000:])


def _killer(output: str) -> str:
    for line in output.splitlines():
        for mark in ("FAILED ", "ERROR ", "VIOLATION "):
            if line.startswith(mark):
                return line.removeprefix(mark).split(" - ")[0][:160]
    return ""


def all_of(suites: Sequence[Suite]) -> list[Suite]:
    """Each once, in order."""
    return list(dict.fromkeys(suites))
