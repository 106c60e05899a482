"""What a simulated network is founded on, and what its clients submit: real genesis, contracts and transactions.

Each host's institution is founded with the network; the first `validators` hosts validate from the start. Clients enrol
applications that nobody uses: three entries of state each, for a proof that the contract checks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from consilium.contracts import ballot, identity
from consilium.contracts.registry import Registry, default_registry, operation
from consilium.ledger.batch import VerifiedBatch
from consilium.ledger.execution import execute_genesis
from consilium.ledger.genesis import GENESIS_VERSION, Genesis, genesis_block
from consilium.ledger.state import MemoryState
from consilium.ledger.transaction import Operation, Transaction, Verified, identity_of, sign_transaction
from consilium.ledger.validators import Validator
from consilium.ledger.weight import TRANSACTION_WEIGHT_MAX
from consilium.node.executor import Executor
from consilium.storage.chain import ChainStore, create_chain
from consilium.storage.kv import MemoryKV
from tests.simulation.keys import Keyring, point_of
from tests.simulation.world import WALL_EPOCH_MS

VALIDITY_MS = 9 * 60 * 1000
HALF_EVERY = 4
"""One transaction in so many is refused at its second operation."""
CACHE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Founding:
    """A genesis document, and the rows that a store begins with."""

    genesis: Genesis
    chain_id: bytes
    rows: dict[bytes, bytes]
    first: int
    """The host that is the primary of height 1, in view 0."""


def wallet_seed(index: int) -> bytes:
    """Of the institution that runs this host."""
    return hashlib.sha256(b"simulated institution %d" % index).digest()


@cache
def contracts() -> Registry:
    """The product's own."""
    return default_registry()


@cache
def found(validators: int, hosts: int, real: bool) -> Founding:
    """The network of so many validators, and of hosts that have only an institution. Every host is founded alike."""
    ring = Keyring(hosts, real, points=True)
    wallets = [ring.make(wallet_seed(index)) for index in range(hosts)]
    operations = [
        operation(
            "identity.found",
            identity.FoundInstitution(wallet.public, bytes([index]) * 32, point_of(wallet.seed), []),
        )
        for index, wallet in enumerate(wallets)
    ]
    members = [
        Validator(key.public, identity_of(wallet.public))
        for key, wallet in zip(ring.keys[:validators], wallets, strict=False)
    ]
    genesis = Genesis(GENESIS_VERSION, "simulated", WALL_EPOCH_MS, members, operations)
    store = MemoryKV()
    outcome = execute_genesis(genesis, MemoryState(), contracts())
    create_chain(store, genesis_block(genesis), outcome, genesis.validator_set)
    first = opened(MemoryKV(store._durable), genesis.chain_id).context.primary(0)
    place = [key.public for key in ring.keys].index(first)
    return Founding(genesis, genesis.chain_id, store._durable, place)


class Clients:
    """Whoever submits: each transaction is made here, so that the checkers know of all of them."""

    def __init__(self, ring: Keyring, hosts: int, founding: Founding, rng: Random) -> None:
        self._ring = ring
        self._rng = rng
        self._made = 0
        self.chain_id = founding.chain_id
        self.wallets = [ring.make(wallet_seed(index)) for index in range(hosts)]
        self.institutions = [identity_of(wallet.public) for wallet in self.wallets]
        self.made: dict[bytes, None] = {}
        """The ids of all transactions that anybody honest or not made."""

    def sign(self, index: int, said: Operation, tip_ms: int, times: int = 1) -> Verified[Transaction]:
        """In the name of a host's institution."""
        transaction = sign_transaction(
            self.wallets[index],
            chain_id=self.chain_id,
            sender=self.institutions[index],
            nonce=self._rng.randbytes(16),
            valid_until=tip_ms + VALIDITY_MS,
            operations=[said] * times,
        )
        self.made[transaction.id] = None
        return transaction

    def enrolment(self, index: int, tip_ms: int) -> Verified[Transaction]:
        """Some work."""
        self._made += 1
        key = self._ring.make(hashlib.sha256(b"application %d" % self._made).digest())
        encryption_key = key.public[::-1]
        proof = key.sign(
            identity.enrolment_digest(
                chain_id=self.chain_id,
                sponsor=self.institutions[index],
                kind="application",
                key=key.public,
                encryption_key=encryption_key,
            )
        )
        body = identity.Enrol("application", key.public, encryption_key, proof)
        if self._made % HALF_EVERY == 0:
            return self.half(index, operation("identity.enrol", body), tip_ms)
        return self.sign(index, operation("identity.enrol", body), tip_ms)

    def heavy(self, index: int, tip_ms: int) -> Verified[Transaction]:
        """Nearly as heavy as a transaction may be; refused at its first operation, whose body is none."""
        said = Operation("governance.vote", b"")
        return self.sign(index, said, tip_ms, TRANSACTION_WEIGHT_MAX // contracts().weight(said))

    def propose(self, index: int, change: ballot.Change, name: bytes, tip_ms: int) -> Verified[Transaction]:
        """An institution proposes a change of the validators."""
        return self.sign(index, operation("governance.propose", ballot.Propose(name, change)), tip_ms)

    def vote(self, index: int, name: bytes, tip_ms: int) -> Verified[Transaction]:
        """An institution approves."""
        return self.sign(index, operation("governance.vote", ballot.Vote(name, True)), tip_ms)

    def half(self, index: int, said: Operation, tip_ms: int) -> Verified[Transaction]:
        """Refused at its second operation: of the first, nothing may stay."""
        nonce = self._rng.randbytes(16)
        transaction = sign_transaction(
            self.wallets[index],
            chain_id=self.chain_id,
            sender=self.institutions[index],
            nonce=nonce,
            valid_until=tip_ms + VALIDITY_MS,
            operations=[said, operation("governance.vote", ballot.Vote(nonce, True))],
        )
        self.made[transaction.id] = None
        return transaction


def opened(store: MemoryKV, chain_id: bytes) -> Executor:
    """The product's chain and state on a store."""
    chain = ChainStore(store, chain_id, node_cache_bytes=CACHE_BYTES, value_cache_bytes=CACHE_BYTES)
    return Executor(chain, contracts())


def replayed(founding: Founding, chain: ChainStore, verify: Sequence[VerifiedBatch]) -> Executor:
    """The same blocks, executed again from genesis; `verify` has their batches, in the order of the chain."""
    executor = opened(MemoryKV(founding.rows), founding.chain_id)
    batches = iter(verify)
    for height in range(1, chain.tip.height + 1):
        block, certificate = chain.block(height), chain.certificate(height)
        if certificate is None:
            raise ValueError(f"no certificate at height {height}")
        executor.commit(block, certificate, [next(batches) for _ in block.batches])
    return executor
