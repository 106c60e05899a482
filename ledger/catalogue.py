"""The one catalogue of expected errors: stable code, cause, what to do.

A code never changes its meaning and is never used again. `docs/errors.md` has a section for each, and a test fails
on a code without one. Keep each group sorted.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class CatalogueEntry(NamedTuple):
    """Why it happens and what the reader of the message can do."""

    cause: str
    remedy: str


def _entry(cause: str, remedy: str) -> CatalogueEntry:
    return CatalogueEntry(cause, remedy)


CATALOGUE: Final[dict[str, CatalogueEntry]] = {
    # agreement: blocks, batches, certificates, genesis
    "batch.malformed": _entry(
        "The batch is for another chain or version, or its author's signature does not verify.",
        "Report the author's node id to its institution: an honest node does not send this.",
    ),
    "block.malformed": _entry(
        "The block's parts do not match its header.",
        "Ask another node for the block; report the node that served this one.",
    ),
    "certificate.invalid": _entry(
        "The commit certificate is not exactly a quorum of valid seals for the block.",
        "Ask another node; report the node that served this one.",
    ),
    "genesis.malformed": _entry(
        "The genesis file is damaged, was changed, or is not a genesis file.",
        "Get the genesis file again from the network's founders, and compare the chain id with them.",
    ),
    # codec: bytes that are no value of the expected type
    "codec.malformed": _entry(
        "The bytes are not a value of the expected type.",
        "Encode the value with the codec that the documentation names, and send it again.",
    ),
    "codec.not_canonical": _entry(
        "The bytes decode, but are not the canonical encoding of their value.",
        "Use minimal MessagePack encodings: the shortest form of each integer, string and array.",
    ),
    "codec.oversized": _entry(
        "The bytes are longer than the named limit of their type.",
        "Split the value into smaller ones; the message names the limit.",
    ),
    # transaction: refused before it enters the mempool, or at execution
    "transaction.bad_signature": _entry(
        "The signature does not match the transaction and its key.",
        "Sign the transaction with the private half of the key that it carries.",
    ),
    "transaction.duplicate": _entry(
        "A transaction with this id is already known.",
        "Nothing is lost: ask for the receipt of the transaction's id.",
    ),
    "transaction.expired": _entry(
        "The block time has reached the transaction's valid_until.",
        "Sign it again with a later valid_until.",
    ),
    "transaction.no_operations": _entry(
        "The transaction has no operations.",
        "Put at least one operation into it.",
    ),
    "transaction.too_far_ahead": _entry(
        "valid_until lies further ahead of block time than VALIDITY_MAX_MS.",
        "Sign it again with an earlier valid_until, and check this computer's clock.",
    ),
    "transaction.unknown_operation": _entry(
        "No contract of this network knows the operation's name.",
        "Check the operation's name, and that the node runs the network's version.",
    ),
    "transaction.wrong_chain": _entry(
        "The transaction names another chain.",
        "Use this network's genesis file when you sign.",
    ),
    "transaction.wrong_version": _entry(
        "The transaction's version is not known here.",
        "Use a client of the same version as the network.",
    ),
    # identity
    "identity.key_not_authorised": _entry(
        "The key may not speak for the sender: it is unknown, revoked, or another identity's.",
        "Sign with a current key of the sender, or register the key first.",
    ),
    "identity.unknown": _entry(
        "No such identity is registered on this network.",
        "Register the identity first, and check the id.",
    ),
}
