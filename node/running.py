"""A node in the foreground: from its configuration to the signal, or the end of standard input, that ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import Final

from consilium.node.config import Config
from consilium.node.logs import configure_logging
from consilium.node.threads import share_interpreter
from consilium.node.wire import run_node
from consilium.p2p.mesh import Mesh

EOF_READ_BYTES: Final = 64


def run_in_foreground(config: Config, *, stop_on_eof: bool = False, mesh: type[Mesh] = Mesh) -> None:
    """Run a node until SIGTERM, Ctrl-C or, on demand, the end of standard input. It logs to standard error.

    Raises Refused where it cannot start, InvariantBroken where it must not go on.
    """
    configure_logging(config.log.level, config.log.format)
    share_interpreter()

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        if stop_on_eof:
            loop.add_reader(sys.stdin.fileno(), _until_eof, loop, stop)
        await run_node(config, stop, mesh=mesh)

    asyncio.run(serve())


def _until_eof(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    with contextlib.suppress(BlockingIOError):
        if not os.read(sys.stdin.fileno(), EOF_READ_BYTES):
            loop.remove_reader(sys.stdin.fileno())
            stop.set()
