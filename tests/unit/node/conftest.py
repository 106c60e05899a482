"""A network in memory for the tests of the node floor."""

from __future__ import annotations

import pytest

from tests.unit.node.harness import Harness


@pytest.fixture
def solo() -> Harness:
    """One institution: its validator decides alone."""
    return Harness(1)


@pytest.fixture
def four() -> Harness:
    """Four institutions, one of which may lie."""
    return Harness(4)
