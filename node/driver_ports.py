"""What the driver needs of the world: time, the mesh, and somewhere to keep its word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from consilium.consensus.io import Now
from consilium.consensus.promise import Promise
from consilium.ledger.batch import VerifiedBatch
from consilium.node import holding
from consilium.p2p.frame import Lane


class Clock(Protocol):
    """Time for the machine: the node's own, or a test's."""

    def __call__(self) -> Now: ...


class Outlet(holding.Outlet, Protocol):
    """What the driver needs of the mesh."""

    def broadcast(self, kind: int, body: bytes, lane: Lane) -> int: ...


class Keeper(Protocol):
    """Makes promises durable; blocks, so it runs in a thread."""

    def keep(self, promise: Promise, batches: Callable[[bytes], VerifiedBatch | None]) -> None: ...
