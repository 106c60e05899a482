"""What tests of real clusters share."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Note a figure, such as a time, without judging it: `pytest -rP` shows it, and a report keeps it."""

    def note(name: str, value: object) -> None:
        print(f"{name}: {value}")
        request.node.user_properties.append((name, value))

    return note
