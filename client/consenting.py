"""What a patient does: grant and revoke consent, look at what was granted and who asked."""

from __future__ import annotations

from collections.abc import Sequence

from consilium.client.rpc import Committed
from consilium.client.session import Session, new_id
from consilium.contracts import consent
from consilium.contracts.registry import operation


async def grant(
    session: Session,
    grantee: bytes,
    purposes: Sequence[str],
    *,
    not_before_ms: int,
    not_after_ms: int,
    compartments: Sequence[bytes] | None = None,
    effect: consent.Effect = "permit",
) -> tuple[bytes, Committed]:
    """Permit (or deny) a grantee to read for these purposes while not_before <= block time < not_after.

    `compartments` None means all. Returns the new consent's id and where it was committed.
    """
    identifier = new_id()
    body = consent.GrantConsent(
        consent=identifier,
        grantee=grantee,
        purposes=list(purposes),
        compartments=None if compartments is None else list(compartments),
        effect=effect,
        not_before=not_before_ms,
        not_after=not_after_ms,
    )
    return identifier, await session.submit([operation("consent.grant", body)])


async def revoke(session: Session, identifier: bytes) -> Committed:
    """Revoke a consent: from that block on nothing is decided, and nothing released, on its ground."""
    return await session.submit([operation("consent.revoke", consent.RevokeConsent(identifier))])
