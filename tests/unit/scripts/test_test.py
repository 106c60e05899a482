"""The runner of the tests: two runs, one status, one last line."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from scripts import _test

PROJECT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["-n", "2", "tests"], ["tests"]),
        (["-n2", "-k", "codec"], ["-k", "codec"]),
        (["--dist", "loadfile", "--maxprocesses=2"], []),
        (["--no-header", "-x"], ["--no-header", "-x"]),
    ],
)
def test_the_serial_run_does_not_get_the_arguments_of_xdist(arguments: list[str], kept: list[str]) -> None:
    assert _test._serial(arguments) == kept


def test_the_last_line_reads_as_pytest_writes_it() -> None:
    line = _test._summary(Counter(failure=1, passed=20, skipped=3, error=2), 61.234)
    assert line.strip("=").strip() == "1 failed, 20 passed, 3 skipped, 2 errors in 61.23s"
    assert _test._summary(Counter(), 0).strip("=").strip() == "no tests ran in 0.00s"


def test_outcomes_are_counted_over_both_runs(tmp_path: Path) -> None:
    first, second = tmp_path / "1.xml", tmp_path / "2.xml"
    first.write_text(
        "<testsuites><testsuite><testcase/><testcase><failure/></testcase></testsuite></testsuites>"
    )
    second.write_text(
        "<testsuites><testsuite><testcase/><testcase><skipped/></testcase></testsuite></testsuites>"
    )
    counts = _test._counts([first, second, tmp_path / "never-written.xml"])
    assert counts == Counter(passed=2, failure=1, skipped=1)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [((0, 0), 0), ((1, 0), 1), ((0, 1), 1), ((0, 5), 0), ((5, 0), 0), ((5, 5), 5), ((5, 1), 1)],
)
def test_a_failure_of_either_run_is_the_status(
    statuses: tuple[int, int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = iter(statuses)
    monkeypatch.setattr(_test, "_pytest", lambda arguments: next(runs))
    assert _test.main([]) == expected


def test_an_interrupted_first_run_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter([2])
    monkeypatch.setattr(_test, "_pytest", lambda arguments: next(runs))
    assert _test.main([]) == 2


def test_without_a_fitting_python_the_scripts_say_what_to_install() -> None:
    environment = {"PATH": "/usr/bin:/bin", "CONSILIUM_PYTHON": str(PROJECT / "no-such-python")}
    done = subprocess.run(
        ["bash", str(PROJECT / "scripts" / "setup")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "needs Python 3.11 or 3.12" in done.stderr
    assert "no-such-python" in done.stderr


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    program = [sys.executable, "-I", str(PROJECT / "scripts" / "_environment.py")]
    done = subprocess.run(
        program, env={"CONSILIUM_VENV": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "is no virtual environment" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
