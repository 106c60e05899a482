"""What the pages name exists: files of the project, and the targets of links, with their headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.rules import FLOORS, PROJECT

PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "tests").rglob("*.md")])
FOLDERS = (*FLOORS, "docs", "scripts", "tests", "web")
PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[A-Za-z0-9_./-]*)(?![<A-Za-z0-9_./-])")
LINK = re.compile(r"\[[^\]]+\]\(([^)\s#]*)(?:#([^)\s]+))?\)")
CODE = re.compile(r"```.*?```", re.DOTALL)


def _names(page: Path) -> list[str]:
    """Not those that end in a placeholder, as `tests/unit/contracts/test_<module>.py`."""
    return [name.rstrip("./") for name in PATH.findall(page.read_text(encoding="utf-8"))]


def _anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _exists(name: str) -> bool:
    """As it stands, or as a module without its ending."""
    return (PROJECT / name).exists() or (PROJECT / f"{name}.py").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_files_that_are_named_exist(page: Path) -> None:
    assert sorted({name for name in _names(page) if not _exists(name)}) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target, anchor in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(f"{target}#{anchor}")
    assert broken == []
