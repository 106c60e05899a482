"""A validator that lies, as a process of its own: the real node, on the real keys, with one thing bent.

    python tests/cluster/byzantine.py KIND NODE_FOLDER [--stop-on-eof]

Each kind is a `Mesh` whose tongue is bent: what the node decides to say passes through it on its way out, and it may
say more. Everything else is the product. `LocalCluster(program=...)` starts one in a node's place.

What was told is printed, one JSON line for each power of two, so that a test can show that the attack took place.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from consilium.consensus.messages import (
    Commit,
    Message,
    Prepare,
    PrePrepare,
    ViewChange,
    decode_message,
    encode_message,
    sign_commit,
    sign_pre_prepare,
    sign_prepare,
    sign_view_change,
)
from consilium.consensus.restart import StatusRequest
from consilium.ledger import codec
from consilium.ledger.batch import VerifiedBatch, seal_batch
from consilium.ledger.block import BLOCK_TRANSACTIONS_MAX, Block, batches_root
from consilium.ledger.crypto import SigningKey
from consilium.ledger.transaction import Operation, identity_of, sign_transaction
from consilium.node import wire
from consilium.node.config import load_config
from consilium.node.mempool import Mempool
from consilium.node.peer_messages import BlocksRequest, Kind, Tip
from consilium.node.running import run_in_foreground
from consilium.p2p.mesh import Lane, Mesh

UNKNOWN_KIND = 99
OVERSIZED_BYTES = 200_000
AHEAD_MAX = 128
"""A flooder keeps so many messages waiting for each peer: as fast as they are taken, and no faster."""
HOUR_MS = 3_600_000


class Liar(Mesh):
    """Says what the node says, to each peer on its own; `bend` is what the kinds change."""

    def __init__(self, *, key: SigningKey, chain_id: bytes, limits: Any, **rest: Any) -> None:
        # Its own limits must not keep it from breaking its peers'.
        wide = {**limits, Kind.CONSENSUS: 2 * OVERSIZED_BYTES, UNKNOWN_KIND: 2 * OVERSIZED_BYTES}
        super().__init__(key=key, chain_id=chain_id, limits=wide, **rest)
        self.signer = key
        self.chain = chain_id
        self.told: Counter[str] = Counter()
        self.height = 1
        """The height at which this node works, as its own words show."""

    @classmethod
    def arm(cls) -> None:
        """Called before the node is made, for a kind that bends more than the tongue."""

    def bend(self, place: int, message: Message) -> list[Message]:
        """What the peer with this place among the others, in the order of keys, is told instead."""
        return [message]

    def broadcast(self, kind: int, body: bytes, lane: Lane) -> int:
        return sum(self.send(peer, kind, body, lane) for peer in self.others())

    def send(self, peer_key: bytes, kind: int, body: bytes, lane: Lane) -> bool:
        others = self.others()
        if kind != Kind.CONSENSUS or peer_key not in others:  # a validator says its votes to itself too
            return super().send(peer_key, kind, body, lane)
        message = decode_message(body)
        self.height = message.height
        said = [encode_message(one) for one in self.bend(others.index(peer_key), message)]
        return sum(super(Liar, self).send(peer_key, kind, one, lane) for one in said) == len(said)

    def others(self) -> list[bytes]:
        """The keys of all peers, in order, connected or not."""
        return [status.key for status in self.peers()]

    def lied(self, what: str, times: int = 1) -> None:
        before = self.told[what]
        self.told[what] += times
        if before.bit_length() != self.told[what].bit_length():
            print(json.dumps({"lie": what, "times": self.told[what]}), flush=True)


class Silent(Liar):
    """Connected, asks like anybody, and answers nothing: no vote, no proposal, no batch, no status."""

    def send(self, peer_key: bytes, kind: int, body: bytes, lane: Lane) -> bool:
        if kind in (Kind.STATUS_REQUEST, Kind.BATCH_REQUEST, Kind.BLOCKS_REQUEST):
            return super().send(peer_key, kind, body, lane)
        if kind == Kind.CONSENSUS:
            self.lied("silent")
        return True


class Equivocator(Liar):
    """Two stories, and no peer ever hears both: at odd heights two of three peers get the true one, at even heights
    one does. Where it proposes, the second story is a valid block, a millisecond later."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._twins: dict[bytes, Block] = {}

    def bend(self, place: int, message: Message) -> list[Message]:
        first = (place + message.height) % len(self.others()) == 0
        if first == (message.height % 2 == 0):
            return [message]
        return [self._otherwise(message)]

    def _otherwise(self, message: Message) -> Message:
        match message:
            case PrePrepare(_, view, _, block, justification, _):
                header = block.header
                if justification is None or justification.certificate is None:
                    header = msgspec.structs.replace(header, time_ms=header.time_ms + 1)
                self._twins[block.hash] = twin = Block(header, block.batches)
                self.lied("second proposal", int(twin != block))
                return sign_pre_prepare(self.signer, self.chain, view, twin, justification)
            case Prepare(height, view, _, block_hash, _):
                self.lied("second prepare")
                return sign_prepare(self.signer, self.chain, height, view, self._other_hash(block_hash))
            case Commit(height, view, _, block_hash, _):
                self.lied("second seal")
                return sign_commit(self.signer, self.chain, height, view, self._other_hash(block_hash))
            case ViewChange(height, view, _, prepared, _) if prepared is not None:
                self.lied("second view change")
                return sign_view_change(self.signer, self.chain, height, view, None)
        return message

    def _other_hash(self, block_hash: bytes) -> bytes:
        twin = self._twins.get(block_hash)
        return twin.hash if twin is not None else bytes(byte ^ 255 for byte in block_hash)


