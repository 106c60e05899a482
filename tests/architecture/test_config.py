"""Every key of the configuration has an effect: something reads it."""

from __future__ import annotations

import ast
import re

import pytest

from consilium.node.config_sections import SECTIONS, Config
from tests.architecture.rules import parse, product_files

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
def test_every_key_is_read(section: str) -> None:
    assert sorted(set(SECTIONS[section].__struct_fields__) - _read()) == []
