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
import itertools
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple, cast

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
ASKED_AHEAD: Final = 2 * CLAIMS_MAX
"""A process that is asked fewer claims is asked more: it works on one piece and goes on with the next. The rest waits
here, so that what is urgent can come first."""
BATCHES_SHARE: Final = 3
"""While both wait, so many claims of batches are checked for one of clients: whoever sends batches without end, of
transactions that anybody can sign, slows clients down and no more."""
OPENED_PER_TURN_BYTES: Final = 128 * 1024
"""After decoding so many bytes, a millisecond or two of work, everybody else on the event loop has a turn. Batches and
what clients hand in are counted by themselves."""
OPENED_EACH_BYTES: Final = 128
"""A transaction counts as so many more: to refuse an empty one takes time too."""
ANSWER_TIMEOUT_S: Final = 20.0
"""A process that says nothing for so long, though it was asked, is replaced. It may share its core with many."""
POLL_S: Final = 1.0
RESTART_S: Final = 1.0
RESTART_S_MAX: Final = 60.0
"""One that ends sooner again and again, as one that cannot be imported, is started ever less often."""
ANSWERS: Final = b"\x00\x01"

_log = structlog.get_logger("consilium.checking")


class _Lost(Exception):
    """The process that was asked has gone."""


class _Piece(NamedTuple):
    """Claims that are checked together, and where the answer goes: a byte for each, as `crypto.verify_claims`."""

    claims: bytes
    answer: asyncio.Future[bytes]

    @property
    def size(self) -> int:
        """How many claims."""
        return len(self.claims) // CLAIM_BYTES


