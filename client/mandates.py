"""Legal mandates: issued by an authority, countersigned by another institution, withdrawn by who issued them."""

from __future__ import annotations

from collections.abc import Sequence

from consilium.client.attesting import attested
from consilium.client.rpc import Committed
from consilium.client.session import Session, new_id
from consilium.client.wallet import Wallet
from consilium.contracts import mandates


def mandate(
    patient: bytes,
    reader: bytes,
    purposes: Sequence[str],
    *,
    not_before_ms: int,
    not_after_ms: int,
    compartments: Sequence[bytes] | None = None,
) -> mandates.IssueMandate:
    """The body of a mandate, without its countersignature. `compartments` None means all."""
    named = None if compartments is None else list(compartments)
    return mandates.IssueMandate(
        new_id(), patient, reader, list(purposes), named, not_before_ms, not_after_ms, None
    )


async def issue(session: Session, body: mandates.IssueMandate, countersigner: Wallet) -> Committed:
    """Issue a mandate that another institution, not the reader's, countersigns here and now."""
    return await session.act("mandate.issue", attested(session, "mandate.issue", body, countersigner))


async def withdraw(session: Session, identifier: bytes) -> Committed:
    """Withdraw a mandate: from that block on it opens nothing."""
    return await session.act("mandate.withdraw", mandates.WithdrawMandate(identifier))
