"""What tests of real clusters share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TIMEOUT_S = 300.0
"""Real nodes on a machine that may have much else to do; a test that knows better says so itself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What stands here runs real nodes, so alone: nobody has to remember to say it."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Note a figure, such as a time, without judging it: `pytest -rP` shows it, and a report keeps it."""

    def note(name: str, value: object) -> None:
        print(f"{name}: {value}")
        request.node.user_properties.append((name, value))

    return note
