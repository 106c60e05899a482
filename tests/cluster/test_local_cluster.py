"""LocalCluster leaves nothing behind: a test may fail, be cancelled, or its program be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from consilium.ledger.errors import Refused
from consilium.node import cluster as clusters
from consilium.node.cluster import NodeFolder
from consilium.node.founding import Place
from consilium.node.processes import PROGRAM, ProcessMark, running
from consilium.node.testing import LocalCluster

pytestmark = pytest.mark.cluster

OWNER = """
import asyncio, sys
from pathlib import Path
from consilium.node.testing import LocalCluster

async def main() -> None:
    async with LocalCluster(nodes=1, folder=Path(sys.argv[1]), keep=True) as cluster:
        print("up", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def _marks(cluster: LocalCluster) -> list[ProcessMark]:
    marks = [running(node.path) for node in cluster.nodes]
    assert None not in marks
    return [mark for mark in marks if mark is not None]


def test_places_are_one_of_each_node_and_have_their_own_settings() -> None:
    place = Place("node.example:7100", ("127.0.0.1", 7100))
    for wrong in ({"nodes": 2}, {"cuttable": True}, {"settings": {"log": {"level": "debug"}}}):
        with pytest.raises(ValueError, match="places"):
            LocalCluster(**{"nodes": 1, "places": [place], **wrong})  # type: ignore[arg-type]


@pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="only Linux shows what a process was started with"
)
async def test_a_node_may_be_run_by_another_program() -> None:
    def program(node: NodeFolder) -> list[str]:
        return ["/usr/bin/env", f"RUN_BY={node.name}", *PROGRAM]

    async with LocalCluster(nodes=1, program=program, waits_for=lambda node: False) as cluster:
        process = Path(f"/proc/{cluster.pid(0)}/environ")
        environment = await asyncio.to_thread(process.read_bytes)
        assert b"RUN_BY=node-0" in environment.split(b"\0")
        assert (await cluster.clients[0].status())["height"] >= 0


async def test_a_failing_test_leaves_neither_processes_nor_files() -> None:
    marks: list[ProcessMark] = []
    folders: list[Path] = []

    async def work() -> None:
        async with LocalCluster(nodes=2) as cluster:
            folders.append(cluster.folder)
            marks.extend(_marks(cluster))
            await cluster.pause(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    assert len(marks) == 2
    assert not any(mark.alive for mark in marks)
    assert not folders[0].exists()


async def test_a_cancelled_test_leaves_no_process() -> None:
    up = asyncio.Event()
    marks: list[ProcessMark] = []

    async def work() -> None:
        async with LocalCluster(nodes=1) as cluster:
            marks.extend(_marks(cluster))
            up.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    async with asyncio.timeout(60):
        await up.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(mark.alive for mark in marks)


async def test_nodes_go_when_their_owner_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", OWNER, str(folder), stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    async with asyncio.timeout(60):
        assert await owner.stdout.readline() == b"up\n"
    mark = running(folder / "node-0")
    assert mark is not None
    os.kill(owner.pid, signal.SIGKILL)
    await owner.wait()
    assert await asyncio.to_thread(mark.wait, 20.0)


async def test_a_node_that_died_by_itself_fails_the_test() -> None:
    async def work() -> None:
        async with LocalCluster(nodes=1) as cluster:
            pid = cluster.pid(0)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                while cluster.pid(0) is not None:  # noqa: ASYNC110 - the system decides it
                    await asyncio.sleep(0.02)

    with pytest.raises(RuntimeError, match="node-0 ended by itself"):
        await work()


async def test_a_node_that_cannot_start_is_named_with_its_log(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    await asyncio.to_thread(clusters.create_cluster, folder, 1)
    (folder / "node-0" / "node.key").chmod(0o644)
    with pytest.raises(Refused, match=r"(?s)cluster.node_died: node-0.*config.insecure_file"):
        await clusters.start_cluster(folder, timeout_s=60)
    assert running(folder / "node-0") is None


async def test_a_stopped_cluster_moves_when_its_ports_were_taken(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    (node,) = await asyncio.to_thread(clusters.create_cluster, folder, 1)
    taken = node.config().rpc.port
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", taken)
    async with server:
        await clusters.start_cluster(folder, timeout_s=60)
        try:
            (report,) = await clusters.cluster_status(folder)
            assert report.status is not None
            assert node.config().rpc.port != taken
        finally:
            ((_, by_itself),) = await clusters.stop_cluster(folder)
    assert by_itself
    assert node.running() is None
