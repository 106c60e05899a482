"""`consilium receipt get | extend` against a real node: a fact hung from later headers, and from a trusted one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consilium.node.cli.main import app
from consilium.node.testing import LocalCluster

pytestmark = pytest.mark.cluster


async def run(*arguments: str, status: int = 0) -> Any:
    done = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--json"])
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


async def test_a_receipt_is_extended_and_rests_on_a_trusted_header(tmp_path: Path) -> None:
    async with LocalCluster(1) as cluster:
        node, rpc = str(cluster.nodes[0].path), cluster.clients[0]
        first, second = await cluster.commit(0), await cluster.commit(0)
        await rpc.wait(second.id, certified=True)
        old, new, short = (str(tmp_path / name) for name in ("old", "new", "short"))
        get = ("receipt", "get", first.id.hex(), "--node", node, "--out")
        assert (await run(*get, old))["transaction"] == first.id.hex()
        top = second.height + 1
        extended = await run("receipt", "extend", old, "--node", node, "--to", str(top), "--out", new)
        assert (extended["transaction"], extended["top_height"]) == (first.id.hex(), top)
        trusted = (await rpc.block(top)).block.header.hash.hex()
        resting = ("--since", str(top), "--trusted-header", trusted)
        for made in (
            await run("receipt", "extend", old, "--node", node, *resting, "--out", short),
            await run(*get, short, *resting, "--force"),
        ):
            assert (made["transaction"], made["trusted_height"]) == (first.id.hex(), top)
        verify = ("receipt", "verify", short, "--genesis", str(cluster.genesis_path))
        assert (await run(*verify, "--trusted-header", trusted))["valid"]
        assert (await run(*verify, status=1))["error"]["code"] == "receipt.untrusted"
        other = ("--since", str(top), "--trusted-header", "00" * 32)
        refused = await run(
            "receipt", "extend", old, "--node", node, *other, "--out", new, "--force", status=1
        )
        assert refused["error"]["code"] == "receipt.untrusted"
        low = await run(
            "receipt", "extend", new, "--node", node, "--to", "0", "--out", short, "--force", status=1
        )
        assert low["error"]["code"] == "receipt.cannot_extend"
