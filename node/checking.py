"""Clients' signatures are checked in a process of their own, so that nothing else of the node waits for them.

A check takes 40 µs without the interpreter and some 3 µs with it. A thread would ask for the interpreter after each,
and take it from one that executes a block. So a node decodes what it gets and sends *claims* (key, digest, signature:
128 bytes) to a process that does nothing else; what comes back is one byte for each.

A process that ends, or says nothing for too long, is replaced, and what it was asked is checked in a thread of the node
instead: whoever waits waits longer, and nothing else changes. Both ask the same function of the same library.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, cast

import structlog

from consilium.ledger.batch import Batch, VerifiedBatch, batch_of
from consilium.ledger.crypto import CLAIM_BYTES, Digest, verify_claims
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import Opened, Transaction, Verified, open_transaction, verify_found
from consilium.node.checking_process import CLAIMS_MAX, COUNT_BYTES
from consilium.node.processes import SECRETS
from consilium.node.threads import checked, entered, verify_all

PROGRAM: Final = (sys.executable, "-P", "-m", "consilium.node.checking_process")
INLINE_TRANSACTIONS_MAX: Final = 2
"""So few are checked where they arrive: to a process or a thread and back takes longer than a signature."""
OPENED_PER_TURN_BYTES: Final = 64 * 1024
"""After decoding so many bytes everybody else on the event loop has a turn."""
ANSWER_TIMEOUT_S: Final = 20.0
"""A process that says nothing for so long, though it was asked, is replaced. It may share its core with many."""
POLL_S: Final = 1.0
RESTART_S: Final = 1.0

_log = structlog.get_logger("consilium.checking")


class _Lost(Exception):
    """The process that was asked has gone."""


class _Process(asyncio.Protocol):
    """A process that checks, and what it was asked and has not answered, oldest first.

    What waits to be written to it is bounded by those who ask: the room of the mempool, and a batch of each peer.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._asked: deque[tuple[int, asyncio.Future[bytes]]] = deque()
        self._found = b""
        self._heard_s = 0.0
        self.lost = asyncio.Event()
        self.claims = 0
        """Asked and not answered yet."""

    async def ask(self, claims: bytes) -> bytes:
        """A byte for each claim, as `crypto.verify_claims`. Raises _Lost."""
        if self._transport is None or self.lost.is_set():
            raise _Lost
        answer: asyncio.Future[bytes] = self._loop.create_future()
        if not self._asked:
            self._heard_s = self._loop.time()
        count = len(claims) // CLAIM_BYTES
        self._asked.append((count, answer))
        self.claims += count
        self._transport.write(count.to_bytes(COUNT_BYTES, "big") + claims)
        return await answer

    @property
    def silent_s(self) -> float:
        """For how long it has owed an answer without a word."""
        return self._loop.time() - self._heard_s if self._asked else 0.0

    def abort(self) -> None:
        """Hear it no more."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process can be asked."""
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand out answers, in the order in which was asked."""
        self._heard_s = self._loop.time()
        found = self._found + data
        while self._asked and len(found) >= self._asked[0][0]:
            count, answer = self._asked.popleft()
            self.claims -= count
            if not answer.done():
                answer.set_result(found[:count])
            found = found[count:]
        self._found = found
        if found and not self._asked:  # nobody asked for that
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever waits is told."""
        self.lost.set()
        while self._asked:
            _, answer = self._asked.popleft()
            if not answer.done():
                answer.set_exception(_Lost())


class Checker:
    """See the module. Without processes, or until `run` has started one, threads check."""

    def __init__(self, processes: int = 0) -> None:
        self._processes = processes
        self._alive: list[_Process] = []

    @property
    def process_count(self) -> int:
        """How many processes check at the moment."""
        return len(self._alive)

    async def run(self) -> None:
        """Keep the processes running, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._processes):
                group.create_task(self._keep_one())
            await asyncio.Event().wait()

    async def transactions(
        self, raws: Sequence[bytes], chain_id: bytes
    ) -> list[Verified[Transaction] | Refused]:
        """Raw transactions, each verified, or why it is refused."""
        if len(raws) <= INLINE_TRANSACTIONS_MAX:
            return verify_all(raws, chain_id)
        if not self._alive:
            return await checked(verify_all, raws, chain_id)
        opened: list[Opened | Refused] = []
        for some in _turns(raws):
            opened += [_opened(raw, chain_id) for raw in some]
            await asyncio.sleep(0)
        good = iter(await self._check([one.claim for one in opened if isinstance(one, Opened)]))
        return [one if isinstance(one, Refused) else _found(one, bool(next(good))) for one in opened]

    async def batch(self, batch: Batch, digest: Digest, raw: bytes) -> VerifiedBatch:
        """As `ledger.batch.verify_opened`, of what `open_batch` returned for `raw`. Raises Refused."""
        verified: list[Verified[Transaction]] = []
        for one in await self.transactions(batch.transactions, batch.chain_id):
            if isinstance(one, Refused):
                raise one
            verified.append(one)
        return batch_of(batch, digest, raw, verified)

    async def _check(self, claims: list[bytes]) -> bytes:
        """In pieces, which go to whoever has least to do."""
        pieces = [b"".join(claims[at : at + CLAIMS_MAX]) for at in range(0, len(claims), CLAIMS_MAX)]
        return b"".join(await asyncio.gather(*(self._check_piece(piece) for piece in pieces)))

    async def _check_piece(self, claims: bytes) -> bytes:
        if self._alive:
            with contextlib.suppress(_Lost):
                return await min(self._alive, key=lambda process: process.claims).ask(claims)
        return await checked(verify_claims, claims)

    async def _keep_one(self) -> None:
        while True:
            try:
                await self._attend()
            except OSError as error:
                _log.warning("checking.not_started", error=str(error))
            await asyncio.sleep(RESTART_S)

    async def _attend(self) -> None:
        """Start a process, and stay with it until it ends or falls silent. Raises OSError where it cannot start."""
        own, other = socket.socketpair()
        with own, other:
            async with entered(partial(_running, other.fileno())):
                other.close()
                own.setblocking(False)
                process = _Process()
                try:
                    await asyncio.get_running_loop().create_connection(lambda: process, sock=own)
                    self._alive.append(process)
                    while not process.lost.is_set() and process.silent_s < ANSWER_TIMEOUT_S:
                        await _until(process.lost, POLL_S)
                    _log.warning("checking.process_lost", silent_s=round(process.silent_s, 1))
                finally:
                    if process in self._alive:
                        self._alive.remove(process)
                    process.abort()


@contextlib.contextmanager
def _running(stream: int) -> Iterator[None]:
    environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
    with subprocess.Popen(PROGRAM, stdin=stream, stdout=stream, env=environment) as process:
        try:
            yield
        finally:
            process.kill()


def _turns(raws: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Some at a time, as many as are decoded in one turn of the event loop."""
    some: list[bytes] = []
    size = 0
    for raw in raws:
        some.append(raw)
        size += len(raw)
        if size >= OPENED_PER_TURN_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _opened(raw: bytes, chain_id: bytes) -> Opened | Refused:
    try:
        return open_transaction(raw, chain_id)
    except Refused as refusal:
        return refusal


def _found(opened: Opened, good: bool) -> Verified[Transaction] | Refused:
    try:
        return verify_found(opened, good)
    except Refused as refusal:
        return refusal


async def _until(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
