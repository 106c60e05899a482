"""A chain in memory, with real blocks, seals and contracts: what the tests of the node floor build on.

`Harness` is the network as an outside observer sees it: its founders, their keys, and blocks made to order, each with
a certificate of a true quorum. `HostedNode` is one node of it: store, executor, pool, replica and driver, with an
outlet that only remembers. No sockets, no disks; time stands still unless a test moves it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from consilium.client import wallet as wallets
from consilium.client.wallet import Wallet
from consilium.consensus.context import HeightContext, make_block
from consilium.consensus.io import Now
from consilium.consensus.limits import ReplicaConfig
from consilium.consensus.replica import Replica
from consilium.contracts import identity
from consilium.contracts.registry import default_registry, operation
from consilium.ledger import codec
from consilium.ledger.batch import VerifiedBatch, seal_batch
from consilium.ledger.block import Block, CommitCertificate, Seal, sign_seal
from consilium.ledger.crypto import SigningKey
from consilium.ledger.execution import LEAF_BYTES_MAX, ReceiptLeaf, execute_genesis
from consilium.ledger.genesis import GENESIS_VERSION, Genesis, genesis_block
from consilium.ledger.state import MemoryState
from consilium.ledger.transaction import Operation, Transaction, Verified, sign_transaction
from consilium.ledger.validators import Validator, ValidatorSet
from consilium.node.driver import Driver
from consilium.node.executor import Commit, Executor
from consilium.node.mempool import Mempool, MempoolLimits
from consilium.node.peer_messages import DecidedBlock
from consilium.node.promises import PromiseKeeper
from consilium.p2p.frame import Lane
from consilium.storage.chain import ChainStore, create_chain
from consilium.storage.kv import MemoryKV
from consilium.storage.promise import MemoryPromises

START_MS = 1_700_000_000_000
BLOCK_MS = 1_000
VALID_MS = 120_000


def some(label: str, size: int = 16) -> bytes:
    """Bytes that look random and are the same every time."""
    return hashlib.sha256(label.encode()).digest()[:size]


def wallet_of(name: str) -> Wallet:
    """A wallet that is the same in every run."""
    contents = wallets._Contents(name, "", some(f"root/{name}", 32), (), None, ())
    return Wallet(contents)


async def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait for what threads and tasks bring about, and no event announces."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def kv_of(executor: Executor) -> MemoryKV:
    """The store in memory below an executor."""
    store = executor.store._store
    if not isinstance(store, MemoryKV):
        raise TypeError("the harness keeps its chains in memory")
    return store


@dataclass
class FakeClock:
    """Wall time that a test moves; monotonic time follows it."""

    wall_ms: int = START_MS

    def __call__(self) -> Now:
        return Now(self.wall_ms - START_MS, self.wall_ms)

    def now_ms(self) -> int:
        return self.wall_ms


@dataclass
class FakeOutlet:
    """Remembers what was sent to whom, and when, in one list; `log` may be shared with others."""

    peers: frozenset[bytes] = frozenset()
    log: list[tuple[Any, ...]] = field(default_factory=list)
    full: bool = False

    def send(self, peer_key: bytes, kind: int, body: bytes, lane: Lane = Lane.BULK) -> bool:
        if self.full or peer_key not in self.peers:
            return False
        self.log.append(("send", peer_key, kind, body))
        return True

    def broadcast(self, kind: int, body: bytes, lane: Lane) -> int:
        self.log.append(("broadcast", None, kind, body))
        return len(self.peers)

    def connected(self) -> frozenset[bytes]:
        return self.peers

    def sent(self, kind: int, peer: bytes | None = None) -> list[bytes]:
        """Bodies of this kind that were sent to the peer, or broadcast."""
        return [entry[3] for entry in self.log if entry[1] == peer and entry[2] == kind]

    def asked(self, kind: int) -> list[bytes]:
        """Peers that were sent a message of this kind, in order."""
        return [entry[1] for entry in self.log if entry[0] == "send" and entry[2] == kind]


ORDINARY_ROLES: identity.Roles = ["author", "custodian", "manager"]


class Harness:
    """A network of `n` institutions, each with a wallet and a validator, and `more` institutions without."""

    def __init__(
        self, n: int = 1, network: str = "harness", more: int = 0, roles: identity.Roles = ORDINARY_ROLES
    ) -> None:
        self.wallets = [wallet_of(f"institution {index}") for index in range(n + more)]
        keys = [SigningKey(some(f"validator {index}", 32)) for index in range(n)]
        self.genesis = Genesis(
            GENESIS_VERSION,
            network,
            START_MS,
            [Validator(key.public, who.identity) for key, who in zip(keys, self.wallets[:n], strict=True)],
            [operation("identity.found", _founding(who, roles)) for who in self.wallets],
        )
        self.chain_id = self.genesis.chain_id
        self.validators: ValidatorSet = self.genesis.validator_set
        self.keys = sorted(keys, key=lambda key: key.public)
        """In the order of the validator set."""
        self._counter = 0

    def store(self, kv: MemoryKV | None = None) -> ChainStore:
        """A chain with its genesis, or the one that `kv` holds."""
        if kv is None:
            kv = MemoryKV()
            outcome = execute_genesis(self.genesis, MemoryState(), default_registry())
            create_chain(kv, genesis_block(self.genesis), outcome, self.validators)
        return ChainStore(kv, self.chain_id, node_cache_bytes=1 << 20, value_cache_bytes=1 << 20)

    def executor(self, kv: MemoryKV | None = None) -> Executor:
        return Executor(self.store(kv), default_registry())

    def transaction(
        self,
        who: Wallet,
        *operations: Operation,
        valid_until: int = START_MS + VALID_MS,
        nonce: int | None = None,
        sender: bytes | None = None,
    ) -> Verified[Transaction]:
        self._counter += 1
        return sign_transaction(
            who.signing,
            chain_id=self.chain_id,
            sender=who.identity if sender is None else sender,
            nonce=(self._counter if nonce is None else nonce).to_bytes(16, "big"),
            valid_until=valid_until,
            operations=list(operations) or [Operation("no.such", b"")],
        )

    def batch(
        self, transactions: Sequence[Verified[Transaction]], author: int = 0, sequence: int | None = None
    ) -> VerifiedBatch:
        self._counter += 1
        number = self._counter if sequence is None else sequence
        return seal_batch(self.keys[author], self.chain_id, number, list(transactions))

    def certificate(self, block: Block, view: int = 0) -> CommitCertificate:
        seals = [
            Seal(index, sign_seal(key, self.chain_id, block.height, view, block.hash))
            for index, key in enumerate(self.keys)
        ]
        return CommitCertificate(block.height, view, block.hash, seals[: self.validators.quorum])

    def decide(
        self, context: HeightContext, batches: Sequence[VerifiedBatch] = (), *, time_ms: int | None = None
    ) -> DecidedBlock:
        """The next block with these batches, certified."""
        at_ms = context.parent.time_ms + BLOCK_MS if time_ms is None else time_ms
        block = make_block(context, [batch.digest for batch in batches], at_ms, context.primary(0))
        return DecidedBlock(block, self.certificate(block), [batch.raw for batch in batches])

    def commit(
        self,
        executor: Executor,
        batches: Sequence[VerifiedBatch] = (),
        *,
        time_ms: int | None = None,
    ) -> Commit:
        """Commit the next block with these batches."""
        decided = self.decide(executor.context, batches, time_ms=time_ms)
        return executor.commit(decided.block, decided.certificate, list(batches))

    def act(
        self, executor: Executor, who: Wallet, *operations: Operation, certify: bool = True
    ) -> ReceiptLeaf:
        """Commit a transaction in a block of its own, and by default the block that certifies it."""
        valid_until = executor.store.tip.time_ms + VALID_MS
        transaction = self.transaction(who, *operations, valid_until=valid_until)
        done = self.commit(executor, [self.batch([transaction])])
        if certify:
            self.commit(executor)
        return codec.decode(done.outcome.leaves[0], ReceiptLeaf, LEAF_BYTES_MAX)


def enrolment(
    harness: Harness, sponsor: Wallet, kind: identity.EnrolledKind, newcomer: Wallet
) -> identity.Enrol:
    """The body with which `sponsor` enrols the owner of a wallet."""
    digest = identity.enrolment_digest(
        chain_id=harness.chain_id,
        sponsor=sponsor.identity,
        kind=kind,
        key=newcomer.signing.public,
        encryption_key=newcomer.encryption_public,
    )
    proof = newcomer.signing.sign(digest)
    return identity.Enrol(kind, newcomer.signing.public, newcomer.encryption_public, proof)


def _founding(who: Wallet, roles: identity.Roles) -> identity.FoundInstitution:
    return identity.FoundInstitution(who.signing.public, who.encryption_public, who.point, roles)


class RecordingKeeper:
    """Keeps promises in memory, and notes in `log` when one is durable."""

    def __init__(self, promises: MemoryPromises, log: list[tuple[Any, ...]]) -> None:
        self._keeper = PromiseKeeper(promises)
        self._log = log

    def keep(self, promise: object, batches: object) -> None:
        self._keeper.keep(promise, batches)  # type: ignore[arg-type]
        self._log.append(("kept", None, -1, promise))


class HostedNode:
    """Validator `index` of the network. Run `driver.run()` to bring it to life."""

    def __init__(
        self,
        harness: Harness,
        index: int | None = 0,
        *,
        limits: MempoolLimits | None = None,
        config: ReplicaConfig | None = None,
        kv: MemoryKV | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        self.harness = harness
        self.key = harness.keys[index] if index is not None else SigningKey(some("observer", 32))
        self.clock = clock or FakeClock(START_MS + BLOCK_MS)
        self.executor = harness.executor(kv)
        self.mempool = Mempool(self.key, harness.chain_id, limits or MempoolLimits(), 1, self.executor.weigh)
        self.promises = MemoryPromises()
        self.outlet = FakeOutlet(frozenset(key.public for key in harness.keys) - {self.key.public})
        self.log = self.outlet.log
        self.commits: list[Commit] = []
        self.replica = Replica(
            self.key if index is not None else None,
            self.executor.context,
            None,
            config or ReplicaConfig(view_timeout_ms=60_000, view_timeout_max_ms=60_000),
        )
        self.driver = Driver(
            replica=self.replica,
            executor=self.executor,
            mempool=self.mempool,
            keeper=RecordingKeeper(self.promises, self.log),
            outlet=self.outlet,
            clock=self.clock,
            on_commit=self.commits.append,
            seal_delay_s=0.0,
        )

    @property
    def height(self) -> int:
        return self.executor.store.tip.height
