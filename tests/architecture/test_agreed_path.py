"""Nothing on the agreed path may differ between two nodes; nothing in the product may vanish under `-O` or grow."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest

from tests.architecture import rules
from tests.architecture.rules import Finding

Rule = Callable[[ast.Module], list[Finding]]


def _findings(rule: Rule, *floors: str) -> list[str]:
    paths = rules.product_files(*floors)
    assert paths, "the rule would have looked at nothing"
    return [line for path in paths for line in rules.show(path, rule(rules.parse(path)))]


@pytest.mark.parametrize("rule", [rules.set_iteration, rules.unstable_values, rules.exception_text])
def test_the_agreed_path_is_the_same_on_every_node(rule: Rule) -> None:
    assert _findings(rule, *rules.AGREED_PATH) == []


@pytest.mark.parametrize("rule", [rules.assert_statements, rules.unbounded_queues, rules.bare_floor_imports])
def test_all_product_code(rule: Rule) -> None:
    assert _findings(rule) == []


def test_one_module_alone_believes_what_a_process_found_of_signatures() -> None:
    """Whoever calls `verify_found` makes a `Verified` of its own word."""
    named = [
        path.relative_to(rules.PROJECT).as_posix()
        for path in rules.product_files()
        if any(
            isinstance(node, ast.Name | ast.alias)
            and "verify_found" in (getattr(node, "id", ""), getattr(node, "name", ""))
            for node in ast.walk(rules.parse(path))
        )
    ]
    assert named == ["ledger/transaction.py", "node/checking.py"]
