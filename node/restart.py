"""Asking, at every start, what the other validators know; and answering those who ask.

The rule is `consensus.restart`'s; this is its host: it asks whoever has not answered, again and again, verifies the
answers in threads, and gives the replica its floor as soon as a quorum has answered. Until then the node follows and
decides like any observer. Answering needs no memory of one's own: nodes that start together answer each other.

A validator whose memory was gone says so on the ledger. That makes the two blocks which it must wait for, so that it
votes again at once even on an idle chain; and everybody can see how often it happens.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

import structlog

from consilium.consensus.promise import Promise, no_promise
from consilium.consensus.replica import Replica
from consilium.consensus.restart import (
    REQUEST_BYTES_MAX,
    SHOWN_HEIGHTS,
    STATUS_BYTES_MAX,
    Answer,
    Memory,
    Said,
    Status,
    StatusRequest,
    Verdict,
    judge,
    latest,
    said_in,
    said_in_prepared,
    said_in_seals,
    verify_status,
)
from consilium.contracts import ballot
from consilium.contracts.registry import operation
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.validators import ValidatorSet
from consilium.node.clerk import Clerk
from consilium.node.executor import Executor
from consilium.node.peer_messages import Kind
from consilium.storage.chain import ChainStore

ASK_EVERY_S: Final = 0.25
GRACE_S: Final = 0.5
"""Once a quorum has answered, connected validators that have not are given so long: a vote that only one of them heard
is then found out too. Safety rests on the quorum alone."""
RETURN_PAUSE_S: Final = 1.0
NONCE_BYTES: Final = 16
ANSWER_EVERY_S: Final = 0.05
"""A peer is answered at most so often."""

_log = structlog.get_logger("consilium.restart")


class Restart:
    """See the module. `send(peer, kind, body)` queues on the lane of votes; `release` gives the replica its floor;
    `remember` makes a promise durable, and blocks."""

    def __init__(
        self,
        *,
        key: bytes,
        chain_id: bytes,
        promise: Promise | None,
        executor: Executor,
        replica: Replica,
        send: Callable[[bytes, int, bytes], bool],
        connected: Callable[[], frozenset[bytes]],
        hint: Callable[[bytes, int], None],
        release: Callable[[int], None],
        remember: Callable[[Promise], None],
    ) -> None:
        self._key = key
        self._chain_id = chain_id
        self._promise = promise
        self._executor = executor
        self._replica = replica
        self._send = send
        self._connected = connected
        self._hint = hint
        self._release = release
        self._remember = remember
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._answers: dict[bytes, Answer] = {}
        self._heard = asyncio.Event()
        self._patient_until_s: float | None = None
        self._founding: Verdict | None = None
        self._answered_at: dict[bytes, float] = {}
        self.verdict: Verdict | None = None
        """What was found, once it was."""

    @property
    def silent(self) -> str:
        """Why this validator says nothing at its height, for people; empty where it votes."""
        context = self._executor.context
        if self._key not in context.validators:
            return ""
        if self.verdict is None:
            needed = context.validators.quorum
            counted = sum(answer.remembers for answer in self._answers.values())
            return (
                f"just started: {counted} of {needed} validators that remember, itself counted, have answered"
            )
        if context.height < self.verdict.floor:
            return f"its memory was {self.verdict.memory.value}: it votes from height {self.verdict.floor} on"
        return ""

    async def run(self, clerk: Clerk | None) -> None:
        """Ask until the rule is satisfied; then see to it that the silence ends."""
        while (verdict := await self._judge()) is None or self._may_hear_more():
            self._heard.clear()
            self._ask()
            try:
                async with asyncio.timeout(ASK_EVERY_S):
                    await self._heard.wait()
            except TimeoutError:
                pass
        self.verdict = verdict
        _log.info("restart.memory", memory=verdict.memory.value, floor=verdict.floor, top=verdict.top)
        if self._promise is None:
            # From here on there is a promise, even if nothing is ever said: a validator that was always outrun by the
            # others must not be taken for one that lost its disk at its next start, and stay silent for it.
            await asyncio.to_thread(self._remember, no_promise(verdict.floor))
        self._release(verdict.floor)
        if clerk is not None and verdict.memory in (Memory.STALE, Memory.LOST):
            await self._end_silence(verdict, clerk)

    # Asking

    def _ask(self) -> None:
        body = codec.encode(StatusRequest(self._nonce))
        for peer in self._unheard(forgetful=True):
            self._send(peer, Kind.STATUS_REQUEST, body)

    def _unheard(self, *, forgetful: bool = False) -> list[bytes]:
        """Connected validators that have not answered, in the order of keys; on demand also those whose answer does not
        count, for they may remember by now."""
        asked = dict.fromkeys(key for validators in self._sets() for key in validators.keys)
        connected = self._connected()
        unheard = []
        for peer in asked:
            answer = self._answers.get(peer)
            if peer in connected and (answer is None or (forgetful and not answer.remembers)):
                unheard.append(peer)
        return unheard

    def _may_hear_more(self) -> bool:
        """Whether to be patient for a moment, though a quorum has answered."""
        now_s = asyncio.get_running_loop().time()
        if self._patient_until_s is None:
            self._patient_until_s = now_s + GRACE_S
        return now_s < self._patient_until_s and bool(self._unheard())

    async def take(self, peer: bytes, body: bytes) -> None:
        """An answer. Raises PeerFault or Refused where the peer is at fault."""
        status = codec.decode(body, Status, STATUS_BYTES_MAX)
        if status.nonce != self._nonce or self.verdict is not None:
            return
        answer = await asyncio.to_thread(verify_status, status, self._key, self._chain_id, self._believed())
        self._hint(peer, status.header.height)
        if answer is not None:
            self._answers[peer] = answer.after(self._answers.get(peer))
            self._heard.set()

    async def _judge(self) -> Verdict | None:
        status = await asyncio.to_thread(self._status, self._nonce, self._key, [])
        # The asker counts itself, whatever it remembers: the argument has it among the faulty.
        self._answers[self._key] = Answer(status.header.height, tuple(status.said))
        verdict = judge(self._promise, self._answers, self._sets())
        if any(answer.said for answer in self._answers.values()):
            return verdict
        # A quorum that knew of no block and of no vote of this validator has said enough: what is decided while more
        # answers are waited for says nothing of its memory.
        if verdict is not None and verdict.memory is Memory.FOUNDING:
            self._founding = verdict
        return self._founding or verdict

    def _sets(self) -> tuple[ValidatorSet, ValidatorSet]:
        context = self._executor.context
        following = self._executor.validators_at(context.height + 1)
        return context.validators, following if following is not None else context.validators

    def _believed(self) -> tuple[ValidatorSet, ...]:
        """Whose seals prove a tip: those sets, and the one that sealed this chain's own tip. Where the set changes at
        the very next height nobody's tip is sealed by a newer one, and there may never be another block without us."""
        store = self._executor.store
        return (*self._sets(), store.validators(store.header(store.tip.height).validators_hash))

    async def _end_silence(self, verdict: Verdict, clerk: Clerk) -> None:
        said = operation("governance.returned", ballot.Returned(self._key))
        while (context := self._executor.context).height < verdict.floor:
            if context.height > verdict.top and self._key in context.validators:
                code = await clerk.say(said)
                _log.info("restart.returned", code=code, floor=verdict.floor)
            await asyncio.sleep(RETURN_PAUSE_S)

    # Answering

    async def answer(self, peer: bytes, body: bytes) -> None:
        """Show a peer this node's tip and what it knows of the peer's votes. Raises Refused for bad bytes."""
        request = codec.decode(body, StatusRequest, REQUEST_BYTES_MAX)
        now_s = asyncio.get_running_loop().time()
        if now_s < self._answered_at.get(peer, -ANSWER_EVERY_S) + ANSWER_EVERY_S:
            return
        self._answered_at[peer] = now_s
        heard = [said_in(message) for message in self._replica.heard_from(peer)]
        status = await asyncio.to_thread(self._status, request.nonce, peer, heard)
        self._send(peer, Kind.STATUS, codec.encode(status))

    def _status(self, nonce: bytes, of: bytes, heard: list[Said]) -> Status:
        """The tip, and the votes of `of` in what was heard, in the kept promise, and in the newest certificates."""
        store = self._executor.store
        height = store.tip.height
        said = list(heard)
        if self._promise is not None and self._promise.votes.prepared is not None:
            place = self._place(store, of, self._promise.height)
            said += said_in_prepared(self._promise.votes.prepared, self._promise.height, place)
        for shown in range(max(1, height - SHOWN_HEIGHTS + 1), height + 1):
            try:
                certificate = store.certificate(shown)
            except Refused:  # pruned meanwhile
                continue
            if certificate is not None:
                said += said_in_seals(certificate, self._place(store, of, shown))
        remembers = self._remembers(height)
        return Status(nonce, store.header(height), store.certificate(height), remembers, latest(said))

    def _remembers(self, tip: int) -> bool:
        """Whether this node knows what it said, and its chain is as high as whoever said that had it."""
        if self.verdict is not None and self.verdict.memory is not Memory.INTACT:
            return tip + 1 >= self.verdict.floor
        return self._promise is not None and tip + 1 >= self._promise.height

    def _place(self, store: ChainStore, key: bytes, height: int) -> int | None:
        """The index of a validator at a height whose set this chain names."""
        if height <= store.tip.height:
            return store.validators(store.header(height).validators_hash).index(key)
        validators = self._executor.validators_at(height)
        return None if validators is None else validators.index(key)
