"""What the linters cannot see, read from the syntax tree: each rule is a function from a module to its findings.

The agreed path (ledger, contracts, consensus) must give the same bytes on every node, under every Python that we
support. What differs between two runs or two versions is banned there: the order of sets, `hash()`, floating point,
methods whose answer depends on Python's Unicode tables, the text of exceptions. The rules approximate: they follow
names and annotations inside one module, not values across modules.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent.parent
FLOORS = ("ledger", "consensus", "storage", "p2p", "contracts", "client", "gateway", "node")
AGREED_PATH = ("ledger", "contracts", "consensus")


class Finding(NamedTuple):
    """One line that breaks a rule."""

    line: int
    problem: str


def product_files(*floors: str) -> list[Path]:
    """Every Python file on the floors (all floors when none is named), sorted."""
    return sorted(
        path
        for floor in floors or FLOORS
        for path in (PROJECT / floor).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def show(path: Path, findings: list[Finding]) -> list[str]:
    """Findings as clickable lines."""
    return [f"{path.relative_to(PROJECT)}:{line}: {problem}" for line, problem in findings]


# --- order of sets -----------------------------------------------------------------------------------------------

SET_TYPES = {"set", "frozenset", "AbstractSet", "MutableSet", "Set", "FrozenSet"}
SET_METHODS = {"union", "intersection", "difference", "symmetric_difference"}
ORDER_BLIND = {"all", "any", "frozenset", "len", "set", "sorted", "sum"}
"""Consumers whose answer does not depend on the order in which they are fed."""
ORDER_KEEPING = {
    "bytes",
    "deque",
    "dict",
    "enumerate",
    "filter",
    "iter",
    "list",
    "map",
    "reversed",
    "tuple",
    "zip",
}


def set_iteration(tree: ast.Module) -> list[Finding]:
    """Places where the order of a set reaches a value: loops, lists, tuples, `join`, `pop`, unpacking."""
    names = _set_names(tree)
    blind = _order_blind_nodes(tree)
    findings: list[Finding] = []

    def check(node: ast.expr) -> None:
        if _is_set(node, names):
            findings.append(
                Finding(node.lineno, f"the order of a set decides here: sorted({ast.unparse(node)})")
            )

    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.YieldFrom | ast.Starred):
            check(node.iter if isinstance(node, ast.For) else node.value)
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp) and node not in blind:
            for generator in node.generators:
                check(generator.iter)
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Tuple | ast.List) for t in node.targets):
            check(node.value)
        elif isinstance(node, ast.Call):
            for argument in _order_sensitive_arguments(node, names):
                check(argument)
    return findings


def _order_sensitive_arguments(call: ast.Call, names: set[str]) -> list[ast.expr]:
    function = call.func
    if isinstance(function, ast.Name):
        if function.id in ORDER_KEEPING:
            return call.args
        if function.id in {"min", "max"} and any(keyword.arg == "key" for keyword in call.keywords):
            return call.args  # a tie goes to whoever came first
    if isinstance(function, ast.Attribute):
        if function.attr in {"join", "extend", "fromkeys"}:
            return call.args
        if function.attr == "pop" and not call.args:
            return [function.value]
    return []


def _order_blind_nodes(tree: ast.Module) -> set[ast.AST]:
    """Comprehensions that are consumed, where they stand, by something that does not care for order."""
    blind: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            keyed = any(keyword.arg == "key" for keyword in node.keywords)
            if node.func.id in ORDER_BLIND or (node.func.id in {"min", "max"} and not keyed):
                blind.update(node.args)
    return blind


def _set_names(tree: ast.Module) -> set[str]:
    """Names and attributes that are annotated as sets, or assigned from expressions that are sets."""
    names: set[str] = set()
    for _ in range(2):  # the second pass sees names that were assigned from names
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign) and _is_set_annotation(node.annotation):
                names.add(ast.unparse(node.target))
                names.add(f"self.{ast.unparse(node.target)}")
            elif isinstance(node, ast.arg) and node.annotation and _is_set_annotation(node.annotation):
                names.add(node.arg)
            elif isinstance(node, ast.Assign) and _is_set(node.value, names):
                names.update(ast.unparse(target) for target in node.targets)
    return names


def _is_set_annotation(annotation: ast.expr) -> bool:
    base = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    name = base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
    if name in {"Final", "ClassVar", "Annotated"} and isinstance(annotation, ast.Subscript):
        inner = annotation.slice
        return _is_set_annotation(inner.elts[0] if isinstance(inner, ast.Tuple) else inner)
    return name in SET_TYPES


def _is_set(node: ast.expr, names: set[str]) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in SET_METHODS | {"copy"}:
            return _is_set(value, names)
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() | ast.BitXor() | ast.Sub(), right=right):
            return _is_set(left, names) or _is_set(right, names)
        case ast.IfExp(body=body, orelse=orelse):
            return _is_set(body, names) or _is_set(orelse, names)
        case ast.Name() | ast.Attribute():
            return ast.unparse(node) in names
        case _:
            return False


# --- values that differ between runs, machines or versions --------------------------------------------------------

UNSTABLE_BUILTINS = {
    "hash": "hash() differs from run to run",
    "id": "id() differs from run to run",
    "float": "floating point is not agreed on",
    "complex": "floating point is not agreed on",
    "round": "round() is for floating point: divide integers with //",
    "open": "no input or output here",
    "print": "no input or output here",
    "input": "no input or output here",
    "vars": "the insides of an object are no agreed value",
}
UNICODE_METHODS = {
    "capitalize", "casefold", "isalnum", "isalpha", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric",
    "isprintable", "isspace", "istitle", "isupper", "lower", "normalize", "splitlines", "swapcase", "title", "upper",
}  # fmt: skip
WHITESPACE_METHODS = {"strip", "lstrip", "rstrip", "split", "rsplit"}
"""Without arguments these ask Python's Unicode tables what white space is."""


