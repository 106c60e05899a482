"""A network in memory for tests of what people do on it: every institution may do everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from consilium.client import recording
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts.identity import Roles
from consilium.ledger.errors import Refused
from tests.unit.node.care import Ward, ward

EVERY_ROLE: Roles = ["author", "authority", "custodian", "issuer", "manager"]
DAY_MS = 86_400_000


@asynccontextmanager
async def network() -> AsyncIterator[Ward]:
    """`petra` is enrolled by `north`, with compartments."""
    async with ward(EVERY_ROLE) as care:
        await care.admit_petra()
        await care.tick()
        yield care


async def staff(session: Session, name: str, kind: Any = "practitioner") -> Wallet:
    """Somebody whom the session's institution enrolled."""
    wallet = Wallet.create(name, kind)
    await recording.enrol(session, kind, wallet)
    return wallet


async def code_of(call: Awaitable[object]) -> str:
    """With which code it is refused; "ok" where it is not."""
    try:
        await call
    except Refused as refusal:
        return refusal.code
    return "ok"


def later(care: Ward, ms: int = DAY_MS) -> int:
    """So long after now, by the network's clock."""
    return int(care.node.clock.wall_ms) + ms
