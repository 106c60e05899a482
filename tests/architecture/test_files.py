"""What holds for every file of the project: no path of somebody's machine, names that say something."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture.rules import PROJECT

MACHINE_PATH = re.compile(
    r"(?<![\w.~$}-])/(?:" + "|".join(("work", "root", "home", "Users", "mnt")) + r")/\w"
)
EMPTY_NAMES = {"utils", "helpers", "manager", "common", "misc"}
BINARY = {".bin", ".png", ".ico", ".woff2", ".zip", ".pdf", ".pyc"}


def _project_files() -> list[Path]:
    """Files that are committed or would be: what git neither ignores nor has deleted."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout: what belongs to the project cannot be told")
    paths = [PROJECT / name for name in listed.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{number}: {line.strip()[:120]}"
        for path in _project_files()
        if path.suffix not in BINARY
        for number, line in enumerate(
            path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1
        )
        if MACHINE_PATH.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("text", ["see /" + "work/main", "'/" + "home/ann/x'", "open('/" + "Users/ann')"])
def test_paths_of_one_machine_are_found(text: str) -> None:
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize("text", ["https://example.org/home/page", "a/work/b", "~/work/x", "${DIR}/root/x"])
def test_other_paths_are_left_alone(text: str) -> None:
    assert MACHINE_PATH.search(text) is None


def test_module_names_say_something() -> None:
    names = [
        path for path in _project_files() if path.suffix == ".py" and set(path.stem.split("_")) & EMPTY_NAMES
    ]
    assert [str(path.relative_to(PROJECT)) for path in names] == []
