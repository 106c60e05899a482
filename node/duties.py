"""What a node does beside deciding and serving: it compares its memory, reports faults, joins, attests releases.

One object, so that `wire` builds one thing and the driver and the router know none of its parts. What needs the
institution's wallet is left out on a node without one; evidence then stays visible in its status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from consilium.consensus.evidence import Evidence
from consilium.consensus.promise import Promise
from consilium.consensus.replica import Replica
from consilium.ledger.crypto import SigningKey
from consilium.node.attesting import Attesting
from consilium.node.clerk import Clerk
from consilium.node.driver import Driver
from consilium.node.driver_ports import Outlet
from consilium.node.executor import Commit, Executor
from consilium.node.joining import Joining
from consilium.node.membership import may_change_members
from consilium.node.peer_messages import Kind
from consilium.node.restart import Restart
from consilium.node.sync import Synchroniser
from consilium.node.whistle import Whistle
from consilium.p2p.frame import Lane

KINDS: Final = (Kind.STATUS_REQUEST, Kind.STATUS)


class Duties:
    """See the module. `members_changed` is called after a block that may have changed who the members are."""

    def __init__(
        self,
        *,
        key: SigningKey,
        validates: bool,
        chain_id: bytes,
        promise: Promise | None,
        executor: Executor,
        replica: Replica,
        driver: Driver,
        mesh: Outlet,
        synchroniser: Synchroniser,
        clerk: Clerk | None,
        members_changed: Callable[[], None],
        remember: Callable[[Promise], None],
        attesting: Attesting | None = None,
    ) -> None:
        self._executor = executor
        self._synchroniser = synchroniser
        self._validates = validates
        self._clerk = clerk
        self._members_changed = members_changed
        self.restart = Restart(
            key=key.public,
            chain_id=chain_id,
            promise=promise,
            executor=executor,
            replica=replica,
            send=lambda peer, kind, body: mesh.send(peer, kind, body, Lane.VOTES),
            connected=mesh.connected,
            hint=synchroniser.hint,
            release=driver.release,
            remember=remember,
        )
        self._whistle: Whistle | None = None
        self._joining: Joining | None = None
        self._attesting = attesting
        if clerk is not None:
            self._whistle = Whistle(
                key.public,
                clerk,
                state=lambda: executor.store.state,
                validators=lambda: executor.context.validators,
            )
            if validates:
                self._joining = Joining(key, clerk, executor, self._follows)
        driver.on_evidence = self.saw

    async def run(self) -> None:
        """All of them, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(), name="duties")
            if self._validates:
                group.create_task(self.restart.run(self._clerk), name="restart")
            if self._whistle is not None:
                group.create_task(self._whistle.run(), name="whistle")
            if self._attesting is not None:
                group.create_task(self._attesting.run(), name="attesting")
            if self._joining is not None:
                group.create_task(self._joining.run(), name="joining")

    async def handle(self, peer: bytes, kind: int, body: bytes) -> None:
        """A message of one of KINDS. Raises PeerFault or Refused where the peer is at fault."""
        if kind == Kind.STATUS:
            await self.restart.take(peer, body)
        else:
            await self.restart.answer(peer, body)

    def saw(self, evidence: Evidence) -> None:
        """The replica saw a validator contradict itself."""
        if self._whistle is not None:
            self._whistle.blow(evidence)

    def released(self) -> None:
        """The custodian was asked to release something: what it did is told to the ledger."""
        if self._attesting is not None:
            self._attesting.look()

    def committed(self, commit: Commit) -> None:
        """A block was committed."""
        if may_change_members(commit):
            self._members_changed()
            if self._joining is not None:
                self._joining.look()

    def status(self) -> dict[str, Any]:
        """For `NodeApi.status`: whether this validator votes, and what its memory was worth at its start."""
        verdict = self.restart.verdict
        return {
            "memory": None if verdict is None else verdict.memory.value,
            "from_height": None if verdict is None else verdict.floor,
            "silent": self.silent,
        }

    @property
    def silent(self) -> str:
        """Why this node, which is a validator, does not vote; empty otherwise."""
        return self.restart.silent if self._validates else ""

    def _follows(self) -> bool:
        best = self._synchroniser.best_known
        caught_up = not self._synchroniser.catching_up and best <= self._executor.context.height
        return self.restart.verdict is not None and caught_up

    @staticmethod
    async def _forever() -> None:
        await asyncio.Event().wait()
