"""Receipts: one file proves one fact to somebody who has the genesis file and nothing else.

This module verifies receipts and cannot build them. A fact hangs below a header by hashes. That header, or a later one
whose history root contains it, is sealed by a quorum of the validators of its height; and their set is the genesis
document's, or follows from it by changes that each set sealed for the next. A verifier who trusts a header of the
chain already (from a newspaper, say) can name its hash: then the receipt must rest on that one too.

The format is in docs/receipts.md. Every byte of a receipt is signed over, hashed over or checked for equality, so a
receipt with any byte changed does not verify.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

from consilium.ledger import codec
from consilium.ledger.batch import batch_digest
from consilium.ledger.block import BLOCK_VERSION, CommitCertificate, Header, Seal, check_certified
from consilium.ledger.crypto import SIGNATURE_BYTES
from consilium.ledger.errors import Refused
from consilium.ledger.execution import LEAF_BYTES_MAX, ReceiptLeaf
from consilium.ledger.genesis import Genesis
from consilium.ledger.merkle import leaf_hash, node_hash
from consilium.ledger.receipt_format import (
    Extension,
    MerklePath,
    Receipt,
    Sealing,
    SetChange,
    Statement,
    StateStatement,
    TransactionStatement,
    VerdictStatement,
    decode_receipt,
)
from consilium.ledger.transaction import Transaction, verify_transaction
from consilium.ledger.trie_proof import verify_state
from consilium.ledger.validators import VALIDATORS_MAX, Validator, ValidatorSet

__all__ = ["Proved", "decode_receipt", "verify_receipt"]


@dataclass(frozen=True, slots=True)
class Proved:
    """What a receipt proves, and what it rests on.

    `height` is the block that the fact is about; `certified_height` and `time_ms` are those of the header that commits
    to it: for verdicts and state the next block, so state is proved as of that instant, before that block's own
    transactions. `transaction` is None for state; `leaf` is set for verdicts; `key` and `value` for state (a value of
    None: no such key). `top_height` is the newest header's; `set_changes` counts the validator set changes on the
    way; `trusted_height` is that of the verifier's trusted header, None where only genesis was trusted.
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
    top_height: int = 0
    set_changes: int = 0
    trusted_height: int | None = None


def verify_receipt(raw: bytes, genesis: Genesis, trusted: bytes | None = None) -> Proved:
    """Check a receipt with the genesis document alone: no node, no network, no clock.

    `trusted` is the hash (32 bytes) of a header that the verifier knows to be the chain's: the receipt must then rest
    on that header, and on no seal before it alone.

    Raises Refused `codec.*`, `receipt.wrong_version`, `receipt.wrong_chain`, `receipt.untrusted`, `receipt.invalid`.
    """
    receipt = decode_receipt(raw)
    chain_id = genesis.chain_id
    for header in _headers(receipt):
        if header.chain_id != chain_id:
            raise Refused("receipt.wrong_chain", f"it is of chain {header.chain_id.hex()[:16]}…")
        if header.version != BLOCK_VERSION:
            raise Refused("receipt.invalid", f"a header has version {header.version}; known: {BLOCK_VERSION}")
    trusted_height = _check_trust(receipt, trusted)
    try:
        if receipt.sealing is not None:
            _check_sealed(receipt.top, receipt.sealing, _validators_of_top(receipt, genesis))
        if receipt.extension is not None:
            _check_extension(receipt.header, receipt.extension)
        proved = _check_statement(receipt.statement, receipt.header, chain_id)
    except Refused as refusal:
        raise Refused("receipt.invalid", refusal.detail or refusal.entry.cause) from None
    return dataclasses.replace(
        proved,
        top_height=receipt.top.height,
        set_changes=len(receipt.changes),
        trusted_height=trusted_height,
    )


def _headers(receipt: Receipt) -> list[Header]:
    """Every header in the receipt, in no order that matters."""
    headers = [receipt.header, *(change.header for change in receipt.changes)]
    if receipt.extension is not None:
        headers.append(receipt.extension.header)
    if receipt.start is not None:
        headers.append(receipt.start.header)
    return headers


def _check_trust(receipt: Receipt, trusted: bytes | None) -> int | None:
    """Whether the receipt rests on the header that the verifier trusts. Returns that one's height."""
    if receipt.sealing is None:
        if receipt.start is not None or receipt.changes:
            raise Refused("receipt.invalid", "it has no seals, and yet says whose they would be")
        needed = receipt.top
    elif receipt.start is not None:
        needed = receipt.start.header
    elif trusted is None:
        return None
    else:
        found = next((header for header in _headers(receipt) if header.hash == trusted), None)
        if found is None:
            raise Refused("receipt.untrusted", "the trusted header is not among those that it rests on")
        return found.height
    if trusted is None or needed.hash != trusted:
        raise Refused(
            "receipt.untrusted", f"it rests on the header {needed.hash.hex()} at height {needed.height}"
        )
    return needed.height


