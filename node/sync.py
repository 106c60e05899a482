"""Catching up: asking peers for decided blocks, checking them, handing them to the driver.

A block from a peer is believed only for its certificate: a quorum of seals by the validator set of its height, which
our own chain names. Everything else in it is checked against that: the form, the batches' digests, every client
signature. So no peer has to be trusted, only asked: one after the other in turn. One that sends what does not check is
at fault and scored; one that is silent, or cannot show what it claims, is left alone for a while, longer each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from consilium.consensus.context import HeightContext
from consilium.ledger import codec
from consilium.ledger.batch import VerifiedBatch, verify_batch
from consilium.ledger.block import (
    BLOCK_PAYLOAD_BYTES_MAX,
    BLOCK_TRANSACTIONS_MAX,
    Block,
    CommitCertificate,
    check_block_form,
    check_certified,
)
from consilium.ledger.errors import PeerFault, Refused
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
FAILURE_PAUSE_S: Final = 1.0
FAILURE_PAUSE_MAX_S: Final = 32.0
"""A peer that did not bring us forward is not asked for so long: twice as long each time, up to the maximum."""
FAILURES_MAX: Final = 8
GRACE_S: Final = 0.3
"""How long a replica that is one block behind waits for its votes before it asks: usually they are on their way."""
RESPONSES_QUEUED_MAX: Final = 4
PEERS_MAX: Final = 512
"""So many peers' claims are remembered."""
STARVED_AFTER_S: Final = 10.0
"""Peers that answered that they have pruned what is needed, and nobody who had it, for so long."""
FAULT_WEIGHT: Final = 50


@dataclass(frozen=True, slots=True)
class VerifiedDecision:
    """A block with everything in it checked: ready to be committed."""

    block: Block
    certificate: CommitCertificate
    batches: tuple[VerifiedBatch, ...]


class Send(Protocol):
    """`Mesh.send` on the bulk lane: whether the message was queued."""

    def __call__(self, peer: bytes, kind: int, body: bytes) -> bool: ...


def verify_decided(
    decided: DecidedBlock,
    context: HeightContext,
    held: Callable[[bytes], VerifiedBatch | None] = lambda _: None,
) -> VerifiedDecision:
    """Check a decided block against the context of its height. Costs a verify per seal and transaction: use a thread.

    `held` gives batches that were verified here before, by digest: nothing is verified twice. Raises PeerFault for what
    no honest peer sends.
    """
    block = decided.block
    try:
        check_block_form(block)
        if block.header.chain_id != context.chain_id:
            raise PeerFault("a block of another chain", FAULT_WEIGHT)
        if block.height != context.height or block.header.parent != context.parent.hash:
            raise PeerFault(f"the block does not follow ours at height {context.height - 1}", FAULT_WEIGHT)
        check_certified(block.header, decided.certificate, context.validators)
        if len(decided.batches) != len(block.batches):
            raise PeerFault("the batches are not those of the block", FAULT_WEIGHT)
        batches = tuple(
            _verified(raw, held(digest), context.chain_id)
            for digest, raw in zip(block.batches, decided.batches, strict=True)
        )
    except Refused as refusal:
        raise PeerFault(f"a decided block does not check: {refusal}", FAULT_WEIGHT) from None
    if [batch.digest for batch in batches] != block.batches:
        raise PeerFault("the batches are not those of the block", FAULT_WEIGHT)
    return VerifiedDecision(block, decided.certificate, batches)


def _verified(raw: bytes, held: VerifiedBatch | None, chain_id: bytes) -> VerifiedBatch:
    return held if held is not None and held.raw == raw else verify_batch(raw, chain_id)


def payload_within_limits(batches: tuple[VerifiedBatch, ...]) -> bool:
    """Whether a proposal's batches together keep the limits of a block."""
    return (
        sum(len(batch.raw) for batch in batches) <= BLOCK_PAYLOAD_BYTES_MAX
        and sum(len(batch.transactions) for batch in batches) <= BLOCK_TRANSACTIONS_MAX
    )


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
        deliver: Callable[[VerifiedDecision], Awaitable[None]],
        fault: Callable[[bytes, PeerFault], None],
        held: Callable[[bytes], VerifiedBatch | None] = lambda _: None,
    ) -> None:
        self._send = send
        self._connected = connected
        self._context = context
        self._deliver = deliver
        self._fault = fault
        self._held = held
        self._peers: dict[bytes, _Claimant] = {}
        self._questions = 0
        self._wake = asyncio.Event()
        self._responses: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue(maxsize=RESPONSES_QUEUED_MAX)
        self._asked: bytes | None = None
        self._chasing = False
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
        await asyncio.sleep(GRACE_S)
        if self._context().height > start and self._best_claimed() <= self._context().height:
            return
        self._chasing = True
        try:
            while (peer := self._next_peer(wanted := self._context().height)) is not None and not self.paused:
                await self._try(self._peers[peer], peer, wanted)
        finally:
            self._chasing = False

    async def _try(self, claimant: _Claimant, peer: bytes, wanted: int) -> None:
        self._questions += 1
        claimant.turn = self._questions
        if await self._ask(peer, wanted):
            claimant.failures = 0
            self._pruned = None
            return
        pause_s = min(FAILURE_PAUSE_S * 2**claimant.failures, FAILURE_PAUSE_MAX_S)
        claimant.again_s = asyncio.get_running_loop().time() + pause_s
        claimant.failures = min(claimant.failures + 1, FAILURES_MAX)
        claimant.tip = wanted - 1  # it claimed what it could not show

    def _next_peer(self, wanted: int) -> bytes | None:
        """Who claims to have the block and may be asked: in turn, so that whoever is slow or stingy delays us once."""
        connected, now_s = self._connected(), asyncio.get_running_loop().time()
        candidates = [
            key
            for key, one in self._peers.items()
            if one.tip >= wanted and key in connected and one.again_s <= now_s
        ]
        return min(candidates, key=lambda key: self._peers[key].turn, default=None)

    async def _ask(self, peer: bytes, first: int) -> bool:
        """Whether the question brought us forward."""
        self._asked = peer
        request = BlocksRequest(first, BLOCKS_PER_RESPONSE_MAX)
        try:
            if not self._send(peer, Kind.BLOCKS_REQUEST, codec.encode(request)):
                return False
            deadline_s = asyncio.get_running_loop().time() + RESPONSE_TIMEOUT_S
            sender = None
            while sender != peer:
                async with asyncio.timeout_at(deadline_s):
                    sender, body = await self._responses.get()
                # Checking and committing take the time that they take.
                await self._take(sender, body)
        except TimeoutError:
            pass
        finally:
            self._asked = None
        return self._context().height > first

    async def _take(self, peer: bytes, body: bytes) -> None:
        """Check and deliver what follows our chain; the rest of it is old or not yet ours."""
        try:
            blocks = await checked(codec.decode, body, Blocks, BLOCKS_BYTES_MAX)
        except Refused as refusal:
            self._fault(peer, PeerFault(str(refusal), FAULT_WEIGHT))
            return
        needed = self._context().height
        if not blocks.blocks and peer == self._asked and (self._pruned is None or self._pruned[0] != needed):
            self._pruned = (needed, asyncio.get_running_loop().time())
        for decided in blocks.blocks:
            context = self._context()
            if decided.block.height < context.height:
                continue
            if decided.block.height > context.height:
                break
            try:
                verified = await checked(verify_decided, decided, context, self._held)
            except PeerFault as fault:
                self._fault(peer, fault)
                return
            await self._deliver(verified)
