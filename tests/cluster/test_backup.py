"""A running validator is copied, loses its disk, is restored from the copy, and takes part again; resync likewise."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from consilium.node.stores import CHAIN_FOLDER
from consilium.node.testing import LocalCluster
from tests.cluster.chains import common_chain

pytestmark = pytest.mark.cluster

COMMAND_TIMEOUT_S = 60.0


async def consilium(*arguments: str) -> tuple[int, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "consilium.node.cli.main",
        *arguments,
        "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(COMMAND_TIMEOUT_S):
        output, errors = await process.communicate()
    return process.returncode or 0, json.loads(output or b"null") if output else errors.decode()


async def test_a_running_node_is_backed_up_and_restored(tmp_path: Path) -> None:
    archive = tmp_path / "node-2.backup"
    async with LocalCluster(nodes=4) as cluster:
        folder = cluster.nodes[2].path
        early = await cluster.commit(2)
        status, value = await consilium("node", "backup", str(folder), "--to", str(archive))
        assert (status, value["bytes"]) == (0, archive.stat().st_size)
        assert archive.stat().st_mode & 0o777 == 0o600
        late = await cluster.commit(0)
        await cluster.kill(2)
        shutil.rmtree(cluster.nodes[2].config().data_dir)
        status, value = await consilium("node", "restore", str(folder), str(archive))
        assert status == 0, value
        assert early.height <= value["height"] < late.height
        status, value = await consilium("node", "check", str(folder))
        assert status == 0, value
        await cluster.restart(2)
        await cluster.wait_height(late.height, [2])
        await cluster.kill(3)  # so that the quorum needs the restored one
        again = await cluster.commit(2, timeout_s=COMMAND_TIMEOUT_S)
        await cluster.wait_height(again.height, [0, 1, 2])
        await cluster.restart(3)
        await common_chain(cluster)
        assert (await cluster.clients[2].transaction(early.id)).height == early.height


async def test_without_the_token_there_is_no_backup() -> None:
    import aiohttp

    async with LocalCluster(nodes=1) as cluster, aiohttp.ClientSession() as http:
        url = cluster.nodes[0].url().removesuffix("/rpc") + "/backup"
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            async with http.get(url, headers=headers) as response:
                assert response.status == 401


async def test_a_damaged_chain_is_named_and_resynced() -> None:
    async with LocalCluster(nodes=4) as cluster:
        last = await cluster.commit(1)
        await cluster.kill(1)
        chain = cluster.nodes[1].config().data_dir / CHAIN_FOLDER
        log = max(chain.glob("*.log"), key=lambda path: path.stat().st_size)
        raw = bytearray(log.read_bytes())
        raw[len(raw) // 3] ^= 1
        log.write_bytes(raw)
        folder = str(cluster.nodes[1].path)
        status, value = await consilium("node", "start", folder)
        assert (status, value["error"]["code"]) == (1, "store.corrupt")
        status, value = await consilium("node", "resync", folder)
        assert status == 0, value
        assert [Path(path).name for path in value["set_aside"]] == ["chain.damaged-1"]
        await cluster.restart(1)
        await cluster.wait_height(last.height, [1])
        await common_chain(cluster)
