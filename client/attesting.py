"""Acts that take two: what one signs as sender, and another beside it, on one computer or on two.

A *draft* is such an act before the second signature: a small file that goes to who attests, who sees in words what it
says, signs, and sends it back. The sender then submits it. It carries no secret.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from consilium.client.rpc import Committed
from consilium.client.rpc_values import Hex16, Hex32, Hex64, decode_json, encode_json
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts import registry, words
from consilium.contracts.attestation import Attestation, attestation_digest
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import OPERATION_BODY_BYTES_MAX

DRAFT_FORMAT: Final = "consilium-draft/1"
DRAFT_BYTES_MAX: Final = 64 * 1024

FIELDS: Final[dict[str, str]] = {
    "consent.grant": "countersignature",
    "emergency.declare": "second",
    "mandate.issue": "countersignature",
    "representation.appoint": "countersignature",
    "treatment.attest": "witness",
}
"""Where each operation that takes two has its second signature."""


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An `Attestation` in hexadecimal."""

    identity: Hex16
    key: Hex32
    signature: Hex64


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An operation and its body, without the attestation, which is beside it once it was given."""

    format: str
    chain_id: Hex32
    sender: Hex16
    operation: Annotated[str, msgspec.Meta(max_length=64)]
    body: Annotated[bytes, msgspec.Meta(max_length=OPERATION_BODY_BYTES_MAX)]
    attestation: Signature | None = None


def bare(operation: str, body: codec.Wire) -> codec.Wire:
    """The body without its attestation: what is attested."""
    return msgspec.structs.replace(body, **{FIELDS[operation]: None})


def attest(
    chain_id: bytes, sender: bytes, operation: str, body: codec.Wire, signer: Wallet, who: bytes | None = None
) -> Attestation:
    """Sign a body as a second person or institution. `who` is whom the wallet's key speaks for (default: its own)."""
    digest = attestation_digest(
        chain_id=chain_id, sender=sender, operation=operation, body=bare(operation, body)
    )
    return Attestation(who or signer.identity, signer.signing.public, signer.signing.sign(digest))


def attested(
    session: Session, operation: str, body: codec.Wire, signer: Wallet, who: bytes | None = None
) -> Any:
    """The body of an act of this session, with somebody's second signature in it."""
    signed = attest(session.chain_id, session.identity, operation, body, signer, who)
    return msgspec.structs.replace(body, **{FIELDS[operation]: signed})


def drafted(session: Session, operation: str, body: codec.Wire) -> Draft:
    """An act of this session that waits for its second signature."""
    raw = codec.encode(bare(operation, body))
    return Draft(DRAFT_FORMAT, Hex32(session.chain_id), Hex16(session.identity), operation, raw)


def sign_draft(draft: Draft, signer: Wallet, who: bytes | None = None) -> Draft:
    """The draft with the second signature in it."""
    signed = attest(bytes(draft.chain_id), bytes(draft.sender), draft.operation, _body(draft), signer, who)
    value = Signature(Hex16(signed.identity), Hex32(signed.key), Hex64(signed.signature))
    return msgspec.structs.replace(draft, attestation=value)


async def submit_draft(session: Session, draft: Draft) -> Committed:
    """Submit an attested draft as its sender. Raises Refused `attestation.missing`, `attestation.wrong_draft`."""
    if (bytes(draft.chain_id), bytes(draft.sender)) != (session.chain_id, session.identity):
        raise Refused("attestation.wrong_draft", "it was made by another sender, or for another network")
    if draft.attestation is None:
        raise Refused("attestation.missing", draft.operation)
    given = draft.attestation
    signed = Attestation(bytes(given.identity), bytes(given.key), bytes(given.signature))
    body = msgspec.structs.replace(_body(draft), **{FIELDS[draft.operation]: signed})
    return await session.act(draft.operation, body)


def describe_draft(draft: Draft) -> list[str]:
    """What a draft would do, in words. Raises Refused `attestation.wrong_draft`, `codec.*`."""
    return words.describe_operation(registry.operation(draft.operation, _body(draft)))


def draft_to_json(draft: Draft) -> bytes:
    """The file form of a draft."""
    return msgspec.json.format(encode_json(draft), indent=2) + b"\n"


def draft_from_json(raw: bytes) -> Draft:
    """A draft from its file. Raises Refused `attestation.wrong_draft`."""
    try:
        draft = decode_json(raw, Draft)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("attestation.wrong_draft", str(error)) from None
    if draft.format != DRAFT_FORMAT:
        raise Refused("attestation.wrong_draft", f"its format is not {DRAFT_FORMAT!r}")
    _body(draft)
    return draft


def _body(draft: Draft) -> codec.Wire:
    if draft.operation not in FIELDS:
        raise Refused("attestation.wrong_draft", f"{draft.operation[:64]!r} takes no second signature")
    kind = registry.default_registry().operations[draft.operation].body
    body: codec.Wire = codec.decode(draft.body, kind, OPERATION_BODY_BYTES_MAX)
    return bare(draft.operation, body)
