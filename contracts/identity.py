"""Who is who: institutions, patients, practitioners and applications, and the keys that speak for them.

An identity's id follows from its first signing key and outlives it. Institutions are founded by the genesis document;
they enrol everybody else, and are then the *sponsor*: a patient's manager, a practitioner's employer. Who is enrolled
proves that it holds its key, so nobody registers somebody else's. A key belongs to one identity for ever: a
revoked key never speaks again, for anybody.

Nothing here names a person: ids and keys are random-looking bytes, and who stands behind them is known off the chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from consilium.contracts import keys
from consilium.contracts.operation import ID_BYTES, KEY_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, Tag, is_group_point, verify
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader
from consilium.ledger.transaction import identity_of

KEYS_PER_IDENTITY_MAX: Final = 16
ROLES_MAX: Final = 8

INSTITUTION: Final = "institution"
PATIENT: Final = "patient"
PRACTITIONER: Final = "practitioner"
APPLICATION: Final = "application"
AUTHOR: Final = "author"
AUTHORITY: Final = "authority"
CUSTODIAN: Final = "custodian"
ISSUER: Final = "issuer"
MANAGER: Final = "manager"

EnrolledKind = Literal["application", "patient", "practitioner"]
Kind = Literal["application", "institution", "patient", "practitioner"]
Role = Literal["author", "authority", "custodian", "issuer", "manager"]
"""What an institution may do beside asking: anchor records, issue legal mandates, keep records and compartment keys,
issue credentials, enrol patients."""
Roles = Annotated[list[Role], msgspec.Meta(max_length=ROLES_MAX)]
Status = Literal["active", "suspended"]

_ENROLMENT_TAG: Final = Tag("consilium/enrolment/1")
_ADDITION_TAG: Final = Tag("consilium/key-addition/1")


# --- bodies, results and event data ---------------------------------------------------------------------------------


class FoundInstitution(codec.Wire, frozen=True):
    """`identity.found`. `author_point` is the group point that the institution's own wraps are made to."""

    key: codec.Bytes32
    encryption_key: codec.Bytes32
    author_point: codec.Bytes32
    roles: Roles


class Enrol(codec.Wire, frozen=True):
    """`identity.enrol`. `proof` is a signature by `key` over `enrolment_digest`."""

    kind: EnrolledKind
    key: codec.Bytes32
    encryption_key: codec.Bytes32
    proof: codec.Bytes64


class AddKey(codec.Wire, frozen=True):
    """`identity.add_key`. `proof` is a signature by the new key over `addition_digest`."""

    key: codec.Bytes32
    proof: codec.Bytes64


class RevokeKey(codec.Wire, frozen=True):
    """`identity.revoke_key`: one of the sender's own."""

    key: codec.Bytes32


class Suspend(codec.Wire, frozen=True):
    """`identity.suspend`: an identity that the sender enrolled."""

    identity: codec.Bytes16


class Reinstate(codec.Wire, frozen=True):
    """`identity.reinstate`: a suspended identity that the sender enrolled."""

    identity: codec.Bytes16


class Enrolled(codec.Wire, frozen=True):
    """Who is new: result of `identity.found` and `identity.enrol`, and the data of their event."""

    identity: codec.Bytes16
    kind: Kind
    sponsor: codec.Bytes16 | None


class KeyChanged(codec.Wire, frozen=True):
    """Which key was added or revoked."""

    key: codec.Bytes32


class StatusChanged(codec.Wire, frozen=True):
    """What an identity's status became."""

    status: Status


# --- state ----------------------------------------------------------------------------------------------------------


class Identity(codec.Wire, frozen=True):
    """`keys` are the current signing keys, oldest first; `sponsor` and `author_point` are None where there is none."""

    kind: Kind
    status: Status
    sponsor: codec.Bytes16 | None
    keys: Annotated[list[codec.Bytes32], msgspec.Meta(min_length=1, max_length=KEYS_PER_IDENTITY_MAX)]
    encryption_key: codec.Bytes32
    author_point: codec.Bytes32 | None
    roles: Roles
    since_ms: codec.Uint


class KeyEntry(codec.Wire, frozen=True):
    """Whose key, and from when to when it speaks (block time, half-open); only session keys have a `not_after`."""

    identity: codec.Bytes16
    added_ms: codec.Uint
    revoked_ms: codec.Uint | None
    not_after: codec.Uint | None = None


IDENTITIES: Final = Slot(keys.IDENTITY, (ID_BYTES,), Identity, 2_048)
KEYS: Final = Slot(keys.KEY, (KEY_BYTES,), KeyEntry, 64)

ENROLLED: Final = EventKind("identity.enrolled", Enrolled)
KEY_ADDED: Final = EventKind("identity.key_added", KeyChanged)
KEY_REVOKED: Final = EventKind("identity.key_revoked", KeyChanged)
STATUS_CHANGED: Final = EventKind("identity.status_changed", StatusChanged)


