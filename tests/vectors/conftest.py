"""Where published vectors lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def vectors(test_data: Path) -> Callable[[str], Any]:
    """Read one file below `vectors/`; skip when it is absent."""

    def read(name: str) -> Any:
        path = test_data / "vectors" / name
        if not path.is_file():
            pytest.skip(f"no {path}: set CONSILIUM_TEST_DATA to the folder that holds vectors/{name}")
        return json.loads(path.read_text(encoding="utf-8"))

    return read
