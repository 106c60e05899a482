"""`consilium governance` against a real node: a network of one founder admits an institution, and changes its mind."""

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

WAIT_S = 30.0
POLL_S = 0.05


async def run(*arguments: str, status: int = 0) -> Any:
    done = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--json"])
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


async def test_an_institution_is_admitted_and_suspended(tmp_path: Path) -> None:
    async with LocalCluster(1) as cluster:
        node = str(cluster.nodes[0].path)
        newcomer, application = str(tmp_path / "carl"), str(tmp_path / "carl.application")
        where = ("--address", "127.0.0.1:7100", "--rpc", "127.0.0.1:0", "--generate-passphrase")
        card = (await run("node", "init", newcomer, "--name", "carl", *where))["card"]
        await run("node", "join", newcomer, "--genesis", str(cluster.genesis_path), "--newcomer")
        applied = await run("governance", "apply", newcomer, "--out", application)
        # Who is not known yet cannot run a validator.
        add = ("governance", "propose", "--node", node, "--add-validator", f"{newcomer}/card.json")
        assert (await run(*add, status=1))["error"]["code"] == "identity.unknown"
        made = await run("governance", "propose", "--node", node, "--admit", application)
        assert (made["outcome"], made["approving"], made["needed"]) == ("accepted", 1, 1)
        assert (await run(*add))["outcome"] == "accepted"
        assert (await run("governance", "propose", "--node", node, "--suspend", applied["institution"]))[
            "proposal"
        ]
        vote = await run("governance", "vote", made["proposal"], "--node", node, "--reject", status=1)
        assert vote["error"]["code"] == "governance.proposal_closed"
        async with asyncio.timeout(WAIT_S):
            while len(listed := await run("governance", "list", "--node", node, "--all")) < 3:  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
        assert [one["standing"] for one in listed] == ["accepted"] * 3
        assert listed[0]["change"] == f"admit institution {applied['institution']}"
        assert listed[1]["change"] == f"add validator {card['node_key']} of {applied['institution']}"
        assert await run("governance", "list", "--node", node) == []
