"""Work in threads: pools of their own for what must not wait for each other, and calls that a cancelled caller does not
leave behind.

Agreement waits for promises and commits, so these never queue behind the checking of a thousand signatures, nor behind
a reader of the store. Checking (messages; blocks while catching up; what clients hand in where no process does it, see
`checking`) takes as many threads as there are cores: more would only contend for the interpreter.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from functools import partial
from typing import Final, ParamSpec, TypeVar

from consilium.ledger.errors import Refused
from consilium.ledger.transaction import Transaction, Verified, verify_transaction

DURABLE_THREADS: Final = 8
"""One for each node would do: there are several nodes to a process in tests only."""

SWITCH_INTERVAL_S: Final = 0.001
"""A thread that executes keeps the interpreter for so long while others wait. Checking a signature lets go of it and
takes 40 µs: with the default of 5 ms each check would wait a hundred times as long for its turn, and so would the event
loop."""

_P = ParamSpec("_P")
_T = TypeVar("_T")

_durable = ThreadPoolExecutor(DURABLE_THREADS, thread_name_prefix="durable")
_checking = ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="checking")


def share_interpreter() -> None:
    """Have threads give way to each other soon: once for a process that runs nodes."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)


async def in_thread(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What must be durable before the caller goes on. A cancelled caller stays until the thread is through: what comes
    after the driver closes the stores that the thread is writing to."""
    loop = asyncio.get_running_loop()
    running = loop.run_in_executor(_durable, partial(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        if not running.cancelled():
            running.exception()
        raise


async def checked(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Signatures and decoding: long work that touches no disk."""
    return await asyncio.get_running_loop().run_in_executor(_checking, partial(work, *args, **kwargs))


@asynccontextmanager
async def entered(make: Callable[[], AbstractContextManager[_T]]) -> AsyncIterator[_T]:
    """A context that touches the disk where it begins and where it ends: both happen in a thread."""
    stack = ExitStack()
    entering = asyncio.ensure_future(asyncio.to_thread(lambda: stack.enter_context(make())))
    try:
        yield await asyncio.shield(entering)
    finally:
        # Whoever is cancelled meanwhile leaves nothing open: what is not entered yet cannot be left.
        await asyncio.wait({entering})
        if not entering.cancelled():
            entering.exception()
        await asyncio.to_thread(stack.close)


def verify_all(raws: Sequence[bytes], chain_id: bytes) -> list[Verified[Transaction] | Refused]:
    """Raw transactions, each verified, or why it is refused. Blocks."""
    answers: list[Verified[Transaction] | Refused] = []
    for raw in raws:
        try:
            answers.append(verify_transaction(raw, chain_id))
        except Refused as refusal:
            answers.append(refusal)
    return answers
