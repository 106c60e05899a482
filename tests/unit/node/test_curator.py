"""The curator: gives only to those whose it is, takes only what the chain names, forgets only what nothing names."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from consilium.client.envelope import Context, HeaderFields, envelope_digest, envelope_hasher
from consilium.client.sealing import AuthorKeys, seal
from consilium.client.sharing import make_compartment
from consilium.contracts import forgetting, records, tombstones
from consilium.ledger import codec
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import PeerFault, Refused
from consilium.ledger.execution import Event
from consilium.ledger.state import MemoryState
from consilium.ledger.validators import Validator, ValidatorSet
from consilium.node import curator as curating
from consilium.node.curator import Curator
from consilium.node.eraser import Eraser
from consilium.node.peer_messages import LIMITS, EnvelopePiece, EnvelopeRequest, Kind
from consilium.storage import schema
from consilium.storage.anchors import AnchorIndex
from consilium.storage.chain import Place
from consilium.storage.kv import MemoryKV
from consilium.storage.owed import OwedErasures
from consilium.storage.shares import ShareVault
from consilium.storage.vault import Vault

INSTITUTIONS = [bytes([number]) * 16 for number in range(1, 5)]
KEYS = [SigningKey(bytes([number]) * 32).public for number in range(1, 5)]
VALIDATORS = ValidatorSet([Validator(key, one) for key, one in zip(KEYS, INSTITUTIONS, strict=True)])
COMPARTMENT = b"c" * 16
PATIENT = b"p" * 16
SECRET = make_compartment(threshold=1, custodians=1)
AUTHOR = AuthorKeys(SigningKey(b"s" * 32), SECRET.point)
NOW_MS = 10_000_000
GRACE_MS = 60_000


@cache
def sealed(number: int, size: int = 300) -> bytes:
    context = Context(b"n" * 32, number.to_bytes(16, "big"), COMPARTMENT, 0, INSTITUTIONS[1])
    payload = hashlib.sha256(b"%d" % number).digest() * (size // 32)
    return seal(payload, context, SECRET.point, AUTHOR, [], HeaderFields("Binary", "1", "x")).envelope


class Chain:
    """Events and state of anchors, as a ChainStore has them."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._events: list[tuple[Place, Event]] = []
        epoch = records.Epoch(list(SECRET.commitments), [INSTITUTIONS[0]], 5)
        key = records.EPOCHS.key(COMPARTMENT, records.epoch_bytes(0))
        self._values[key] = codec.encode(epoch)
        compartment = records.Compartment(PATIENT, True, b"m" * 32, 0)
        self._values[records.COMPARTMENTS.key(COMPARTMENT)] = codec.encode(compartment)
        opened = records.PatientCompartments([COMPARTMENT])
        self._values[records.PATIENTS.key(PATIENT)] = codec.encode(opened)

    @property
    def state(self) -> MemoryState:
        return MemoryState(self._values)

    def anchor(self, number: int, envelope: bytes) -> bytes:
        """By institution 2, in a compartment of which institution 1 is custodian."""
        identifier = number.to_bytes(16, "big")
        digest = envelope_digest(envelope)
        record = records.Record(COMPARTMENT, [], 0, INSTITUTIONS[1], b"b" * 16, 0, b"a" * 32, digest, NOW_MS)
        self._values[records.RECORDS.key(identifier)] = codec.encode(record)
        data = codec.encode(records.Anchored(identifier, COMPARTMENT, [], b"b" * 16, 0, 1))
        event = Event(records.ANCHORED.name, [PATIENT, INSTITUTIONS[1]], b"t" * 32, 0, NOW_MS, data)
        self._events.append((Place(len(self._events) + 1, 0), event))
        return digest

    def erase(self, told: forgetting.Erased) -> None:
        """As the contract leaves it: commitments blank, or a tombstone; and the event."""
        for identifier in told.records or []:
            known = records.RECORDS.get(self.state, identifier)
            assert known is not None
            blank = msgspec.structs.replace(known, anchor=bytes(32), envelope=bytes(32))
            self._values[records.RECORDS.key(identifier)] = codec.encode(blank)
        stone = tombstones.Tombstone(told.erasure, told.epoch or 65_535, NOW_MS, [])
        stones = codec.encode(tombstones.Tombstones([stone]))
        if told.records is None and told.compartment is None:
            self._values[tombstones.ERASED_PATIENTS.key(told.patient)] = stones
        elif told.compartment is not None:
            self._values[tombstones.ERASED_COMPARTMENTS.key(told.compartment)] = stones
        erasure = forgetting.Erasure(
            patient=told.patient,
            requested_by=told.patient,
            records=told.records,
            compartment=told.compartment,
            epoch=told.epoch,
            basis="consent-withdrawn",
            outcome="carried-out",
            requested_ms=NOW_MS,
            due_ms=NOW_MS,
            carried_out_ms=NOW_MS,
            kept=[],
            holders=INSTITUTIONS[:2],
            attested=[],
        )
        self._values[forgetting.ERASURES.key(told.erasure)] = codec.encode(erasure)
        data = codec.encode(told)
        event = Event(forgetting.CARRIED.name, [PATIENT, told.erasure], b"t" * 32, 0, NOW_MS, data)
        self._events.append((Place(len(self._events) + 1, 0), event))

    def attest(self, erasure: bytes, institution: bytes) -> None:
        known = forgetting.ERASURES.get(self.state, erasure)
        assert known is not None
        attested = msgspec.structs.replace(known, attested=[*known.attested, institution])
        self._values[forgetting.ERASURES.key(erasure)] = codec.encode(attested)

    base = 0
    time_ms = NOW_MS

    @property
    def tip(self) -> Any:
        return SimpleNamespace(height=len(self._events), time_ms=self.time_ms)

    def state_rows(self) -> list[tuple[bytes, bytes, bytes]]:
        return [(bytes(32), key, value) for key, value in self._values.items()]

    def events_of(self, subject: bytes, after: Place, limit: int) -> list[tuple[Place, Event]]:
        return [one for one in self.events(after, len(self._events)) if subject in one[1].subjects][:limit]

    def events(self, after: Place, limit: int) -> list[tuple[Place, Event]]:
        return [(place, event) for place, event in self._events if place > after][:limit]

    def events_of_kinds(
        self, after: Place, limit: int, kinds: Sequence[str]
    ) -> tuple[list[tuple[Place, Event]], Place]:
        page = self.events(after, limit)
        return [(place, event) for place, event in page if event.kind in kinds], page[-1][
            0
        ] if page else after


