"""The RPC's `identity.resolve`: an identity's DID document, as of the newest certified state."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import msgspec

from consilium.client.did import DidKey, KeyKind
from consilium.client.did_document import DID_METHOD_CHARS_MAX, ShiftKey, parse_subject, resolution
from consilium.contracts.identity import IDENTITIES, KEYS, Identity, KeyEntry
from consilium.contracts.operation import Slot
from consilium.contracts.sessions import SESSIONS
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.node.api import NodeApi
from consilium.node.dispatch import Context, Method

READS_MAX: Final = 3
"""A document is of one height: where a block came between two reads, all are made again, so many times."""

_W = TypeVar("_W", bound=codec.Wire)


class ResolveParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    did: Annotated[str, msgspec.Meta(min_length=1, max_length=DID_METHOD_CHARS_MAX)]


async def resolve(context: Context, params: ResolveParams) -> Any:
    chain_id = context.api.genesis.chain_id
    subject = parse_subject(params.did, chain_id)
    answer: dict[str, Any] = {}
    for _ in range(READS_MAX):
        read = _Reading(context.api)
        identity = subject if isinstance(subject, bytes) else await _owner(read, subject)
        known = await read.value(IDENTITIES, identity)
        if known is None:
            raise Refused("identity.unknown", params.did)
        shift = await _shift(read, identity, known)
        answer = resolution(chain_id, identity, known, shift, min(read.heights), params.did)
        if len(read.heights) == 1:
            break
    return answer


class _Reading:
    """Reads of certified state, and the heights that they were of."""

    def __init__(self, api: NodeApi) -> None:
        self._api = api
        self.heights: set[int] = set()

    async def value(self, slot: Slot[_W], part: bytes) -> _W | None:
        raw, height = await self._api.state(slot.key(part))
        self.heights.add(height)
        return None if raw is None else slot.decode(raw)


async def _owner(read: _Reading, named: DidKey) -> bytes:
    entry = await read.value(KEYS, named.key) if named.kind is KeyKind.ED25519 else None
    if entry is None or entry.revoked_ms is not None:
        raise Refused("identity.unknown", str(named))
    return entry.identity


async def _shift(read: _Reading, identity: bytes, known: Identity) -> list[ShiftKey]:
    """Session keys that were not ended. Whether one has expired is for whoever has a clock: the document says when."""
    sessions = await read.value(SESSIONS, identity) if known.kind == "practitioner" else None
    found: list[ShiftKey] = []
    for key in sessions.keys if sessions is not None else ():
        entry: KeyEntry | None = await read.value(KEYS, key)
        if entry is not None and entry.revoked_ms is None and entry.not_after is not None:
            found.append(ShiftKey(key, entry.not_after))
    return found


RESOLVE: Final = Method(
    "identity.resolve", "The DID document of an identity, or of a key's identity.", ResolveParams, resolve
)
