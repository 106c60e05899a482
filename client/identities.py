"""What somebody does about identities: keys that are added and revoked, staff that is suspended and reinstated.

Enrolling is `recording.enrol`. A key that is added speaks beside the first one; the id stays.
"""

from __future__ import annotations

from consilium.client.rpc import Committed
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts import identity


async def add_key(session: Session, newcomer: Wallet) -> Committed:
    """Let the key of another wallet speak for this session's identity too; that key signs that it wants to."""
    digest = identity.addition_digest(
        chain_id=session.chain_id, identity=session.identity, key=newcomer.signing.public
    )
    body = identity.AddKey(newcomer.signing.public, newcomer.signing.sign(digest))
    return await session.act("identity.add_key", body)


async def revoke_key(session: Session, key: bytes) -> Committed:
    """End one of this session's own keys, for ever. The last one stays."""
    return await session.act("identity.revoke_key", identity.RevokeKey(key))


async def suspend(session: Session, who: bytes) -> Committed:
    """Stop a practitioner or application that this institution enrolled."""
    return await session.act("identity.suspend", identity.Suspend(who))


async def reinstate(session: Session, who: bytes) -> Committed:
    """Let a suspended practitioner or application act again."""
    return await session.act("identity.reinstate", identity.Reinstate(who))
