"""What every test shares: where real input lies, and how hypothesis searches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

PROJECT = Path(__file__).resolve().parent.parent

# One run of the suite must mean the same everywhere: examples are drawn from a fixed seed, and a slow machine is no
# failure. `HYPOTHESIS_PROFILE=explore` looks for new examples instead.
settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, max_examples=1_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of third-party input: `CONSILIUM_TEST_DATA`, else `../shared/data` beside the project.

    The data is read, never copied into the project; a test that needs it has a sibling on input of its own making.
    """
    folder = Path(os.environ.get("CONSILIUM_TEST_DATA") or PROJECT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set CONSILIUM_TEST_DATA to the folder that holds it")
    return folder
