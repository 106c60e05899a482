"""Catching up: asking peers for decided blocks, checking them, handing them to the driver.

No peer has to be trusted, only asked (`node.decided`): one after the other in turn. One that sends what does not check
is at fault and scored; one that is silent, or cannot show what it claims, is left alone for a while, longer each time.

Three things happen at once: the next blocks travel and their signatures are checked in threads, while those before them
are executed and written; and what is executed together is synced once.
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
from consilium.node.decided import FAULT_WEIGHT, VerifiedDecision, check_run, open_decided
from consilium.node.peer_messages import (
    BLOCKS_BYTES_MAX,
    BLOCKS_PER_RESPONSE_MAX,
    Blocks,
    BlocksRequest,
    Kind,
)
from consilium.node.threads import checked

RESPONSE_TIMEOUT_S: Final = 4.0
FAILURE_PAUSE_S: Final = 1.0
FAILURE_PAUSE_MAX_S: Final = 32.0
"""A peer that did not bring us forward is not asked for so long: twice as long each time, up to the maximum."""
FAILURES_MAX: Final = 8
GRACE_S: Final = 0.3
"""How long a replica that is one block behind waits for its votes before it asks: usually they are on their way."""
RELAYS: Final = 2
RELAY_GRACE_S: Final = 0.02
RESPONSES_QUEUED_MAX: Final = 4
TOGETHER_TRANSACTIONS_MAX: Final = 2_048
"""Of the blocks that are committed together: votes wait for so many at most."""
PEERS_MAX: Final = 512
"""So many peers' claims are remembered."""
NO_BLOCKS: Final = codec.encode(Blocks([]))
"""The answer of who decided the height and does not keep it any more."""
STARVED_AFTER_S: Final = 10.0
"""Peers that answered that they have pruned what is needed, and nobody who had it, for so long."""


class Send(Protocol):
    """`Mesh.send` on the bulk lane: whether the message was queued."""

    def __call__(self, peer: bytes, kind: int, body: bytes) -> bool: ...


def _nothing() -> None:
    """Where nothing is to be begun."""


@dataclass(slots=True)
class _Claimant:
    """A peer that says how far it is. `failures` counts what it did not show in a row."""

    tip: int = 0
    failures: int = 0
    again_s: float = 0.0
    """Not asked before this time of the loop."""
    turn: int = 0
    """When it was asked last, in questions."""


