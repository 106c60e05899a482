"""Listens to every vote that leaves a node, and finds two that contradict each other.

A member of the mesh without a vote: every node sends it what it broadcasts, over TLS with the node's own key, so what
comes from a connection was said by that node. It checks what a validator promised (docs/consensus.md): per height and
view one prepare and one commit; per view one claim; and no view change that hides what its sender had committed to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from consilium.consensus.messages import (
    Commit,
    Message,
    Prepare,
    PrePrepare,
    ViewChange,
    claim_hash,
    decode_message,
    prepared_at,
)
from consilium.ledger.crypto import SigningKey
from consilium.node.peer_messages import LIMITS, Kind
from consilium.p2p.mesh import Address, Mesh, MeshPolicy

HEIGHTS_KEPT: Final = 5_000
FORGET_EVERY: Final = 1_000


class Ballots:
    """Every vote heard, by who said it and where. Knows nothing of networks."""

    def __init__(self) -> None:
        self.votes = 0
        self.said_by: dict[bytes, int] = {}
        """How many votes each validator was heard to say."""
        self.contradictions: list[str] = []
        self._said: dict[int, dict[tuple[bytes, str, int], bytes]] = {}
        self._committed: dict[int, dict[bytes, int]] = {}
        self._claims: dict[int, list[tuple[bytes, int, int]]] = {}
        self._highest = 0

    def hear(self, sender: bytes, message: Message) -> None:
        """One message, said by `sender` itself."""
        match message:
            case PrePrepare(height, view, author) | Prepare(height, view, author):
                if author == sender:
                    self._vote(sender, "prepare", height, view, message.block_hash)
            case Commit(height, view, author, block_hash):
                if author == sender:
                    self._vote(sender, "commit", height, view, block_hash)
                    self._committed_in(sender, height, view)
            case ViewChange(height, view, author, prepared):
                if author == sender:
                    self._vote(sender, "view change", height, view, claim_hash(prepared_at(prepared)))
                    claimed = prepared.certificate.view if prepared is not None else -1
                    self._claimed(sender, height, view, claimed)

    def _vote(self, sender: bytes, kind: str, height: int, view: int, what: bytes) -> None:
        said = self._said.setdefault(height, {})
        before = said.get((sender, kind, view))
        if before is None:
            said[sender, kind, view] = what
            self.votes += 1
            self.said_by[sender] = self.said_by.get(sender, 0) + 1
        elif before != what:
            self._contradiction(
                f"{sender.hex()[:8]}: two of {kind} at height {height}, view {view}: "
                f"{before.hex()[:16]} and {what.hex()[:16]}"
            )
        if height > self._highest:
            self._highest = height
            if height % FORGET_EVERY == 0:
                self._forget(height - HEIGHTS_KEPT)

    def _committed_in(self, sender: bytes, height: int, view: int) -> None:
        highest = self._committed.setdefault(height, {})
        highest[sender] = max(view, highest.get(sender, -1))
        for claimant, changed_to, claimed in self._claims.get(height, []):
            self._compare(claimant, height, changed_to, claimed)

    def _claimed(self, sender: bytes, height: int, view: int, claimed: int) -> None:
        self._claims.setdefault(height, []).append((sender, view, claimed))
        self._compare(sender, height, view, claimed)

    def _compare(self, sender: bytes, height: int, changed_to: int, claimed: int) -> None:
        committed = self._committed.get(height, {}).get(sender, -1)
        if claimed < committed < changed_to:
            self._contradiction(
                f"{sender.hex()[:8]}: sealed at height {height} in view {committed}, and went to view {changed_to} "
                f"with a claim of view {claimed}"
            )

    def _contradiction(self, text: str) -> None:
        if text not in self.contradictions:
            self.contradictions.append(text)

    def _forget(self, below: int) -> None:
        for height in [height for height in self._said if height < below]:
            self._said.pop(height)
            self._committed.pop(height, None)
            self._claims.pop(height, None)


class Wiretap:
    """The member that only listens. An async context manager."""

    def __init__(
        self, key: SigningKey, chain_id: bytes, port: int, members: Mapping[bytes, Address | None]
    ) -> None:
        self.ballots = Ballots()
        self._nodes = len(members)
        self._mesh = Mesh(
            key=key,
            chain_id=chain_id,
            members=members,
            listen=Address("127.0.0.1", port),
            limits=LIMITS,
            handler=self._heard,
            policy=MeshPolicy(backoff_max_s=0.3),
        )

    async def __aenter__(self) -> Wiretap:
        await self._mesh.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._mesh.stop()

    async def hears_all(self, timeout_s: float) -> None:
        """Wait until every node is connected. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            await self._mesh.until(lambda: len(self._mesh.connected()) == self._nodes)

    async def _heard(self, peer: bytes, kind: int, body: bytes) -> None:
        if kind == Kind.CONSENSUS:
            self.ballots.hear(peer, decode_message(body))
