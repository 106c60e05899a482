"""Every key of the configuration has an effect: something reads it."""

from __future__ import annotations

import ast
import re
from typing import get_type_hints

import msgspec
import pytest

from consilium.node.config_sections import SECTIONS, Config
from tests.architecture.rules import PROJECT, parse, product_files

PAGE = PROJECT / "docs" / "configuration.md"
TAKES_CONFIG = re.compile(r"\bconfig: Config\b")


def _attributes(tree: ast.AST) -> set[str]:
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def _read() -> set[str]:
    """Attributes that the node reads, and those that the sections' own properties read."""
    return set().union(*(_attributes(parse(path)) for path in product_files("node")))


def test_every_section_that_is_read_exists() -> None:
    """`config.s3` without a section would end every node at its start, and nothing else."""
    names = set(Config.__struct_fields__)
    read = {
        node.attr
        for path in product_files("node")
        if TAKES_CONFIG.search(path.read_text(encoding="utf-8"))
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("config", "self._config")
    }
    assert sorted(read - names - set(dir(Config))) == []
    assert names == {"folder", *SECTIONS}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_says_of_every_key_what_the_program_says(section: str) -> None:
    text = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (page,) = [part for part in text if part.startswith(f"`[{section}]`")]
    rows = dict(re.findall(r"^\| `([a-z0-9_]+)` \|.*\| ([^|]+) \|$", page, re.MULTILINE))
    hints = get_type_hints(SECTIONS[section], include_extras=True)
    said = {
        key: next(
            meta.description
            for meta in hint.__metadata__
            if isinstance(meta, msgspec.Meta) and meta.description
        )
        for key, hint in hints.items()
    }
    assert rows == said


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_read(section: str) -> None:
    assert sorted(set(SECTIONS[section].__struct_fields__) - _read()) == []
