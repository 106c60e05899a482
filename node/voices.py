"""Who is told what: votes and batches go to validators alone; everybody else is told how far the chain is, and asks.

A vote or a batch that is sent to an observer costs a validator as much as one that is sent to a validator, and tells it
nothing that the decided block will not. So what an observer costs does not grow with what is said on the way to a
decision; and blocks it may have from other observers as well.
"""

from __future__ import annotations

import asyncio
from typing import Final

from consilium.node.driver_ports import Outlet
from consilium.node.executor import Executor
from consilium.node.peer_messages import Kind
from consilium.p2p.frame import Lane

ANNOUNCE_S: Final = 0.05
"""Observers hear of new heights so often at most: of several at once, where they come faster."""


class Voices:
    """The driver's outlet onto a mesh. Lives on one loop."""

    def __init__(self, mesh: Outlet, executor: Executor) -> None:
        self._mesh = mesh
        self._executor = executor
        self._announcing: asyncio.TimerHandle | None = None

    def send(self, peer_key: bytes, kind: int, body: bytes, lane: Lane = Lane.BULK) -> bool:
        """As `Mesh.send`."""
        return self._mesh.send(peer_key, kind, body, lane)

    def connected(self) -> frozenset[bytes]:
        """As `Mesh.connected`."""
        return self._mesh.connected()

    def broadcast(self, kind: int, body: bytes, lane: Lane) -> int:
        """Queue a message for every connected validator; returns for how many."""
        return sum(self._mesh.send(key, kind, body, lane) for key in self.voters())

    def say_tip(self) -> None:
        """Tell everybody how far the chain is."""
        self._mesh.broadcast(Kind.TIP, self._executor.encoded_tip(), Lane.VOTES)

    def committed(self) -> None:
        """The chain has grown: tell those who do not vote, soon."""
        if self._announcing is None:
            self._announcing = asyncio.get_running_loop().call_later(ANNOUNCE_S, self._announce)

    def _announce(self) -> None:
        self._announcing = None
        voting, body = self.voters(), self._executor.encoded_tip()
        for key in sorted(self._mesh.connected()):  # a run can be repeated: no order of a set
            if key not in voting:
                self._mesh.send(key, Kind.TIP, body, Lane.VOTES)

    def voters(self) -> dict[bytes, None]:
        """Who votes at this height or the next, as far as that is known."""
        now = self._executor.context
        following = self._executor.validators_at(now.height + 1)
        return dict.fromkeys((*now.validators.keys, *(following.keys if following is not None else ())))
