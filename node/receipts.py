"""Building receipts from the store: the half that `ledger/receipt.py`, which verifies them, does not know.

Everything here is read from committed blocks; a receipt of what the next header has not certified yet is refused.
`since` is always the height of a header that the verifier trusts, None where it is genesis: the receipt then starts
there, or hangs from it without any seal, where it is the later one. Calls block for the disk: make them from a thread.
"""

from __future__ import annotations

from consilium.ledger import codec
from consilium.ledger.batch import BATCH_BYTES_MAX, Batch
from consilium.ledger.block import CommitCertificate, Header
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.genesis import Genesis
from consilium.ledger.merkle import InclusionProof, inclusion_proof, leaf_hash, node_hash
from consilium.ledger.receipt import verify_receipt
from consilium.ledger.receipt_format import (
    NO_CHECKSUM,
    RECEIPT_VERSION,
    SET_CHANGES_MAX,
    Extension,
    MerklePath,
    Receipt,
    Sealing,
    SetChange,
    Start,
    Statement,
    StateStatement,
    TransactionStatement,
    VerdictStatement,
    decode_receipt,
    encode_receipt,
)
from consilium.ledger.transaction import TRANSACTION_BYTES_MAX, Transaction, transaction_id
from consilium.ledger.validators import ValidatorSet
from consilium.storage.chain import ChainStore, Place


class ReceiptBuilder:
    """Receipts of one chain."""

    def __init__(self, store: ChainStore, genesis: Genesis) -> None:
        self._store = store
        self._genesis = genesis
        self._changes: dict[int, SetChange] = {}

    def transaction(self, transaction: bytes, since: int | None = None) -> bytes:
        """That a transaction is in a block.

        Raises Refused `transaction.unknown`, `chain.before_snapshot`, and as `state` for `since`.
        """
        place = self._place(transaction)
        header = self._store.header(place.height)
        digests = self._store.block(place.height).batches
        batch_index, batch, index = self._find(transaction, place.height)
        signed = batch.transactions[index]
        statement = TransactionStatement(
            transaction=signed,
            author=batch.author,
            sequence=batch.sequence,
            in_batch=merkle_path(signed, inclusion_proof(batch.transactions, index)),
            in_block=merkle_path(digests[batch_index], inclusion_proof(digests, batch_index)),
        )
        return self._receipt(statement, header, None, since)

    def verdict(self, transaction: bytes, since: int | None = None) -> bytes:
        """What became of a transaction.

        Raises Refused `transaction.unknown`, `receipt.not_certified`, and as `state` for `since`.
        """
        place = self._place(transaction)
        header = self._certifying(place.height)
        leaves = self._store.leaves(place.height)
        _, batch, index = self._find(transaction, place.height)
        statement = VerdictStatement(
            transaction=batch.transactions[index],
            leaf=leaves[place.index],
            in_block=merkle_path(leaves[place.index], inclusion_proof(leaves, place.index)),
        )
        return self._receipt(statement, header, None, since)

    def state(self, key: bytes, height: int | None, since: int | None = None) -> bytes:
        """That a key held its value, or none, after `height` (None: the newest certified).

        Raises Refused `receipt.not_certified`, `chain.height_pruned`, `chain.unknown_height`,
        `receipt.too_many_changes`.
        """
        height = self._store.tip.height - 1 if height is None else height
        header = self._certifying(height)
        value, proof = self._store.prove(key, height)
        return self._receipt(StateStatement(key, value, proof), header, None, since)

    def extend(self, raw: bytes, to_height: int | None = None, since: int | None = None) -> bytes:
        """The same fact, hung from the header at `to_height` (None: from the trusted one, else from the tip).

        The receipt comes from elsewhere: it is checked before it is given back. Raises Refused `codec.*`,
        `receipt.wrong_version`, `receipt.wrong_chain`, `receipt.invalid`, `receipt.cannot_extend`,
        `receipt.too_many_changes`, `chain.unknown_height`, `chain.height_pruned`.
        """
        receipt = decode_receipt(raw)
        header = receipt.header
        if header.chain_id != self._genesis.chain_id:
            raise Refused("receipt.wrong_chain", f"it is of chain {header.chain_id.hex()[:16]}…")
        if header.height > self._store.tip.height or self._store.header(header.height) != header:
            raise Refused("receipt.invalid", f"its header at {header.height} is not this chain's")
        if to_height is None:
            to_height = self._store.tip.height if since is None else max(since, header.height)
        if to_height < header.height:
            raise Refused("receipt.cannot_extend", f"its header is at {header.height}, above {to_height}")
        extended = self._receipt(receipt.statement, header, to_height, since)
        trusted = None if since is None else self._store.header(since).hash
        verify_receipt(extended, self._genesis, trusted)
        return extended

    def _place(self, transaction: bytes) -> Place:
        place = self._store.place_of(transaction)
        if place is None and self._store.base:
            raise Refused(
                "chain.before_snapshot",
                f"{transaction.hex()}; transactions are known after {self._store.base}",
            )
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
                if transaction_id(codec.decode(signed, Transaction, TRANSACTION_BYTES_MAX)) == transaction:
                    return batch_index, batch, index
        raise InvariantBroken(f"transaction {transaction.hex()} is indexed at {height}, and not there")

    def _receipt(
        self, statement: Statement, header: Header, to_height: int | None, since: int | None
    ) -> bytes:
        """Hang a statement from the header at `to_height`; from its own, or a later trusted one, where None."""
        if to_height is None:
            to_height = header.height if since is None else max(header.height, since)
        top, extension = header, None
        if to_height != header.height:
            top = self._store.header(to_height)
            proof = self._store.history_proof(header.height, to_height)
            extension = Extension(top, merkle_path(header.hash, proof))
        if since is not None and since > to_height:
            raise Refused("receipt.cannot_extend", f"the trusted header is at {since}, above {to_height}")
        sealing, start = None, None
        changes: list[SetChange] = []
        if since != to_height:  # under a header that is trusted itself, nothing needs a seal
            sealing = self._sealing(to_height)
            start = None if since is None else self._start(since)
            changes = self._set_changes(0 if since is None else since, to_height)
        return encode_receipt(
            Receipt(RECEIPT_VERSION, statement, header, extension, sealing, start, changes, NO_CHECKSUM)
        )

    def _start(self, height: int) -> Start:
        header = self._store.header(height)
        return Start(header, list(self._store.validators(header.next_validators_hash).validators))

    def _sealing(self, height: int) -> Sealing:
        return sealing_at(self._store, height)

    def _set_changes(self, after: int, before: int) -> list[SetChange]:
        """The changes strictly between two heights, oldest first."""
        heights = self._store.set_changes(after, before)
        if len(heights) > SET_CHANGES_MAX:
            raise Refused("receipt.too_many_changes", f"{len(heights)} changes; at most {SET_CHANGES_MAX}")
        for height in heights:
            if height not in self._changes:
                self._changes[height] = self._set_change(height)
        return [self._changes[height] for height in heights]

    def _set_change(self, height: int) -> SetChange:
        return set_change_at(self._store, height)