class _Process(asyncio.Protocol):
    """A process that checks, and what it was asked and has not answered, oldest first. `idle` is called when it has."""

    def __init__(self, idle: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle = idle
        self._transport: asyncio.WriteTransport | None = None
        self._asked: deque[_Piece] = deque()
        self.claims = 0
        """Asked and not answered yet."""
        self._found = b""
        self._heard_s = 0.0
        self.lost = asyncio.Event()

    def ask(self, piece: _Piece) -> None:
        """Its answer is given, or _Lost."""
        if self._transport is None or self.lost.is_set():
            _lose(piece)
            return
        if not self._asked:
            self._heard_s = self._loop.time()
        self._asked.append(piece)
        self.claims += piece.size
        self._transport.write(piece.size.to_bytes(COUNT_BYTES, "big") + piece.claims)

    @property
    def has_room(self) -> bool:
        """Whether it should be asked more."""
        return self.claims < ASKED_AHEAD and not self.lost.is_set()

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
        if data.translate(None, ANSWERS):  # whatever that is, it is no answer, and hides where answers begin
            self.abort()
            return
        found = self._found + data
        while self._asked and len(found) >= (count := self._asked[0].size):
            answer = self._asked.popleft().answer
            self.claims -= count
            if not answer.done():
                answer.set_result(found[:count])
            found = found[count:]
        self._found = found
        if found and not self._asked:  # nobody asked for that
            self.abort()
        self._idle()

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever waits is told."""
        self.lost.set()
        while self._asked:
            _lose(self._asked.popleft())


class _Turns:
    """What is decoded in one turn of the event loop, for however many: what is left comes in the next ones, first come,
    first served."""

    def __init__(self) -> None:
        self._spent_bytes = 0

    async def take(self, raw: bytes) -> None:
        """Wait until there is room for a raw transaction."""
        while self._spent_bytes >= OPENED_PER_TURN_BYTES:  # noqa: ASYNC110 - a turn of the loop is what it waits for
            await asyncio.sleep(0)
        if not self._spent_bytes:
            asyncio.get_running_loop().call_soon(self._end)
        self._spent_bytes += len(raw) + OPENED_EACH_BYTES

    def _end(self) -> None:
        self._spent_bytes = 0


class Checker:
    """See the module. Without processes, or until `run` has started one, threads check.

    What waits is bounded by those who ask: the room of the mempool, and a batch of each peer.
    """

    def __init__(self, processes: int = 0) -> None:
        self._processes = processes
        self._alive: list[_Process] = []
        self._batches: deque[_Piece] = deque()
        self._others: deque[_Piece] = deque()
        self._batch_turns, self._other_turns = _Turns(), _Turns()
        self._ahead = 0
        """How many claims of batches were put before those of clients, less what these got for it."""

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
        return await self._verified(raws, chain_id, self._others, self._other_turns)

    async def batch(self, batch: Batch, digest: Digest, raw: bytes) -> VerifiedBatch:
        """As `ledger.batch.verify_opened`, of what `open_batch` returned for `raw`. Raises Refused.

        Batches come before whatever else waits: the next block may need this one.
        """
        verified: list[Verified[Transaction]] = []
        answers = await self._verified(batch.transactions, batch.chain_id, self._batches, self._batch_turns)
        for one in answers:
            if isinstance(one, Refused):
                raise one
            verified.append(one)
        return batch_of(batch, digest, raw, verified)

    async def _verified(
        self, raws: Sequence[bytes], chain_id: bytes, queue: deque[_Piece], turns: _Turns
    ) -> list[Verified[Transaction] | Refused]:
        if len(raws) <= INLINE_TRANSACTIONS_MAX:
            return verify_all(raws, chain_id)
        if not self._alive:
            return await checked(verify_all, raws, chain_id)
        opened: list[Opened | Refused] = []
        for raw in raws:
            await turns.take(raw)
            opened.append(_opened(raw, chain_id))
        claims = [one.claim for one in opened if isinstance(one, Opened)]
        pieces = [b"".join(claims[at : at + CLAIMS_MAX]) for at in range(0, len(claims), CLAIMS_MAX)]
        good = itertools.chain.from_iterable(
            await asyncio.gather(*(self._check(piece, queue) for piece in pieces))
        )
        return [one if isinstance(one, Refused) else _found(one, bool(next(good))) for one in opened]

    async def _check(self, claims: bytes, queue: deque[_Piece]) -> bytes:
        if self._alive:
            piece = _Piece(claims, asyncio.get_running_loop().create_future())
            queue.append(piece)
            self._hand_out()
            try:
                return await piece.answer
            except _Lost:
                pass
            except asyncio.CancelledError:
                with contextlib.suppress(ValueError):  # it is asked already
                    queue.remove(piece)
                raise
        return await checked(verify_claims, claims)

    def _hand_out(self) -> None:
        """Ask whoever has least to do, while somebody has room."""
        while self._batches or self._others:
            process = min((one for one in self._alive if one.has_room), key=_owed, default=None)
            if process is None:
                return
            piece = self._next()
            if not piece.answer.done():  # whoever asked may have gone
                process.ask(piece)

    def _next(self) -> _Piece:
        """What comes next of what waits: a batch's, unless it is a client's turn."""
        if self._others and (not self._batches or self._ahead >= BATCHES_SHARE * CLAIMS_MAX):
            piece = self._others.popleft()
            self._ahead = max(0, self._ahead - BATCHES_SHARE * piece.size)
            return piece
        piece = self._batches.popleft()
        self._ahead = self._ahead + piece.size if self._others else 0
        return piece

    async def _keep_one(self) -> None:
        wait_s, loop = RESTART_S, asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            try:
                await self._attend()
            except (
                OSError,
                RuntimeError,
                subprocess.SubprocessError,
            ) as error:  # no file, no memory, no thread
                _log.warning("checking.not_started", error=str(error))
            wait_s = next_wait_s(wait_s, loop.time() - began_s)
            await asyncio.sleep(wait_s)

    async def _attend(self) -> None:
        """Start a process, and stay with it until it ends or falls silent.

        Raises OSError, RuntimeError or SubprocessError where it cannot start.
        """
        own, other = socket.socketpair()
        with own, other:
            async with entered(partial(_running, other.fileno())):
                other.close()
                own.setblocking(False)
                process = _Process(self._hand_out)
                try:
                    await asyncio.get_running_loop().create_connection(lambda: process, sock=own)
                    self._alive.append(process)
                    self._hand_out()
                    while not process.lost.is_set() and process.silent_s < ANSWER_TIMEOUT_S:
                        await _until(process.lost, POLL_S)
                    _log.warning("checking.process_lost", silent_s=round(process.silent_s, 1))
                finally:
                    if process in self._alive:
                        self._alive.remove(process)
                    process.abort()
                    while not self._alive and (queue := self._batches or self._others):
                        _lose(queue.popleft())


def _owed(process: _Process) -> int:
    return process.claims


def next_wait_s(wait_s: float, ran_s: float) -> float:
    """How long to wait before a process is started again: `wait_s` was waited before this one, which ran so long."""
    return RESTART_S if ran_s >= RESTART_S_MAX else min(2 * wait_s, RESTART_S_MAX)


def _lose(piece: _Piece) -> None:
    if not piece.answer.done():
        piece.answer.set_exception(_Lost())


@contextlib.contextmanager
def _running(stream: int) -> Iterator[None]:
    environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
    # In a group of its own: what a terminal sends is for the node, and a group that nobody is left to continue is ended
    # by the kernel where it is stopped.
    with subprocess.Popen(
        PROGRAM, stdin=stream, stdout=subprocess.DEVNULL, env=environment, process_group=0
    ) as process:
        try:
            yield
        finally:
            process.kill()


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
