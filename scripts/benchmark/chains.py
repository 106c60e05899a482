"""A chain without a network: one validator that decides blocks alone, on a real store. For steps and queries."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from consilium.client.sharing import make_compartment
from consilium.client.wallet import Wallet
from consilium.consensus.context import make_block
from consilium.contracts import identity, records
from consilium.contracts.classes import CLASSES, GENERAL
from consilium.contracts.registry import default_registry, operation
from consilium.ledger.batch import VerifiedBatch, seal_batch
from consilium.ledger.block import BLOCK_TRANSACTIONS_MAX, Block, CommitCertificate, Seal, sign_seal
from consilium.ledger.crypto import SigningKey
from consilium.ledger.execution import execute_genesis
from consilium.ledger.genesis import GENESIS_VERSION, Genesis, genesis_block
from consilium.ledger.state import MemoryState
from consilium.ledger.transaction import VALIDITY_MAX_MS, Operation, Transaction, Verified, sign_transaction
from consilium.ledger.validators import Validator
from consilium.node.executor import Commit, Executor
from consilium.storage.chain import ChainStore, create_chain
from consilium.storage.kv import KeyValue
from consilium.storage.leveldb import LevelKV
from scripts.benchmark.workload import ID_BYTES, bundle_of

BLOCK_MS: Final = 1_000
PATIENTS: Final = 32
BATCH: Final = 256


class LoneChain:
    """A network of one institution, whose blocks are made here."""

    def __init__(self, folder: Path, wrap: type[KeyValue] | None = None) -> None:
        self.key = SigningKey(os.urandom(32))
        self.wallet = Wallet.create("institution", "institution")
        self.other = Wallet.create("another", "institution")
        """A second custodian: records of sensitive classes are never opened by one alone."""
        start_ms = time.time_ns() // 1_000_000
        self.genesis = Genesis(
            GENESIS_VERSION,
            "bench",
            start_ms,
            [Validator(self.key.public, self.wallet.identity)],
            [operation("identity.found", _founding(one)) for one in (self.wallet, self.other)],
        )
        self.chain_id = self.genesis.chain_id
        store: KeyValue = LevelKV(folder, create=True)
        outcome = execute_genesis(self.genesis, MemoryState(), default_registry())
        create_chain(store, genesis_block(self.genesis), outcome, self.genesis.validator_set)
        self.store = ChainStore(wrap(store) if wrap is not None else store, self.chain_id)  # type: ignore[call-arg]
        self.executor = Executor(self.store, default_registry())
        self.compartments: list[bytes] = []
        self._sequence = 0

    def sign(self, operations: list[Operation], wallet: Wallet | None = None) -> Verified[Transaction]:
        """A transaction of the institution, or of a wallet, for the next block."""
        sender = wallet or self.wallet
        return sign_transaction(
            sender.signing,
            chain_id=self.chain_id,
            sender=sender.identity,
            nonce=os.urandom(ID_BYTES),
            valid_until=self.executor.context.parent.time_ms + VALIDITY_MAX_MS // 2,
            operations=operations,
        )

    def settle_in(self, patients: int = PATIENTS) -> None:
        """Enrol patients and open their compartments."""
        wallets = [Wallet.create("patient") for _ in range(patients)]
        self.decide([self.sign([self._enrolment(one) for one in wallets])])
        for one in wallets:
            fresh = sorted((os.urandom(ID_BYTES), code) for code in CLASSES)
            new = [self._compartment(identifier, code) for identifier, code in fresh]
            opening = operation("records.open_compartments", records.OpenCompartments(one.identity, new))
            self.decide([self.sign([opening], one)])
            self.compartments += [identifier for identifier, code in fresh if code == GENERAL]

    def anchoring(self, place: int, count: int = 1) -> Verified[Transaction]:
        """A transaction that anchors a bundle of `count` records."""
        compartment = self.compartments[place % len(self.compartments)]
        return self.sign(bundle_of([os.urandom(ID_BYTES) for _ in range(count)], compartment))

    def seal(self, transactions: Sequence[Verified[Transaction]]) -> VerifiedBatch:
        """A batch of this validator."""
        self._sequence += 1
        return seal_batch(self.key, self.chain_id, self._sequence, list(transactions))

    def block(self, batches: Sequence[VerifiedBatch]) -> tuple[Block, CommitCertificate]:
        """The next block, with its certificate."""
        context = self.executor.context
        time_ms = context.parent.time_ms + BLOCK_MS
        block = make_block(context, [batch.digest for batch in batches], time_ms, self.key.public)
        seal = sign_seal(self.key, self.chain_id, block.height, 0, block.hash)
        return block, CommitCertificate(block.height, 0, block.hash, [Seal(0, seal)])

    def decide(self, transactions: Sequence[Verified[Transaction]]) -> Commit:
        """Commit the next block, with these."""
        if len(transactions) > BLOCK_TRANSACTIONS_MAX:
            raise ValueError(f"{len(transactions)} transactions in one block")
        batches = [self.seal(transactions[at : at + BATCH]) for at in range(0, len(transactions), BATCH)]
        block, certificate = self.block(batches)
        done = self.executor.commit(block, certificate, batches)
        refused = [leaf for leaf in done.outcome.leaves if b"\xa2ok" not in leaf]
        if refused or done.outcome.skipped:
            raise RuntimeError(f"{len(refused)} refused, {len(done.outcome.skipped)} skipped")
        return done

    def _compartment(self, identifier: bytes, code: int) -> records.NewCompartment:
        held = [one.identity for one in (self.wallet, self.other)][: 1 if code == GENERAL else 2]
        secret = make_compartment(threshold=len(held), custodians=len(held))
        return records.NewCompartment(
            identifier, code == GENERAL, os.urandom(32), list(secret.commitments), held
        )

    def _enrolment(self, newcomer: Wallet) -> Operation:
        digest = identity.enrolment_digest(
            chain_id=self.chain_id,
            sponsor=self.wallet.identity,
            kind="patient",
            key=newcomer.signing.public,
            encryption_key=newcomer.encryption_public,
        )
        proof = newcomer.signing.sign(digest)
        body = identity.Enrol("patient", newcomer.signing.public, newcomer.encryption_public, proof)
        return operation("identity.enrol", body)


def _founding(wallet: Wallet) -> identity.FoundInstitution:
    roles: list[identity.Role] = ["author", "custodian", "manager"]
    point = wallet.author_keys.point
    return identity.FoundInstitution(wallet.signing.public, wallet.encryption_public, point, roles)
