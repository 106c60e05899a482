"""The format of receipts: the wire values that `ledger.receipt` checks. docs/receipts.md says what each byte is for.

Nothing here is redundant on purpose: what a header says is not said again beside it, so that no two fields can
disagree, and every byte is hashed, signed over or compared.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.ledger import codec
from consilium.ledger.block import Header
from consilium.ledger.crypto import DIGEST_BYTES, SIGNATURE_BYTES, Tag
from consilium.ledger.errors import Refused
from consilium.ledger.execution import LEAF_BYTES_MAX
from consilium.ledger.state import STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX
from consilium.ledger.transaction import TRANSACTION_BYTES_MAX
from consilium.ledger.trie_proof import TrieProof
from consilium.ledger.validators import VALIDATORS_MAX, Validator

RECEIPT_VERSION: Final = 1
SET_CHANGES_MAX: Final = 1_024
RECEIPT_BYTES_MAX: Final = 16 * 1024 * 1024
PATH_SIBLINGS_MAX: Final = 63
NO_CHECKSUM: Final = bytes(DIGEST_BYTES)

_CHECKSUM_TAG: Final = Tag("consilium/receipt/1")

RawTransaction = Annotated[bytes, msgspec.Meta(max_length=TRANSACTION_BYTES_MAX)]


class MerklePath(codec.Wire, frozen=True):
    """From a leaf up to a root: bit i of `left` is set where sibling i (the lowest is 0) stands on the left.

    It proves that the leaf is in the list and not at which place: an RFC 6962 root does not fix the list's length, so
    a place and a length beside the path could be changed without anybody noticing.
    """

    left: codec.Uint
    siblings: Annotated[list[codec.Bytes32], msgspec.Meta(max_length=PATH_SIBLINGS_MAX)]


class TransactionStatement(codec.Wire, frozen=True, tag="transaction"):
    """The transaction is in the block of the receipt's header: in a batch, which is in the block.

    Not that it took effect, nor even that it was executed: that is a verdict's to say.
    """

    transaction: RawTransaction
    author: codec.Bytes32
    sequence: codec.Uint
    in_batch: MerklePath
    in_block: MerklePath


class VerdictStatement(codec.Wire, frozen=True, tag="verdict"):
    """What became of the transaction at the height before the receipt's header: `leaf` is an encoded ReceiptLeaf."""

    transaction: RawTransaction
    leaf: Annotated[bytes, msgspec.Meta(max_length=LEAF_BYTES_MAX)]
    in_block: MerklePath


class StateStatement(codec.Wire, frozen=True, tag="state"):
    """The key held this value, or none, after the height before the receipt's header."""

    key: Annotated[bytes, msgspec.Meta(min_length=1, max_length=STATE_KEY_BYTES_MAX)]
    value: Annotated[bytes, msgspec.Meta(max_length=STATE_VALUE_BYTES_MAX)] | None
    proof: TrieProof


Statement = TransactionStatement | VerdictStatement | StateStatement


class Sealing(codec.Wire, frozen=True):
    """A commit certificate without what the header beside it says.

    Bit i of `sealers` is set where validator i sealed, in the set's order; `signatures` are theirs, in that order, one
    after the other.
    """

    view: codec.Uint
    sealers: codec.Uint
    signatures: Annotated[bytes, msgspec.Meta(max_length=VALIDATORS_MAX * SIGNATURE_BYTES)]


class SetChange(codec.Wire, frozen=True):
    """A header, sealed by the set before it, that hands over to another: without `removed` (places in the set before,
    ascending), and with `added` (ascending by key)."""

    header: Header
    sealing: Sealing
    removed: Annotated[
        list[Annotated[int, msgspec.Meta(ge=0, lt=VALIDATORS_MAX)]], msgspec.Meta(max_length=VALIDATORS_MAX)
    ]
    added: Annotated[list[Validator], msgspec.Meta(max_length=VALIDATORS_MAX)]


class Start(codec.Wire, frozen=True):
    """A header that the verifier must trust already, and the set that it hands over to, in the order of keys."""

    header: Header
    validators: Annotated[list[Validator], msgspec.Meta(min_length=1, max_length=VALIDATORS_MAX)]


class Extension(codec.Wire, frozen=True):
    """A later header whose history root contains the receipt's header."""

    header: Header
    in_history: MerklePath


class Receipt(codec.Wire, frozen=True):
    """`sealing` is of the *top*: the extension's header where there is one, else `header`.

    `changes` lead, oldest first, from the genesis set (or the set of `start`) to the set that sealed the top. Without
    a sealing the verifier must trust the top itself, and there is neither a start nor changes.

    `checksum` is over all bytes before it. It keeps nobody from lying: it is there for damage that would make another
    true statement, since a proof that one key is absent may prove it of a neighbour, too.
    """

    version: codec.Uint
    statement: Statement
    header: Header
    extension: Extension | None
    sealing: Sealing | None
    start: Start | None
    changes: Annotated[list[SetChange], msgspec.Meta(max_length=SET_CHANGES_MAX)]
    checksum: codec.Bytes32

    @property
    def top(self) -> Header:
        """The newest header: the one that the receipt hangs from."""
        return self.header if self.extension is None else self.extension.header


def encode_receipt(receipt: Receipt) -> bytes:
    """The bytes of a receipt, with its checksum put right."""
    return _with_checksum(codec.encode(receipt))


def decode_receipt(raw: bytes) -> Receipt:
    """Decode a receipt file. Raises Refused `codec.*`, `receipt.wrong_version`, `receipt.invalid` (damaged)."""
    if len(raw) > 1 and 0x91 <= raw[0] <= 0x9F and raw[1] < 0x80 and raw[1] != RECEIPT_VERSION:
        # An array that starts with a small number: another version's receipt may have any other shape behind it.
        raise Refused("receipt.wrong_version", f"version {raw[1]}; known: {RECEIPT_VERSION}")
    receipt = codec.decode(raw, Receipt, RECEIPT_BYTES_MAX)
    if receipt.version != RECEIPT_VERSION:
        raise Refused("receipt.wrong_version", f"version {receipt.version}; known: {RECEIPT_VERSION}")
    if _with_checksum(raw) != raw:
        raise Refused("receipt.invalid", "the checksum is wrong: the file was damaged or changed")
    return receipt


def _with_checksum(raw: bytes) -> bytes:
    """The checksum is the last field: two bytes of MessagePack, then 32."""
    return raw[:-DIGEST_BYTES] + _CHECKSUM_TAG.digest(raw[: -DIGEST_BYTES - 2])
