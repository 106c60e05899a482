"""Structured logs on standard error: one JSON object a line, or columns for a person's eye.

What must never be in a log is taken out here as well, for the day somebody forgets: fields whose name says *secret*
lose their value, bytes become short hexadecimal, long text is cut, and tracebacks show no local variables.
Standard output stays free: it belongs to what a command prints.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

TEXT_CHARS_MAX: Final = 4_000
TRACE_CHARS_MAX: Final = 20_000
BYTES_SHOWN_MAX: Final = 32
DEPTH_MAX: Final = 6
REDACTED: Final = "[redacted]"

SECRET_WORDS: Final = frozenset(
    {
        "authorization",
        "cookie",
        "mnemonic",
        "partial",
        "partials",
        "passphrase",
        "passwd",
        "password",
        "payload",
        "plaintext",
        "private",
        "resource",
        "secret",
        "seed",
        "share",
        "shares",
        "token",
        "words",
    }
)
"""A field is redacted where one of these is among the words of its name, `api_token` and `tokenValue` alike."""


def configure_logging(level: str = "info", style: str = "json", stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging (aiohttp's, asyncio's) alike. For the process's start."""
    chain: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    target = stream if stream is not None else sys.stderr
    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=False)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=target.isatty())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *chain],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *chain,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor that takes out what must not be logged."""
    # Names that start with an underscore are structlog's own, and are gone before anything is written.
    return {
        name: value if name.startswith("_") else _field(name, value, DEPTH_MAX)
        for name, value in event.items()
    }


def is_secret(name: str) -> bool:
    """Whether a field of this name is redacted."""
    word = ""
    for character in f"{name}_":
        if character.isalpha() and not (character.isupper() and word and word[-1].islower()):
            word += character
            continue
        if word.lower() in SECRET_WORDS:
            return True
        word = character if character.isalpha() else ""
    return False


def _field(name: str, value: Any, depth: int) -> Any:
    if is_secret(name):
        return REDACTED
    limit = TRACE_CHARS_MAX if name in ("exception", "stack") else TEXT_CHARS_MAX
    return _plain(value, depth, limit)


def _plain(value: Any, depth: int, limit: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= limit else f"{value[:limit]}… ({len(value)} characters)"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        shown = bytes(value[:BYTES_SHOWN_MAX]).hex()
        return shown if len(value) <= BYTES_SHOWN_MAX else f"{shown}… ({len(value)} bytes)"
    if depth == 0:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return {str(name): _field(str(name), item, depth - 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth - 1, limit) for item in value]
    return _plain(str(value), depth, limit)
