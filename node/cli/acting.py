"""What commands that act on the ledger have alike: who signs, for whom, with whom beside, and what became of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from consilium.client import attesting
from consilium.client.rpc import Committed
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.ledger import codec
from consilium.node.cli.inputs import connected, hexadecimal, identity_id, open_wallet, target
from consilium.node.cli.output import Report
from consilium.node.cli.written import write_new

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Second:
    """Who signs beside the sender, on this computer."""

    wallet: Wallet
    speaks_for: bytes | None


def second_signer(file: Path | None, passphrase_file: Path | None, speaks_for: str | None) -> Second | None:
    """The second signer that the options name, if any."""
    if file is None:
        return None
    return Second(open_wallet(file, passphrase_file), _identity(speaks_for))


def act(
    node: str,
    work: Callable[[Session], Awaitable[_T]],
    wallet_file: Path | None = None,
    passphrase_file: Path | None = None,
    speaks_for: str | None = None,
) -> _T:
    """Do `work` in a session of the wallet, or of the node's institution where none is named."""
    chosen = target(node)
    wallet = chosen.institution() if wallet_file is None else open_wallet(wallet_file, passphrase_file)
    sender = _identity(speaks_for)

    async def run() -> _T:
        async with connected(chosen) as (rpc, genesis):
            return await work(Session(rpc, genesis, wallet, sender=sender))

    return asyncio.run(run())


async def perform(
    session: Session, operation: str, body: codec.Wire, second: Second | None, draft: Path | None
) -> dict[str, Any]:
    """Submit an act that takes two, or write it down for the other. Returns what to print."""
    if draft is not None:
        write_new(draft, attesting.draft_to_json(attesting.drafted(session, operation, body)))
        return {"draft": str(draft), "operation": operation}
    if second is not None:
        body = attesting.attested(session, operation, body, second.wallet, second.speaks_for)
    return committed(await session.act(operation, body, certified=True))


def committed(done: Committed) -> dict[str, Any]:
    """Where it is in the chain, as JSON."""
    return {"transaction": done.id.hex(), "height": done.height, "time_ms": done.time_ms}


def tell(report: Report, value: dict[str, Any], sentence: str) -> None:
    """Print a result: JSON, or one line."""
    said = f"written to {value['draft']}: the other signs it" if "draft" in value else sentence
    report.result(value, lambda console: console.print(said, markup=False))


def identifier(text: str, what: str) -> bytes:
    """A random id of 16 bytes."""
    return hexadecimal(text, 16, what)


def wall_ms() -> int:
    """This computer's clock."""
    return time.time_ns() // 1_000_000


def _identity(text: str | None) -> bytes | None:
    return None if text is None else identity_id(text)
