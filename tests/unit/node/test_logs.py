from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from consilium.node.logs import REDACTED, TEXT_CHARS_MAX, configure_logging, is_secret


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    structlog.get_logger("chain").info("committed", height=7, hash=b"\xab" * 4, codes={"ok": 3})
    logging.getLogger("aiohttp.server").warning("two\nlines of %s", "text")
    structlog.get_logger("chain").debug("not shown")
    own, foreign = lines(stream)
    assert {**own, "timestamp": ""} == {
        "event": "committed",
        "height": 7,
        "hash": "abababab",
        "codes": {"ok": 3},
        "level": "info",
        "logger": "chain",
        "timestamp": "",
    }
    assert (foreign["event"], foreign["level"], foreign["logger"]) == (
        "two\nlines of text",
        "warning",
        "aiohttp.server",
    )


def test_secrets_are_taken_out_wherever_they_stand(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    canary = "canary-5f2a"
    structlog.get_logger("x").info(
        "event",
        token=canary,
        rpcToken=canary,
        wallet={"name": "A", "passphrase": canary, "keys": [{"seed": canary}]},
        sealed_partials=canary.encode(),
        share=[canary],
        tokens_left=5,
    )
    logging.getLogger("x").warning("event", extra={"password": canary})
    text = stream.getvalue()
    assert canary not in text
    assert canary.encode().hex() not in text
    own, foreign = lines(stream)
    assert own["token"] == own["share"] == foreign["password"] == REDACTED
    assert own["wallet"] == {"name": "A", "passphrase": REDACTED, "keys": [{"seed": REDACTED}]}
    assert own["tokens_left"] == 5


def test_an_exception_shows_its_trace_but_no_local_variables(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)

    def fails() -> None:
        local = "canary-77aa"
        raise ZeroDivisionError(len(local))

    try:
        fails()
    except ZeroDivisionError as error:
        structlog.get_logger("x").error("failed", exc_info=error)
    (found,) = lines(stream)
    assert "ZeroDivisionError" in str(found["exception"])
    assert "in fails" in str(found["exception"])


def test_what_is_long_or_deep_or_odd_is_cut(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    deep: list[object] = []
    for _ in range(50):
        deep = [deep]
    structlog.get_logger("x").info("event", text="x" * 10_000, raw=bytes(1_000), deep=deep, odd=object)
    (found,) = lines(stream)
    assert len(str(found["text"])) < TEXT_CHARS_MAX + 50
    assert found["raw"] == "00" * 32 + "… (1000 bytes)"
    assert "<list>" in json.dumps(found["deep"])


def test_columns_for_people(stream: io.StringIO) -> None:
    configure_logging("debug", "console", stream)
    structlog.get_logger("x").debug("committed", height=7)
    assert "committed" in stream.getvalue()
    assert "height=7" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(
    "name", ["token", "api_token", "apiToken", "TOKEN", "Authorization", "wallet-seed", "x_secret_y"]
)
def test_names_that_say_secret(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["tokens", "tokenizer", "seeded", "height", "shared", "key", "event", ""])
def test_names_that_do_not(name: str) -> None:
    assert not is_secret(name)
