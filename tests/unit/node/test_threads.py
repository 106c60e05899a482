"""Threads of a node give way to each other, and leave nothing open behind them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator

import pytest

from consilium.node import threads

TIMEOUT_S = 20.0


def test_the_interpreter_is_shared_in_small_pieces() -> None:
    before = sys.getswitchinterval()
    try:
        threads.share_interpreter()
        assert sys.getswitchinterval() == threads.SWITCH_INTERVAL_S
    finally:
        sys.setswitchinterval(before)


async def test_what_was_being_entered_is_left_again_though_its_user_has_gone() -> None:
    """Such as a file that takes an upload: its client may go while it is opened."""
    begun, go_on = threading.Event(), threading.Event()
    said: list[str] = []

    @contextlib.contextmanager
    def slow() -> Iterator[None]:
        begun.set()
        go_on.wait(TIMEOUT_S)
        said.append("entered")
        yield
        said.append("left")

    async def use() -> None:
        async with threads.entered(slow):
            said.append("used")

    using = asyncio.create_task(use())
    assert await asyncio.to_thread(begun.wait, TIMEOUT_S)
    using.cancel()
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await using
    assert said == ["entered", "left"]


async def test_what_cannot_be_entered_says_why() -> None:
    @contextlib.contextmanager
    def broken() -> Iterator[None]:
        raise ValueError("no room")
        yield

    with pytest.raises(ValueError, match="no room"):
        async with threads.entered(broken):
            pass
