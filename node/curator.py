"""Keeps the institution's envelopes complete: follows what the chain anchors, fetches what is missing or damaged from
the other custodians, and forgets what nothing anchors.

An envelope belongs where its record's author is and where the custodians of its compartment are. Between these nodes
it travels in pieces, asked for one by one, so neither side holds more than one; it becomes an envelope here only when
the digest of all pieces is the one that the chain names. Who may ask is read from the chain too. Tombstones come
first: what was erased is neither asked for nor given, and nothing is given before this node has followed the chain to
its tip once, and that is the network's, so that a restored vault brings nothing back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import structlog

from consilium.client.envelope import HEAD_LENGTH_BYTES, parse_head
from consilium.client.sealing_streams import head_length
from consilium.contracts import forgetting, keys, records, tombstones
from consilium.ledger import codec
from consilium.ledger.errors import PeerFault, Refused
from consilium.ledger.execution import EVENT_BYTES_MAX
from consilium.ledger.state import Overlay, StateReader
from consilium.ledger.validators import ValidatorSet
from consilium.node.eraser import Eraser, recall_erasures
from consilium.node.peer_messages import LIMITS, EnvelopePiece, EnvelopeRequest, Kind
from consilium.node.sync import Send
from consilium.node.threads import entered
from consilium.storage.anchors import AnchoredInState, AnchorIndex
from consilium.storage.chain import ChainStore, Place
from consilium.storage.envelopes import PIECE_BYTES, EnvelopeStore, is_whole
from consilium.storage.events import EVENT_INDEX_LAST

KINDS: Final = (Kind.ENVELOPE_REQUEST, Kind.ENVELOPE_PIECE)
FOLLOWED: Final = (records.ANCHORED.name, forgetting.CARRIED.name)
EVENTS_PAGE: Final = 1_000
STATE_PAGE: Final = 2_000
SWEEP_DIGESTS: Final = 64
SWEEP_BYTES: Final = 4 * 1024 * 1024
"""So much is read and checked in one round of the sweep: a hundred gigabytes take about a day."""
WANTED_MAX: Final = 10_000
"""What is beyond it is found again by the sweep."""
PAUSE_S: Final = 2.0
PIECE_TIMEOUT_S: Final = 10.0
SERVES_AT_ONCE: Final = 2
CLOCKS_APART_MS_MAX: Final = 60_000
"""So far at most the clocks of this node and of the validators are taken to be apart."""
DAMAGED_WEIGHT: Final = 10
UNASKED_WEIGHT: Final = 5

_log = structlog.get_logger("consilium.curator")

# Of what this node wrote itself and its store's checksums cover: that it is canonical was seen when it was written.
_anchored_in: Final = msgspec.msgpack.Decoder(records.Anchored)
_record_in: Final = msgspec.msgpack.Decoder(records.Record)


def follow_state(chain: ChainStore, index: AnchorIndex) -> None:
    """Note every record that the state holds. Reads all of the state; in a thread."""
    after = b""
    while page := list(chain.state_rows(after, STATE_PAGE)):
        after = page[-1][0]
        found = []
        for _, key, _ in page:
            record = records.RECORDS.get(chain.state, key[1:]) if key[:1] == keys.RECORD else None
            if record is not None and record.envelope != tombstones.BLANK:
                found.append(
                    AnchoredInState(record.envelope, key[1:], record.compartment, record.anchored_ms)
                )
        index.follow_state(found)


class _Holders(NamedTuple):
    """Whose an envelope is: institutions (16 bytes each)."""

    digest: bytes
    institutions: frozenset[bytes]
    erased: bool


def _holders(identifier: bytes, state: StateReader) -> _Holders | None:
    """Where a record's envelope belongs: with its author, and the custodians of its compartment."""
    record = records.RECORDS.get(state, identifier)
    if record is None:
        return None
    epoch = records.EPOCHS.get(state, record.compartment, records.epoch_bytes(record.epoch))
    custodians = epoch.custodians if epoch is not None else []
    erased = records.is_erased(state, record)
    return _Holders(record.envelope, frozenset([record.author, *custodians]), erased)


