"""The signed envelope of 1..N operations, and the proof in the type that its signature was checked.

A transaction is atomic: all its operations take effect, or none. One signature covers them all, because verifying it
is the dearest step of a transaction's life. Whether a signature is good depends on the bytes alone (the key is in the
envelope); whether that key may speak for the sender is a verdict at execution, from committed state.

The id leaves the signature out: the same statement signed twice is one transaction, so it cannot be replayed with a
fresh signature. Batches commit to the whole bytes, signature included.
"""

from __future__ import annotations

from typing import Annotated, Final, Generic, TypeVar

import msgspec

from consilium.ledger import codec
from consilium.ledger.crypto import Digest, SigningKey, Tag, verify
from consilium.ledger.errors import Refused

TRANSACTION_VERSION: Final = 1
OPERATIONS_MAX: Final = 256
OPERATION_NAME_CHARS_MAX: Final = 48
OPERATION_BODY_BYTES_MAX: Final = 16 * 1024
TRANSACTION_BYTES_MAX: Final = 128 * 1024
VALIDITY_MAX_MS: Final = 10 * 60 * 1000
"""How far `valid_until` may lie ahead of the block that includes the transaction, and so how long ids are kept."""

_SIGNING_TAG: Final = Tag("consilium/transaction/1")
_IDENTITY_TAG: Final = Tag("consilium/identity/1")

_T = TypeVar("_T")


def identity_of(key: bytes) -> bytes:
    """The id (16 bytes) of the identity that is founded with this signing key; it outlives the key's rotation."""
    return _IDENTITY_TAG.digest(key)[:16]


