"""Showing a peer that lags what was decided at its height.

Who is one height behind usually has the batches, and is only slower: it gets the certificate first, which is a
hundredth of the block. When it is heard of at that height again it is told how far the chain is, and asks. How often a
peer is answered at all is the machine's affair (consensus/neighbours.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from consilium.consensus.messages import encode_message
from consilium.node.driver_ports import Outlet
from consilium.node.executor import Executor
from consilium.node.peer_messages import Kind
from consilium.p2p.frame import Lane

SERVES_AT_ONCE_MAX: Final = 16
"""Peers that lag are sent so many certificates at a time; those beyond are heard of again."""
PEERS_SHOWN_MAX: Final = 256


class Showing:
    """See the module. `failed` is told what a task of this node died of. Lives on one event loop."""

    def __init__(self, executor: Executor, outlet: Outlet, failed: Callable[[BaseException], None]) -> None:
        self._executor = executor
        self._outlet = outlet
        self._failed = failed
        self.tasks: set[asyncio.Task[None]] = set()
        self.shown: dict[bytes, int] = {}
        """To each peer, the height whose certificate alone it was sent last."""

    def show(self, peer: bytes, height: int) -> None:
        """A peer was heard of at a height that is decided here."""
        if len(self.tasks) >= SERVES_AT_ONCE_MAX:
            return
        first = height == self._executor.context.height - 1 and self.shown.get(peer) != height
        if first:
            if len(self.shown) >= PEERS_SHOWN_MAX:
                self.shown.clear()
            self.shown[peer] = height
        task = asyncio.create_task(self._send(peer, height, certificate_alone=first))
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def cancel(self) -> None:
        """The node ends."""
        for task in self.tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    async def _send(self, peer: bytes, height: int, *, certificate_alone: bool) -> None:
        if certificate_alone:
            decided = await asyncio.to_thread(self._executor.decided, height)
            if decided is not None:
                self._outlet.send(peer, Kind.CONSENSUS, encode_message(decided), Lane.VOTES)
            return
        # Whoever lacks more asks for it, whom it likes: blocks that nobody asked for are refused unread.
        self._outlet.send(peer, Kind.TIP, self._executor.encoded_tip(), Lane.VOTES)
