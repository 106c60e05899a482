"""What a custodian keeps, as one thing: the curator that follows and fetches, the eraser that destroys and attests, and
the guarded stores that everybody else is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from consilium.ledger.errors import PeerFault
from consilium.node.clerk import Clerk
from consilium.node.curator import KINDS as KINDS
from consilium.node.curator import Curator
from consilium.node.eraser import Eraser
from consilium.node.guarding import Guard, GuardedShares, GuardedVault
from consilium.node.opening import Parts
from consilium.node.sync import Send
from consilium.storage.anchors import AnchorIndex
from consilium.storage.owed import OwedErasures

__all__: Final = ["KINDS", "Keeping"]


class Keeping:
    """See the module. `vault` and `shares` are for everybody else on this node. `clerk` attests, where there is one."""

    def __init__(
        self,
        parts: Parts,
        *,
        connected: Callable[[], frozenset[bytes]],
        send: Send,
        fault: Callable[[bytes, PeerFault], None],
        clock_ms: Callable[[], int],
        grace_ms: int,
    ) -> None:
        chain, index = parts.executor.store, AnchorIndex(parts.stores.vault)
        institution = None if parts.wallet is None else parts.wallet.identity
        self._eraser = Eraser(
            institution=institution,
            chain=chain,
            vault=parts.vault,
            shares=parts.shares,
            index=index,
            owed=OwedErasures(parts.stores.vault),
        )
        self._curator = Curator(
            institution=institution,
            chain=chain,
            vault=parts.vault,
            index=index,
            validators=lambda: parts.executor.context.validators,
            connected=connected,
            send=send,
            fault=fault,
            clock_ms=clock_ms,
            grace_ms=grace_ms,
            eraser=self._eraser,
            key=parts.key.public,
        )
        guard = Guard(index, lambda: chain.state, lambda: self._curator.current)
        self.vault = GuardedVault(parts.vault, guard)
        self.shares = GuardedShares(parts.shares, guard)
        self.clerk: Clerk | None = None

    def forget_with(self, forget: Callable[[bytes, int], None]) -> None:
        """Who holds opened shares in memory: called for each (compartment, epoch) whose share is erased."""
        self._eraser.forget_share = forget

    def clear_with(self, clear: Callable[[], None]) -> None:
        """Who keeps other things of patients, and removes those of erased ones when it is called."""
        self._eraser.clear_beside = clear

    @property
    def unattested(self) -> int:
        """How many erasures are applied here and still to be attested."""
        return self._eraser.unattested

    def heard(self, peer: bytes, height: int) -> None:
        """A peer says how far it is."""
        self._curator.heard(peer, height)

    async def handle(self, peer: bytes, kind: int, body: bytes) -> None:
        """A message of one of KINDS. Raises PeerFault or Refused where the peer is at fault."""
        await self._curator.handle(peer, kind, body)

    async def run(self) -> None:
        """For ever. Dies only of faults of this node."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._curator.run(), name="curator")
            group.create_task(self._eraser.run(self.clerk), name="eraser")
