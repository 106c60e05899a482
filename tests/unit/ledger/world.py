"""A small chain to test the ledger on: made-up contracts, real execution, a real store in memory, real seals.

Everything follows from labels, so two runs give the same bytes. The contracts are as small as they can be: a
transaction puts and deletes keys, is refused, or changes the validator set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from consilium.ledger import codec
from consilium.ledger.batch import VerifiedBatch, seal_batch
from consilium.ledger.block import (
    BLOCK_VERSION,
    Block,
    CommitCertificate,
    Header,
    Seal,
    batches_root,
    sign_seal,
)
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext, Outcome, execute, execute_genesis
from consilium.ledger.genesis import GENESIS_VERSION, Genesis, genesis_block
from consilium.ledger.state import MemoryState, Overlay, StateReader
from consilium.ledger.transaction import Operation, Transaction, Verified, identity_of, sign_transaction
from consilium.ledger.validators import Validator, ValidatorSet
from consilium.ledger.weight import TRANSACTION_WEIGHT_MAX
from consilium.storage.chain import ChainStore, create_chain
from consilium.storage.kv import MemoryKV

START_MS = 1_700_000_000_000
STEP_MS = 1_000
VALIDATORS_KEY = b"validators"
BARRED = b"barred/"


def some(label: str, size: int = 32) -> bytes:
    """Bytes that look random and are the same every time."""
    return hashlib.sha256(label.encode()).digest()[:size]


def key_of(label: str) -> SigningKey:
    """The signing key of a label."""
    return SigningKey(some(f"seed/{label}"))


def validator(label: str, institution: str | None = None) -> Validator:
    """A validator whose seals `seals_of` can make."""
    key = key_of(label)
    SIGNERS[key.public] = key
    return Validator(key.public, some(f"institution/{institution or label}", 16))


SIGNERS: dict[bytes, SigningKey] = {}


def seals_of(header: Header, validators: ValidatorSet, view: int = 0, skip: int = 0) -> CommitCertificate:
    """Exactly a quorum of seals; `skip` validators at the front do not take part."""
    places = range(skip, skip + validators.quorum)
    seals = [
        Seal(
            place,
            sign_seal(SIGNERS[validators.keys[place]], header.chain_id, header.height, view, header.hash),
        )
        for place in places
    ]
    return CommitCertificate(header.height, view, header.hash, seals)


class Pairs(codec.Wire, frozen=True):
    """Body of `put` and `swap`: keys and values."""

    pairs: list[tuple[bytes, bytes | None]]


WEIGHTS = {"heavy": TRANSACTION_WEIGHT_MAX, "heavier": TRANSACTION_WEIGHT_MAX + 1, "dear": 1_000}
"""Of some operations; 1 of all others."""


def put(*pairs: tuple[bytes, bytes | None], name: str = "put") -> Operation:
    """An operation that writes (None: deletes)."""
    return Operation(name, codec.encode(Pairs(list(pairs))))


def new_council(validators: Sequence[Validator]) -> Operation:
    """An operation that asks for another validator set."""
    return put((VALIDATORS_KEY, codec.encode(list(validators))))


class Uncounted:
    """Whoever adds to state adds."""

    def charge(self, operations: Sequence[Operation], context: OperationContext) -> None: ...

    def close(self) -> None: ...


class SmallContracts:
    """`put` writes, `tell` also emits an event, `refuse` writes and is refused, `early` is a put of a lower rank.

    `heavy`, `heavier` and `dear` write too, and have WEIGHTS; `dear` then charges the length of its first value.
    """

    def authorise(self, context: OperationContext) -> None:
        if context.state.get(BARRED + context.sender) is not None:
            raise Refused("identity.key_not_authorised", "barred")

    def rank(self, operation: Operation) -> int:
        return 0 if operation.name == "early" else 1

    def weight(self, operation: Operation) -> int:
        return WEIGHTS.get(operation.name, 1)

    def meter(self, state: Overlay, time_ms: int) -> Uncounted:
        return Uncounted()

    def run(self, operation: Operation, context: OperationContext) -> bytes:
        if operation.name not in ("put", "tell", "refuse", "early", "read", *WEIGHTS):
            raise Refused("transaction.unknown_operation")
        pairs = codec.decode(operation.body, Pairs, 16 * 1024).pairs
        if operation.name == "read":
            return b"".join(context.state.get(key) or b"-" for key, _ in pairs)
        for key, value in pairs:
            if value is None:
                context.state.delete(key)
            else:
                context.state.put(key, value)
        if operation.name == "dear":
            context.charge(len(pairs[0][1] or b""))
        if operation.name == "tell":
            context.emit("told", [context.sender], operation.body)
        if operation.name == "refuse":
            raise Refused("identity.last_key", "as it was asked to")
        return len(pairs).to_bytes(1, "big")

    def next_validators(self, state: StateReader, current: ValidatorSet) -> ValidatorSet:
        raw = state.get(VALIDATORS_KEY)
        return current if raw is None else ValidatorSet(msgspec.msgpack.decode(raw, type=list[Validator]))


def run_block(
    transactions: Sequence[Verified[Transaction]],
    state: StateReader,
    *,
    chain_id: bytes,
    height: int = 1,
    time_ms: int = START_MS + STEP_MS,
    seen: frozenset[bytes] = frozenset(),
    validators: ValidatorSet | None = None,
) -> Outcome:
    """`execute` with the small contracts."""
    return execute(
        chain_id=chain_id,
        height=height,
        time_ms=time_ms,
        transactions=transactions,
        state=state,
        seen=seen,
        contracts=SmallContracts(),
        validators=validators or ValidatorSet([validator("north")]),
    )


@dataclass
class World:
    """A chain with its store. `sets[h]` voted at height h."""

    genesis: Genesis
    store: ChainStore
    sets: list[ValidatorSet]
    sequence: int = 0
    history: list[bytes] = field(default_factory=list)

    @property
    def chain_id(self) -> bytes:
        return self.genesis.chain_id

    def sign(
        self, label: str, *operations: Operation, sender: str = "ann", valid_ms: int | None = None
    ) -> Verified[Transaction]:
        """A transaction that is distinct by its label."""
        key = key_of(sender)
        until = self.store.tip.time_ms + 60_000 if valid_ms is None else valid_ms
        return sign_transaction(
            key,
            chain_id=self.chain_id,
            sender=identity_of(key.public),
            nonce=some(f"nonce/{label}", 16),
            valid_until=until,
            operations=list(operations),
        )

    def block(self, *batches: Sequence[Verified[Transaction]], view: int = 0, skip: int = 0) -> Header:
        """Seal the batches, decide them at the next height, execute, commit."""
        tip = self.store.tip
        height = tip.height + 1
        voting = self.sets[height]
        author = SIGNERS[voting.keys[0]]
        sealed = [self._batch(author, list(batch)) for batch in batches]
        digests = [bytes(batch.digest) for batch in sealed]
        header = Header(
            version=BLOCK_VERSION,
            chain_id=self.chain_id,
            height=height,
            parent=tip.block_hash,
            time_ms=tip.time_ms + STEP_MS,
            primary=voting.keys[0],
            lost=0,
            batches_root=batches_root(digests),
            state_root=tip.state_root,
            receipts_root=tip.receipts_root,
            validators_hash=voting.hash,
            next_validators_hash=tip.next_validators_hash,
            history_root=tip.history.root(),
        )
        outcome = run_block(
            [transaction for batch in sealed for transaction in batch.transactions],
            self.store.state,
            chain_id=self.chain_id,
            height=height,
            time_ms=header.time_ms,
            validators=self.sets[height + 1],
        )
        certificate = seals_of(header, voting, view, skip)
        self.store.commit(Block(header, digests), certificate, [batch.raw for batch in sealed], outcome)
        self.sets.append(outcome.next_validators)
        return header

    def idle(self, count: int = 1) -> None:
        """So many empty blocks."""
        for _ in range(count):
            self.block()

    def change_set(self, label: str, validators: Sequence[Validator]) -> None:
        """A block that asks for another set, and the two until it votes."""
        self.block([self.sign(label, new_council(validators))])
        self.idle(2)

    def _batch(self, author: SigningKey, transactions: list[Verified[Transaction]]) -> VerifiedBatch:
        self.sequence += 1
        return seal_batch(author, self.chain_id, self.sequence, transactions)


def found(
    validators: Sequence[Validator], network: str = "test", operations: Sequence[Operation] = ()
) -> World:
    """A chain of its genesis block alone."""
    genesis = Genesis(GENESIS_VERSION, network, START_MS, list(validators), list(operations))
    outcome = execute_genesis(genesis, MemoryState(), SmallContracts())
    store = MemoryKV()
    founders = genesis.validator_set
    create_chain(store, genesis_block(genesis), outcome, founders)
    return World(genesis, ChainStore(store, genesis.chain_id), [founders, founders, founders])


def council(size: int, prefix: str = "node") -> list[Validator]:
    """So many validators."""
    return [validator(f"{prefix}{number}") for number in range(size)]