class Operation(codec.Wire, frozen=True):
    """One act: the contract's name for it, and the canonical bytes of its body, which only that contract reads."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=OPERATION_NAME_CHARS_MAX)]
    body: Annotated[bytes, msgspec.Meta(max_length=OPERATION_BODY_BYTES_MAX)]


class Transaction(codec.Wire, frozen=True):
    """`valid_until` is block time, milliseconds since 1970 (UTC): the first instant at which it is refused."""

    version: codec.Uint
    chain_id: codec.Bytes32
    sender: codec.Bytes16
    key: codec.Bytes32
    nonce: codec.Bytes16
    valid_until: codec.Uint
    operations: Annotated[list[Operation], msgspec.Meta(min_length=1, max_length=OPERATIONS_MAX)]
    signature: codec.Bytes64


class Verified(Generic[_T]):
    """A value whose bytes were bounded, decoded and whose signature was checked. Only `verify_*` makes one."""

    __slots__ = ("id", "raw", "value")

    def __init__(self, value: _T, raw: bytes, identifier: Digest, *, _proof: object) -> None:
        if _proof is not _PROOF:
            raise TypeError("a Verified value is made by a verify function only")
        self.value: _T = value
        self.raw: bytes = raw
        self.id: Digest = identifier

    def __repr__(self) -> str:
        return f"Verified({type(self.value).__name__} {self.id.hex()[:12]})"


_PROOF: Final = object()


# The canonical bytes of a transaction and of its signed part differ in the length of the array, and in the signature
# at the end (bin 8: two bytes before its 64). So what was received need not be encoded again to be checked.
_UNSIGNED_HEAD: Final = b"\x97"
_SIGNATURE_FIELD_BYTES: Final = 2 + 64


def _signing_digest(transaction: Transaction) -> Digest:
    t = transaction
    return _SIGNING_TAG.digest(
        codec.encode(
            (
                t.version,
                t.chain_id,
                t.sender,
                t.key,
                t.nonce,
                t.valid_until,
                [(o.name, o.body) for o in t.operations],
            )
        )
    )


def transaction_id(transaction: Transaction) -> Digest:
    """The id: the digest that is signed. Says nothing of whether the signature is good."""
    return _signing_digest(transaction)


def sign_transaction(
    key: SigningKey,
    *,
    chain_id: bytes,
    sender: bytes,
    nonce: bytes,
    valid_until: int,
    operations: list[Operation],
) -> Verified[Transaction]:
    """Sign a transaction. `nonce` is 16 bytes that the caller drew at random.

    Raises Refused (`codec.*`, `transaction.no_operations`) where a limit is passed, so that nothing is signed that
    every node would refuse.
    """
    if not operations:
        raise Refused("transaction.no_operations")
    if len(operations) > OPERATIONS_MAX:
        raise Refused("codec.oversized", f"{len(operations)} operations; the limit is {OPERATIONS_MAX}")
    unsigned = Transaction(
        TRANSACTION_VERSION, chain_id, sender, key.public, nonce, valid_until, operations, bytes(64)
    )
    identifier = _signing_digest(unsigned)
    signed = msgspec.structs.replace(unsigned, signature=key.sign(identifier))
    raw = codec.encode(signed)
    # Decoding checks every bound that peers will check.
    codec.decode(raw, Transaction, TRANSACTION_BYTES_MAX)
    return Verified(signed, raw, identifier, _proof=_PROOF)


class Opened:
    """A transaction whose bytes were bounded and decoded, and whose signature nobody has checked yet."""

    __slots__ = ("id", "raw", "value")

    def __init__(self, value: Transaction, raw: bytes, identifier: Digest) -> None:
        self.value = value
        self.raw = raw
        self.id = identifier

    @property
    def claim(self) -> bytes:
        """What is to be checked: a claim as `crypto.verify_claims` takes it (128 bytes)."""
        return self.value.key + self.id + self.value.signature


def open_transaction(raw: bytes, chain_id: bytes) -> Opened:
    """Decode a transaction: all of `verify_transaction` but the signature. A few µs.

    Raises Refused: `codec.*`, `transaction.wrong_version`, `transaction.wrong_chain`.
    """
    transaction = codec.decode(raw, Transaction, TRANSACTION_BYTES_MAX)
    if transaction.version != TRANSACTION_VERSION:
        raise Refused(
            "transaction.wrong_version", f"version {transaction.version}; known: {TRANSACTION_VERSION}"
        )
    if transaction.chain_id != chain_id:
        raise Refused(
            "transaction.wrong_chain",
            f"signed for chain {transaction.chain_id.hex()[:16]}…, this is {chain_id.hex()[:16]}…",
        )
    return Opened(transaction, raw, _SIGNING_TAG.digest(_UNSIGNED_HEAD, raw[1:-_SIGNATURE_FIELD_BYTES]))


def verify_found(opened: Opened, good: bool) -> Verified[Transaction]:
    """The verified transaction, where `good` is what `crypto.verify_claims` found of its claim, wherever it ran.

    Raises Refused `transaction.bad_signature` where it is not.
    """
    if not good:
        raise Refused("transaction.bad_signature")
    return Verified(opened.value, opened.raw, opened.id, _proof=_PROOF)


def verify_transaction(raw: bytes, chain_id: bytes) -> Verified[Transaction]:
    """Decode and check a transaction as every node does. About 45 µs, most of it with the GIL released.

    Raises Refused: `codec.*`, `transaction.wrong_version`, `transaction.wrong_chain`, `transaction.bad_signature`.
    """
    opened = open_transaction(raw, chain_id)
    value = opened.value
    return verify_found(opened, verify(value.key, opened.id, value.signature))


def check_time(transaction: Transaction, block_time_ms: int) -> None:
    """Whether the transaction may be included at this block time. Raises Refused: expired, too_far_ahead."""
    if transaction.valid_until <= block_time_ms:
        raise Refused(
            "transaction.expired",
            f"valid until {transaction.valid_until} ms; block time is {block_time_ms} ms",
        )
    if transaction.valid_until > block_time_ms + VALIDITY_MAX_MS:
        raise Refused(
            "transaction.too_far_ahead",
            f"valid until {transaction.valid_until} ms; at most {block_time_ms + VALIDITY_MAX_MS} ms is allowed now",
        )
