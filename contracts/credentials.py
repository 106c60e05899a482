"""Credentials: what an accredited institution says about somebody, until when, and that it took it back.

A *licence* says that a practitioner may treat; a *part2* credential, that an institution or practitioner is a program
under 42 CFR Part 2, so that what it writes is about substance use; an *auditor* may see whom a
patient's records were disclosed to. Issuers are institutions with the role; nobody issues to itself or to its own
employees, because a licence that the employer issues protects nobody.

A licence may name a *holder*: a lasting key of the subject's, which the issuer saw in the subject's own hand (a card, a
phone) and which signed for it. The employer, who opens session keys at will, never has that key: where the word of the
person counts, and not that of the employer, this key must have signed.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from consilium.contracts import identity, keys
from consilium.contracts.attestation import institution_of
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, Tag, verify
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

CredentialKind = Literal["auditor", "licence", "part2"]
AUDITOR: Final = "auditor"
LICENCE: Final = "licence"

_HOLDER: Final = Tag("consilium/credential-holder/1")


class IssueCredential(codec.Wire, frozen=True):
    """`credential.issue`, and the data of `credential.issued`. `credential` is drawn at random.

    `holder` is a lasting key of the subject, and `proof` its signature over `holder_digest`; both or neither.
    """

    credential: codec.Bytes16
    subject: codec.Bytes16
    kind: CredentialKind
    not_after: codec.Uint
    holder: codec.Bytes32 | None
    proof: codec.Bytes64 | None


class RevokeCredential(codec.Wire, frozen=True):
    """`credential.revoke`: by its issuer. It is the data of `credential.revoked` as well."""

    credential: codec.Bytes16


class Credential(codec.Wire, frozen=True):
    """A credential in state, for ever. `revoked_ms` is None while it was not taken back, `holder` where no key is bound
    to it."""

    issuer: codec.Bytes16
    subject: codec.Bytes16
    kind: CredentialKind
    issued_ms: codec.Uint
    not_after: codec.Uint
    revoked_ms: codec.Uint | None
    holder: codec.Bytes32 | None


CREDENTIALS: Final = Slot(keys.CREDENTIAL, (ID_BYTES,), Credential, 192)
ISSUED: Final = EventKind("credential.issued", IssueCredential)
REVOKED: Final = EventKind("credential.revoked", RevokeCredential)


def holder_digest(*, chain_id: bytes, issuer: bytes, credential: bytes, subject: bytes) -> Digest:
    """What the holder's key signs (32 bytes), before its issuer's eyes: this credential, of this issuer, is mine."""
    return _HOLDER.digest(codec.encode((chain_id, issuer, credential, subject)))


def problem_of(state: StateReader, credential: bytes, subject: bytes, kind: str, time_ms: int) -> str | None:
    """None where the credential says so of the subject at that block time, else the code that says why not.

    Its issuer must stand and have the role still, and be another than whom the subject works for now.
    """
    known = CREDENTIALS.get(state, credential)
    if known is None or known.subject != subject or known.kind != kind:
        return "credential.unknown"
    if known.revoked_ms is not None:
        return "credential.revoked"
    if time_ms >= known.not_after:
        return "credential.expired"
    issuer = identity.IDENTITIES.get(state, known.issuer)
    if (
        issuer is None
        or identity.standing(state, known.issuer) is not None
        or identity.ISSUER not in issuer.roles
    ):
        return "credential.issuer_not_accredited"
    if institution_of(state, subject) == known.issuer:
        return "credential.own_employee"
    return None


def require_held(
    state: StateReader,
    credential: bytes,
    subject: bytes,
    key: bytes,
    employers: tuple[bytes | None, ...],
    time_ms: int,
) -> None:
    """A licence of the subject's, bound to the very key that signed, by an issuer that is none of the employers.

    Raises Refused `credential.*`.
    """
    problem = problem_of(state, credential, subject, LICENCE, time_ms)
    if problem is not None:
        raise Refused(problem, credential.hex())
    known = CREDENTIALS.get(state, credential)
    if known is None or known.holder != key:
        raise Refused("credential.key_not_bound", key.hex())
    if known.issuer in employers:
        raise Refused("credential.issuer_not_independent", known.issuer.hex())


def _issue(body: IssueCredential, context: OperationContext) -> None:
    state = context.state
    identity.require_role(state, context.sender, identity.ISSUER)
    if CREDENTIALS.get(state, body.credential) is not None:
        raise Refused("credential.id_taken", body.credential.hex())
    subject = identity.require(state, body.subject)
    if subject.kind not in (identity.INSTITUTION, identity.PRACTITIONER):
        raise Refused("credential.bad_subject", body.subject.hex())
    if institution_of(state, body.subject) == context.sender:
        raise Refused("credential.own_employee", body.subject.hex())
    if body.not_after <= context.time_ms:
        raise Refused("credential.expired", body.credential.hex())
    _require_holder(body, subject, context)
    issued = Credential(
        context.sender, body.subject, body.kind, context.time_ms, body.not_after, None, body.holder
    )
    CREDENTIALS.put(state, issued, body.credential)
    ISSUED.emit(context, [body.subject, context.sender], body)


def _require_holder(body: IssueCredential, subject: identity.Identity, context: OperationContext) -> None:
    if body.holder is None and body.proof is None:
        return
    digest = holder_digest(
        chain_id=context.chain_id, issuer=context.sender, credential=body.credential, subject=body.subject
    )
    # A session key is the employer's word: only a lasting one is the person's.
    if body.holder is None or body.proof is None or body.holder not in subject.keys:
        raise Refused("credential.bad_holder", body.subject.hex())
    if not verify(body.holder, digest, body.proof):
        raise Refused("credential.bad_holder", body.holder.hex())


def _revoke(body: RevokeCredential, context: OperationContext) -> None:
    known = CREDENTIALS.get(context.state, body.credential)
    if known is None:
        raise Refused("credential.unknown", body.credential.hex())
    if known.issuer != context.sender:
        raise Refused("credential.not_the_issuer", body.credential.hex())
    if known.revoked_ms is not None:
        raise Refused("credential.revoked", body.credential.hex())
    revoked = msgspec.structs.replace(known, revoked_ms=context.time_ms)
    CREDENTIALS.put(context.state, revoked, body.credential)
    REVOKED.emit(context, [known.subject, context.sender], body)


CONTRACT: Final = Contract(
    name="credential",
    operations=(
        OperationSpec("credential.issue", IssueCredential, _issue),
        OperationSpec("credential.revoke", RevokeCredential, _revoke, rank=Rank.TAKES_RIGHTS),
    ),
    slots=(CREDENTIALS,),
    events=(ISSUED, REVOKED),
)