class Curator:
    """See the module. `institution` is this node's, None where it keeps nothing of its own (an observer)."""

    def __init__(
        self,
        *,
        institution: bytes | None,
        chain: ChainStore,
        vault: EnvelopeStore,
        index: AnchorIndex,
        validators: Callable[[], ValidatorSet],
        connected: Callable[[], frozenset[bytes]],
        send: Send,
        fault: Callable[[bytes, PeerFault], None],
        clock_ms: Callable[[], int],
        grace_ms: int,
        eraser: Eraser,
        key: bytes,
    ) -> None:
        self._institution = institution
        self._chain = chain
        self._vault = vault
        self._index = index
        self._validators = validators
        self._connected = connected
        self._send = send
        self._fault = fault
        self._clock_ms = clock_ms
        self._grace_ms = grace_ms
        self._eraser = eraser
        self._key = key
        self._began_ms = clock_ms()
        self._tips: dict[bytes, int] = {}
        """Validator -> how far it said to be, since this process began."""
        self._wanted: dict[bytes, bytes] = {}
        """Digest -> record."""
        self._current = False
        self._answered = asyncio.Event()
        """A quorum has said how far it is, for the first time."""
        self._reached: int | None = None
        """How far a quorum of the validators said to be: the least that they did since this process began."""
        self._swept = b""
        self._collected = b""
        self._asked: tuple[bytes, bytes, int] | None = None
        self._answer: asyncio.Future[EnvelopePiece] | None = None
        self._serving = asyncio.Semaphore(SERVES_AT_ONCE)

    async def run(self) -> None:
        """For ever. Dies only of faults of this node."""
        while True:
            try:
                await self.round()
            except Refused as refusal:
                if refusal.code != "vault.unavailable":
                    raise
                _log.warning("vault.unavailable", reason=refusal.detail)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_S):
                    await self._answered.wait()
            self._answered.clear()

    async def round(self) -> None:
        """Follow the chain to its tip, fetch what is wanted, check and collect a little."""
        tip = self._chain.tip
        while await asyncio.to_thread(self._follow):
            pass
        self._current = self._current or self._is_current(tip.height, tip.time_ms)
        await asyncio.to_thread(self._sweep)
        for digest, record in list(self._wanted.items()):
            if await self._fetch(digest, record):
                self._wanted.pop(digest, None)
        await asyncio.to_thread(self._collect)

    @property
    def current(self) -> bool:
        """Whether this node has followed the chain, since it began, to where a quorum of the validators said to be, or
        to a block that was made since: every erasure that was certified before it began is applied."""
        return self._current

    def heard(self, peer: bytes, height: int) -> None:
        """A peer says how far it is."""
        if not self._current and peer in self._validators():
            self._tips[peer] = height
            if self._reached is None and self._claimed(0) is not None:
                self._answered.set()  # until this node is current it refuses what readers ask for

    def _is_current(self, followed: int, time_ms: int) -> bool:
        """Claims may be lies: what counts is what so many claim that one of them is honest. The least of it is
        enough, since all was said after this process began; what they claim by now runs ahead of who follows. An
        observer may reach other observers alone; there a block speaks whose time is so late that it was made after
        this process began."""
        if time_ms > self._began_ms + CLOCKS_APART_MS_MAX:
            return True
        claimed = self._claimed(followed)
        if claimed is not None:
            self._reached = claimed if self._reached is None else min(claimed, self._reached)
        return self._reached is not None and followed >= self._reached

    def _claimed(self, followed: int) -> int | None:
        """How far a quorum says to be, this node with `followed` among them; None while fewer have said so."""
        validators = self._validators()
        tips = {peer: tip for peer, tip in self._tips.items() if peer in validators}
        if self._key in validators:
            tips[self._key] = followed
        highest = sorted(tips.values(), reverse=True)
        return highest[validators.f] if len(highest) >= validators.quorum else None

    @property
    def missing(self) -> int:
        """How many envelopes are known to be missing or damaged here."""
        return len(self._wanted)

    # ---- looking (in a thread)

    def _follow(self) -> bool:
        """One page of events; of a chain that began with a snapshot, first what its state anchors. False at the tip."""
        base = Place(self._chain.base, EVENT_INDEX_LAST)
        if self._chain.base and self._index.followed() < base:
            follow_state(self._chain, self._index)
            recall_erasures(self._chain, self._eraser)
            self._index.follow([], base)
            return True
        followed = self._index.followed()
        page, upto = self._chain.events_of_kinds(followed, EVENTS_PAGE, FOLLOWED)
        if upto == followed:
            return False
        state = Overlay(self._chain.state)  # what a page asks for is about few patients
        anchored: list[tuple[bytes, bytes]] = []
        own: dict[bytes, bytes] = {}
        for _, event in page:
            if event.kind == forgetting.CARRIED.name:
                self._eraser.apply(codec.decode(event.data, forgetting.Erased, EVENT_BYTES_MAX))
                continue
            identifier = _anchored_in.decode(event.data).record
            raw = state.get(records.RECORDS.key(identifier))
            record = None if raw is None else _record_in.decode(raw)
            if record is not None and record.envelope != tombstones.BLANK:
                anchored.append((record.envelope, identifier))
                if self._belongs_here(record, state):
                    own[record.envelope] = identifier
        self._index.follow(anchored, upto)
        for digest, identifier in own.items():
            self._look(digest, identifier, state, whole=False)
        return True

    def _belongs_here(self, record: records.Record, state: StateReader) -> bool:
        """What is anchored elsewhere is looked at by the sweep alone: most of a network's records are no concern of one
        institution's, and every node follows all of them."""
        if record.author == self._institution:
            return True
        epoch = records.EPOCHS.get(state, record.compartment, records.epoch_bytes(record.epoch))
        return epoch is not None and self._institution in epoch.custodians

    def _sweep(self) -> None:
        """Look again at some of what is anchored: all of it, over many rounds."""
        page = self._index.anchored(self._swept, SWEEP_DIGESTS)
        read = 0
        state = self._chain.state
        for digest, identifier in page:
            self._swept = digest
            read += self._look(digest, identifier, state, whole=not self._vault.remote)
            if read > SWEEP_BYTES:
                return
        if len(page) < SWEEP_DIGESTS:
            self._swept = b""

    def _look(self, digest: bytes, identifier: bytes, state: StateReader, *, whole: bool) -> int:
        """Want the envelope if it belongs here and is missing, or with `whole` damaged. Returns bytes read."""
        holders = _holders(identifier, state)
        if holders is None:
            return 0
        if holders.erased:
            if not self._vault.erased(digest):
                self._eraser.destroy([digest])
            return 0
        if holders.digest != digest or self._institution not in holders.institutions:
            return 0
        size = self._vault.size(digest)
        good = size is not None and (not whole or self._is_whole(digest))
        if not good and not self._vault.erased(digest) and len(self._wanted) < WANTED_MAX:
            self._wanted[digest] = identifier
        return (size or 0) if whole else 0

    def _is_whole(self, digest: bytes) -> bool:
        whole = is_whole(self._vault, digest)
        if not whole:
            _log.error("vault.damaged", digest=digest.hex())
        return whole

    def _collect(self) -> None:
        """Forget what nothing anchors and has been here for longer than the grace."""
        page = self._vault.digests(self._collected, SWEEP_DIGESTS)
        self._collected = page[-1][0] if len(page) == SWEEP_DIGESTS else b""
        latest_ms = self._clock_ms() - self._grace_ms
        unneeded = [
            digest
            for digest, _ in page
            if self._index.record_of(digest) is None
            and (self._vault.came_ms(digest) or latest_ms) < latest_ms
            and self._is_record(digest)
        ]
        if unneeded:
            _log.info("vault.collected", envelopes=self._vault.forget(unneeded))

    def _is_record(self, digest: bytes) -> bool:
        """Whether it is a sealed record: the vault keeps other sealed things too, which other events name."""
        beginning = self._vault.piece(digest, 0) or b""
        try:
            end = head_length(beginning)
            if end is None:
                return False
            parse_head(beginning[HEAD_LENGTH_BYTES:end])
        except Refused:
            return False
        return True

    # ---- fetching

    async def _fetch(self, digest: bytes, identifier: bytes) -> bool:
        """Fetch an envelope from whoever has it. False where nobody gave it: it is tried again."""
        holders = await asyncio.to_thread(_holders, identifier, self._chain.state)
        if holders is None or holders.erased or await asyncio.to_thread(self._vault.erased, digest):
            return True
        connected = self._connected()
        for validator in self._validators().validators:
            if validator.key in connected and validator.institution in holders.institutions:
                try:
                    if await self._fetch_from(validator.key, digest, identifier):
                        _log.info("vault.fetched", digest=digest.hex(), peer=validator.key.hex())
                        return True
                except Refused as refusal:
                    if refusal.code == "vault.unavailable":
                        raise
                    if refusal.code == "vault.deleted":
                        return True
                    self._fault(validator.key, PeerFault(str(refusal), DAMAGED_WEIGHT))
        return False

    async def _fetch_from(self, peer: bytes, digest: bytes, identifier: bytes) -> bool:
        async with entered(lambda: self._vault.receive(digest)) as incoming:
            number, size = 0, None
            while size is None or number * PIECE_BYTES < size:
                answer = await self._ask(peer, EnvelopeRequest(digest, identifier, number))
                if answer is None or answer.size is None:
                    return False
                expected = min(PIECE_BYTES, answer.size - number * PIECE_BYTES)
                if (size is not None and size != answer.size) or len(answer.data) != expected:
                    raise Refused("vault.damaged", f"a piece of {digest.hex()[:16]} does not fit the others")
                size = answer.size
                await asyncio.to_thread(incoming.write, answer.data)
                number += 1
            await asyncio.to_thread(incoming.finish)
            return True

    async def _ask(self, peer: bytes, request: EnvelopeRequest) -> EnvelopePiece | None:
        self._asked = peer, request.digest, request.piece
        self._answer = asyncio.get_running_loop().create_future()
        try:
            if not self._send(peer, Kind.ENVELOPE_REQUEST, codec.encode(request)):
                return None
            async with asyncio.timeout(PIECE_TIMEOUT_S):
                return await self._answer
        except TimeoutError:
            return None
        finally:
            self._asked = self._answer = None

    # ---- answering

    async def handle(self, peer: bytes, kind: int, body: bytes) -> None:
        """A message of one of KINDS. Raises PeerFault or Refused where the peer is at fault."""
        if kind == Kind.ENVELOPE_PIECE:
            answer = codec.decode(body, EnvelopePiece, LIMITS[Kind.ENVELOPE_PIECE])
            waiting = self._answer if self._asked == (peer, answer.digest, answer.piece) else None
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)
            return
        request = codec.decode(body, EnvelopeRequest, LIMITS[Kind.ENVELOPE_REQUEST])
        async with self._serving:
            try:
                reply = await asyncio.to_thread(self._reply, peer, request)
            except Refused as refusal:
                _log.warning("vault.not_served", reason=str(refusal))
                reply = EnvelopePiece(request.digest, request.piece, None, b"")
        self._send(peer, Kind.ENVELOPE_PIECE, codec.encode(reply))

    def _reply(self, peer: bytes, request: EnvelopeRequest) -> EnvelopePiece:
        nothing = EnvelopePiece(request.digest, request.piece, None, b"")
        if not self._current:
            return nothing
        holders = _holders(request.record, self._chain.state)
        institution = next((v.institution for v in self._validators().validators if v.key == peer), None)
        if holders is None or holders.digest != request.digest or institution not in holders.institutions:
            raise PeerFault("it asked for an envelope that is not its own to keep", UNASKED_WEIGHT)
        if holders.erased or self._vault.erased(request.digest):
            return nothing
        size = self._vault.size(request.digest)
        data = self._vault.piece(request.digest, request.piece)
        if size is None or (data is None and size):
            return nothing
        return EnvelopePiece(request.digest, request.piece, size, data or b"")
