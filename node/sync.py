"""Catching up: asking peers for decided blocks, checking them, handing them to the driver.

No peer has to be trusted, only asked (`node.decided`, `node.claims`): one after the other in turn. One that sends what
does not check is at fault and scored; one that is silent is not waited for alone: another is asked as well. Blocks that
nobody asked for are refused before they are decoded.

Three things happen at once: blocks travel; those that have arrived are checked in threads, signatures and seals; and
those that were checked are executed and written, as many as came together by one sync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from consilium.consensus.context import HeightContext
from consilium.ledger import codec
from consilium.ledger.batch import VerifiedBatch
from consilium.ledger.errors import PeerFault, Refused
from consilium.node.claims import Claims
from consilium.node.decided import FAULT_WEIGHT, VerifiedDecision, check_run, open_some, sealed_by
from consilium.node.peer_messages import (
    BLOCKS_BYTES_MAX,
    BLOCKS_PER_RESPONSE_MAX,
    Blocks,
    BlocksRequest,
    DecidedBlock,
    Kind,
)
from consilium.node.threads import checked

RESPONSE_TIMEOUT_S: Final = 4.0
HEDGE_S: Final = 1.0
"""Who has not answered for so long is still listened to, but somebody else is asked as well."""
UNCORROBORATED_HEDGE_S: Final = 0.25
"""The same of one who alone claims so great a height: nonsense must not keep the node from what others have."""
PATIENCE_S_MIN: Final = 0.001
"""A clock may stand a little before the time that was waited for."""
QUESTIONS_MAX: Final = 3
"""Peers that are asked for the same blocks at a time."""
OWED_MAX: Final = 512
ECHOES_MAX: Final = 3
"""A network may double a question or its answer; what is not read costs nothing."""
UNASKED_WEIGHT: Final = 20
GRACE_S: Final = 0.3
"""How long a replica that is one block behind waits for its votes before it asks: usually they are on their way."""
RELAYS: Final = 2
RELAY_GRACE_S: Final = 0.02
AHEAD_MAX: Final = 1
"""Answers that wait while one is committed and the next is being taken: as many megabytes and more."""
CHECK_BYTES: Final = 64 * 1024
"""Blocks are checked so many at a time: going to a thread and back costs what three signatures cost."""
TOGETHER_TRANSACTIONS_MAX: Final = 4_096
"""Of the blocks that are committed together: votes wait for so many at most."""
NO_BLOCKS: Final = codec.encode(Blocks([]))
"""The answer of who decided the height and does not keep it any more."""
STARVED_AFTER_S: Final = 10.0
"""Peers that answered that they have pruned what is needed, and nobody who had it, for so long."""


class Send(Protocol):
    """`Mesh.send` on the bulk lane: whether the message was queued."""

    def __call__(self, peer: bytes, kind: int, body: bytes) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Run:
    """What a peer answered to the question for blocks from `first` on; `opening` gives what of it checks."""

    peer: bytes
    first: int
    opening: asyncio.Task[list[VerifiedDecision]] | None


class Synchroniser:
    """A task of its own, on one loop. See the module."""

    def __init__(
        self,
        *,
        send: Send,
        connected: Callable[[], frozenset[bytes]],
        context: Callable[[], HeightContext],
        deliver: Callable[[Sequence[VerifiedDecision]], Awaitable[None]],
        fault: Callable[[bytes, PeerFault], None],
        held: Callable[[bytes], VerifiedBatch | None] = lambda _: None,
        observer: bytes | None = None,
    ) -> None:
        self._send = send
        self._context = context
        self._deliver = deliver
        self._fault = fault
        self._held = held
        self._observer = observer
        self._claims = Claims(connected, context, observer)
        self._wake = asyncio.Event()
        self._asked: dict[bytes, asyncio.Future[bytes]] = {}
        """Who is asked now, and its answer."""
        self._owed: dict[bytes, int] = {}
        """Who was asked and was not waited for any longer: so many answers may still come."""
        self._echoes: dict[bytes, int] = {}
        """Who was asked: so many more answers to the same question are dropped without blame."""
        self._late: tuple[bytes, bytes] | None = None
        """An answer that came late, of whom; one at a time."""
        self._chasing = False
        self._fetching: asyncio.Task[None] | None = None
        self.paused = False
        """Nothing is asked for: a snapshot is on its way."""
        self._pruned: tuple[int, float] | None = None
        """The height that a peer said it has pruned, and since when it is needed; None once somebody brought us
        forward."""

    def hint(self, peer: bytes, height: int) -> None:
        """A peer says that it has decided `height`. A hint only: what counts is what it can show."""
        self._claims.hear(peer, height)
        if height >= self._context().height:
            self._wake.set()

    def offer(self, peer: bytes, body: bytes) -> None:
        """Blocks from a peer: the answer to a question. Raises PeerFault where it was asked nothing."""
        asked = self._asked.pop(peer, None)
        if asked is not None and not asked.done():
            asked.set_result(body)
        elif asked is not None or peer in self._owed:
            if (owed := self._owed.pop(peer, 1) - 1) > 0:
                self._owed[peer] = owed
            if self._late is None and not self._asked:
                self._late = (peer, body)
                self._wake.set()
        elif (echoes := self._echoes.get(peer, 0)) > 0:
            self._echoes[peer] = echoes - 1
        else:
            raise PeerFault("blocks that nobody asked for", UNASKED_WEIGHT)

    @property
    def best_known(self) -> int:
        """The highest tip that an honest validator claims: so many claim it that one of them is."""
        return self._claims.corroborated

    @property
    def catching_up(self) -> bool:
        """Whether the network is ahead by more than the height that is being decided, and stays so for a while."""
        return (self._chasing or self.paused) and self.best_known > self._context().height

    @property
    def starved(self) -> bool:
        """Whether what is needed next is to be had from nobody: an honest validator decided it, and who has it pruned
        it. One liar cannot say so: neither that there is more, nor for long while the chain grows."""
        needed = self._context().height
        if self._pruned is None or self._pruned[0] != needed or self.best_known < needed:
            return False
        return asyncio.get_running_loop().time() - self._pruned[1] > STARVED_AFTER_S

    async def run(self) -> None:
        """Follow whoever is ahead, for ever. Dies only of faults of this node."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._late is not None:
                (peer, body), self._late = self._late, None
                await self._hand_on(peer, await self._open(peer, await self._decode(peer, body)))
            if self._claims.best >= self._context().height and not self.paused:
                await self._chase()

    # ---- following

    async def _chase(self) -> None:
        start = self._context().height
        await asyncio.sleep(self._grace_s())
        if self._context().height > start and self._claims.best <= self._context().height:
            return
        self._chasing = True
        try:
            while not self.paused and await self._follow():
                pass
        finally:
            # Nothing is awaited here: a process that is killed in a simulation closes its coroutines as they stand.
            self._chasing = False
            if self._fetching is not None:
                self._fetching.cancel()

    def _grace_s(self) -> float:
        """A validator waits for its votes. Of the observers, the few that come first in the order of keys ask at once;
        the others wait until those have the blocks, and ask them."""
        if self._observer is None or self._claims.observers_before() >= RELAYS:
            return GRACE_S
        return RELAY_GRACE_S

    async def _follow(self) -> bool:
        """Commit what peers send from here on, until one sends what does not bring us forward, or nobody has more.
        Whether to go on."""
        runs: asyncio.Queue[_Run] = asyncio.Queue(maxsize=AHEAD_MAX)
        first = self._context().height
        fetching = self._fetching = asyncio.create_task(self._fetch(first, runs))
        while (run := await _next(runs, fetching)) is not None and not self.paused:
            if not await self._commit(run):
                self._claims.failed(run.peer, run.first)
                fetching.cancel()
                await asyncio.gather(fetching, return_exceptions=True)
                return True
        return self._context().height > first

    async def _fetch(self, first: int, runs: asyncio.Queue[_Run]) -> None:
        """Ask for blocks from `first` on, and those behind them, and begin to check what comes."""
        opening: list[asyncio.Task[list[VerifiedDecision]]] = []
        try:
            while (answer := await self._ask(first)) is not None:
                peer, body = answer
                blocks = await self._decode(peer, body)
                if body == NO_BLOCKS and (self._pruned is None or self._pruned[0] != first):
                    self._pruned = (first, asyncio.get_running_loop().time())
                last = _last_of(blocks, first)
                if last < first:
                    await runs.put(_Run(peer, first, None))
                    return
                opening = [one for one in opening if not one.done()]
                opening.append(asyncio.create_task(self._open(peer, blocks)))
                await runs.put(_Run(peer, first, opening[-1]))
                first = last + 1
        except asyncio.CancelledError:
            for one in opening:
                one.cancel()
            raise

    async def _commit(self, run: _Run) -> bool:
        """Whether the answer brought us forward, or somebody else did meanwhile."""
        if run.opening is not None:
            await self._hand_on(run.peer, await run.opening)
        if self._context().height <= run.first:
            return False
        self._claims.succeeded(run.peer)
        self._pruned = None
        return True

    # ---- asking

    async def _ask(self, first: int) -> tuple[bytes, bytes] | None:
        """Blocks from `first` on, of the first peer that answers, in bytes; None where nobody has them."""
        request = codec.encode(BlocksRequest(first, BLOCKS_PER_RESPONSE_MAX))
        loop = asyncio.get_running_loop()
        asked: dict[bytes, tuple[asyncio.Future[bytes], float]] = {}
        try:
            while True:
                peer = self._claims.next_peer(first, asked) if len(asked) < QUESTIONS_MAX else None
                if peer is not None:
                    answer: asyncio.Future[bytes] = loop.create_future()
                    asked[peer] = (answer, loop.time() + RESPONSE_TIMEOUT_S)
                    self._asked[peer] = answer
                    self._echoes[peer] = ECHOES_MAX
                    if not self._send(peer, Kind.BLOCKS_REQUEST, request):
                        del self._asked[peer]  # it is owed nothing
                        answer.cancel()
                        self._claims.failed(peer, first)
                        del asked[peer]
                        continue
                if not asked:
                    return None
                patience_s = HEDGE_S if first <= self.best_known else UNCORROBORATED_HEDGE_S
                until_s = min(loop.time() + patience_s, *(until_s for _, until_s in asked.values()))
                await asyncio.wait(
                    {one for one, _ in asked.values()},
                    timeout=max(PATIENCE_S_MIN, until_s - loop.time()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                answered = next((peer for peer, (one, _) in asked.items() if one.done()), None)
                for peer, (one, deadline_s) in list(asked.items()):
                    if peer == answered:
                        return peer, one.result()
                    # Whoever was asked later and answered first shows who is slow.
                    if answered is not None or loop.time() >= deadline_s:
                        self._claims.failed(peer, first)
                        self._give_up(peer)
                        del asked[peer]
        finally:
            for peer in asked:
                self._give_up(peer)

    def _give_up(self, peer: bytes) -> None:
        """Do not wait for its answer any longer; should it come, it is no fault."""
        if self._asked.pop(peer, None) is not None:
            owed = self._owed.pop(peer, 0) + 1
            if len(self._owed) >= OWED_MAX:
                del self._owed[next(iter(self._owed))]
            self._owed[peer] = owed

    # ---- checking

    async def _decode(self, peer: bytes, body: bytes) -> list[DecidedBlock]:
        try:
            return list((await checked(codec.decode, body, Blocks, BLOCKS_BYTES_MAX)).blocks)
        except Refused as refusal:
            self._fault(peer, PeerFault(str(refusal), FAULT_WEIGHT))
            return []

    async def _open(self, peer: bytes, blocks: list[DecidedBlock]) -> list[VerifiedDecision]:
        """Check what needs no chain, some blocks at a time in threads, up to the first fault."""
        context = self._context()
        wanted = [decided for decided in blocks if decided.block.height >= context.height]
        opened = await asyncio.gather(
            *(
                checked(open_some, some, context.chain_id, self._held, context.validators)
                for some in _shares(wanted)
            )
        )
        decisions: list[VerifiedDecision] = []
        for some, fault in opened:
            decisions += some
            if fault is not None:
                self._fault(peer, fault)
                break
        return decisions

    async def _hand_on(self, peer: bytes, decisions: Sequence[VerifiedDecision]) -> None:
        """Check that they are decided, and have those committed that follow our chain; the rest is old, or not yet
        ours."""
        while run := _consecutive(decisions, (context := self._context()).height):
            try:
                if all(sealed_by(one, context.validators) for one in run):
                    run = check_run(run, context)
                else:
                    run = await checked(check_run, run, context)
            except PeerFault as fault:
                self._fault(peer, fault)
                return
            await self._deliver(run)
            if self._context().height <= context.height:
                return


async def _next(runs: asyncio.Queue[_Run], fetching: asyncio.Task[None]) -> _Run | None:
    """The next run; None when there will be none. Raises what fetching died of."""
    if runs.empty():
        getting = asyncio.create_task(runs.get())
        try:
            await asyncio.wait({getting, fetching}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                return getting.result()
        finally:
            getting.cancel()
        if runs.empty():
            fetching.result()
            return None
    return runs.get_nowait()


def _last_of(blocks: Sequence[DecidedBlock], first: int) -> int:
    """The highest height that is reached from `first` without a gap; one less than `first` where it is not there."""
    for decided in blocks:
        if decided.block.height > first:
            break
        first += decided.block.height == first
    return first - 1


def _shares(blocks: Sequence[DecidedBlock]) -> list[list[DecidedBlock]]:
    """Blocks in their order, cut into pieces that are worth a thread."""
    shares: list[list[DecidedBlock]] = []
    size = CHECK_BYTES
    for decided in blocks:
        if size >= CHECK_BYTES:
            shares.append([])
            size = 0
        shares[-1].append(decided)
        size += sum(map(len, decided.batches))
    return shares


def _consecutive(decisions: Sequence[VerifiedDecision], height: int) -> list[VerifiedDecision]:
    """Those from `height` on that follow each other, up to the limit of what is committed together."""
    found: list[VerifiedDecision] = []
    transactions = 0
    for one in decisions:
        if one.block.height != height + len(found):
            if one.block.height > height + len(found):
                break
            continue
        transactions += sum(len(batch.transactions) for batch in one.batches)
        if found and transactions > TOGETHER_TRANSACTIONS_MAX:
            break
        found.append(one)
    return found
