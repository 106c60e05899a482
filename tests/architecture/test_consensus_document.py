"""docs/consensus.md is consensus/ in words: the code cites it, every invariant is argued, and each rule is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.rules import PROJECT, product_files

DOCUMENT = (PROJECT / "docs" / "consensus.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^##+ (.+)$", DOCUMENT, re.MULTILINE)
CITATION = re.compile(r'docs/consensus\.md, ((?:"[^"]+"(?:,? and |, )?)+)')
MODULES = sorted(path for path in (PROJECT / "consensus").glob("*.py") if path.name != "__init__.py")
SCENARIOS = PROJECT / "tests" / "scenarios"
INVARIANTS = (
    "agreement",
    "validity",
    "certificate",
    "durable before sent",
    "no contradict",
    "progress",
)


def section(title: str) -> str:
    """The text below a heading, up to the next one of its rank."""
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return match[1]


def citations(path: Path) -> list[str]:
    """The sections that a file cites. A citation may run over the end of a line."""
    text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
    return [name for group in CITATION.findall(text) for name in re.findall(r'"([^"]+)"', group)]


def test_citations_are_found() -> None:
    assert "Tallies" in citations(PROJECT / "consensus" / "votes.py")
    assert citations(PROJECT / "consensus" / "hearing.py") == ["Tallies", "Evidence"]


def test_every_cited_section_exists() -> None:
    files = [*product_files(), *(PROJECT / "tests").rglob("*.py")]
    missing = {
        f"{path.relative_to(PROJECT)}: {name}"
        for path in files
        for name in citations(path)
        if name not in HEADINGS
    }
    assert missing == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_module_of_consensus_cites_the_document(path: Path) -> None:
    assert "docs/consensus.md" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_module_of_consensus_is_named_in_the_document(path: Path) -> None:
    assert f"`{path.name}`" in DOCUMENT


@pytest.mark.parametrize("invariant", INVARIANTS)
def test_every_invariant_is_argued_and_followed_across_a_change_of_the_set(invariant: str) -> None:
    argued = [one.lower() for one in re.findall(r"^\*\*(.+?)\.\*\*", section("Invariants"), re.MULTILINE)]
    assert any(one.startswith(invariant) for one in argued), argued
    rows = re.findall(r"^\| (.+?) \|", section("Changes of the validator set"), re.MULTILINE)
    assert any(row.lower().startswith(invariant) for row in rows), rows


# Each rule is shown by a scenario: tests/scenarios/README.md says which one ------------------------------------------


def shown() -> dict[str, list[str]]:
    """By section of the document, the scenarios that the rules' table names."""
    page = (SCENARIOS / "README.md").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for title, cell in re.findall(r"^\| ([A-Z][^|]+?) \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE):
        found.setdefault(title, []).extend(re.findall(r"`(\w+)`", cell))
    return found


def test_every_rule_names_a_section_and_scenarios_that_exist() -> None:
    for title, names in shown().items():
        assert title in HEADINGS, title
        assert names, title
        assert [name for name in names if not (SCENARIOS / f"{name}.txt").exists()] == []


def test_every_scenario_shows_a_rule() -> None:
    named = {name for names in shown().values() for name in names}
    assert {path.stem for path in SCENARIOS.glob("*.txt")} - named == set()


RULES = (
    "Headers",
    "Phases",
    "View change",
    "Primary",
    "Seals",
    "Durable before sent",
    "Timers",
    "Tallies",
    "Other heights",
    "Changes of the validator set",
    "Restart",
    "Evidence",
)


@pytest.mark.parametrize("title", RULES)
def test_every_section_with_rules_has_scenarios(title: str) -> None:
    assert shown().get(title), title
