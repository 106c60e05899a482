"""Runs a suite inside a copy of the project: `inside.py ROOT pytest|simulate ARGUMENTS...`.

Refuses where `consilium` would be imported from anywhere but the copy: then the fault would not be in what is tested.
"""

from __future__ import annotations

import importlib
import importlib.util
import resource
import runpy
import sys
from pathlib import Path

OUTSIDE = 97
"""The exit code where the copy would not be what runs."""
MEMORY_BYTES_MAX = 4 << 30
"""A fault that takes memory without end must not take the machine."""


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(root))
    for name in ("consilium", "consilium.consensus", "consilium.storage", "consilium.node"):
        file = importlib.import_module(name).__file__
        if file is None or not Path(file).resolve().is_relative_to(root):
            print(f"{name} comes from {file}, not from {root}")
            return OUTSIDE
    for name in ("pytest", "hypothesis"):
        if importlib.util.find_spec(name) is None:
            print(f"{name} comes from nowhere: the environment is not whole")
            return OUTSIDE
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    what, arguments = sys.argv[2], sys.argv[3:]
    if what == "pytest":
        import pytest

        return int(pytest.main(arguments))
    script = str(root / "scripts" / "_simulate.py")
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