def merkle_path(leaf: bytes, proof: InclusionProof) -> MerklePath:
    """The inclusion proof of a leaf's data in the form that receipts have: sides instead of place and length."""
    running, place, last, left = leaf_hash(leaf), proof.index, proof.size - 1, 0
    for level, sibling in enumerate(proof.path):
        while place == last and not place & 1:  # levels where this node rose without a sibling
            place, last = place >> 1, last >> 1
        if place & 1 and sibling != running:  # beside an equal sibling, the right side is the rule
            left |= 1 << level
        running = node_hash(sibling, running) if place & 1 else node_hash(running, sibling)
        place, last = place >> 1, last >> 1
    return MerklePath(left, list(proof.path))


def sealing_of(certificate: CommitCertificate) -> Sealing:
    """A certificate in the form that receipts have."""
    sealers = sum(1 << seal.validator for seal in certificate.seals)
    return Sealing(certificate.view, sealers, b"".join(seal.signature for seal in certificate.seals))


def sealing_at(store: ChainStore, height: int) -> Sealing:
    """The sealing of a height. Raises Refused `receipt.not_certified`, `chain.*`."""
    certificate = store.certificate(height)
    if certificate is None:
        raise Refused("receipt.not_certified", "the genesis block has no certificate")
    return sealing_of(certificate)


def set_change_at(store: ChainStore, height: int) -> SetChange:
    """The change of the validator set that the header at `height` hands over by. Raises Refused `chain.*`."""
    header = store.header(height)
    before = store.validators(header.validators_hash)
    following = store.validators(header.next_validators_hash)
    return set_change(header, sealing_at(store, height), before, following)


def set_change(header: Header, sealing: Sealing, before: ValidatorSet, following: ValidatorSet) -> SetChange:
    """What a header that hands over to another set says, as a difference."""
    kept = frozenset(following.validators)
    there = frozenset(before.validators)
    return SetChange(
        header,
        sealing,
        [place for place, validator in enumerate(before.validators) if validator not in kept],
        [validator for validator in following.validators if validator not in there],
    )
