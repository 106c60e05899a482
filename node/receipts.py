"""Building receipts from the store: the half that `ledger/receipt.py`, which verifies them, does not know.

Everything here is read from committed blocks; a receipt of what the next header has not certified yet is refused.
Calls block for the disk: make them from a thread.
"""

from __future__ import annotations

from consilium.ledger import codec
from consilium.ledger.batch import BATCH_BYTES_MAX, Batch
from consilium.ledger.block import CommitCertificate, Header
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.genesis import Genesis
from consilium.ledger.merkle import inclusion_proof, merkle_root
from consilium.ledger.receipt import (
    RECEIPT_VERSION,
    Receipt,
    SetChange,
    Statement,
    StateStatement,
    TransactionStatement,
    VerdictStatement,
)
from consilium.ledger.transaction import verify_transaction
from consilium.storage.chain import ChainStore, Place


class ReceiptBuilder:
    """Receipts of one chain."""

    def __init__(self, store: ChainStore, genesis: Genesis) -> None:
        self._store = store
        self._genesis = genesis
        self._changes: list[SetChange] = []
        self._scanned = 0

    def transaction(self, transaction: bytes) -> bytes:
        """That a transaction is in a block. Raises Refused `transaction.unknown`."""
        place = self._place(transaction)
        header = self._store.header(place.height)
        digests = self._store.block(place.height).batches
        batch_index, batch, index = self._find(transaction, place.height)
        statement = TransactionStatement(
            transaction=batch.transactions[index],
            author=batch.author,
            sequence=batch.sequence,
            transactions_root=merkle_root(batch.transactions),
            in_batch=inclusion_proof(batch.transactions, index),
            in_block=inclusion_proof(digests, batch_index),
        )
        return self._receipt(statement, header)

    def verdict(self, transaction: bytes) -> bytes:
        """What became of a transaction. Raises Refused `transaction.unknown`, `receipt.not_certified`."""
        place = self._place(transaction)
        header = self._certifying(place.height)
        leaves = self._store.leaves(place.height)
        _, batch, index = self._find(transaction, place.height)
        statement = VerdictStatement(
            transaction=batch.transactions[index],
            leaf=leaves[place.index],
            proof=inclusion_proof(leaves, place.index),
        )
        return self._receipt(statement, header)

    def state(self, key: bytes, height: int | None) -> bytes:
        """That a key held its value, or none, after `height` (None: the newest certified).

        Raises Refused `receipt.not_certified`, `chain.height_pruned`, `chain.unknown_height`.
        """
        height = self._store.tip.height - 1 if height is None else height
        header = self._certifying(height)
        value, proof = self._store.prove(key, height)
        return self._receipt(StateStatement(key, value, proof), header)

    def _place(self, transaction: bytes) -> Place:
        place = self._store.place_of(transaction)
        if place is None:
            raise Refused("transaction.unknown", transaction.hex())
        return place

    def _certifying(self, height: int) -> Header:
        if not 0 <= height < self._store.tip.height:
            raise Refused("receipt.not_certified", f"height {height}; the tip is {self._store.tip.height}")
        return self._store.header(height + 1)

    def _find(self, transaction: bytes, height: int) -> tuple[int, Batch, int]:
        """The batch of a block that holds a transaction, and its place there."""
        for batch_index, raw in enumerate(self._store.batches(height)):
            batch = codec.decode(raw, Batch, BATCH_BYTES_MAX)
            for index, signed in enumerate(batch.transactions):
                if verify_transaction(signed, self._genesis.chain_id).id == transaction:
                    return batch_index, batch, index
        raise InvariantBroken(f"transaction {transaction.hex()} is indexed at {height}, and not there")

    def _receipt(self, statement: Statement, header: Header) -> bytes:
        certificate = self._certificate(header.height)
        changes = [change for change in self._set_changes() if change.header.height < header.height]
        return codec.encode(Receipt(RECEIPT_VERSION, statement, header, None, certificate, changes))

    def _certificate(self, height: int) -> CommitCertificate:
        certificate = self._store.certificate(height)
        if certificate is None:
            raise Refused("receipt.not_certified", "the genesis block has no certificate")
        return certificate

    def _set_changes(self) -> list[SetChange]:
        """Headers that handed over to another validator set; each height is looked at once."""
        current: bytes = self._genesis.validator_set.hash
        if self._changes:
            current = self._changes[-1].header.next_validators_hash
        elif self._store.header(self._store.tip.height).next_validators_hash == current:
            return []  # Whatever happened between: the founders' set is the one that seals.
        for height in range(self._scanned + 1, self._store.tip.height + 1):
            header = self._store.header(height)
            if header.next_validators_hash != current:
                current = header.next_validators_hash
                following = self._store.validators(current)
                certificate = self._certificate(height)
                self._changes.append(SetChange(header, certificate, list(following.validators)))
            self._scanned = height
        return self._changes
