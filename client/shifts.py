"""Session keys: an institution logs a practitioner in, and a fresh wallet speaks for the practitioner until then."""

from __future__ import annotations

from consilium.client.rpc import Committed
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts import sessions


async def begin(session: Session, practitioner: bytes, shift: Wallet, not_after_ms: int) -> Committed:
    """Let the shift's wallet speak for an employee until then (at most twelve hours), as the employer.

    The practitioner then acts in `Session(rpc, genesis, shift, sender=practitioner)`.
    """
    digest = sessions.session_digest(
        chain_id=session.chain_id,
        institution=session.identity,
        practitioner=practitioner,
        key=shift.signing.public,
        not_after=not_after_ms,
    )
    body = sessions.BeginSession(practitioner, shift.signing.public, not_after_ms, shift.signing.sign(digest))
    return await session.act("session.begin", body, certified=True)


async def end(session: Session, practitioner: bytes, key: bytes) -> Committed:
    """End a session key before its time, as the employer or the practitioner."""
    return await session.act("session.end", sessions.EndSession(practitioner, key))
