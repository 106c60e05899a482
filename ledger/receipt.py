"""Receipts: one file proves one fact to somebody who has the genesis file and nothing else.

This module verifies receipts and cannot build them. A fact hangs below a header by a Merkle path; the header is
certified by a quorum of seals, directly or because a later, certified header commits to it in its history root; and
the validator set that sealed is the genesis document's, or follows from it by a chain of certified changes.

The format is in docs/receipts.md. Every byte of a receipt is signed over, hashed over or checked for equality, so a
receipt with any byte changed does not verify.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from consilium.ledger import codec
from consilium.ledger.batch import BATCH_TRANSACTIONS_MAX, batch_digest
from consilium.ledger.block import (
    BLOCK_BATCHES_MAX,
    BLOCK_VERSION,
    CommitCertificate,
    Header,
    check_certified,
)
from consilium.ledger.errors import Refused
from consilium.ledger.execution import LEAF_BYTES_MAX, ReceiptLeaf
from consilium.ledger.genesis import Genesis
from consilium.ledger.merkle import InclusionProof, leaf_hash, verify_inclusion
from consilium.ledger.state import STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX
from consilium.ledger.transaction import TRANSACTION_BYTES_MAX, Transaction, verify_transaction
from consilium.ledger.trie_proof import TrieProof, verify_state
from consilium.ledger.validators import VALIDATORS_MAX, Validator, ValidatorSet

RECEIPT_VERSION: Final = 1
LINKS_MAX: Final = 1_024
RECEIPT_BYTES_MAX: Final = 16 * 1024 * 1024

RawTransaction = Annotated[bytes, msgspec.Meta(max_length=TRANSACTION_BYTES_MAX)]


class TransactionStatement(codec.Wire, frozen=True, tag="transaction"):
    """The transaction is in the block of the receipt's header: first in a batch, which is in the block."""

    transaction: RawTransaction
    author: codec.Bytes32
    sequence: codec.Uint
    transactions_root: codec.Bytes32
    in_batch: InclusionProof
    in_block: InclusionProof


class VerdictStatement(codec.Wire, frozen=True, tag="verdict"):
    """What became of the transaction at the height before the receipt's header: `leaf` is an encoded ReceiptLeaf."""

    transaction: RawTransaction
    leaf: Annotated[bytes, msgspec.Meta(max_length=LEAF_BYTES_MAX)]
    proof: InclusionProof


class StateStatement(codec.Wire, frozen=True, tag="state"):
    """The key held this value, or none, after the height before the receipt's header."""

    key: Annotated[bytes, msgspec.Meta(min_length=1, max_length=STATE_KEY_BYTES_MAX)]
    value: Annotated[bytes, msgspec.Meta(max_length=STATE_VALUE_BYTES_MAX)] | None
    proof: TrieProof


Statement = TransactionStatement | VerdictStatement | StateStatement


class SetChange(codec.Wire, frozen=True):
    """A header, certified by the set before, that hands over to `validators`."""

    header: Header
    certificate: CommitCertificate
    validators: Annotated[list[Validator], msgspec.Meta(min_length=1, max_length=VALIDATORS_MAX)]


class Extension(codec.Wire, frozen=True):
    """A later header whose history root covers the receipt's header."""

    header: Header
    proof: InclusionProof


class Receipt(codec.Wire, frozen=True):
    """`certificate` is for the extension's header where there is one, else for `header`.

    `changes` lead from the genesis validator set to the set that sealed it, oldest first.
    """

    version: codec.Uint
    statement: Statement
    header: Header
    extension: Extension | None
    certificate: CommitCertificate
    changes: Annotated[list[SetChange], msgspec.Meta(max_length=LINKS_MAX)]


@dataclass(frozen=True, slots=True)
class Proved:
    """What a receipt proves. `height` is the block that the fact is about; `time_ms` is the certifying header's time.

    `transaction` is None for state; `leaf` is set for verdicts; `key` and `value` for state.
    """

    kind: str
    chain_id: bytes
    height: int
    certified_height: int
    time_ms: int
    transaction: Transaction | None = None
    transaction_id: bytes | None = None
    leaf: ReceiptLeaf | None = None
    key: bytes | None = None
    value: bytes | None = None


def decode_receipt(raw: bytes) -> Receipt:
    """Decode a receipt file. Raises Refused `codec.*` or `receipt.wrong_version`."""
    receipt = codec.decode(raw, Receipt, RECEIPT_BYTES_MAX)
    if receipt.version != RECEIPT_VERSION:
        raise Refused("receipt.wrong_version", f"version {receipt.version}; known: {RECEIPT_VERSION}")
    return receipt


