"""What the parser refuses: for programs it is an error like any other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from typer.core import TyperGroup

from consilium.node.cli.output import error_value, is_usage


class Commands(TyperGroup):
    """The root of the commands. With `--json` among the arguments, wrong usage gives one JSON value on standard output
    too, `{"error": {…}}` with `cli.bad_value`; the parser's own words go to standard error, and the status is 2."""

    _arguments: tuple[str, ...] = ()

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the root's own options."""
        self._arguments = tuple(args)
        with _said_as_json(self._arguments):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Parse and run a command."""
        with _said_as_json(self._arguments):
            return super().invoke(ctx)


@contextmanager
def _said_as_json(arguments: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_usage(error) and "--json" in arguments:
            detail = str(error.format_message())  # type: ignore[attr-defined]
            value = {"error": error_value("cli.bad_value", detail)}
            sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
            sys.stdout.flush()
        raise
