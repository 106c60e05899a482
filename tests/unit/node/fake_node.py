"""A node in memory: what it answers is decided here, so that a test sees the RPC and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from consilium.client.rpc_answers import (
    AccountingRow,
    Committed,
    EventAt,
    Released,
    StoredBlock,
    Submission,
    Withheld,
)
from consilium.client.rpc_values import Cursor
from consilium.ledger.block import CommitCertificate, Seal
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import Refused
from consilium.ledger.execution import Event, ReceiptLeaf
from consilium.ledger.genesis import Genesis, genesis_block
from consilium.ledger.validators import Validator
from consilium.node.api import AccountingPage, Settled
from consilium.node.config_sections import RpcSection
from consilium.node.emergency_api import EmergencyDesk
from consilium.node.metrics import Metrics
from consilium.node.rpc import RpcServer

TOKEN = "0123456789abcdef" * 4
GENESIS = Genesis(1, "fake", 1_000, [Validator(SigningKey(bytes(32)).public, bytes(16))], [])


async def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait for something that another program's buffers decide, and that no event announces."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def transaction_id(raw: bytes) -> bytes:
    """What the fake takes for the id of a transaction."""
    return hashlib.sha256(raw).digest()


def event_at(height: int, index: int, kind: str = "records.anchored", data: bytes = b"") -> EventAt:
    """An event of the fake chain."""
    subject = bytes([height % 256]) * 16
    return EventAt(
        Cursor(height, index), Event(kind, [subject], transaction_id(b"%d" % height), 0, height, data)
    )


def _since(height: int | None) -> bytes:
    return b"" if height is None else b" since %d" % height


@dataclass
class FakeNode:
    """Implements NodeApi. `events_log` is the chain's events; `commit` adds one and wakes subscribers."""

    events_log: list[EventAt] = field(default_factory=list)
    admitted: dict[bytes, bytes] = field(default_factory=dict)
    envelopes: dict[bytes, bytes] = field(default_factory=dict)
    parcels: list[bytes] = field(default_factory=list)
    raises: BaseException | None = None
    is_healthy: bool = True
    waiting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    """Released once for each `wait` that has begun."""
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    """What `wait` waits for, where a test sets `hold`."""
    hold: bool = False
    endless: bool = False
    """Whether subscriptions never run dry: each pull makes a new event."""
    pulled: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    subscribed: list[tuple[Cursor, frozenset[str] | None, bytes | None]] = field(default_factory=list)
    open_subscriptions: int = 0

    genesis: Genesis = GENESIS
    desk: EmergencyDesk | None = None

    def commit(self, found: EventAt) -> None:
        self.events_log.append(found)
        self.changed.set()
        self.changed = asyncio.Event()

    def status(self) -> dict[str, Any]:
        if self.raises is not None:
            raise self.raises
        return {"height": self.events_log[-1].cursor.height if self.events_log else 0, "tip_time_ms": 5}

    def healthy(self) -> tuple[bool, str]:
        return self.is_healthy, "" if self.is_healthy else "the disk is full"

    async def submit(self, transactions: Sequence[bytes]) -> list[Submission]:
        return [self._submit(raw) for raw in transactions]

    def _submit(self, raw: bytes) -> Submission:
        if raw.startswith(b"bad"):
            return Submission(None, "codec.malformed", "no Transaction")
        identifier = transaction_id(raw)
        if raw.startswith(b"full"):
            return Submission(identifier, "mempool.full", "try later", 40)
        if identifier in self.admitted:
            return Submission(identifier, "transaction.duplicate", "")
        self.admitted[identifier] = raw
        return Submission(identifier, None, "")

    async def wait(self, transaction: bytes, timeout_s: float, certified: bool) -> Committed:
        self.waiting.release()
        if self.hold:
            try:
                async with asyncio.timeout(timeout_s):
                    await self.let_go.wait()
            except TimeoutError:
                raise Refused("rpc.timeout", "not committed in time") from None
        return self._committed(transaction, certified)

    async def settle(self, transactions: Sequence[bytes], timeout_s: float) -> list[Settled]:
        answers = [self._submit(raw) for raw in transactions]
        return [
            Settled(one, None if one.id is None or one.code is not None else self._committed(one.id, False))
            for one in answers
        ]

    async def transaction(self, transaction: bytes) -> Committed:
        if transaction not in self.admitted:
            raise Refused("chain.unknown_height", "no such transaction")
        return self._committed(transaction, False)

    def _committed(self, transaction: bytes, certified: bool) -> Committed:
        leaf = ReceiptLeaf(transaction, "ok", None, [b"\x00result"])
        return Committed(transaction, 7, 2, 1_234, leaf, certified)

    async def block(self, height: int) -> StoredBlock:
        if height == 0:
            return StoredBlock(genesis_block(GENESIS), None, ())
        if height > 1:
            raise Refused("chain.unknown_height", f"{height}")
        genesis = genesis_block(GENESIS)
        block = msgspec.structs.replace(genesis, header=msgspec.structs.replace(genesis.header, height=1))
        certificate = CommitCertificate(1, 0, block.hash, [Seal(0, bytes(64))])
        return StoredBlock(block, certificate, (bytes(32),))

    async def state(self, key: bytes) -> tuple[bytes | None, int]:
        return (b"value", 9) if key == b"known" else (None, 9)

    async def state_receipt(self, key: bytes, height: int | None, since: int | None = None) -> bytes:
        return b"state:" + key + str(height).encode() + _since(since)

    async def verdict_receipt(self, transaction: bytes, since: int | None = None) -> bytes:
        return b"verdict:" + transaction + _since(since)

    async def transaction_receipt(self, transaction: bytes, since: int | None = None) -> bytes:
        return b"transaction:" + transaction + _since(since)

    async def extend_receipt(self, receipt: bytes, to_height: int | None, since: int | None = None) -> bytes:
        return b"extended:" + receipt + str(to_height).encode() + _since(since)

    def _selected(self, after: Cursor, kinds: frozenset[str] | None, subject: bytes | None) -> list[EventAt]:
        return [
            found
            for found in self.events_log
            if found.cursor > after
            and (kinds is None or found.event.kind in kinds)
            and (subject is None or subject in found.event.subjects)
        ]

    async def events(
        self, after: Cursor, limit: int, kinds: frozenset[str] | None, subject: bytes | None
    ) -> list[EventAt]:
        return self._selected(after, kinds, subject)[:limit]

    async def subscribe(
        self, after: Cursor, kinds: frozenset[str] | None, subject: bytes | None
    ) -> AsyncIterator[EventAt]:
        if self.raises is not None:
            raise self.raises
        self.subscribed.append((after, kinds, subject))
        self.open_subscriptions += 1
        try:
            while True:
                if self.endless:
                    self.pulled += 1
                    yield event_at(self.pulled, 0, data=bytes(8_000))
                    continue
                changed = self.changed
                for found in self._selected(after, kinds, subject):
                    after = found.cursor
                    yield found
                await changed.wait()
        finally:
            self.open_subscriptions -= 1

    async def put_envelopes(self, envelopes: Sequence[bytes]) -> list[bytes]:
        digests = [transaction_id(envelope) for envelope in envelopes]
        self.envelopes.update(zip(digests, envelopes, strict=True))
        return digests

    async def get_envelope(self, digest: bytes) -> bytes:
        if digest not in self.envelopes:
            raise Refused("vault.deleted", digest.hex())
        return self.envelopes[digest]

    async def deposit_share(self, parcel: bytes) -> None:
        self.parcels.append(parcel)

    async def release(self, transaction: bytes, operation: int, signature: bytes, start: int = 0) -> Released:
        if signature == bytes(64):
            raise Refused("access.not_allowed", "the decision denies")
        withheld = (
            Withheld(3, None, "access.epoch_ended", "since"),
            Withheld(4, bytes(16), "vault.unknown", ""),
        )
        return Released(b"partials" + transaction, (b"envelope",) * operation, withheld, start + 7)

    async def accounting(
        self, transaction: bytes, operation: int, signature: bytes, after: Cursor, limit: int
    ) -> AccountingPage:
        if signature == bytes(64):
            raise Refused("accounting.denied")
        rows = (AccountingRow(1, 5, bytes(32), b"line"), AccountingRow(2, 6, bytes(32), None))
        return AccountingPage(rows, Cursor(after.height + 1, limit), is_last=False)


@dataclass
class Running:
    """A served fake."""

    node: FakeNode
    server: RpcServer
    metrics: Metrics
    broken: list[BaseException]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/rpc"


@asynccontextmanager
async def served(node: FakeNode | None = None, *, port: int = 0, **section: Any) -> AsyncIterator[Running]:
    """A fake node behind a real server on loopback. Keys of [rpc] may be given."""
    node = node or FakeNode()
    metrics = Metrics()
    broken: list[BaseException] = []
    server = RpcServer(
        node, RpcSection(port=port, **section), TOKEN, metrics=metrics, on_broken=broken.append
    )
    await server.start()
    try:
        yield Running(node, server, metrics, broken)
    finally:
        await server.stop()