# --- what is signed off the chain -----------------------------------------------------------------------------------


def enrolment_digest(
    *, chain_id: bytes, sponsor: bytes, kind: str, key: bytes, encryption_key: bytes
) -> Digest:
    """What the key of a new identity signs (32 bytes): on this network, by this sponsor, with this encryption key."""
    return _ENROLMENT_TAG.digest(codec.encode((chain_id, sponsor, kind, key, encryption_key)))


def addition_digest(*, chain_id: bytes, identity: bytes, key: bytes) -> Digest:
    """What a further key of an identity signs (32 bytes)."""
    return _ADDITION_TAG.digest(codec.encode((chain_id, identity, key)))


# --- questions other contracts ask ----------------------------------------------------------------------------------


def standing(state: StateReader, identity: bytes) -> str | None:
    """None where the identity stands, else the code that says why not: unknown, or it or its employer suspended.

    A practitioner or application stands only while its sponsor does; a patient does not depend on its manager.
    """
    return _standing_of(state, IDENTITIES.get(state, identity))


def _standing_of(state: StateReader, known: Identity | None) -> str | None:
    if known is None:
        return "identity.unknown"
    if known.status != "active":
        return "identity.suspended"
    if known.kind in (PRACTITIONER, APPLICATION) and known.sponsor is not None:
        return standing(state, known.sponsor)
    return None


def key_standing(state: StateReader, identity: bytes, key: bytes, time_ms: int) -> str | None:
    """None where `key` may speak for the identity at that block time, else the code that says why not."""
    problem = standing(state, identity)
    if problem is not None:
        return problem
    entry = KEYS.get(state, key)
    if entry is None or entry.identity != identity or entry.revoked_ms is not None:
        return "identity.key_not_authorised"
    if entry.not_after is not None and time_ms >= entry.not_after:
        return "identity.session_over"
    return None


def require(state: StateReader, identity: bytes) -> Identity:
    """The identity, which stands. Raises Refused `identity.unknown`, `identity.suspended`."""
    known = IDENTITIES.get(state, identity)
    problem = _standing_of(state, known)
    if problem is not None or known is None:
        raise Refused(problem or "identity.unknown", identity.hex())
    return known


def require_role(state: StateReader, identity: bytes, role: str) -> Identity:
    """The institution, which stands and has the role. Raises Refused `identity.*`."""
    known = require(state, identity)
    if known.kind != INSTITUTION or role not in known.roles:
        raise Refused("identity.role_missing", f"{identity.hex()} is no institution with the role {role}")
    return known


def require_institution(state: StateReader, identity: bytes, status: Status) -> Identity:
    """The institution, which has this status. Raises Refused `identity.*`."""
    known = IDENTITIES.get(state, identity)
    if known is None:
        raise Refused("identity.unknown", identity.hex())
    if known.kind != INSTITUTION:
        raise Refused("identity.not_an_institution", identity.hex())
    if known.status != status:
        raise Refused("identity.status_unchanged", identity.hex())
    return known


def authorise(context: OperationContext) -> None:
    """Whether the transaction's key may speak for its sender. Raises Refused `identity.*`."""
    problem = key_standing(context.state, context.sender, context.key, context.time_ms)
    if problem is not None:
        raise Refused(problem, context.sender.hex())


def require_lasting_key(context: OperationContext) -> Identity:
    """The sender, who signed with a key of its own. Raises Refused `identity.session_key`, and as `require`.

    A session key speaks for a shift: it changes nothing about who may speak, or read, later.
    """
    sender = require(context.state, context.sender)
    if context.key not in sender.keys:
        raise Refused("identity.session_key", context.sender.hex())
    return sender


# --- handlers -------------------------------------------------------------------------------------------------------


def check_new_institution(body: FoundInstitution, context: OperationContext) -> None:
    """Whether such an institution could be registered now. Raises Refused `identity.*`."""
    if list(body.roles) != sorted({*body.roles}):
        raise Refused("identity.bad_roles")
    if not is_group_point(body.author_point):
        raise Refused("identity.bad_point")
    _require_free(body.key, context)


def register_institution(body: FoundInstitution, context: OperationContext) -> Enrolled:
    """An institution of genesis, or one that governance admits. Raises Refused `identity.*`."""
    check_new_institution(body, context)
    institution = Identity(
        kind="institution",
        status="active",
        sponsor=None,
        keys=[body.key],
        encryption_key=body.encryption_key,
        author_point=body.author_point,
        roles=body.roles,
        since_ms=context.time_ms,
    )
    return _register(institution, context)