def unstable_values(tree: ast.Module) -> list[Finding]:
    """Floats, true division, `hash()` and its like, Unicode-table methods, patterns without `re.ASCII`."""
    return [Finding(node.lineno, problem) for node, problem in _unstable(tree)]


def _unstable(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=float() | complex()):
                yield node, f"floating point is not agreed on: {node.value!r}"
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                yield node, "true division gives a float: use //"
            case ast.Name(id=name, ctx=ast.Load()) if name in UNSTABLE_BUILTINS:
                yield node, UNSTABLE_BUILTINS[name]
            case ast.Call(func=ast.Attribute(attr=method)) if method in UNICODE_METHODS:
                yield node, f".{method}() follows the Unicode tables of the Python that runs it"
            case ast.Call(func=ast.Attribute(attr=method), args=[]) if method in WHITESPACE_METHODS:
                yield (
                    node,
                    f".{method}() without arguments follows the Unicode tables of the Python that runs it",
                )
            case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=function)):
                if function != "escape" and not re.search(r"\bre\.(A|ASCII)\b", ast.unparse(node)):
                    yield (
                        node,
                        "a pattern without re.ASCII follows the Unicode tables of the Python that runs it",
                    )
            case _:
                pass


def exception_text(tree: ast.Module) -> list[Finding]:
    """Text of a caught exception that is used for anything but raising another: it would reach a result."""
    findings: list[Finding] = []
    for handler in ast.walk(tree):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None:
            continue
        raised = {
            inside for node in ast.walk(handler) if isinstance(node, ast.Raise) for inside in ast.walk(node)
        }
        for node in ast.walk(handler):
            if node not in raised and _is_text_of(node, handler.name):
                findings.append(
                    Finding(handler.lineno, f"the text of {handler.name!r} is not agreed on: use its code")
                )
    return findings


def _is_text_of(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="str" | "repr" | "format"), args=[ast.Name(id=used), *_]):
            return used == name
        case ast.FormattedValue(value=ast.Name(id=used)):
            return used == name
        case ast.Attribute(value=ast.Name(id=used), attr="args" | "detail"):
            return used == name
        case _:
            return False


# --- all product code ---------------------------------------------------------------------------------------------


def assert_statements(tree: ast.Module) -> list[Finding]:
    """`python -O` strips them: a check that matters raises."""
    return [
        Finding(node.lineno, "assert is stripped by -O: raise")
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]


QUEUES = {"Queue", "LifoQueue", "PriorityQueue"}


def unbounded_queues(tree: ast.Module) -> list[Finding]:
    """Queues without a limit: whoever is slow would grow another's memory."""
    findings: list[Finding] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        limits = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "maxsize")]
        limited = bool(limits) and not (isinstance(limits[0], ast.Constant) and limits[0].value in (0, None))
        if name == "SimpleQueue" or (name in QUEUES and not limited):
            findings.append(Finding(node.lineno, f"{name} without maxsize"))
    return findings


def bare_floor_imports(tree: ast.Module) -> list[Finding]:
    """Imports of a folder under its own name: they would make a second copy of each module and each type."""
    findings: list[Finding] = []
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module or ""]
        else:
            continue
        bare = [module for module in modules if module.split(".")[0] in FLOORS]
        findings += [Finding(node.lineno, f"import consilium.{module}") for module in bare]
    return findings


def function_lengths(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each function's dotted name and its lines, from `def` to its last, its docstring left out."""

    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                first = child.body[0]
                is_documented = ast.get_docstring(child, clean=False) is not None
                documented = (first.end_lineno or first.lineno) - first.lineno + 1 if is_documented else 0
                yield prefix + child.name, (child.end_lineno or child.lineno) - child.lineno + 1 - documented
                yield from visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                yield from visit(child, f"{prefix}{child.name}.")
            else:
                yield from visit(child, prefix)

    return visit(tree, "")
