"""Run pytest twice, on all cores without clusters and then serially with them, and sum up as one run.

Cluster tests start real processes with real timeouts: beside a busy core their failures would mean nothing. The last
line counts both runs, in pytest's own words; the status is that of the first run that failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NO_TESTS_COLLECTED = 5
ONE_RUN_ARGUMENTS = {
    "-m",
    "-h",
    "-V",
    "--help",
    "--version",
    "--markers",
    "--fixtures",
    "--collect-only",
    "--co",
    "--pdb",
}
"""With these the caller has said what to run, or wants no tests at all: one pytest, untouched."""


def main(arguments: list[str]) -> int:
    if any(argument.split("=")[0] in ONE_RUN_ARGUMENTS for argument in arguments):
        return _pytest(arguments)
    started = time.monotonic()
    parallel = [] if any(argument.startswith("-n") for argument in arguments) else ["-n", "logical"]
    with tempfile.TemporaryDirectory() as folder:
        reports = [Path(folder, "without.xml"), Path(folder, "clusters.xml")]
        first = _pytest(["-m", "not cluster", f"--junitxml={reports[0]}", *parallel, *arguments])
        if first not in (0, 1, NO_TESTS_COLLECTED):
            return first
        second = _pytest(["-m", "cluster", f"--junitxml={reports[1]}", "-p", "no:xdist", *_serial(arguments)])
        counts = _counts(reports)
    print(_summary(counts, time.monotonic() - started))
    statuses = [status for status in (first, second) if status != NO_TESTS_COLLECTED]
    return next((status for status in statuses if status != 0), 0 if statuses else NO_TESTS_COLLECTED)


def _pytest(arguments: list[str]) -> int:
    """One run from the project's root; paths among the arguments are relative to it."""
    status = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode
    return 128 - status if status < 0 else status


def _serial(arguments: list[str]) -> list[str]:
    """The arguments without xdist's, which the serial run does not know."""
    kept: list[str] = []
    skip_value = False
    for argument in arguments:
        if skip_value or argument.startswith(("-n", "--dist", "--maxprocesses")):
            skip_value = argument in ("-n", "--numprocesses", "--dist", "--maxprocesses") and not skip_value
            continue
        kept.append(argument)
    return kept


def _counts(reports: list[Path]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for report in reports:
        if not report.is_file():
            continue
        for case in ElementTree.parse(report).iter("testcase"):
            outcomes = {child.tag for child in case} & {"failure", "error", "skipped"}
            counts.update(outcomes or {"passed"})
    return counts


def _summary(counts: Counter[str], seconds: float) -> str:
    words = [("failure", "failed"), ("passed", "passed"), ("skipped", "skipped"), ("error", "errors")]
    parts = [f"{counts[tag]} {word}" for tag, word in words if counts[tag]]
    text = f" {', '.join(parts) or 'no tests ran'} in {seconds:.2f}s "
    return text.center(int(os.environ.get("COLUMNS", "80")), "=")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
