"""A ward in memory: institutions, a patient with sealed records, a custodian, and sessions that talk to a real node.

`DirectRpc` answers as the RPC client does, without a socket. One validator decides alone; time moves when told.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from consilium.client import recording, rpc
from consilium.client.envelope import HeaderFields, envelope_digest
from consilium.client.recording import Imported, Payload
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts.identity import Roles
from consilium.ledger.genesis import Genesis
from consilium.node.custodian import Custodian
from consilium.node.ledger_reader import LedgerReader
from consilium.node.service import Service
from consilium.storage.kv import MemoryKV
from consilium.storage.releases import ReleaseJournal
from consilium.storage.shares import ShareVault
from consilium.storage.vault import Vault
from tests.unit.node.harness import ORDINARY_ROLES, Harness, HostedNode, wallet_of
from tests.unit.node.hosting import running, service_of

HEADER = HeaderFields("Observation", "o", "application/fhir+json")
STALENESS_MS = 60_000


class DirectRpc:
    """What `client.rpc.RpcClient` is to a session, answered by a service in this process."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.calls: list[str] = []
        self.fail: dict[str, list[BaseException]] = {}
        """Raised instead of an answer, by method, one after the other."""

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if self.fail.get(method):
            raise self.fail[method].pop(0)

    async def status(self) -> dict[str, Any]:
        self._called("status")
        return self.service.status()

    async def genesis(self) -> Genesis:
        return self.service.genesis

    async def submit(self, transactions: Sequence[bytes]) -> list[rpc.Submission]:
        self._called("submit")
        return await self.service.submit(transactions)

    async def wait(self, transaction: bytes, timeout_s: float = 20, certified: bool = False) -> rpc.Committed:
        self._called("wait")
        return await self.service.wait(transaction, timeout_s, certified)

    async def state(self, key: bytes) -> tuple[bytes | None, int]:
        self._called("state")
        return await self.service.state(key)

    async def put_envelopes(self, envelopes: Sequence[bytes]) -> list[bytes]:
        self._called("put_envelopes")
        return await self.service.put_envelopes(envelopes)

    async def deposit_share(self, parcel: bytes) -> None:
        self._called("deposit_share")
        await self.service.deposit_share(parcel)

    async def release(
        self, transaction: bytes, operation: int, signature: bytes, start: int = 0
    ) -> rpc.Released:
        self._called("release")
        return await self.service.release(transaction, operation, signature, start)

    async def state_receipt(self, key: bytes) -> bytes:
        return await self.service.state_receipt(key, None)

    async def accounting(
        self, transaction: bytes, operation: int, signature: bytes, after: rpc.Cursor, limit: int
    ) -> tuple[list[rpc.AccountingRow], rpc.Cursor, bool]:
        page = await self.service.accounting(transaction, operation, signature, after, limit)
        return list(page.rows), page.next, not page.is_last


@dataclass
class Ward:
    """`north` keeps the records of `petra` and is their custodian; `south` wants to read; `west` is a third."""

    harness: Harness
    node: HostedNode
    service: Service
    custodian: Custodian
    rpc: DirectRpc
    journal: ReleaseJournal
    petra: Wallet = field(default_factory=lambda: wallet_of("petra"))

    @property
    def north(self) -> Session:
        return self.session(self.harness.wallets[0])

    @property
    def south(self) -> Session:
        return self.session(self.harness.wallets[1])

    @property
    def west(self) -> Session:
        return self.session(self.harness.wallets[2])

    @property
    def patient(self) -> Session:
        return self.session(self.petra)

    def session(self, who: Wallet) -> Session:
        return Session(self.rpc, self.harness.genesis, who, clock_ms=self.node.clock.now_ms)  # type: ignore[arg-type]

    async def admit_petra(self) -> None:
        """Enrol the patient and open the compartments."""
        await recording.enrol(self.north, "patient", self.petra)
        self.petra = await recording.open_compartments(
            self.patient, self.petra, self.harness.wallets[0].identity, lambda wallet: None
        )

    async def import_notes(self, count: int, label: str = "note") -> Imported:
        payloads = [Payload(note(label, index), HEADER) for index in range(count)]
        imported = await recording.import_records(self.north, self.petra.identity, payloads)
        for transaction in imported.transactions:  # state is read as certified
            await self.service.wait(transaction, 20, certified=True)
        return imported

    async def pass_time(self, ms: int) -> None:
        """Let block time pass, in steps that no transaction outlives."""
        while ms > 0:
            step_ms = min(ms, 240_000)
            ms -= step_ms
            self.node.clock.wall_ms += step_ms
            await self.tick()

    async def tick(self) -> None:
        """A block, and the one that certifies it."""
        tip_ms = self.node.executor.store.tip.time_ms
        one = self.harness.transaction(self.harness.wallets[0], valid_until=tip_ms + 500_000)
        await self.service.submit([one.raw])
        await self.service.wait(one.id, 20, certified=True)


def note(label: str, index: int) -> bytes:
    """The bytes of a record."""
    return hashlib.sha256(f"{label}/{index}".encode()).hexdigest().encode() * (1 + index % 3)


@asynccontextmanager
async def ward(roles: Roles = ORDINARY_ROLES) -> AsyncIterator[Ward]:
    """A running node with a custodian; its founders are institutions 0, 1 and 2, all with these roles."""
    harness = Harness(1, more=2, roles=roles)
    node = HostedNode(harness)
    vault = Vault(MemoryKV(), envelope_digest, create=True)
    store = MemoryKV()
    shares = ShareVault(store, create=True)
    journal = ReleaseJournal(store)
    custodian = Custodian(
        wallet=harness.wallets[0],
        chain_id=harness.chain_id,
        ledger=LedgerReader(node.executor.store),
        shares=shares,
        envelopes=vault,
        journal=journal,
        staleness_max_ms=STALENESS_MS,
        clock_ms=node.clock.now_ms,
    )
    keeper = service_of(node, vault, custodian)
    async with running(node):
        yield Ward(harness, node, keeper, custodian, DirectRpc(keeper), journal)
