"""The rules themselves: each finds what it names, and leaves alone what is sound beside it."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest

from tests.architecture import rules
from tests.architecture.rules import Finding

Rule = Callable[[ast.Module], list[Finding]]


@pytest.mark.parametrize(
    "code",
    [
        "for x in {1, 2}: pass",
        "for x in set(y): pass",
        "z = [x for x in frozenset(y)]",
        "z = {x: 1 for x in {*y}}",
        "z = list({x for x in y})",
        "z = b''.join(set(y))",
        "z = tuple(a | {1})",
        "z = list({1}.union(y))",
        "def f(s: set[int]):\n    for x in s: pass",
        "def f(s: frozenset[int]):\n    return [*s]",
        "def f(a):\n    s = set(a)\n    return tuple(s - {1})",
        "class C:\n    s: set[int]\n    def f(self):\n        yield from self.s",
        "class C:\n    def __init__(self):\n        self.s = set()\n    def f(self):\n        return self.s.pop()",
        "S: Final[frozenset[int]] = frozenset(x)\nfor x in S: pass",
        "z = max(set(y), key=len)",
        "a, b = {1, 2}",
    ],
)
def test_the_order_of_a_set_is_found(code: str) -> None:
    assert rules.set_iteration(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "for x in sorted({1, 2}): pass",
        "z = sorted(x for x in set(y))",
        "z = sum(1 for x in {1, 2} if x)",
        "z = len(set(y)) == len(y)",
        "z = {x for x in set(y)}",
        "z = 1 in {1, 2}",
        "z = max(set(y))",
        "for x in [1, 2]: pass",
        "def f(s: dict[int, int]):\n    return list(s)",
        "z = stack.pop()",
        "z = a | b",
    ],
)
def test_what_does_not_depend_on_order_is_left_alone(code: str) -> None:
    assert rules.set_iteration(ast.parse(code)) == []


@pytest.mark.parametrize(
    "code",
    [
        "x = 0.5",
        "x = 1e3",
        "x = a / b",
        "x /= 2",
        "x = float(y)",
        "x = hash(y)",
        "x = id(y)",
        "d.sort(key=hash)",
        "x: float",
        "x = y.lower()",
        "x = y.isdigit()",
        "x = y.strip()",
        "x = y.split()",
        "x = unicodedata.normalize('NFC', y)",
        "x = re.compile(r'\\d+')",
        "x = round(y)",
    ],
)
def test_unstable_values_are_found(code: str) -> None:
    assert rules.unstable_values(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "x = a // b",
        "x = y.strip('0')",
        "x = y.split(',')",
        "x = re.compile(r'[0-9]+', re.ASCII)",
        "x = 5",
        "x = a.id",
    ],
)
def test_stable_values_are_left_alone(code: str) -> None:
    assert rules.unstable_values(ast.parse(code)) == []


@pytest.mark.parametrize(
    "use", ["return str(error)", "x = f'{error}'", "return error.args", "return error.detail"]
)
def test_the_text_of_an_exception_in_a_result_is_found(use: str) -> None:
    assert rules.exception_text(
        ast.parse(f"def f():\n  try:\n    g()\n  except Refused as error:\n    {use}")
    )


@pytest.mark.parametrize("use", ["return error.code", "raise Refused('a.b', f'{error}') from None", "raise"])
def test_the_code_of_an_exception_is_left_alone(use: str) -> None:
    assert (
        rules.exception_text(ast.parse(f"def f():\n  try:\n    g()\n  except Refused as error:\n    {use}"))
        == []
    )


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (rules.assert_statements, "assert x", "if not x: raise ValueError(x)"),
        (rules.unbounded_queues, "q = asyncio.Queue()", "q = asyncio.Queue(LIMIT)"),
        (rules.unbounded_queues, "q = asyncio.Queue[int]()", "q = asyncio.Queue[int](maxsize=LIMIT)"),
        (rules.unbounded_queues, "q = Queue(maxsize=0)", "q = Queue(maxsize=9)"),
        (rules.unbounded_queues, "q = queue.SimpleQueue()", "q = queue.LifoQueue(9)"),
        (
            rules.bare_floor_imports,
            "from ledger.codec import decode",
            "from consilium.ledger.codec import decode",
        ),
        (rules.bare_floor_imports, "import node.wire", "import consilium.node.wire"),
    ],
)
def test_rules_for_all_product_code(rule: Rule, bad: str, good: str) -> None:
    assert rule(ast.parse(bad))
    assert rule(ast.parse(good)) == []


def test_function_lengths_leave_docstrings_out() -> None:
    code = (
        'class C:\n    def f(self):\n        """One.\n\n        Two.\n        """\n'
        "        def g():\n            pass\n        return g\n"
    )
    assert dict(rules.function_lengths(ast.parse(code))) == {"C.f": 4, "C.f.g": 2}
