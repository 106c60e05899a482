"""Small faults that can be made in a source file, found by its syntax tree, each named and placed.

What cannot change behaviour is not looked at: annotations (but for the bounds in `Meta(...)`, which the codec obeys),
docstrings, texts of exceptions and of the log, decorators, imports. A fault replaces one expression or one statement;
all other bytes of the file stay as they are. `every` gives them in the order of the source, `draw` orders them by
lot, so that nobody picks.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

SHOWN_CHARACTERS_MAX: Final = 90
_COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
}
_CALLS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True)
class Fault:
    """Bytes `start` to `end` of `file` (relative to the project) become `text`."""

    name: str
    file: str
    line: int
    operator: str
    start: int
    end: int
    text: str

    def apply(self, source: bytes) -> bytes:
        """The file with the fault in it."""
        return source[: self.start] + self.text.encode() + source[self.end :]


def every(root: Path, files: Sequence[str]) -> list[Fault]:
    """All faults of these files, in order. Names tell the place and the change, and do not depend on line numbers."""
    found: list[Fault] = []
    for file in files:
        source = (root / file).read_bytes()
        found += _Finder(file, source).find()
    counted: Counter[str] = Counter()
    named = []
    for fault in found:
        counted[fault.name] += 1
        again = counted[fault.name]
        named.append(fault if again == 1 else replace(fault, name=f"{fault.name} (#{again})"))
    return named


def draw(faults: Sequence[Fault], seed: int) -> list[Fault]:
    """All of them, in an order that the seed alone decides.

    Each has its own lot: a change of the code elsewhere leaves its place in the order, so that what a seed draws today
    it draws tomorrow.
    """
    return sorted(faults, key=lambda fault: lot(seed, fault.name))


def lot(seed: int, name: str) -> bytes:
    """The place of a fault in the order of a seed."""
    return hashlib.sha256(f"{seed} {name}".encode()).digest()


class _Finder(ast.NodeVisitor):
    """Walks one file. `_scope` is the class and function that it is in."""

    def __init__(self, file: str, source: bytes) -> None:
        self._file = file
        self._source = source
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._scope: list[str] = []
        self._found: list[Fault] = []

    def find(self) -> list[Fault]:
        tree = ast.parse(self._source)
        self._block(tree.body)
        return sorted(self._found, key=lambda fault: (fault.start, fault.end, fault.name))

    def _at(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column

    def _add(
        self, operator: str, first: ast.AST, text: str, before: str, last: ast.AST | None = None
    ) -> None:
        last = last or first
        start = self._at(first.lineno, first.col_offset)  # type: ignore[attr-defined]
        end = self._at(last.end_lineno, last.end_col_offset)  # type: ignore[attr-defined]
        where = f"{self._file} {'.'.join(self._scope) or 'module'}"
        name = f"{where}: {_shown(before)} -> {_shown(text)}"
        self._found.append(Fault(name, self._file, first.lineno, operator, start, end, text))  # type: ignore[attr-defined]

    def _expression(self, operator: str, node: ast.expr, new: ast.expr) -> None:
        self._add(operator, node, f"({ast.unparse(new)})", ast.unparse(node))

    # Statements -----------------------------------------------------------------------------------------------------

    def _block(self, body: list[ast.stmt]) -> None:
        for index, statement in enumerate(body):
            if _is_docstring(statement) or _is_logging(statement):
                continue
            if _may_be_left_out(statement):
                self._add("omission", statement, "pass", ast.unparse(statement))
            if index and _is_act(statement) and _is_act(body[index - 1]):
                one, other = body[index - 1], statement
                text = f"{ast.unparse(other)}; {ast.unparse(one)}"
                self._add("order", one, text, f"{ast.unparse(one)}; {ast.unparse(other)}", other)
            self.visit(statement)

    def _scoped(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._scope.append(node.name)
        self._block(node.body)
        self._scope.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scoped(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name == "__repr__":
            return
        for default in [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]:
            self.visit(default)
        self._scoped(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias":
            return
        for call in ast.walk(node.annotation):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr == "Meta"
            ):
                for keyword in call.keywords:
                    self.visit(keyword.value)
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(target, ast.Name) and target.id == "__slots__" for target in node.targets):
            return
        for target in node.targets:
            self.visit(target)
        self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        """What is raised is text for people; that it is raised is `_may_be_left_out`'s."""

    def visit_If(self, node: ast.If) -> None:
        self._condition(node.test)
        self.visit(node.test)
        self._block(node.body)
        self._block(node.orelse)

    def visit_While(self, node: ast.While) -> None:
        if not isinstance(node.test, ast.Constant):
            self._condition(node.test)
            self.visit(node.test)
        self._block(node.body)

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self._block(node.body)
        self._block(node.orelse)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        self._block(node.body)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> None:
        self._block(node.body)

    def visit_Try(self, node: ast.Try) -> None:
        for block in (node.body, *(handler.body for handler in node.handlers), node.orelse, node.finalbody):
            self._block(block)

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        for case in node.cases:
            if case.guard is not None:
                self._condition(case.guard)
                self.visit(case.guard)
            self._block(case.body)

    # Expressions ----------------------------------------------------------------------------------------------------

    def _condition(self, test: ast.expr) -> None:
        """The opposite of a condition, where comparing otherwise does not already say it."""
        if isinstance(test, ast.UnaryOp | ast.NamedExpr) or (
            isinstance(test, ast.Compare) and len(test.ops) == 1
        ):
            return
        self._expression("condition", test, ast.UnaryOp(ast.Not(), test))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Text for people."""

    def visit_Compare(self, node: ast.Compare) -> None:
        for place, comparison in enumerate(node.ops):
            for other in _COMPARISONS[type(comparison)]:
                ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
                self._expression("comparison", node, ast.Compare(node.left, ops, node.comparators))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other: ast.boolop = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._expression("connective", node, ast.BoolOp(other, node.values))
        for place in range(len(node.values)):
            rest = [*node.values[:place], *node.values[place + 1 :]]
            self._expression("term", node, rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._expression("condition", node, node.operand)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._condition(test)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = _ARITHMETIC.get(type(node.op))
        if other is not None:
            self._expression("arithmetic", node, ast.BinOp(node.left, other(), node.right))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._expression("constant", node, ast.Constant(not node.value))
        elif isinstance(node.value, int):
            self._expression("constant", node, ast.Constant(node.value + 1))
            if node.value > 0:
                self._expression("constant", node, ast.Constant(node.value - 1))

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in _CALLS:
            other = ast.Name(_CALLS[node.func.id], ast.Load())
            self._expression("call", node, ast.Call(other, node.args, node.keywords))
        if isinstance(node.func, ast.Name) and node.func.id == "TypeVar":
            return
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.slice, ast.Slice) and isinstance(node.ctx, ast.Load):
            self._expression("slice", node, node.value)
        self.generic_visit(node)


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS_MAX else line[:SHOWN_CHARACTERS_MAX] + "…"


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_logging(statement: ast.stmt) -> bool:
    if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)):
        return False
    called = statement.value.func
    return isinstance(called, ast.Attribute) and ast.unparse(called.value) == "_log"


def _is_act(statement: ast.stmt) -> bool:
    """A call for its effect."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call | ast.Await)
        and not _is_logging(statement)
    )


def _may_be_left_out(statement: ast.stmt) -> bool:
    """Whether the code makes sense without the statement: nothing that later lines need by name."""
    if isinstance(statement, ast.Assign):
        return all(isinstance(target, ast.Attribute | ast.Subscript) for target in statement.targets)
    return _is_act(statement) or isinstance(
        statement, ast.AugAssign | ast.Raise | ast.Delete | ast.Continue | ast.Break
    )


def places(faults: Sequence[Fault]) -> Iterator[tuple[str, int]]:
    """How many faults each file offers."""
    yield from sorted(Counter(fault.file for fault in faults).items())
