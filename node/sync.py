"""Catching up: asking peers for decided blocks, checking them, handing them to the driver.

A block from a peer is believed only for its certificate: a quorum of seals by the validator set of its height, which
our own chain names. Everything else in it is checked against that: the form, the batches' digests, every client
signature. So no peer has to be trusted, only asked; one that sends what does not check is at fault and scored, one
that is slow or silent is passed over for the next.
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
    Tip,
)

RESPONSE_TIMEOUT_S: Final = 4.0
RETRY_PAUSE_S: Final = 0.25
GRACE_S: Final = 0.3
"""How long a replica that is one block behind waits for its votes before it asks: usually they are on their way."""
RESPONSES_QUEUED_MAX: Final = 4
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


def verify_decided(decided: DecidedBlock, context: HeightContext) -> VerifiedDecision:
    """Check a decided block against the context of its height. Costs a verify per seal and transaction: use a thread.

    Raises PeerFault for what no honest peer sends.
    """
    block = decided.block
    try:
        check_block_form(block)
        if block.height != context.height or block.header.parent != context.parent.hash:
            raise PeerFault(f"the block does not follow ours at height {context.height - 1}", FAULT_WEIGHT)
        check_certified(block.header, decided.certificate, context.validators)
        chain_id = block.header.chain_id
        batches = tuple(verify_batch(raw, chain_id) for raw in decided.batches)
    except Refused as refusal:
        raise PeerFault(f"a decided block does not check: {refusal}", FAULT_WEIGHT) from None
    if [batch.digest for batch in batches] != block.batches:
        raise PeerFault("the batches are not those of the block", FAULT_WEIGHT)
    return VerifiedDecision(block, decided.certificate, batches)


def payload_within_limits(batches: tuple[VerifiedBatch, ...]) -> bool:
    """Whether a proposal's batches together keep the limits of a block."""
    return (
        sum(len(batch.raw) for batch in batches) <= BLOCK_PAYLOAD_BYTES_MAX
        and sum(len(batch.transactions) for batch in batches) <= BLOCK_TRANSACTIONS_MAX
    )


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
    ) -> None:
        self._send = send
        self._connected = connected
        self._context = context
        self._deliver = deliver
        self._fault = fault
        self._tips: dict[bytes, int] = {}
        self._wake = asyncio.Event()
        self._responses: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue(maxsize=RESPONSES_QUEUED_MAX)
        self._asked: bytes | None = None
        self.catching_up = False

    def note_tip(self, peer: bytes, body: bytes) -> None:
        """A peer says how far it is. A hint only: what counts is what it can show."""
        tip = codec.decode(body, Tip, 64)
        self.hint(peer, tip.height)

    def hint(self, peer: bytes, height: int) -> None:
        """A peer seems to have decided `height`."""
        self._tips[peer] = max(height, self._tips.get(peer, 0))
        if height >= self._context().height:
            self._wake.set()

    def forget(self, peer: bytes) -> None:
        """The peer is no member any more."""
        self._tips.pop(peer, None)

    def offer(self, peer: bytes, body: bytes) -> None:
        """Blocks from a peer: the answer to our request, or a help that we did not ask for. Dropped when full."""
        if peer != self._asked and not self._responses.empty():
            return
        if not self._responses.full():
            self._responses.put_nowait((peer, body))
            self._wake.set()

    @property
    def best_known(self) -> int:
        """The highest tip that any peer claims."""
        return max(self._tips.values(), default=0)

    async def run(self) -> None:
        """Follow the best tip for ever. Dies only of faults of this node."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while not self._responses.empty():
                await self._take(*self._responses.get_nowait())
            if self.best_known >= self._context().height:
                await self._chase()

    async def _chase(self) -> None:
        start = self._context().height
        await asyncio.sleep(GRACE_S)
        if self._context().height > start and self.best_known <= self._context().height:
            return
        self.catching_up = self.best_known > self._context().height + 1
        tried: dict[bytes, None] = {}
        while (wanted := self._context().height) <= self.best_known:
            peer = self._next_peer(wanted, tried)
            if peer is None:
                await asyncio.sleep(RETRY_PAUSE_S)
                for claimant, height in list(self._tips.items()):
                    if claimant in tried and height >= wanted:
                        self._tips[claimant] = wanted - 1  # it claimed what it could not show
                break
            if await self._ask(peer, wanted):
                tried.clear()
            else:
                tried[peer] = None
        self.catching_up = False

    def _next_peer(self, wanted: int, tried: dict[bytes, None]) -> bytes | None:
        connected = self._connected()
        candidates = [
            p for p, tip in self._tips.items() if tip >= wanted and p in connected and p not in tried
        ]
        # The furthest first; among equals, the one whose key is next after a rotating point spreads the load.
        return max(candidates, key=lambda p: (self._tips[p], p[wanted % 32]), default=None)

    async def _ask(self, peer: bytes, first: int) -> bool:
        """Whether the peer brought us forward."""
        self._asked = peer
        request = BlocksRequest(first, BLOCKS_PER_RESPONSE_MAX)
        try:
            if not self._send(peer, Kind.BLOCKS_REQUEST, codec.encode(request)):
                return False
            async with asyncio.timeout(RESPONSE_TIMEOUT_S):
                while True:
                    sender, body = await self._responses.get()
                    await self._take(sender, body)
                    if sender == peer:
                        break
        except TimeoutError:
            pass
        finally:
            self._asked = None
        return self._context().height > first

    async def _take(self, peer: bytes, body: bytes) -> None:
        """Check and deliver what follows our chain; the rest of it is old or not yet ours."""
        try:
            blocks = await asyncio.to_thread(codec.decode, body, Blocks, BLOCKS_BYTES_MAX)
            for decided in blocks.blocks:
                context = self._context()
                if decided.block.height < context.height:
                    continue
                if decided.block.height > context.height:
                    break
                await self._deliver(await asyncio.to_thread(verify_decided, decided, context))
        except Refused as refusal:
            self._fault(peer, PeerFault(str(refusal), FAULT_WEIGHT))
        except PeerFault as fault:
            if self._context().height <= decided.block.height:
                self._fault(peer, fault)