def _with(**fields: Any) -> Callable[[Block], Block]:
    return lambda block: Block(msgspec.structs.replace(block.header, **fields), block.batches)


def _an_hour_later(block: Block) -> Block:
    return _with(time_ms=block.header.time_ms + HOUR_MS)(block)


def _with_unknown_batches(block: Block) -> Block:
    batches = [secrets.token_bytes(32), *block.batches]
    return Block(msgspec.structs.replace(block.header, batches_root=batches_root(batches)), batches)


class Inventor(Liar):
    """Proposes what must not be: each peer gets another invalid block, and a good one with a bad signature first."""

    BENT: tuple[tuple[str, Callable[[Block], Block]], ...] = (
        ("bad parent", _with(parent=bytes(32))),
        # The next three are for height 1: the first turn may be the only one for a long time.
        ("bad state root", _with(state_root=bytes(32))),
        ("bad time", _an_hour_later),
        ("unknown batches", _with_unknown_batches),
        ("bad history", _with(history_root=bytes(32))),
    )

    def bend(self, place: int, message: Message) -> list[Message]:
        if not isinstance(message, PrePrepare):
            return [message]
        forged = msgspec.structs.replace(message, signature=bytes(64))
        self.lied("bad signature")
        what, bent = self.BENT[(place + message.height + message.view) % len(self.BENT)]
        self.lied(what)
        block = bent(message.block)
        invented = sign_pre_prepare(self.signer, self.chain, message.view, block, message.justification)
        return [forged, invented]


class Withholder(Liar):
    """Proposes everything but what takes a right away, and works well otherwise: it keeps and serves the batches that
    it leaves out, and votes for them where another proposes them."""

    WITHHELD = "consent.revoke"

    @classmethod
    def arm(cls) -> None:
        setattr(wire, "Mempool", _Choosy)  # noqa: B010 - it is no part of the face of `wire`


class _Choosy(Mempool):
    """Of what waits, whatever suits."""

    @property
    def has_work(self) -> bool:
        return any(not _is_withheld(batch) for batch in self._batches.values())

    def choose(self, transactions_max: int = BLOCK_TRANSACTIONS_MAX) -> list[bytes]:
        found = super().choose(transactions_max)
        chosen = [digest for digest in found if not _is_withheld(self._batches[digest])]
        if chosen != found:
            print(json.dumps({"lie": "withheld", "times": len(found) - len(chosen)}), flush=True)
        return chosen


def _is_withheld(batch: VerifiedBatch) -> bool:
    said = [one.name for transaction in batch.transactions for one in transaction.value.operations]
    return Withholder.WITHHELD in said


