"""What a command says, and how it ends: results on standard output, everything else on standard error.

`reporting` stands around every command. With `--json` standard output gets exactly one JSON value, also where the
command is refused: then `{"error": {…}}`. The status tells programs what happened, see `ExitStatus`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from consilium.ledger.catalogue import CATALOGUE
from consilium.ledger.errors import InvariantBroken, Refused, sole_error


class ExitStatus(IntEnum):
    """How a command ended."""

    OK = 0
    REFUSED = 1
    """The ledger, a custodian or a node said no; or a receipt does not prove what it should."""
    BAD_INPUT = 2
    """The command was called wrongly, or a file that it was given is not what it should be."""
    UNREACHABLE = 3
    """No node answered, or not in time: the same command may work later."""
    INTERNAL = 4
    """A bug, or a node that contradicts itself."""
    INTERRUPTED = 130
    """Ctrl-C."""


UNREACHABLE_CODES: Final = frozenset(
    {"cluster.not_ready", "mempool.full", "rpc.busy", "rpc.shutting_down", "rpc.timeout", "rpc.unreachable"}
)
INTERNAL_CODES: Final = frozenset({"cli.internal", "contract.fault", "rpc.internal"})
FILE_COLUMNS: Final = 400
INPUT_CODES: Final = frozenset({"consent.unknown_purpose", "records.imported_before", "store.exists"})
REFUSED_CODES: Final = frozenset({"cluster.node_died"})
INPUT_GROUPS: Final = frozenset(
    {"bundle", "cli", "cluster", "config", "did", "founding", "genesis", "wallet"}
)


def exit_status(code: str) -> ExitStatus:
    """The status of a command that ended with this catalogue code."""
    if code in UNREACHABLE_CODES:
        return ExitStatus.UNREACHABLE
    if code in INTERNAL_CODES:
        return ExitStatus.INTERNAL
    if code in INPUT_CODES or (code not in REFUSED_CODES and code.partition(".")[0] in INPUT_GROUPS):
        return ExitStatus.BAD_INPUT
    return ExitStatus.REFUSED


class Report:
    """Where a command puts its result."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._said = False
        self.console = _console(stderr=False)
        self.errors = _console(stderr=True)

    def result(self, value: Any, show: Callable[[Console], None]) -> None:
        """The command's result: its JSON value, or `show` for people."""
        if self.as_json:
            self._say(value)
        else:
            show(self.console)

    def note(self, text: str) -> None:
        """A word on the way, for people."""
        if not self.as_json:
            self.errors.print(escape(text))

    def error(self, code: str, detail: str) -> None:
        """Why the command did not do it, and what to do."""
        refusal = Refused(code, detail)
        if self.as_json:
            self._say({"error": error_value(code, detail)})
        self.errors.print(f"[bold red]error:[/] {escape(code)}: {escape(refusal.words)}")
        self.errors.print(f"[bold]what to do:[/] {escape(refusal.entry.remedy)}")

    def _say(self, value: Any) -> None:
        """Standard output gets one value: a result that is a refusal too (a denied reading) is not said twice."""
        if not self._said:
            self._said = True
            sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
            sys.stdout.flush()

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar on standard error for long work, if that is a terminal: call it with (done, total)."""
        if not self.errors.is_terminal:
            yield lambda done, total: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.errors, transient=True) as bar:
            task = bar.add_task(escape(what), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def reporting(as_json: bool) -> Iterator[Report]:
    """Stand around a command: expected errors become one clear line and a status, never a traceback."""
    report = Report(as_json)
    try:
        yield report
    except Refused as refusal:
        report.error(refusal.code, refusal.detail)
        raise typer.Exit(exit_status(refusal.code)) from None
    except InvariantBroken as broken:
        raise _halted(report, broken) from None
    except KeyboardInterrupt:
        report.errors.print("interrupted")
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
    except BrokenPipeError:
        # Who read our output has seen enough. Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitStatus.OK) from None
    except Exception as error:
        # The command's own task groups wrap what their tasks raised.
        inner = sole_error(error)
        if isinstance(inner, Refused):
            report.error(inner.code, inner.detail)
            raise typer.Exit(exit_status(inner.code)) from None
        if isinstance(inner, InvariantBroken):
            raise _halted(report, inner) from None
        if isinstance(error, (typer.Exit, typer.Abort, typer.BadParameter)) or is_usage(error):
            raise
        traceback.print_exception(error, file=sys.stderr)
        report.error("cli.internal", f"{type(error).__name__}: {error}")
        raise typer.Exit(ExitStatus.INTERNAL) from None


def _halted(report: Report, broken: InvariantBroken) -> typer.Exit:
    report.errors.print(f"[bold red]halted:[/] {escape(str(broken))}")
    report.error("cli.internal", str(broken))
    return typer.Exit(ExitStatus.INTERNAL)


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)
    if not console.is_terminal:
        console.width = FILE_COLUMNS  # lines of a file or pipe are not folded
    return console


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table for people. Cells are plain text."""
    made = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(escape(str(cell)) for cell in row))
    return made


def example(*commands: str) -> str:
    """The end of a command's help."""
    return "\n\n".join(["Example:" if len(commands) == 1 else "Examples:", *(escape(c) for c in commands)])


def error_value(code: str, detail: str) -> dict[str, str]:
    """The JSON form of an error of the catalogue."""
    entry = CATALOGUE[code]
    return {"code": code, "detail": detail, "cause": entry.cause, "remedy": entry.remedy}


def is_usage(error: BaseException) -> bool:
    """Whether it is the parser's own way to say that the command was called wrongly."""
    return hasattr(error, "exit_code") and hasattr(error, "format_message")