class Synchroniser:
    """One request at a time to one peer at a time; a task of its own. See the module."""

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
        self._connected = connected
        self._context = context
        self._deliver = deliver
        self._fault = fault
        self._held = held
        self._observer = observer
        """This node's key, where it does not vote: it then asks others that do not vote first."""
        self._peers: dict[bytes, _Claimant] = {}
        self._questions = 0
        self._wake = asyncio.Event()
        self._responses: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue(maxsize=RESPONSES_QUEUED_MAX)
        self._asked: bytes | None = None
        self._chasing = False
        self._ahead: asyncio.Task[_Run] | None = None
        self.paused = False
        """Nothing is asked for: a snapshot is on its way."""
        self._pruned: tuple[int, float] | None = None
        """The height that a peer said it has pruned, and since when it is needed; None once somebody brought us
        forward."""

    def hint(self, peer: bytes, height: int) -> None:
        """A peer says that it has decided `height`. A hint only: what counts is what it can show."""
        claimant = self._peers.get(peer)
        if claimant is None:
            if len(self._peers) >= PEERS_MAX and not self._forget_one():
                return
            claimant = self._peers[peer] = _Claimant()
        claimant.tip = max(height, claimant.tip)
        if height >= self._context().height:
            self._wake.set()

    def _forget_one(self) -> bool:
        """Make room: whoever is not connected may go."""
        connected = self._connected()
        gone = next((peer for peer in self._peers if peer not in connected), None)
        if gone is not None:
            del self._peers[gone]
        return gone is not None

    def offer(self, peer: bytes, body: bytes) -> None:
        """Blocks from a peer: the answer to our request, or a help that we did not ask for. Dropped when full."""
        if peer != self._asked and not self._responses.empty():
            return
        if not self._responses.full():
            self._responses.put_nowait((peer, body))
            self._wake.set()

    @property
    def best_known(self) -> int:
        """The highest tip that an honest validator claims: so many claim it that one of them is."""
        validators = self._context().validators
        tips = sorted((one.tip for key, one in self._peers.items() if key in validators), reverse=True)
        return tips[validators.f] if len(tips) > validators.f else 0

    @property
    def catching_up(self) -> bool:
        """Whether the network is ahead by more than the height that is being decided, and stays so for a while."""
        return self._chasing and self.best_known > self._context().height

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
            while not self._responses.empty():
                await self._take(*self._responses.get_nowait())
            if self._best_claimed() >= self._context().height and not self.paused:
                await self._chase()

    def _best_claimed(self) -> int:
        return max((one.tip for one in self._peers.values()), default=0)

    async def _chase(self) -> None:
        start = self._context().height
        await asyncio.sleep(self._grace_s())
        if self._context().height > start and self._best_claimed() <= self._context().height:
            return
        self._chasing = True
        ahead: asyncio.Task[_Run] | None = None
        try:
            while not self.paused:
                ahead = self._ahead or self._ask_for(self._context().height)
                if ahead is None:
                    return
                run, self._ahead = await ahead, None
                if not await self._commit(run):
                    self._fail(run)
                    await self._drop_ahead()
        finally:
            # Nothing is awaited here: a process that is killed in a simulation closes its coroutines as they stand.
            self._chasing = False
            for task in (ahead, self._ahead):
                if task is not None:
                    task.cancel()
            self._ahead = None

    async def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    def _grace_s(self) -> float:
        """A validator waits for its votes. Of the observers, the few that come first in the order of keys ask at once;
        the others wait until those have the blocks, and ask them."""
        if self._observer is None:
            return GRACE_S
        before = sum(1 for key in self._connected() if self._is_observer(key) and key < self._observer)
        return RELAY_GRACE_S if before < RELAYS else GRACE_S

    def _is_observer(self, key: bytes) -> bool:
        return key not in self._context().validators

    def _ask_for(self, first: int) -> asyncio.Task[_Run] | None:
        """Begin to fetch blocks from a height on; None where nobody claims to have them."""
        peer = self._next_peer(first)
        if peer is None:
            return None
        self._questions += 1
        self._peers[peer].turn = self._questions
        return asyncio.create_task(self._fetch(peer, first))

    async def _fetch(self, peer: bytes, first: int) -> _Run:
        body = await self._ask(peer, first)
        if body == NO_BLOCKS and (self._pruned is None or self._pruned[0] != first):
            self._pruned = (first, asyncio.get_running_loop().time())
        return _Run(peer, first, [] if body is None else await self._open(peer, body))

    async def _commit(self, run: _Run) -> bool:
        """Whether the answer brought us forward, or somebody else did meanwhile."""

        def go_on() -> None:
            # The next blocks travel while these are committed.
            self._ahead = self._ask_for(run.last + 1)

        await self._hand_on(run.peer, run.decisions, go_on)
        if self._context().height <= run.first:
            return False
        if run.peer in self._peers:
            self._peers[run.peer].failures = 0
        self._pruned = None
        return True

    def _fail(self, run: _Run) -> None:
        claimant = self._peers.get(run.peer)
        if claimant is None:
            return
        pause_s = min(FAILURE_PAUSE_S * 2**claimant.failures, FAILURE_PAUSE_MAX_S)
        claimant.again_s = asyncio.get_running_loop().time() + pause_s
        claimant.failures = min(claimant.failures + 1, FAILURES_MAX)
        claimant.tip = run.first - 1  # it claimed what it could not show

    def _next_peer(self, wanted: int) -> bytes | None:
        """Who claims to have the block and may be asked: in turn, so that whoever is slow or stingy delays us once."""
        connected, now_s = self._connected(), asyncio.get_running_loop().time()
        candidates = [
            key
            for key, one in self._peers.items()
            if one.tip >= wanted and key in connected and one.again_s <= now_s
        ]
        if self._observer is None:
            return min(candidates, key=lambda key: self._peers[key].turn, default=None)
        return min(
            candidates, key=lambda key: (not self._is_observer(key), self._peers[key].turn), default=None
        )

    async def _ask(self, peer: bytes, first: int) -> bytes | None:
        """The peer's answer; None where it gives none in its time."""
        self._asked = peer
        request = BlocksRequest(first, BLOCKS_PER_RESPONSE_MAX)
        try:
            if not self._send(peer, Kind.BLOCKS_REQUEST, codec.encode(request)):
                return None
            deadline_s = asyncio.get_running_loop().time() + RESPONSE_TIMEOUT_S
            while True:
                async with asyncio.timeout_at(deadline_s):
                    sender, body = await self._responses.get()
                if sender == peer:
                    return body
                await self._take(sender, body)
        except TimeoutError:
            return None
        finally:
            self._asked = None

    async def _take(self, peer: bytes, body: bytes) -> None:
        """Blocks that were not asked for, or come late."""
        await self._hand_on(peer, await self._open(peer, body))

    async def _open(self, peer: bytes, body: bytes) -> list[VerifiedDecision]:
        """Decode an answer and check what needs no chain, block by block in threads, up to the first fault."""
        try:
            blocks = (await checked(codec.decode, body, Blocks, BLOCKS_BYTES_MAX)).blocks
        except Refused as refusal:
            self._fault(peer, PeerFault(str(refusal), FAULT_WEIGHT))
            return []
        context = self._context()
        wanted = [decided for decided in blocks if decided.block.height >= context.height]
        opened = await asyncio.gather(
            *(checked(open_decided, decided, context.chain_id, self._held) for decided in wanted),
            return_exceptions=True,
        )
        decisions: list[VerifiedDecision] = []
        for one in opened:
            if isinstance(one, PeerFault):
                self._fault(peer, one)
                break
            if isinstance(one, BaseException):
                raise one
            decisions.append(one)
        return decisions

    async def _hand_on(
        self,
        peer: bytes,
        decisions: Sequence[VerifiedDecision],
        go_on: Callable[[], None] = _nothing,
    ) -> None:
        """Check that they are decided, and have those committed that follow our chain; the rest is old, or not yet
        ours. `go_on` is called once the first of them are found to be decided."""
        while True:
            context = self._context()
            run = _consecutive(decisions, context.height)
            if not run:
                return
            try:
                run = await checked(check_run, run, context)
            except PeerFault as fault:
                self._fault(peer, fault)
                return
            go_on()
            go_on = _nothing
            await self._deliver(run)
            if self._context().height <= context.height:
                return


@dataclass(frozen=True, slots=True)
class _Run:
    """What a peer answered to the question for blocks from `first` on, opened."""

    peer: bytes
    first: int
    decisions: list[VerifiedDecision]

    @property
    def last(self) -> int:
        """The highest height in it."""
        return max((one.block.height for one in self.decisions), default=self.first)


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
