"""Credentials: what an accredited institution says about somebody, until when, and that it took it back.

A *licence* says that a practitioner may treat; a *part2* credential, that an institution or practitioner is a program
under 42 CFR Part 2, so that what it writes is about substance use; an *auditor* may see whom a
patient's records were disclosed to. Issuers are institutions with the role; nobody issues to itself or to its own
employees, because a licence that the employer issues protects nobody.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from consilium.contracts import identity, keys
from consilium.contracts.attestation import institution_of
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

CredentialKind = Literal["auditor", "licence", "part2"]
AUDITOR: Final = "auditor"
LICENCE: Final = "licence"
PART2: Final = "part2"


class IssueCredential(codec.Wire, frozen=True):
    """`credential.issue`, and the data of `credential.issued`. `credential` is drawn at random."""

    credential: codec.Bytes16
    subject: codec.Bytes16
    kind: CredentialKind
    not_after: codec.Uint


class RevokeCredential(codec.Wire, frozen=True):
    """`credential.revoke`: by its issuer. It is the data of `credential.revoked` as well."""

    credential: codec.Bytes16


class Credential(codec.Wire, frozen=True):
    """A credential in state, for ever. `revoked_ms` is None while it was not taken back."""

    issuer: codec.Bytes16
    subject: codec.Bytes16
    kind: CredentialKind
    issued_ms: codec.Uint
    not_after: codec.Uint
    revoked_ms: codec.Uint | None


CREDENTIALS: Final = Slot(keys.CREDENTIAL, (ID_BYTES,), Credential, 128)
ISSUED: Final = EventKind("credential.issued", IssueCredential)
REVOKED: Final = EventKind("credential.revoked", RevokeCredential)


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
    issued = Credential(context.sender, body.subject, body.kind, context.time_ms, body.not_after, None)
    CREDENTIALS.put(state, issued, body.credential)
    ISSUED.emit(context, [body.subject, context.sender], body)


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
