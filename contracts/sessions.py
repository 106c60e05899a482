"""Session keys: a practitioner's shift, signed for by the institution that logged the practitioner in.

A clinician does not carry a wallet through the ward. At login the institution registers a fresh key for the employee;
it speaks for at most twelve hours, changes no other key, and ends at logout, with the employment, or by itself.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.contracts import identity, keys
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, Tag, verify
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext

SESSION_MS_MAX: Final = 12 * 60 * 60 * 1000
SESSIONS_PER_PRACTITIONER_MAX: Final = 8

_TAG: Final = Tag("consilium/session-key/1")


class BeginSession(codec.Wire, frozen=True):
    """`session.begin`: by the employer. `proof` is a signature by the new key over `session_digest`."""

    practitioner: codec.Bytes16
    key: codec.Bytes32
    not_after: codec.Uint
    proof: codec.Bytes64


class EndSession(codec.Wire, frozen=True):
    """`session.end`: by the employer or the practitioner."""

    practitioner: codec.Bytes16
    key: codec.Bytes32


class SessionChanged(codec.Wire, frozen=True):
    """The data of `session.begun` and `session.ended`."""

    key: codec.Bytes32
    not_after: codec.Uint


class Sessions(codec.Wire, frozen=True):
    """The session keys of a practitioner that may still speak, oldest first."""

    keys: Annotated[list[codec.Bytes32], msgspec.Meta(max_length=SESSIONS_PER_PRACTITIONER_MAX)]


SESSIONS: Final = Slot(keys.SESSIONS, (ID_BYTES,), Sessions, 512)
BEGUN: Final = EventKind("session.begun", SessionChanged)
ENDED: Final = EventKind("session.ended", SessionChanged)


def session_digest(
    *, chain_id: bytes, institution: bytes, practitioner: bytes, key: bytes, not_after: int
) -> Digest:
    """What a session key signs (32 bytes): for this practitioner, by this employer, until then."""
    return _TAG.digest(codec.encode((chain_id, institution, practitioner, key, not_after)))


def _begin(body: BeginSession, context: OperationContext) -> None:
    state = context.state
    known = identity.require(state, body.practitioner)
    if known.kind != identity.PRACTITIONER or known.sponsor != context.sender:
        raise Refused("identity.not_the_sponsor", body.practitioner.hex())
    if not context.time_ms < body.not_after <= context.time_ms + SESSION_MS_MAX:
        raise Refused("session.bad_period", f"a session lasts at most {SESSION_MS_MAX} ms")
    digest = session_digest(
        chain_id=context.chain_id,
        institution=context.sender,
        practitioner=body.practitioner,
        key=body.key,
        not_after=body.not_after,
    )
    if not verify(body.key, digest, body.proof):
        raise Refused("identity.bad_proof")
    if identity.KEYS.get(state, body.key) is not None:
        raise Refused("identity.key_taken", body.key.hex())
    current = _current(body.practitioner, context)
    if len(current) >= SESSIONS_PER_PRACTITIONER_MAX:
        raise Refused("session.too_many", f"the limit is {SESSIONS_PER_PRACTITIONER_MAX}")
    entry = identity.KeyEntry(body.practitioner, context.time_ms, None, body.not_after)
    identity.KEYS.put(state, entry, body.key)
    SESSIONS.put(state, Sessions([*current, body.key]), body.practitioner)
    BEGUN.emit(context, [body.practitioner, context.sender], SessionChanged(body.key, body.not_after))


def _end(body: EndSession, context: OperationContext) -> None:
    state = context.state
    known = identity.IDENTITIES.get(state, body.practitioner)
    if known is None or context.sender not in (body.practitioner, known.sponsor):
        raise Refused("identity.not_the_sponsor", body.practitioner.hex())
    current = _current(body.practitioner, context)
    entry = identity.KEYS.get(state, body.key)
    if body.key not in current or entry is None or entry.not_after is None:
        raise Refused("session.unknown", body.key.hex())
    ended = msgspec.structs.replace(entry, revoked_ms=context.time_ms)
    identity.KEYS.put(state, ended, body.key)
    SESSIONS.put(state, Sessions([key for key in current if key != body.key]), body.practitioner)
    ENDED.emit(context, [body.practitioner, context.sender], SessionChanged(body.key, entry.not_after))


def _current(practitioner: bytes, context: OperationContext) -> list[bytes]:
    known = SESSIONS.get(context.state, practitioner)
    found = [(key, identity.KEYS.get(context.state, key)) for key in known.keys] if known is not None else []
    return [
        key
        for key, entry in found
        if entry is not None and entry.not_after is not None and context.time_ms < entry.not_after
    ]


CONTRACT: Final = Contract(
    name="session",
    operations=(
        OperationSpec("session.begin", BeginSession, _begin),
        OperationSpec("session.end", EndSession, _end, rank=Rank.TAKES_RIGHTS),
    ),
    slots=(SESSIONS,),
    events=(BEGUN, ENDED),
)
