"""Getting the batches of a proposal: asked of whoever should have them, one peer after the other, until all are here.

One proposal at a time: the machine asks for another one only when it has given up the one before, or when another is
decided. A proposal that passes the limits of a block is given up as soon as that shows, so that no primary makes this
node hold more than a block and one batch. It is then never voted for; should it be decided all the same, it comes by
catch-up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from consilium.consensus.io import HoldBatches
from consilium.ledger import codec
from consilium.node.decided import payload_within_limits
from consilium.node.mempool import Mempool
from consilium.node.peer_messages import BatchRequest, Kind
from consilium.p2p.frame import Lane

BATCH_RETRY_S: Final = 0.3
"""So long a peer has to answer before the next one is asked."""

_log = structlog.get_logger("consilium.driver")


class Outlet(Protocol):
    """What is needed of the mesh."""

    def send(self, peer_key: bytes, kind: int, body: bytes, lane: Lane) -> bool: ...

    def connected(self) -> frozenset[bytes]: ...


class Holding:
    """See the module. `held` is told the hash of a block once all its batches are in the pool."""

    def __init__(self, mempool: Mempool, outlet: Outlet, held: Callable[[bytes], None]) -> None:
        self._mempool = mempool
        self._outlet = outlet
        self._held = held
        self._wanted: HoldBatches | None = None
        self._retry: asyncio.TimerHandle | None = None

    def start(self, wanted: HoldBatches) -> None:
        """Get the batches of this block, in place of those of any other."""
        self.clear()
        self._wanted = wanted
        self._ask()

    def arrived(self) -> None:
        """A batch came into the pool."""
        self._look()

    def clear(self) -> None:
        """The height was decided, or the node ends: nothing is waited for."""
        self._wanted = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _ask(self) -> None:
        """Ask the first connected peer of the list; each repetition asks the next one."""
        self._retry = None
        missing = self._look()
        wanted = self._wanted
        if wanted is None:
            return
        self._mempool.want(missing)
        connected = self._outlet.connected()
        order = [p for p in wanted.peers if p in connected] + sorted(
            p for p in connected if p not in wanted.peers
        )
        if order:
            turn = self._mempool.asked(missing[0])
            body = codec.encode(BatchRequest(missing))
            self._outlet.send(order[turn % len(order)], Kind.BATCH_REQUEST, body, Lane.BULK)
        self._retry = asyncio.get_running_loop().call_later(BATCH_RETRY_S, self._ask)

    def _look(self) -> list[bytes]:
        """What is still missing. Ends the search where nothing is, or where the block is too large."""
        wanted = self._wanted
        if wanted is None:
            return []
        digests = wanted.block.batches
        missing = self._mempool.missing(digests)
        held = tuple(batch for digest in digests if (batch := self._mempool.batch(digest)) is not None)
        if not payload_within_limits(held, sum(map(self._mempool.weight, held))):
            _log.warning("proposal.oversized", height=wanted.block.height, batches=len(digests))
            self._mempool.unwant(missing)
            self.clear()
        elif not missing:
            self.clear()
            self._held(wanted.block.hash)
        return missing
