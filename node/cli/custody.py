"""The custodians that commands talk to: by their nodes' folders or addresses, or all nodes of a cluster's folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consilium.client.rpc import RpcClient
from consilium.ledger.errors import Refused
from consilium.node.cli.inputs import Target, hexadecimal, target
from consilium.node.cluster import GENESIS_FILE, open_cluster

CUSTODIANS_MAX: Final = 64
CALL_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Custodian:
    """A custodian whose node answers. `takes_envelopes` where its token is at hand."""

    institution: bytes
    rpc: RpcClient
    takes_envelopes: bool


def custodian_targets(given: Sequence[str] | None, node: Target) -> list[Target]:
    """The nodes that `--custodian` names; without it, those of the cluster that the node's folder is in, if any.

    Raises Refused `config.*`, `cluster.*`, `rpc.unreachable`, `cli.bad_value` (too many).
    """
    found: list[Target] = []
    if given:
        for text in given:
            folder = Path(text)
            found += _running(folder) if "://" not in text and _is_cluster(folder) else [target(text)]
    elif node.config is not None and _is_cluster(node.config.folder.parent):
        found = _running(node.config.folder.parent)
    if len(found) > CUSTODIANS_MAX:
        raise Refused("cli.bad_value", f"{len(found)} custodians; at most {CUSTODIANS_MAX}")
    return list({one.url: one for one in found}.values())


def _is_cluster(folder: Path) -> bool:
    return (folder / GENESIS_FILE).is_file() and (folder / "node-0").is_dir()


def _running(folder: Path) -> list[Target]:
    """The nodes of a cluster that were started. Nobody named them one by one: those that do not run are left out."""
    found = []
    for node in open_cluster(folder):
        try:
            found.append(target(str(node.path)))
        except Refused as refusal:
            if refusal.code not in ("config.missing", "rpc.unreachable"):
                raise
    return found


@asynccontextmanager
async def custodians(targets: Sequence[Target], *, named: bool) -> AsyncIterator[list[Custodian]]:
    """Clients of the custodians' nodes. One that does not answer is left out, unless it was `named`: then it is
    refused, `rpc.unreachable`."""
    async with AsyncExitStack() as stack:
        found: list[Custodian] = []
        for one in targets:
            rpc = await stack.enter_async_context(RpcClient(one.url, one.token, timeout_s=CALL_TIMEOUT_S))
            try:
                institution = (await rpc.status())["institution"]
            except Refused as refusal:
                if named or refusal.code not in ("rpc.unreachable", "rpc.timeout"):
                    raise
                continue
            if isinstance(institution, str):
                found.append(
                    Custodian(hexadecimal(institution, 16, "an institution"), rpc, one.token is not None)
                )
        yield found