def _enrol(body: Enrol, context: OperationContext) -> Enrolled:
    if body.kind == PATIENT:
        require_role(context.state, context.sender, MANAGER)
    elif require(context.state, context.sender).kind != INSTITUTION:
        raise Refused("identity.not_an_institution", context.sender.hex())
    digest = enrolment_digest(
        chain_id=context.chain_id,
        sponsor=context.sender,
        kind=body.kind,
        key=body.key,
        encryption_key=body.encryption_key,
    )
    if not verify(body.key, digest, body.proof):
        raise Refused("identity.bad_proof")
    enrolled = Identity(
        kind=body.kind,
        status="active",
        sponsor=context.sender,
        keys=[body.key],
        encryption_key=body.encryption_key,
        author_point=None,
        roles=[],
        since_ms=context.time_ms,
    )
    return _register(enrolled, context)


def _require_free(key: bytes, context: OperationContext) -> None:
    taken = IDENTITIES.get(context.state, identity_of(key)) is not None
    if taken or KEYS.get(context.state, key) is not None:
        raise Refused("identity.key_taken", key.hex())


def _register(new: Identity, context: OperationContext) -> Enrolled:
    key = new.keys[0]
    identity = identity_of(key)
    _require_free(key, context)
    IDENTITIES.put(context.state, new, identity)
    KEYS.put(context.state, KeyEntry(identity, context.time_ms, None), key)
    enrolled = Enrolled(identity, new.kind, new.sponsor)
    ENROLLED.emit(context, [identity] if new.sponsor is None else [identity, new.sponsor], enrolled)
    return enrolled


def _add_key(body: AddKey, context: OperationContext) -> None:
    sender = require_lasting_key(context)
    if len(sender.keys) >= KEYS_PER_IDENTITY_MAX:
        raise Refused("identity.too_many_keys", f"the limit is {KEYS_PER_IDENTITY_MAX}")
    digest = addition_digest(chain_id=context.chain_id, identity=context.sender, key=body.key)
    if not verify(body.key, digest, body.proof):
        raise Refused("identity.bad_proof")
    if KEYS.get(context.state, body.key) is not None:
        raise Refused("identity.key_taken", body.key.hex())
    KEYS.put(context.state, KeyEntry(context.sender, context.time_ms, None), body.key)
    changed = msgspec.structs.replace(sender, keys=[*sender.keys, body.key])
    IDENTITIES.put(context.state, changed, context.sender)
    KEY_ADDED.emit(context, [context.sender], KeyChanged(body.key))


def _revoke_key(body: RevokeKey, context: OperationContext) -> None:
    sender = require_lasting_key(context)
    entry = KEYS.get(context.state, body.key)
    if entry is None or body.key not in sender.keys:
        raise Refused("identity.not_own_key", body.key.hex())
    if len(sender.keys) == 1:
        raise Refused("identity.last_key")
    KEYS.put(context.state, msgspec.structs.replace(entry, revoked_ms=context.time_ms), body.key)
    changed = msgspec.structs.replace(sender, keys=[key for key in sender.keys if key != body.key])
    IDENTITIES.put(context.state, changed, context.sender)
    KEY_REVOKED.emit(context, [context.sender], KeyChanged(body.key))


def _suspend(body: Suspend, context: OperationContext) -> None:
    _change_status(body.identity, "suspended", context)


def _reinstate(body: Reinstate, context: OperationContext) -> None:
    _change_status(body.identity, "active", context)


def _change_status(identity: bytes, status: Status, context: OperationContext) -> None:
    require(context.state, context.sender)
    known = IDENTITIES.get(context.state, identity)
    if known is None:
        raise Refused("identity.unknown", identity.hex())
    # A patient's manager must not be able to silence the patient.
    if known.kind not in (PRACTITIONER, APPLICATION) or known.sponsor != context.sender:
        raise Refused("identity.not_the_sponsor", identity.hex())
    if known.status == status:
        raise Refused("identity.status_unchanged", identity.hex())
    change_status(identity, status, [identity, context.sender], context)


def change_status(
    identity: bytes, status: Status, subjects: Sequence[bytes], context: OperationContext
) -> None:
    """Write an existing identity's new status, and tell the subjects: who may do so is for the caller to ask."""
    known = IDENTITIES.get(context.state, identity)
    if known is None:
        raise Refused("identity.unknown", identity.hex())
    IDENTITIES.put(context.state, msgspec.structs.replace(known, status=status), identity)
    STATUS_CHANGED.emit(context, subjects, StatusChanged(status))


CONTRACT: Final = Contract(
    name="identity",
    operations=(
        OperationSpec("identity.found", FoundInstitution, register_institution, Enrolled, founding=True),
        OperationSpec("identity.enrol", Enrol, _enrol, Enrolled),
        OperationSpec("identity.add_key", AddKey, _add_key),
        OperationSpec("identity.revoke_key", RevokeKey, _revoke_key, rank=Rank.TAKES_RIGHTS),
        OperationSpec("identity.suspend", Suspend, _suspend, rank=Rank.TAKES_RIGHTS),
        OperationSpec("identity.reinstate", Reinstate, _reinstate),
    ),
    slots=(IDENTITIES, KEYS),
    events=(ENROLLED, KEY_ADDED, KEY_REVOKED, STATUS_CHANGED),
)