def verify_receipt(raw: bytes, genesis: Genesis) -> Proved:
    """Check a receipt with the genesis document alone: no node, no network, no clock.

    Raises Refused `codec.*`, `receipt.wrong_version`, `receipt.wrong_chain`, `receipt.invalid`.
    """
    receipt = decode_receipt(raw)
    chain_id = genesis.chain_id
    for header in _headers(receipt):
        if header.chain_id != chain_id:
            raise Refused("receipt.wrong_chain", f"it is of chain {header.chain_id.hex()[:16]}…")
        if header.version != BLOCK_VERSION:
            raise Refused("receipt.invalid", f"a header has version {header.version}; known: {BLOCK_VERSION}")
    certified = receipt.header if receipt.extension is None else receipt.extension.header
    try:
        validators = _validators_at(receipt, genesis, certified)
        check_certified(certified, receipt.certificate, validators)
    except Refused as refusal:
        raise Refused("receipt.invalid", refusal.detail) from None
    if receipt.extension is not None:
        _check_extension(receipt.header, receipt.extension)
    return _check_statement(receipt.statement, receipt.header, chain_id)


def _headers(receipt: Receipt) -> list[Header]:
    headers = [receipt.header, *(change.header for change in receipt.changes)]
    if receipt.extension is not None:
        headers.append(receipt.extension.header)
    return headers


def _validators_at(receipt: Receipt, genesis: Genesis, certified: Header) -> ValidatorSet:
    """Walk the changes from the genesis set; each is certified by the set before it, in order of height."""
    current = genesis.validator_set
    height = 0
    for change in receipt.changes:
        header = change.header
        if not height < header.height < certified.height:
            raise Refused("receipt.invalid", "the validator set changes are out of order")
        check_certified(header, change.certificate, current)
        try:
            following = ValidatorSet(change.validators)
        except ValueError as error:
            raise Refused("receipt.invalid", str(error)) from None
        if list(following.validators) != change.validators:
            raise Refused("receipt.invalid", "a validator set is not in the order of its keys")
        if following.hash == current.hash or header.next_validators_hash != following.hash:
            raise Refused(
                "receipt.invalid", f"the header at {header.height} does not hand over to the set given"
            )
        current, height = following, header.height
    return current


def _check_extension(header: Header, extension: Extension) -> None:
    proof = extension.proof
    if proof.index != header.height or proof.size != extension.header.height:
        raise Refused("receipt.invalid", "the history proof is for another height")
    if not verify_inclusion(
        leaf_hash(header.hash), proof.index, proof.size, proof.path, extension.header.history_root
    ):
        raise Refused("receipt.invalid", "the later header's history does not contain the receipt's header")


def _check_statement(statement: Statement, header: Header, chain_id: bytes) -> Proved:
    if isinstance(statement, TransactionStatement):
        return _check_transaction(statement, header, chain_id)
    if header.height == 0:
        raise Refused("receipt.invalid", "the genesis header certifies no execution")
    if isinstance(statement, VerdictStatement):
        return _check_verdict(statement, header, chain_id)
    if not verify_state(header.state_root, statement.key, statement.value, statement.proof):
        raise Refused("receipt.invalid", "the state proof does not lead to the header's state root")
    return Proved(
        "state",
        chain_id,
        header.height - 1,
        header.height,
        header.time_ms,
        key=statement.key,
        value=statement.value,
    )


def _check_transaction(statement: TransactionStatement, header: Header, chain_id: bytes) -> Proved:
    transaction = verify_transaction(statement.transaction, chain_id)
    inner, outer = statement.in_batch, statement.in_block
    if not 0 < inner.size <= BATCH_TRANSACTIONS_MAX or not 0 < outer.size <= BLOCK_BATCHES_MAX:
        raise Refused("receipt.invalid", "a Merkle path is longer than batches and blocks are")
    root = statement.transactions_root
    if not verify_inclusion(leaf_hash(statement.transaction), inner.index, inner.size, inner.path, root):
        raise Refused("receipt.invalid", "the transaction is not in the batch")
    digest = batch_digest(chain_id, statement.author, statement.sequence, root)
    if not verify_inclusion(leaf_hash(digest), outer.index, outer.size, outer.path, header.batches_root):
        raise Refused("receipt.invalid", "the batch is not in the block")
    return Proved(
        "transaction",
        chain_id,
        header.height,
        header.height,
        header.time_ms,
        transaction=transaction.value,
        transaction_id=transaction.id,
    )


def _check_verdict(statement: VerdictStatement, header: Header, chain_id: bytes) -> Proved:
    transaction = verify_transaction(statement.transaction, chain_id)
    leaf = codec.decode(statement.leaf, ReceiptLeaf, LEAF_BYTES_MAX)
    if leaf.transaction != transaction.id:
        raise Refused("receipt.invalid", "the verdict is on another transaction")
    proof = statement.proof
    if not verify_inclusion(
        leaf_hash(statement.leaf), proof.index, proof.size, proof.path, header.receipts_root
    ):
        raise Refused("receipt.invalid", "the verdict does not lead to the header's receipts root")
    return Proved(
        "verdict",
        chain_id,
        header.height - 1,
        header.height,
        header.time_ms,
        transaction=transaction.value,
        transaction_id=transaction.id,
        leaf=leaf,
    )
