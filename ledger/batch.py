"""Transactions travel and are agreed on in batches.

The node that seals a batch signs it, so that quotas can be held per author and a malformed batch has a name. The
digest is over the author, its sequence number and an RFC 6962 root of the transactions' raw bytes: a proof that a
transaction is in a batch is short, and a batch's digest fixes every byte of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from consilium.ledger import codec
from consilium.ledger.crypto import Digest, SigningKey, Tag, verify
from consilium.ledger.errors import Refused
from consilium.ledger.merkle import merkle_root
from consilium.ledger.transaction import TRANSACTION_BYTES_MAX, Transaction, Verified, verify_transaction

BATCH_VERSION: Final = 1
BATCH_TRANSACTIONS_MAX: Final = 512
BATCH_BYTES_MAX: Final = 1024 * 1024

_BATCH_TAG: Final = Tag("consilium/batch/1")
_BATCH_SIGNATURE_TAG: Final = Tag("consilium/batch-signature/1")


class Batch(codec.Wire, frozen=True):
    """`author` is the validator's key; `sequence` counts the author's batches and makes equal contents distinct."""

    version: codec.Uint
    chain_id: codec.Bytes32
    author: codec.Bytes32
    sequence: codec.Uint
    transactions: Annotated[
        list[Annotated[bytes, msgspec.Meta(max_length=TRANSACTION_BYTES_MAX)]],
        msgspec.Meta(min_length=1, max_length=BATCH_TRANSACTIONS_MAX),
    ]
    signature: codec.Bytes64

    def digest(self) -> Digest:
        """The batch's name in a block: 32 bytes. The signature is outside it."""
        return batch_digest(self.chain_id, self.author, self.sequence, merkle_root(self.transactions))


def batch_digest(chain_id: bytes, author: bytes, sequence: int, root: bytes) -> Digest:
    """The digest of a batch from its parts: what an inclusion proof ends in."""
    return _BATCH_TAG.digest(chain_id, author, sequence.to_bytes(8, "big"), root)


class VerifiedBatch:
    """A batch whose every signature was verified. Only `seal_batch` and `verify_batch` make one."""

    __slots__ = ("author", "digest", "raw", "transactions")

    def __init__(
        self,
        author: bytes,
        digest: Digest,
        raw: bytes,
        transactions: tuple[Verified[Transaction], ...],
        *,
        _proof: object,
    ) -> None:
        if _proof is not _PROOF:
            raise TypeError("a VerifiedBatch is made by verify_batch or seal_batch only")
        self.author = author
        self.digest = digest
        self.raw = raw
        self.transactions = transactions

    def __repr__(self) -> str:
        return f"VerifiedBatch({self.digest.hex()[:12]}, {len(self.transactions)} transactions)"


_PROOF: Final = object()


def seal_batch(
    key: SigningKey, chain_id: bytes, sequence: int, transactions: list[Verified[Transaction]]
) -> VerifiedBatch:
    """Make a batch of transactions that this node has verified. Raises Refused `codec.oversized` beyond the limits."""
    unsigned = Batch(BATCH_VERSION, chain_id, key.public, sequence, [t.raw for t in transactions], bytes(64))
    digest = unsigned.digest()
    batch = msgspec.structs.replace(unsigned, signature=key.sign(_BATCH_SIGNATURE_TAG.digest(digest)))
    raw = codec.encode(batch)
    if len(raw) > BATCH_BYTES_MAX or not 1 <= len(transactions) <= BATCH_TRANSACTIONS_MAX:
        raise Refused("codec.oversized", f"a batch of {len(transactions)} transactions, {len(raw)} bytes")
    return VerifiedBatch(key.public, digest, raw, tuple(transactions), _proof=_PROOF)


def open_batch(raw: bytes, chain_id: bytes) -> tuple[Batch, Digest]:
    """Decode a batch and check its author's signature, not yet its transactions. Raises Refused."""
    batch = codec.decode(raw, Batch, BATCH_BYTES_MAX)
    if batch.version != BATCH_VERSION or batch.chain_id != chain_id:
        raise Refused("batch.malformed", "another version or another chain")
    digest = batch.digest()
    if not verify(batch.author, _BATCH_SIGNATURE_TAG.digest(digest), batch.signature):
        raise Refused("batch.malformed", "the author's signature does not verify")
    return batch, digest


def verify_batch(
    raw: bytes, chain_id: bytes, known: dict[bytes, Verified[Transaction]] | None = None
) -> VerifiedBatch:
    """Decode a batch, check its author's signature and every transaction in it.

    `known` maps raw transaction bytes to what this node verified before, so that nothing is verified twice.
    Raises Refused: one bad transaction condemns the batch, because its author vouched for all of it.
    """
    return verify_opened(*open_batch(raw, chain_id), raw, known)


def verify_opened(
    batch: Batch, digest: Digest, raw: bytes, known: dict[bytes, Verified[Transaction]] | None = None
) -> VerifiedBatch:
    """As `verify_batch`, of what `open_batch` returned for the same bytes."""
    chain_id = batch.chain_id
    cache = known if known is not None else {}
    return batch_of(
        batch, digest, raw, [cache.get(t) or verify_transaction(t, chain_id) for t in batch.transactions]
    )


def batch_of(
    batch: Batch, digest: Digest, raw: bytes, transactions: Sequence[Verified[Transaction]]
) -> VerifiedBatch:
    """What `open_batch` returned for `raw`, with its transactions, each verified. Raises ValueError for others."""
    if [transaction.raw for transaction in transactions] != batch.transactions:
        raise ValueError("these are not the transactions of the batch")
    return VerifiedBatch(batch.author, digest, raw, tuple(transactions), _proof=_PROOF)
