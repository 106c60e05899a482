"""Work for the nodes while they are killed: transactions, envelopes, shares; and everything that was acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from consilium.client import recording
from consilium.client.envelope import Context, HeaderFields
from consilium.client.recording import enrolment
from consilium.client.sealing import seal
from consilium.client.session import Session, new_id
from consilium.client.sharing import make_compartment
from consilium.client.wallet import Wallet
from consilium.ledger.errors import Refused
from scripts.crash_matrix.fleet import Fleet

WORKERS: Final = 3
PAUSE_S: Final = 0.1
COMMIT_TIMEOUT_S: Final = 10.0
ENVELOPE_EVERY: Final = 6
SHARES_EVERY: Final = 20
PAYLOAD_BYTES: Final = 2_000


@dataclass
class Acknowledged:
    """What nodes said is durable: it must be there for ever."""

    commits: dict[bytes, int] = field(default_factory=dict)
    """Transaction id -> height."""
    envelopes: list[tuple[int, bytes]] = field(default_factory=list)
    """(node, digest)."""


class Load:
    """Some workers that hand in work at nodes that are up. An async context manager."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.acknowledged = Acknowledged()
        self._fleet = fleet
        self._chance = random.Random(seed)
        self._sessions = [fleet.cluster.session(index) for index in range(fleet.cluster.size)]
        self._patients: dict[int, Wallet] = {}
        self._ending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._point = make_compartment(threshold=1, custodians=1).commitments[0]

    async def __aenter__(self) -> Load:
        for index, session in enumerate(self._sessions):
            patient = Wallet.create(f"patient {index}")
            await recording.enrol(session, "patient", patient)
            self._patients[index] = await self._open(index, patient)
        self._tasks = [asyncio.create_task(self._work()) for _ in range(WORKERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending.set()
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def commit(self, index: int) -> None:
        """Commit one transaction by way of a node, and remember that it was acknowledged."""
        session = self._sessions[index]
        operation = enrolment(session, "application", Wallet.create("application", "application"))
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            committed = await session.submit([operation])
        self.acknowledged.commits[committed.id] = committed.height

    def died(self) -> None:
        """Raise what a worker died of, if one did."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def _work(self) -> None:
        turn = 0
        while not self._ending.is_set():
            turn += 1
            up = self._fleet.up()
            if up:
                index = self._chance.choice(up)
                # The node that serves may be the one that dies; and in between there may be no quorum.
                with contextlib.suppress(Refused, TimeoutError, aiohttp.ClientError, OSError):
                    await self.commit(index)
                    if turn % ENVELOPE_EVERY == 0:
                        await self._put(index)
                    if turn % SHARES_EVERY == 0:
                        await self._open(index, self._patients[index])
            await asyncio.sleep(PAUSE_S)

    async def _put(self, index: int) -> None:
        session = self._sessions[index]
        context = Context(session.chain_id, new_id(), new_id(), 0, session.identity)
        sealed = seal(
            self._chance.randbytes(PAYLOAD_BYTES),
            context,
            self._point,
            session.wallet.author_keys,
            [session.wallet.encryption_public],
            HeaderFields("Binary", "crash", "application/octet-stream"),
        )
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            await session.rpc.put_envelopes([sealed.envelope])
        self.acknowledged.envelopes.append((index, sealed.digest))

    async def _open(self, index: int, patient: Wallet) -> Wallet:
        cluster, session = self._fleet.cluster, self._sessions[index]
        owner = Session(cluster.clients[index], cluster.genesis, patient)
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            return await recording.open_compartments(owner, patient, session.identity, lambda kept: None)
