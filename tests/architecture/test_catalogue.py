"""Every error code has its section in docs/errors.md, and every section its code."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from consilium.ledger.catalogue import CATALOGUE
from tests.architecture.rules import PROJECT, product_files

PAGE = PROJECT / "docs" / "errors.md"
CODE = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
RAISED = re.compile(r"""\bRefused\(\s*(["'])(?P<code>[^"']+)\1""")


def _sections() -> dict[str, str]:
    """Each `## code` with the text below it."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    titles = [title.strip("` ") for title in parts[1::2]]
    assert [title for title, times in Counter(titles).items() if times > 1] == []
    return dict(zip(titles, parts[2::2], strict=True))


def test_every_code_has_its_section() -> None:
    assert sorted(set(CATALOGUE) - set(_sections())) == []


def test_every_section_has_its_code() -> None:
    assert sorted(set(_sections()) - set(CATALOGUE)) == []


def test_no_section_is_empty() -> None:
    assert [code for code, text in _sections().items() if len(text.split()) < 8] == []


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_codes_and_their_entries_are_well_formed(code: str) -> None:
    assert CODE.fullmatch(code)
    entry = CATALOGUE[code]
    assert entry.cause.endswith(".")
    assert entry.remedy.endswith(".")


def test_every_code_has_its_use() -> None:
    """A code that nothing names is no error of this program: it goes, with its section."""
    sources = [path for path in product_files() if path.name != "catalogue.py"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    assert sorted(code for code in CATALOGUE if f'"{code}"' not in text) == []


def test_every_code_that_is_raised_is_in_the_catalogue() -> None:
    raised = {
        (str(path.relative_to(PROJECT)), match["code"])
        for path in product_files()
        for match in RAISED.finditer(path.read_text(encoding="utf-8"))
    }
    assert sorted((path, code) for path, code in raised if code not in CATALOGUE) == []
