"""The node as its faces see it: implements `node.api.NodeApi` on the chain's store, the mempool and the driver.

Reading the store and checking signatures happen in threads. Whoever waits, for a transaction or for events, is woken by
commits and reads from the store: nothing is handed to a waiter that is not durable, and a slow one holds no memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

from consilium.client.obligations import digest_of_sealed
from consilium.client.rpc_answers import Committed, EventAt, Released, StoredBlock, Submission
from consilium.client.rpc_values import Cursor
from consilium.consensus.replica import Replica
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import LEAF_BYTES_MAX, ReceiptLeaf
from consilium.ledger.genesis import Genesis
from consilium.ledger.transaction import Transaction, Verified
from consilium.node.accountant import Accountant
from consilium.node.api import AccountingPage, Settled
from consilium.node.checking import Checker
from consilium.node.custodian import Custodian
from consilium.node.driver import Driver
from consilium.node.emergency_api import EmergencyDesk
from consilium.node.executor import Commit, Executor
from consilium.node.latency import Latency
from consilium.node.mempool import Mempool
from consilium.node.receipts import ReceiptBuilder
from consilium.node.standing import Standing
from consilium.node.waiting import Gathering, Taker, Waiting
from consilium.p2p.mesh import Mesh
from consilium.storage.chain import ChainStore, Place
from consilium.storage.events import EVENT_INDEX_LAST
from consilium.storage.vault import EnvelopeStore

EVENTS_PAGE: Final = 1_000
STREAM_PAGE: Final = 128
"""A subscriber that reads slowly holds so many events in memory at most."""
RELEASE_WAIT_S: Final = 5.0
"""So long a custodian waits for its own chain to reach a decision that a reader brings."""


class Service:
    """See the module. Lives on one event loop."""

    def __init__(
        self,
        *,
        name: str,
        role: str,
        key: bytes,
        genesis: Genesis,
        executor: Executor,
        driver: Driver,
        replica: Replica,
        mempool: Mempool,
        mesh: Mesh,
        vault: EnvelopeStore,
        custodian: Custodian | None,
        retry_after_ms: int,
        refused: Callable[[str], None],
        clock_ms: Callable[[], int],
        storage: Callable[[], Mapping[str, Any]] = dict,
        unattested: Callable[[], int] = lambda: 0,
        released: Callable[[str], None] = lambda outcome: None,
        latency: Latency | None = None,
        checker: Checker | None = None,
    ) -> None:
        self._genesis = genesis
        self._checker = checker or Checker()
        self._executor = executor
        self._store: ChainStore = executor.store
        self._driver = driver
        self._mempool = mempool
        self._vault = vault
        self._custodian = custodian
        self._retry_after_ms = retry_after_ms
        self._refused = refused
        self._released = released
        self._latency = latency
        self.syncing: Callable[[], dict[str, Any]] = dict
        """What `status` shows of snapshots: `snapshots.Snapshots.status`."""
        self.desk: EmergencyDesk | None = None
        self.oversight: Callable[[], dict[str, Any]] = dict
        self.voting: Callable[[], dict[str, Any]] = dict
        """What `status` shows of this validator's memory and silence: `duties.Duties.status`."""
        self._standing = Standing(
            name=name,
            role=role,
            key=key,
            genesis=genesis,
            executor=executor,
            driver=driver,
            replica=replica,
            mempool=mempool,
            mesh=mesh,
            vault=vault,
            custodian=custodian,
            clock_ms=clock_ms,
            storage=storage,
            sync=lambda: self.syncing(),
            voting=lambda: self.voting(),
            oversight=lambda: self.oversight(),
            unattested=unattested,
        )
        self._receipts = ReceiptBuilder(self._store, genesis)
        self._accountant = Accountant(genesis.chain_id, self._store, clock_ms)
        self._tick = asyncio.Event()
        self._closed = False
        self._waiting = Waiting()
        self._checking = 0
        """Transactions whose signatures are being checked: they will want room in the pool."""

    # Woken by the driver

    def committed(self, commit: Commit) -> None:
        """A block was committed: wake whoever waits for it."""
        self._waiting.committed(commit)
        if self._latency is not None:
            self._latency.committed(transaction.id for transaction in commit.outcome.transactions)
        self._wake()

    def close(self) -> None:
        """The node ends: whoever waits is told to ask another one."""
        self._closed = True
        self._waiting.close("rpc.shutting_down")
        self._wake()

    def _wake(self) -> None:
        tick, self._tick = self._tick, asyncio.Event()
        tick.set()

    # NodeApi

    @property
    def genesis(self) -> Genesis:
        """The network's genesis document."""
        return self._genesis

    def status(self) -> dict[str, Any]:
        """See `NodeApi.status`."""
        return self._standing.status()

    def healthy(self) -> tuple[bool, str]:
        """Whether the node serves and follows the chain."""
        return self._standing.healthy()

    async def submit(self, transactions: Sequence[bytes]) -> list[Submission]:
        """See `NodeApi.submit`."""
        # What there is no room for is refused before it costs anything: a flood must not take the time of the rest.
        room = max(0, self._mempool.room - self._checking)
        taken = list(transactions[:room])
        self._checking += len(taken)
        try:
            verified = await self._checker.transactions(taken, self._genesis.chain_id)
        finally:
            self._checking -= len(taken)
        answers = [self._admit(one) for one in verified]
        for _ in transactions[room:]:
            answers.append(self._turned_away(None, Refused("mempool.full", "it was not looked at")))
        if any(answer.code is None for answer in answers):
            self._driver.work_arrived()
        return answers

    def _admit(self, verified: Verified[Transaction] | Refused) -> Submission:
        identifier = None if isinstance(verified, Refused) else verified.id
        try:
            if isinstance(verified, Refused):
                raise verified
            if verified.id in self._executor.seen:
                raise Refused("transaction.duplicate", "it is in the chain already")
            self._executor.refuse_unauthorised(verified)
            self._mempool.admit(verified, self._store.tip.time_ms)
        except Refused as refusal:
            return self._turned_away(identifier, refusal)
        if self._latency is not None:
            self._latency.admitted(verified.id)
        return Submission(identifier, None, "")

    def _turned_away(self, identifier: bytes | None, refusal: Refused) -> Submission:
        self._refused(refusal.code)
        retry = self._retry_after_ms if refusal.code == "mempool.full" else None
        return Submission(identifier, refusal.code, refusal.detail or refusal.entry.cause, retry)

    async def wait(self, transaction: bytes, timeout_s: float, certified: bool) -> Committed:
        """See `NodeApi.wait`."""
        try:
            async with asyncio.timeout(timeout_s):
                found = await self._decided(transaction)
                while certified and self._store.tip.height <= found.height:
                    if self._closed:
                        raise Refused("rpc.shutting_down")
                    await self._tick.wait()
        except TimeoutError:
            raise Refused("rpc.timeout", f"transaction {transaction.hex()} within {timeout_s:g} s") from None
        return dataclasses.replace(found, certified=self._store.tip.height > found.height)

    async def settle(self, transactions: Sequence[bytes], timeout_s: float) -> list[Settled]:
        """See `NodeApi.settle`."""
        gathering = Gathering()
        take = gathering.take  # one object, so that it can be told from others
        answers = await self.submit(transactions)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._gather(answers, gathering, take)
        for identifier in gathering.missing:
            self._waiting.drop(identifier, take)
        return [Settled(one, gathering.found.get(one.id) if one.id is not None else None) for one in answers]

    async def _gather(self, answers: Sequence[Submission], gathering: Gathering, take: Taker) -> None:
        # No wait between the admission and this loop: no commit can fall between the two.
        for answer in answers:
            if answer.id is not None and answer.code is None:
                gathering.missing[answer.id] = None
                self._waiting.add(answer.id, self._mempool.valid_until(answer.id), take)
        for answer in answers:
            if answer.id is not None and answer.code == "transaction.duplicate":
                with contextlib.suppress(Refused):
                    gathering.found[answer.id] = await self._decided(answer.id)
        if gathering.missing:
            await gathering.done.wait()

    async def _decided(self, transaction: bytes) -> Committed:
        """What became of the transaction, as soon as it is decided. Raises Refused where it can no longer be."""
        decided: asyncio.Future[Committed | str] = asyncio.get_running_loop().create_future()

        def take(_: bytes, became: Committed | str) -> None:
            if not decided.done():
                decided.set_result(became)

        self._waiting.add(transaction, self._mempool.valid_until(transaction), take)
        try:
            # A pool may still hold what was included by way of another batch: the chain is asked first.
            if transaction in self._executor.seen or not self._mempool.knows(transaction):
                # Looked up after the taker is in place: a commit between the two is not missed.
                place = await asyncio.to_thread(self._store.place_of, transaction)
                if place is not None:
                    return await asyncio.to_thread(self._committed_at, transaction, place)
            became = await decided
        finally:
            self._waiting.drop(transaction, take)
        if isinstance(became, str):
            raise Refused(became, transaction.hex())
        return became

    async def transaction(self, transaction: bytes) -> Committed:
        """See `NodeApi.transaction`."""
        place = await asyncio.to_thread(self._store.place_of, transaction)
        if place is None:
            unknown = "chain.before_snapshot" if self._store.base else "transaction.unknown"
            raise Refused(unknown, transaction.hex())
        return await asyncio.to_thread(self._committed_at, transaction, place)

    async def block(self, height: int) -> StoredBlock:
        """See `NodeApi.block`."""
        return await asyncio.to_thread(self._stored_block, height)

    async def state(self, key: bytes) -> tuple[bytes | None, int]:
        """See `NodeApi.state`."""
        return await asyncio.to_thread(self._certified_value, key)

    async def state_receipt(self, key: bytes, height: int | None, since: int | None = None) -> bytes:
        """See `NodeApi.state_receipt`."""
        return await asyncio.to_thread(self._receipts.state, key, height, since)

    async def verdict_receipt(self, transaction: bytes, since: int | None = None) -> bytes:
        """See `NodeApi.verdict_receipt`."""
        return await asyncio.to_thread(self._receipts.verdict, transaction, since)

    async def transaction_receipt(self, transaction: bytes, since: int | None = None) -> bytes:
        """See `NodeApi.transaction_receipt`."""
        return await asyncio.to_thread(self._receipts.transaction, transaction, since)

    async def extend_receipt(self, receipt: bytes, to_height: int | None, since: int | None = None) -> bytes:
        """See `NodeApi.extend_receipt`."""
        return await asyncio.to_thread(self._receipts.extend, receipt, to_height, since)

    async def events(
        self, after: Cursor, limit: int, kinds: frozenset[str] | None, subject: bytes | None
    ) -> list[EventAt]:
        """See `NodeApi.events`."""
        found: list[EventAt] = []
        while len(found) < limit:
            size = EVENTS_PAGE if kinds is not None else limit - len(found)
            page = await asyncio.to_thread(self._page, after, subject, size)
            if not page:
                break
            found += [item for item in page if kinds is None or item.event.kind in kinds]
            after = page[-1].cursor
        return found[:limit]

    async def subscribe(
        self, after: Cursor, kinds: frozenset[str] | None, subject: bytes | None
    ) -> AsyncIterator[EventAt]:
        """See `NodeApi.subscribe`."""
        while True:
            tick = self._tick
            page = await asyncio.to_thread(self._page, after, subject, STREAM_PAGE)
            for item in page:
                if kinds is None or item.event.kind in kinds:
                    yield item
            if page:
                after = page[-1].cursor
            elif self._closed:
                return
            else:
                await tick.wait()

    async def put_envelopes(self, envelopes: Sequence[bytes]) -> list[bytes]:
        """See `NodeApi.put_envelopes`."""
        return await asyncio.to_thread(self._put_envelopes, list(envelopes))

    async def get_envelope(self, digest: bytes) -> bytes:
        """See `NodeApi.get_envelope`."""
        envelope = await asyncio.to_thread(self._vault.get, digest)
        if envelope is None:
            raise Refused("vault.unknown", digest.hex())
        return envelope

    async def deposit_share(self, parcel: bytes) -> None:
        """See `NodeApi.deposit_share`."""
        await asyncio.to_thread(self._require_custodian().deposit, parcel)

    async def release(self, transaction: bytes, operation: int, signature: bytes, start: int = 0) -> Released:
        """See `NodeApi.release`."""
        try:
            release = await self._release(transaction, operation, signature, start)
        except Refused as refusal:
            self._released(refusal.code)
            raise
        self._released("ok")
        return release

    async def accounting(
        self, transaction: bytes, operation: int, signature: bytes, after: Cursor, limit: int
    ) -> AccountingPage:
        """See `NodeApi.accounting`."""
        return await asyncio.to_thread(self._accountant.page, transaction, operation, signature, after, limit)

    async def _release(self, transaction: bytes, operation: int, signature: bytes, start: int) -> Released:
        custodian = self._require_custodian()
        try:
            # The reader's node may be a moment ahead of this one.
            await self.wait(transaction, RELEASE_WAIT_S, certified=True)
        except Refused as refusal:
            if refusal.code != "rpc.timeout":
                raise
            raise Refused(
                "custodian.no_decision", f"not certified here within {RELEASE_WAIT_S:g} s"
            ) from None
        return await asyncio.to_thread(custodian.release, transaction, operation, signature, start)

    # Inside; these block

    def _committed_at(self, transaction: bytes, place: Place) -> Committed:
        leaf = codec.decode(self._store.leaves(place.height)[place.index], ReceiptLeaf, LEAF_BYTES_MAX)
        header = self._store.header(place.height)
        certified = self._store.tip.height > place.height
        said = self._waiting.said(transaction)
        return Committed(transaction, place.height, place.index, header.time_ms, leaf, certified, said)

    def _stored_block(self, height: int) -> StoredBlock:
        return StoredBlock(
            self._store.block(height), self._store.certificate(height), self._store.transactions(height).ids
        )

    def _certified_value(self, key: bytes) -> tuple[bytes | None, int]:
        height = max(0, self._store.tip.height - 1)
        return self._store.state_at(height).get(key), height

    def _page(self, after: Cursor, subject: bytes | None, size: int) -> list[EventAt]:
        place = Place(after.height, max(-1, min(after.index, EVENT_INDEX_LAST)))
        limit = min(size, EVENTS_PAGE)
        rows = (
            self._store.events(place, limit)
            if subject is None
            else self._store.events_of(subject, place, limit)
        )
        return [EventAt(Cursor(at.height, at.index), event) for at, event in rows]

    def _put_envelopes(self, envelopes: list[bytes]) -> list[bytes]:
        named = [(digest_of_sealed(envelope), envelope) for envelope in envelopes]
        self._vault.put_many(named)
        return [digest for digest, _ in named]

    def _require_custodian(self) -> Custodian:
        if self._custodian is None:
            raise Refused("custodian.disabled")
        return self._custodian