class Node:
    """One institution's curator and vault, joined to others by `net`."""

    def __init__(self, net: dict[bytes, Node], place: int, chain: Chain) -> None:
        self.key = KEYS[place]
        self.store = MemoryKV()
        self.now_ms = NOW_MS
        self.vault = Vault(
            self.store, envelope_digest, create=True, hasher=envelope_hasher, clock_ms=lambda: self.now_ms
        )
        self.index = AnchorIndex(self.store)
        self.faults: list[tuple[bytes, PeerFault]] = []
        self.asked = 0
        self.tamper: Callable[[EnvelopePiece], EnvelopePiece] = lambda piece: piece
        self.silent = False
        self._net = net
        self._tasks: set[asyncio.Future[None]] = set()
        net[self.key] = self
        parts: Any = SimpleNamespace(chain=chain)
        self.shares = ShareVault(MemoryKV(), create=True)
        self.owed = OwedErasures(self.store)
        self.eraser = Eraser(
            institution=INSTITUTIONS[place],
            chain=parts.chain,
            vault=self.vault,
            shares=self.shares,
            index=self.index,
            owed=self.owed,
        )
        self.curator = Curator(
            institution=INSTITUTIONS[place],
            chain=parts.chain,
            vault=self.vault,
            index=self.index,
            validators=lambda: VALIDATORS,
            connected=lambda: frozenset(key for key in net if key != self.key),
            send=self.send,
            fault=lambda peer, fault: self.faults.append((peer, fault)),
            clock_ms=lambda: self.now_ms,
            grace_ms=GRACE_MS,
            eraser=self.eraser,
            key=self.key,
        )
        for key in KEYS:
            self.curator.heard(key, 0)

    def send(self, peer: bytes, kind: int, body: bytes) -> bool:
        assert len(body) <= LIMITS[kind]
        target = self._net.get(peer)
        if target is None:
            return False
        if kind == Kind.ENVELOPE_REQUEST:
            self.asked += 1
        elif self.silent:
            return True
        else:
            piece = codec.decode(body, EnvelopePiece, LIMITS[kind])
            body = codec.encode(self.tamper(piece))
        task: asyncio.Future[None] = asyncio.ensure_future(self._deliver(target, kind, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _deliver(self, target: Node, kind: int, body: bytes) -> None:
        try:
            await target.curator.handle(self.key, kind, body)
        except PeerFault as fault:
            target.faults.append((self.key, fault))

    def put(self, envelope: bytes) -> bytes:
        digest = envelope_digest(envelope)
        self.vault.put_many([(digest, envelope)])
        return digest


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def nodes(chain: Chain) -> list[Node]:
    net: dict[bytes, Node] = {}
    return [Node(net, place, chain) for place in range(4)]


async def rounds(*nodes: Node) -> None:
    for node in nodes:
        await node.curator.round()


async def test_the_custodian_fetches_what_the_author_anchored(chain: Chain, nodes: list[Node]) -> None:
    custodian, author, stranger = nodes[:3]
    small, large = sealed(1), sealed(2, 2_500_000)
    for number, envelope in ((1, small), (2, large)):
        author.put(envelope)
        chain.anchor(number, envelope)
    await rounds(author, custodian, stranger)
    assert custodian.vault.get(envelope_digest(small)) == small
    assert custodian.vault.get(envelope_digest(large)) == large
    assert custodian.asked == 1 + 3
    assert stranger.vault.totals().envelopes == stranger.asked == 0
    assert custodian.index.record_of(envelope_digest(small)) == (1).to_bytes(16, "big")
    await rounds(custodian)
    assert custodian.asked == 4


async def test_a_node_that_has_not_followed_the_chain_gives_nothing(chain: Chain, nodes: list[Node]) -> None:
    custodian, author = nodes[:2]
    digest = author.put(sealed(1))
    chain.anchor(1, sealed(1))
    await rounds(custodian)
    assert custodian.curator.missing == 1
    assert not custodian.vault.has(digest)
    await rounds(author, custodian)
    assert custodian.curator.missing == 0
    assert custodian.vault.has(digest)


async def test_damage_is_found_by_the_sweep_and_repaired(chain: Chain, nodes: list[Node]) -> None:
    custodian, author = nodes[:2]
    digest = author.put(sealed(1))
    chain.anchor(1, sealed(1))
    await rounds(author, custodian)
    key, raw = next(iter(custodian.store.iterate(schema.PIECE)))
    custodian.store.write([(key, raw[:-1] + b"!")], sync=True)
    await rounds(custodian)
    assert custodian.vault.get(digest) == sealed(1)
    author.store.write([(schema.ENVELOPE + digest, b"damaged")], sync=True)
    await rounds(author)
    assert author.vault.get(digest) == sealed(1)


@pytest.mark.parametrize(
    "lie",
    [
        lambda piece: EnvelopePiece(piece.digest, piece.piece, piece.size, piece.data[:-1] + b"!"),
        lambda piece: EnvelopePiece(piece.digest, piece.piece, piece.size, piece.data[:-1]),
        lambda piece: EnvelopePiece(piece.digest, piece.piece, 5, b"12345"),
        lambda piece: EnvelopePiece(piece.digest, piece.piece, 2**36, piece.data),
        lambda piece: EnvelopePiece(piece.digest, piece.piece, 0, b""),
    ],
)
async def test_a_lying_holder_is_at_fault_and_leaves_nothing(
    chain: Chain, nodes: list[Node], lie: Callable[[EnvelopePiece], EnvelopePiece]
) -> None:
    custodian, author = nodes[:2]
    author.put(sealed(1))
    digest = chain.anchor(1, sealed(1))
    author.tamper = lie
    await rounds(author, custodian)
    assert not custodian.vault.has(digest)
    assert [peer for peer, _ in custodian.faults] == [author.key]
    assert list(custodian.store.iterate(schema.PIECE)) == []
    author.tamper = lambda piece: piece
    await rounds(custodian)
    assert custodian.vault.has(digest)


async def test_a_silent_holder_is_passed_over(
    chain: Chain, nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curating, "PIECE_TIMEOUT_S", 0.01)
    custodian, author = nodes[:2]
    author.put(sealed(1))
    chain.anchor(1, sealed(1))
    author.silent = True
    await rounds(author, custodian)
    assert custodian.curator.missing == 1
    assert custodian.faults == []


async def test_only_those_whose_it_is_may_ask(chain: Chain, nodes: list[Node]) -> None:
    author, stranger = nodes[1], nodes[2]
    digest = author.put(sealed(1))
    other = author.put(sealed(2))
    chain.anchor(1, sealed(1))
    await rounds(author)

    async def asks(peer: bytes, digest: bytes, record: int) -> None:
        request = EnvelopeRequest(digest, record.to_bytes(16, "big"), 0)
        await author.curator.handle(peer, Kind.ENVELOPE_REQUEST, codec.encode(request))

    for peer, wanted, record in (
        (stranger.key, digest, 1),  # not a custodian
        (nodes[0].key, other, 1),  # another envelope under the custodian's own record
        (nodes[0].key, other, 2),  # not anchored
        (b"o" * 32, digest, 1),  # no validator
    ):
        with pytest.raises(PeerFault):
            await asks(peer, wanted, record)
    await asks(nodes[0].key, digest, 1)


async def test_what_was_erased_is_neither_given_nor_taken(chain: Chain, nodes: list[Node]) -> None:
    custodian, author = nodes[:2]
    first, second = author.put(sealed(1)), author.put(sealed(2))
    chain.anchor(1, sealed(1))
    chain.anchor(2, sealed(2))
    author.vault.erase([first])
    custodian.vault.erase([second])
    await rounds(author, custodian)
    assert not custodian.vault.has(first)
    assert not custodian.vault.has(second)
    assert custodian.asked == 1
    with pytest.raises(Refused):
        custodian.put(sealed(2))


async def test_what_nothing_anchors_goes_after_the_grace(chain: Chain, nodes: list[Node]) -> None:
    author = nodes[1]
    anchored, loose = author.put(sealed(1)), author.put(sealed(2))
    conditions = author.put(b"\x00\x00\x00\x05other sealed things have another form")
    chain.anchor(1, sealed(1))
    await rounds(author)
    assert author.vault.has(loose)
    author.now_ms += GRACE_MS + 1
    await rounds(author)
    assert (author.vault.has(anchored), author.vault.has(loose)) == (True, False)
    assert author.vault.has(conditions)
    author.put(sealed(2))  # it was not erased: it may come again, with an anchor this time
    chain.anchor(2, sealed(2))
    author.now_ms += GRACE_MS + 1
    await rounds(author)
    assert author.vault.has(loose)


async def test_following_goes_on_after_a_crash(chain: Chain, nodes: list[Node]) -> None:
    author = nodes[1]
    for number in range(1, 6):
        author.put(sealed(number))
        chain.anchor(number, sealed(number))
    await rounds(author)
    crashed = AnchorIndex(author.store.crash())
    assert crashed.followed() in (Place(-1, -1), Place(5, 0))
    assert author.index.followed() == Place(5, 0)
    assert [record for _, record in sorted(author.index.anchored(b"", 10), key=lambda one: one[1])] == [
        number.to_bytes(16, "big") for number in range(1, 6)
    ]
    digests = [digest for digest, _ in author.index.anchored(b"", 3)]
    assert author.index.anchored(digests[-1], 10) == author.index.anchored(b"", 10)[3:]


async def test_no_bytes_crash_it(chain: Chain, nodes: list[Node]) -> None:
    await rounds(nodes[1])
    for kind in curating.KINDS:
        for noise in (b"", b"\x00", b"\xff" * 90, codec.encode([1, 2, 3])):
            handled: Awaitable[None] = nodes[1].curator.handle(KEYS[0], kind, noise)
            with pytest.raises(Refused):
                await handled
    unasked = EnvelopePiece(bytes(32), 0, 5, b"12345")
    await nodes[1].curator.handle(KEYS[0], Kind.ENVELOPE_PIECE, codec.encode(unasked))