def _validators_of_top(receipt: Receipt, genesis: Genesis) -> ValidatorSet:
    """Walk from the genesis set, or from the trusted start, over the changes, in order of height."""
    current, height = genesis.validator_set, 0
    if receipt.start is not None:
        current, height = _set_in_order(receipt.start.validators), receipt.start.header.height
        if current.hash != receipt.start.header.next_validators_hash:
            raise Refused("receipt.invalid", "the trusted header does not hand over to the set given")
        if height >= receipt.top.height:
            raise Refused("receipt.invalid", "the trusted header is not below the one that is sealed")
    for change in receipt.changes:
        if not height < change.header.height < receipt.top.height:
            raise Refused("receipt.invalid", "the validator set changes are out of order")
        _check_sealed(change.header, change.sealing, current)
        current, height = set_after(current, change), change.header.height
    return current


def _set_in_order(validators: list[Validator]) -> ValidatorSet:
    if any(later.key <= earlier.key for earlier, later in itertools.pairwise(validators)):
        raise Refused("receipt.invalid", "a validator set is not in the order of its keys")
    return ValidatorSet(validators)


def set_after(before: ValidatorSet, change: SetChange) -> ValidatorSet:
    """The set that a change hands over to. Raises Refused `receipt.invalid`."""
    removed, added = change.removed, change.added
    if not removed and not added:
        raise Refused("receipt.invalid", "a validator set change changes nothing")
    if any(later <= earlier for earlier, later in itertools.pairwise(removed)):
        raise Refused("receipt.invalid", "the removed validators are not in order")
    if removed and removed[-1] >= before.n:
        raise Refused("receipt.invalid", f"validator {removed[-1]} of {before.n} is removed")
    if any(validator in before.validators for validator in added):
        raise Refused("receipt.invalid", "a validator is added that was there")
    kept = [validator for place, validator in enumerate(before.validators) if place not in removed]
    if added:
        _set_in_order(added)
    if not 1 <= len(kept) + len(added) <= VALIDATORS_MAX:
        raise Refused("receipt.invalid", f"a set of {len(kept) + len(added)} validators")
    following = _set_in_order(sorted([*kept, *added], key=lambda validator: validator.key))
    if change.header.next_validators_hash != following.hash:
        raise Refused(
            "receipt.invalid", f"the header at {change.header.height} does not hand over to the set given"
        )
    return following


def certificate_of(header: Header, sealing: Sealing) -> CommitCertificate:
    """Put the certificate of a header together again. Raises Refused `receipt.invalid`; its seals are not checked."""
    places = [place for place in range(sealing.sealers.bit_length()) if sealing.sealers >> place & 1]
    if sealing.sealers >> VALIDATORS_MAX or len(sealing.signatures) != len(places) * SIGNATURE_BYTES:
        raise Refused("receipt.invalid", "the signatures are not as many as the sealers")
    seals = [
        Seal(place, sealing.signatures[number * SIGNATURE_BYTES : (number + 1) * SIGNATURE_BYTES])
        for number, place in enumerate(places)
    ]
    return CommitCertificate(header.height, sealing.view, header.hash, seals)


def _check_sealed(header: Header, sealing: Sealing, validators: ValidatorSet) -> None:
    check_certified(header, certificate_of(header, sealing), validators)


def _check_extension(header: Header, extension: Extension) -> None:
    if extension.header.height <= header.height:
        raise Refused("receipt.invalid", "the later header is not later")
    if _root_above(header.hash, extension.in_history) != extension.header.history_root:
        raise Refused("receipt.invalid", "the later header's history does not contain the receipt's header")


def _root_above(leaf: bytes, path: MerklePath) -> bytes:
    """The root that the path leads to from the leaf's data. Raises Refused where it is no path."""
    if path.left >> len(path.siblings):
        raise Refused("receipt.invalid", "a Merkle path has sides beyond its end")
    running = leaf_hash(leaf)
    for place, sibling in enumerate(path.siblings):
        left = path.left >> place & 1
        if left and sibling == running:
            # Over two equal halves both sides are true: the right one is the rule.
            raise Refused("receipt.invalid", "a Merkle path has its own hash on the left")
        running = node_hash(sibling, running) if left else node_hash(running, sibling)
    return running


def _check_statement(statement: Statement, header: Header, chain_id: bytes) -> Proved:
    if isinstance(statement, TransactionStatement):
        return _check_transaction(statement, header, chain_id)
    if header.height == 0:
        raise Refused("receipt.invalid", "the genesis header certifies no execution")
    if isinstance(statement, VerdictStatement):
        return _check_verdict(statement, header, chain_id)
    return _check_state(statement, header, chain_id)


def _check_transaction(statement: TransactionStatement, header: Header, chain_id: bytes) -> Proved:
    transaction = verify_transaction(statement.transaction, chain_id)
    root = _root_above(statement.transaction, statement.in_batch)
    batch = batch_digest(chain_id, statement.author, statement.sequence, root)
    if _root_above(batch, statement.in_block) != header.batches_root:
        raise Refused("receipt.invalid", "the transaction does not lead to the header's batches root")
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
    if _root_above(statement.leaf, statement.in_block) != header.receipts_root:
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


def _check_state(statement: StateStatement, header: Header, chain_id: bytes) -> Proved:
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