class _Restless(Liar):
    """Beside what the node says: whatever `chatter` yields, to everybody, as fast as it is taken."""

    async def start(self) -> None:
        await super().start()
        self._chatting = asyncio.create_task(self._chat())

    async def stop(self) -> None:
        self._chatting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._chatting
        await super().stop()

    def chatter(self) -> Iterator[tuple[str, int, bytes, Lane]]:
        """What is said beside, without end: what to call it, kind, body, lane."""
        raise NotImplementedError

    async def _chat(self) -> None:
        words = self.chatter()
        while True:
            # Below: as many at a time as its peers have taken meanwhile.
            await asyncio.sleep(0.002)
            for key, peer in list(self._peers.items()):
                for _ in range(32):
                    what, kind, body, lane = next(words)
                    port = peer.ports[lane]
                    if port.link is not None and len(port.outbox) < AHEAD_MAX:
                        Mesh.send(self, key, kind, body, lane)
                        self.lied(what)


class Flooder(_Restless):
    """Breaks no rule, and does not stop: good votes of all heights and views, tips, questions, batches."""

    def chatter(self) -> Iterator[tuple[str, int, bytes, Lane]]:
        stranger = SigningKey(secrets.token_bytes(32))
        votes: list[bytes] = []
        for number in itertools.count():
            if number % 4_096 == 0:
                votes = self._votes()
            match number % 16:
                case 0:
                    raw = codec.encode(Tip(secrets.randbelow(2**40), secrets.token_bytes(32)))
                    yield "tips", Kind.TIP, raw, Lane.VOTES
                case 1:
                    raw = codec.encode(StatusRequest(secrets.token_bytes(16)))
                    yield "questions", Kind.STATUS_REQUEST, raw, Lane.VOTES
                case 2:
                    yield "requests", Kind.BLOCKS_REQUEST, codec.encode(BlocksRequest(1, 64)), Lane.BULK
                case 3 if number % 256 == 3:
                    yield "batches", Kind.BATCH, self._batch(stranger, number), Lane.BULK
                case _:
                    yield "votes", Kind.CONSENSUS, votes[number % len(votes)], Lane.VOTES

    def _votes(self) -> list[bytes]:
        """Signed by its own key: this height, old ones, the next, far ones; low views and far views."""
        heights = [self.height, max(1, self.height - 1), 1, self.height + 1, self.height + 1_000]
        made: list[Message] = []
        for height, view in itertools.product(heights, (0, 1, 7, 2**40)):
            block_hash = secrets.token_bytes(32)
            made.append(sign_commit(self.signer, self.chain, height, view, block_hash))
            made.append(sign_prepare(self.signer, self.chain, height, view, block_hash))
            made.append(sign_view_change(self.signer, self.chain, height, view + 1, None))
        return [encode_message(message) for message in made]

    def _batch(self, stranger: SigningKey, sequence: int) -> bytes:
        """A transaction by nobody whom the ledger knows: good to look at, and refused when it is executed."""
        transaction = sign_transaction(
            stranger,
            chain_id=self.chain,
            sender=identity_of(stranger.public),
            nonce=secrets.token_bytes(16),
            valid_until=time.time_ns() // 1_000_000 + 60_000,
            operations=[Operation("nothing.at_all", b"\x90")],
        )
        return seal_batch(self.signer, self.chain, 2**50 + sequence, [transaction]).raw


class Babbler(_Restless):
    """Garbage: bytes that are no message, messages beyond their limits, kinds that there are not, forged votes."""

    def chatter(self) -> Iterator[tuple[str, int, bytes, Lane]]:
        forged = Prepare(1, 0, self.others()[0], bytes(32), bytes(64))
        while True:
            yield "garbage", Kind.CONSENSUS, secrets.token_bytes(300), Lane.VOTES
            yield "forged votes", Kind.CONSENSUS, encode_message(forged), Lane.VOTES
            yield "garbage batches", Kind.BATCH, secrets.token_bytes(3_000), Lane.BULK
            yield "oversized", Kind.CONSENSUS, bytes(OVERSIZED_BYTES), Lane.VOTES
            yield "unknown kinds", UNKNOWN_KIND, b"?", Lane.BULK


KINDS: dict[str, type[Liar]] = {
    "silent": Silent,
    "equivocating": Equivocator,
    "inventing": Inventor,
    "withholding": Withholder,
    "flooding": Flooder,
    "babbling": Babbler,
}


if __name__ == "__main__":
    settings = load_config(Path(sys.argv[2]) / "consilium.toml", {})
    kind = KINDS[sys.argv[1]]
    kind.arm()
    run_in_foreground(settings, stop_on_eof="--stop-on-eof" in sys.argv, mesh=kind)
