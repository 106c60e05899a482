"""From a peer's bytes to the right inbox: decode within bounds, verify off the event loop, hand on.

Every message ends in one of four ways: it reaches its inbox, it is known already, it is answered, or it is the peer's
fault. The mesh calls `handle` for one message at a time of each peer and lane, so waiting here holds back that peer and
nobody else.
"""

from __future__ import annotations

import asyncio
from typing import Final

from consilium.consensus.io import MessageReceived
from consilium.consensus.messages import (
    Commit,
    Message,
    Prepare,
    PrePrepare,
    decode_message,
    verify_message,
)
from consilium.ledger import codec
from consilium.ledger.batch import open_batch
from consilium.ledger.errors import PeerFault, Refused
from consilium.ledger.validators import VALIDATORS_MAX
from consilium.node.checking import Checker
from consilium.node.complaints import TAKEN_EVERY_HEIGHTS
from consilium.node.driver import Driver
from consilium.node.executor import Executor
from consilium.node.mempool import Mempool, is_spent
from consilium.node.peer_messages import LIMITS, BatchRequest, BlocksRequest, Kind, Tip
from consilium.node.serving import Serving
from consilium.node.sync import Send, Synchroniser
from consilium.node.threads import checked

FORGED_WEIGHT: Final = 50
ATTACHED_PARTS: Final = 16
"""A member that is no validator has one in so many parts of a validator's share of the pool."""
SPENT_REST_SHARE: Final = 4.0
"""After a batch that was checked for nothing, its bringer is not heard on this lane for so many times as long: nothing
is at fault and nothing is kept, so neither score nor share would ever end it."""
SPENT_REST_S_MAX: Final = 0.25
INLINE_PROPOSAL_BATCHES: Final = 64
"""A proposal that names no more, and needs no justification, is checked where it arrives: one signature."""
INLINE_BATCH_BYTES: Final = 4 * 1024
"""A batch that is no longer is opened where it arrives: a thread and back takes longer than its author's signature."""


def _is_light(message: Message) -> bool:
    """Whether checking it takes one signature and little more: going to a thread and back would take longer."""
    if isinstance(message, PrePrepare):
        return message.justification is None and len(message.block.batches) <= INLINE_PROPOSAL_BATCHES
    return isinstance(message, Prepare | Commit)


