"""A second signature inside an operation: a witness, a second person, an institution that countersigns.

Who attests signs the very body, as the sender will submit it, with the attestation itself left out. Every attested body
carries an id or a count that is used once, so an attestation serves once.
"""

from __future__ import annotations

from typing import Final

from consilium.contracts import identity
from consilium.contracts.teams import TEAMS
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, Tag, verify
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

_TAG: Final = Tag("consilium/attestation/1")


class Attestation(codec.Wire, frozen=True):
    """Who attests, with which of its keys, and the signature over `attestation_digest`."""

    identity: codec.Bytes16
    key: codec.Bytes32
    signature: codec.Bytes64


def attestation_digest(*, chain_id: bytes, sender: bytes, operation: str, body: codec.Wire) -> Digest:
    """What is signed (32 bytes): this operation with this body, without an attestation, by this sender."""
    return _TAG.digest(codec.encode((chain_id, sender, operation, codec.encode(body))))


def require_attested(
    attestation: Attestation, operation: str, bare: codec.Wire, context: OperationContext
) -> identity.Identity:
    """Who attests, if it stands and signed `bare`. Raises Refused `attestation.bad_signature`, `identity.*`."""
    problem = identity.key_standing(context.state, attestation.identity, attestation.key, context.time_ms)
    if problem is not None:
        raise Refused(problem, attestation.identity.hex())
    digest = attestation_digest(
        chain_id=context.chain_id, sender=context.sender, operation=operation, body=bare
    )
    if not verify(attestation.key, digest, attestation.signature):
        raise Refused("attestation.bad_signature", attestation.identity.hex())
    return identity.require(context.state, attestation.identity)


def require_other_institution(
    attestation: Attestation | None,
    operation: str,
    bare: codec.Wire,
    involved: tuple[bytes, ...],
    context: OperationContext,
) -> bytes:
    """The institution that countersigned; it is none of those involved, employs none of them, and formed no such team.

    An institution that speaks as its staff could else countersign itself.

    Raises Refused `attestation.missing`, `attestation.not_independent`, and as `require_attested`.
    """
    if attestation is None:
        raise Refused("attestation.missing", operation)
    who = require_attested(attestation, operation, bare, context)
    if who.kind != identity.INSTITUTION or any(
        attestation.identity in _sides(context.state, one) for one in involved
    ):
        raise Refused("attestation.not_independent", attestation.identity.hex())
    return attestation.identity


def _sides(state: StateReader, who: bytes) -> tuple[bytes | None, ...]:
    """Who somebody is, and whose: an employer, or the institution that formed a team."""
    team = TEAMS.get(state, who)
    return (who, institution_of(state, who) if team is None else team.owner)


def institution_of(state: StateReader, who: bytes) -> bytes | None:
    """The institution that somebody is, or works for; None for a patient, or for nobody known."""
    known = identity.IDENTITIES.get(state, who)
    if known is None or known.kind == identity.PATIENT:
        return None
    return who if known.kind == identity.INSTITUTION else known.sponsor
