"""`pytest tests/scenarios --rewrite` writes the printed results anew: read the diff before you commit it."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the scenarios' results anew")
