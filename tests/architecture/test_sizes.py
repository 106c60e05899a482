"""Files and functions that pass these lengths want to be two. The list of exceptions only shrinks.

An entry says today's length: who makes it shorter writes the new number or strikes the entry; nobody makes it
longer.
"""

from __future__ import annotations

from tests.architecture import rules

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

TABLES = {"ledger/catalogue.py"}
"""Data in the form of code: one page on purpose, however long."""

LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}


def test_no_new_file_is_long() -> None:
    lengths = {
        str(path.relative_to(rules.PROJECT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (*rules.product_files(), *(rules.PROJECT / "scripts").glob("*.py"))
    }
    long = {
        name: length for name, length in lengths.items() if length > FILE_LINES_MAX and name not in TABLES
    }
    assert long == LONG_FILES


def test_no_new_function_is_long() -> None:
    lengths = {
        f"{path.relative_to(rules.PROJECT)}:{name}": length
        for path in (*rules.product_files(), *(rules.PROJECT / "scripts").glob("*.py"))
        for name, length in rules.function_lengths(rules.parse(path))
    }
    assert {name: length for name, length in lengths.items() if length > FUNCTION_LINES_MAX} == LONG_FUNCTIONS