class Router:
    """See the module."""

    def __init__(
        self,
        *,
        chain_id: bytes,
        driver: Driver,
        executor: Executor,
        mempool: Mempool,
        synchroniser: Synchroniser,
        send: Send,
        serving: Serving | None = None,
        checker: Checker | None = None,
    ) -> None:
        self._chain_id = chain_id
        self._checker = checker or Checker()
        self._driver = driver
        self._executor = executor
        self._mempool = mempool
        self._synchroniser = synchroniser
        self._send = send
        self._serving = serving or Serving()
        self._passed_on: dict[bytes, int] = {}
        """Of each validator, the height at which it passed on another's batch last."""

    async def handle(self, peer: bytes, kind: int, body: bytes) -> None:
        """Handle one message. Raises PeerFault or Refused where the peer is at fault."""
        match kind:
            case Kind.CONSENSUS:
                await self._consensus(peer, body)
            case Kind.TIP:
                tip = codec.decode(body, Tip, LIMITS[Kind.TIP])
                self._synchroniser.hint(peer, tip.height)
                if peer in self._driver.context.validators:  # others ask for what they lack
                    self._driver.peer_at(peer, tip.height + 1)
            case Kind.BATCH:
                await self._batch(peer, body)
            case Kind.BATCH_REQUEST:
                await self._serve_batches(peer, body)
            case Kind.BLOCKS_REQUEST:
                await self._serve_blocks(peer, body)
            case Kind.BLOCKS:
                self._synchroniser.offer(peer, body)
            case _:
                raise PeerFault(f"a message of kind {kind}", FORGED_WEIGHT)

    async def _consensus(self, peer: bytes, body: bytes) -> None:
        message = decode_message(body)
        validators = self._executor.validators_at(message.height)
        if validators is None:
            self._driver.peer_at(peer, message.height)
            return
        if _is_light(message):
            verified = verify_message(message, self._chain_id, validators)
        else:
            verified = await checked(verify_message, message, self._chain_id, validators)
        await self._driver.receive(MessageReceived(verified))

    async def _batch(self, peer: bytes, body: bytes) -> None:
        if self._mempool.holds(body):
            return  # offered again: nothing of it is hashed again
        try:
            if len(body) <= INLINE_BATCH_BYTES:
                batch, digest = open_batch(body, self._chain_id)
            else:
                batch, digest = await checked(open_batch, body, self._chain_id)
        except Refused as refusal:
            raise PeerFault(str(refusal), FORGED_WEIGHT) from None
        if self._mempool.batch(digest) is not None:
            return
        passed_on = False
        if not self._mempool.is_wanted(digest):
            if batch.author != peer:
                if self._mempool.was_wanted(digest):
                    return  # an answer that comes when the height is decided
                if peer not in self._driver.context.validators:
                    # No fault: one that was a validator until now, and lags, passes on what it holds all the same.
                    await asyncio.sleep(SPENT_REST_S_MAX)
                    return
                if not self._may_pass_on(peer):
                    return
                passed_on = True
            elif not self._mempool.may_add(batch.author, len(body), self._parts_of(batch.author)):
                return  # its author offers it again, once blocks have made room
        began_s = asyncio.get_running_loop().time()
        try:
            verified = await self._checker.batch(batch, digest, body)
        except Refused as refusal:
            raise PeerFault(f"a batch with a bad transaction: {refusal}", FORGED_WEIGHT) from None
        if not self._mempool.is_wanted(digest):
            if is_spent(verified, self._driver.context.parent.time_ms, self._executor.seen):
                # Two clients' hosts may seal the same; who seals what is decided again and again waits for it himself.
                taken_s = asyncio.get_running_loop().time() - began_s
                if taken_s > 0:
                    await asyncio.sleep(min(taken_s * SPENT_REST_SHARE, SPENT_REST_S_MAX))
                return
            if passed_on:
                self._mempool.make_room(verified.author, len(body), self._parts_of(verified.author))
            if not self._mempool.may_add(verified.author, len(body), self._parts_of(verified.author)):
                return
        try:
            added = self._mempool.add_batch(verified, self._driver.context.height, first=passed_on)
        except Refused as refusal:  # heavier than a batch may be: no honest node seals it, nor has it to give
            raise PeerFault(str(refusal), FORGED_WEIGHT) from None
        if added:
            self._driver.batch_arrived()

    def _may_pass_on(self, peer: bytes) -> bool:
        """A validator shows what others sealed before it complains that it is not proposed: one batch now and then.

        What is shown is proposed before all else, and finds room: an author that keeps its own share here full could
        have this node deposed for what it then never holds, or holds behind hundreds.
        """
        height = self._driver.context.height
        last = self._passed_on.get(peer)
        if last is not None and height < last + TAKEN_EVERY_HEIGHTS:
            return False
        if last is None and len(self._passed_on) >= VALIDATORS_MAX:  # validators of earlier sets
            self._passed_on.clear()
        self._passed_on[peer] = height
        return True

    def _parts_of(self, author: bytes) -> int:
        """Observers and candidates are members too, and have something to submit: in a smaller share of the pool."""
        return 1 if author in self._driver.context.validators else ATTACHED_PARTS

    async def _serve_batches(self, peer: bytes, body: bytes) -> None:
        for digest in dict.fromkeys(codec.decode(body, BatchRequest, LIMITS[Kind.BATCH_REQUEST]).digests):
            batch = self._mempool.batch(digest)
            # Who is one block behind may lack a batch that is committed here already.
            raw = (
                batch.raw
                if batch is not None
                else await asyncio.to_thread(self._executor.store.batch, digest)
            )
            if raw is not None:
                self._send(peer, Kind.BATCH, raw)

    async def _serve_blocks(self, peer: bytes, body: bytes) -> None:
        request = codec.decode(body, BlocksRequest, LIMITS[Kind.BLOCKS_REQUEST])

        def answer(blocks: bytes | None) -> None:
            if blocks is not None:
                self._send(peer, Kind.BLOCKS, blocks)

        read = self._executor.encoded_blocks
        if peer in self._driver.context.validators:
            answer(await self._serving.for_validator(read, request.first, request.count))
        else:
            await self._serving.for_other(answer, read, request.first, request.count)
