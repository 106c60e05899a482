"""What an accredited institution does: it issues credentials to others, and takes them back.

A licence that is to break a glass is bound to a key that its issuer saw in the person's own hand: that key signs
for the credential (`prove_holder`) while the person stands there, or has shown otherwise who it is.
"""

from __future__ import annotations

from typing import NamedTuple

from consilium.client.rpc import Committed
from consilium.client.session import Session, new_id
from consilium.client.wallet import Wallet
from consilium.contracts import credentials


class Holder(NamedTuple):
    """The key that a credential is bound to, and its signature: for this credential, of this issuer, of this
    subject."""

    key: bytes
    proof: bytes


def prove_holder(
    chain_id: bytes, issuer: bytes, credential: bytes, holder: Wallet, subject: bytes | None = None
) -> Holder:
    """Sign for a credential to come. `subject` is whom the wallet's key speaks for (default: its own identity)."""
    digest = credentials.holder_digest(
        chain_id=chain_id, issuer=issuer, credential=credential, subject=subject or holder.identity
    )
    return Holder(holder.signing.public, holder.signing.sign(digest))


async def issue(
    session: Session,
    subject: bytes,
    kind: credentials.CredentialKind,
    not_after_ms: int,
    *,
    holder: Holder | Wallet | None = None,
    identifier: bytes | None = None,
) -> tuple[bytes, Committed]:
    """Issue a credential, as an institution with the role *issuer*. Returns its id (16 bytes).

    `holder` is the subject's wallet, where it is at hand, or what it signed for the credential `identifier`.
    """
    credential = identifier or new_id()
    if isinstance(holder, Wallet):
        holder = prove_holder(session.chain_id, session.identity, credential, holder, subject)
    body = credentials.IssueCredential(
        credential=credential,
        subject=subject,
        kind=kind,
        not_after=not_after_ms,
        holder=None if holder is None else holder.key,
        proof=None if holder is None else holder.proof,
    )
    return credential, await session.act("credential.issue", body)


async def revoke(session: Session, credential: bytes) -> Committed:
    """Take a credential back: from that block on it is worth nothing."""
    return await session.act("credential.revoke", credentials.RevokeCredential(credential))


async def credential_of(session: Session, credential: bytes) -> credentials.Credential | None:
    """A credential as certified state has it."""
    return await session.state(credentials.CREDENTIALS, credential)
