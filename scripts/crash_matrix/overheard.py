"""A node whose votes are heard by everybody it is connected to: the product says them to validators alone.

The wiretap is no validator, so without this it would hear nothing and find nothing. Whoever is told a vote twice takes
it for one. Run as a program, this is `consilium node start` with such a mesh; the folder and options follow.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from consilium.node.config import load_config
from consilium.node.founding import CONFIG_FILE
from consilium.node.logs import configure_logging
from consilium.node.peer_messages import Kind
from consilium.node.wire import run_node
from consilium.p2p.frame import Lane
from consilium.p2p.mesh import Mesh


class Overheard(Mesh):
    """See the module."""

    _last = b""

    def send(self, peer_key: bytes, kind: int, body: bytes, lane: Lane) -> bool:
        """As `Mesh.send`; what is a vote goes to all others too, once."""
        sent = super().send(peer_key, kind, body, lane)
        if kind == Kind.CONSENSUS and body != self._last:
            self._last = body
            for other in self.connected():
                if other != peer_key:
                    super().send(other, kind, body, lane)
        return sent


def main(arguments: list[str]) -> None:
    """Run the node in the folder that is the first argument."""
    config = load_config(Path(arguments[0]) / CONFIG_FILE, {})
    configure_logging(config.log.level, config.log.format)

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        if "--stop-on-eof" in arguments:
            loop.add_reader(sys.stdin.fileno(), _until_eof, stop)
        await run_node(config, stop, mesh=Overheard)

    asyncio.run(serve())


def _until_eof(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 64):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()


if __name__ == "__main__":
    main(sys.argv[1:])
