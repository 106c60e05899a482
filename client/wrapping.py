"""The data key, wrapped to a point of the group: ECIES, with the author's proof of knowledge.

For a recipient `P = p · G` the author picks a secret `e` and sends `E = e · G`; the data key is encrypted under a hash
of `e · P`, which the recipient computes as `p · E`: the institution with its own secret, k custodians together without
ever joining theirs. The proof shows that whoever made the wrap knows `e`, for this record, recipient and header.
Without it an insider could copy a stranger's `E` into a record of their own, be allowed to read *that*, and receive
the `p · E` which opens the stranger's.

Sources: ISO/IEC 18033-2 (ECIES-KEM: hash shared secret and ephemeral together); Schnorr's proof as in `client.group`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from consilium.client import boxes, group
from consilium.client.envelope import Context, EnvelopeHead, SealedHeader, Wrap, header_digest, key_commitment
from consilium.ledger.crypto import Tag
from consilium.ledger.errors import Refused

_STATEMENT: Final = Tag("consilium/wrap-statement/1")


class Recipient(Enum):
    """Whom a wrap is for: each kind derives its keys under its own tag, so that one never passes for the other."""

    COMPARTMENT = Tag("consilium/wrap-compartment/1")
    AUTHOR = Tag("consilium/wrap-author/1")


def wrap_key(
    data_key: bytes, recipient: Recipient, point: bytes, context: Context, header: SealedHeader
) -> Wrap:
    """Wrap a data key (32 bytes) to `point`. Raises Refused `sealing.bad_point` for a point outside the group."""
    secret = group.random_scalar()
    ephemeral = group.multiply_base(secret)
    mask = _mask(recipient, group.multiply(secret, point), ephemeral, point, context)
    sealed = boxes.encrypt(mask, boxes.SINGLE_USE, data_key, context.digest())
    statement = _statement(recipient, point, sealed, key_commitment(data_key, context), header, context)
    return Wrap(ephemeral, sealed, group.prove_knowledge(secret, ephemeral, statement))


def verify_wrap(head: EnvelopeHead, recipient: Recipient, point: bytes, context: Context) -> None:
    """Raises Refused `sealing.bad_proof` unless the author of this head made its wrap, for this point and context."""
    wrap = _wrap_of(head, recipient)
    statement = _statement(recipient, point, wrap.sealed_key, head.key_commitment, head.header, context)
    if not group.verify_knowledge(wrap.point, statement, wrap.proof):
        raise Refused(
            "sealing.bad_proof", "the wrapped key was not made for this record, compartment and author"
        )


def unwrap_key(
    head: EnvelopeHead, recipient: Recipient, point: bytes, shared: bytes, context: Context
) -> bytes:
    """The data key, from `shared = p · E`.

    Raises Refused `sealing.damaged` when it does not open, or is not the key that the envelope commits to.
    """
    wrap = _wrap_of(head, recipient)
    mask = _mask(recipient, shared, wrap.point, point, context)
    data_key = boxes.decrypt(mask, boxes.SINGLE_USE, wrap.sealed_key, context.digest())
    if key_commitment(data_key, context) != head.key_commitment:
        raise Refused("sealing.damaged", "the wrapped key is not the one that the envelope commits to")
    return data_key


def _wrap_of(head: EnvelopeHead, recipient: Recipient) -> Wrap:
    return head.wrap if recipient is Recipient.COMPARTMENT else head.author_wrap


def _mask(recipient: Recipient, shared: bytes, ephemeral: bytes, point: bytes, context: Context) -> bytes:
    return recipient.value.digest(shared, ephemeral, point, context.digest())


def _statement(
    recipient: Recipient,
    point: bytes,
    sealed_key: bytes,
    commitment: bytes,
    header: SealedHeader,
    context: Context,
) -> bytes:
    kind = b"\x01" if recipient is Recipient.COMPARTMENT else b"\x02"
    return _STATEMENT.digest(context.digest(), kind, point, sealed_key, commitment, header_digest(header))
