"""One node in one process, as `consilium node start` runs it, but on stores that a striker watches.

Nodes are forked from a server that has imported everything once: a start then costs what the node does, not what
Python loads. SIGUSR1 arms the strike in the node's folder. Exit status as the product's: 0 it was stopped, 1 refused,
4 it must not go on.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
from contextlib import ExitStack
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from consilium.ledger.errors import InvariantBroken, Refused
from consilium.node.config import Config, load_config
from consilium.node.founding import CONFIG_FILE
from consilium.node.logs import configure_logging
from consilium.node.processes import LOG_FILE
from consilium.node.stores import Stores, open_stores
from consilium.node.wire import run_node
from scripts.crash_matrix.overheard import Overheard
from scripts.crash_matrix.strike import Striker, struck

STATUS_REFUSED: Final = 1
STATUS_BROKEN: Final = 4
_PR_SET_PDEATHSIG: Final = 1

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([__name__])


def fork_node(folder: Path, *, armed: bool) -> BaseProcess:
    """Start a node. It ends with this program, however that ends."""
    process = _server.Process(target=_node, args=(str(folder), armed), daemon=True)
    process.start()
    return process


def _node(folder_name: str, armed: bool) -> None:
    folder = Path(folder_name)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.setpgid(0, 0)
    status = _run(folder, armed)
    sys.stderr.flush()
    os._exit(status)  # what a node leaves behind is tested, not how a fork of a server says farewell


def _run(folder: Path, armed: bool) -> int:
    striker = Striker(folder)
    if armed:
        striker.arm()

    def open_struck(config: Config, owner: bytes, stack: ExitStack) -> Stores:
        return struck(open_stores(config, owner, stack), striker)

    async def serve(config: Config) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, striker.arm)
        await run_node(config, stop, open_struck, mesh=Overheard)

    try:
        config = load_config(folder / CONFIG_FILE)
        configure_logging(config.log.level, config.log.format)
        asyncio.run(serve(config))
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr, flush=True)
        return STATUS_REFUSED
    except InvariantBroken as broken:
        print(f"halted: {broken}", file=sys.stderr, flush=True)
        return STATUS_BROKEN
    return 0
