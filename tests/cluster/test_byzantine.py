"""One of four validators is a process that lies, on the validator's own keys: no fork, no loss, and no standstill.

With one honest validator down beside it, two of four are bad: what is committed may stop, but never fork; once the
honest one is back, it goes on.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from consilium.consensus.evidence import verify_evidence
from consilium.contracts import ballot
from consilium.ledger import codec
from consilium.node import founding
from consilium.node.cluster import NodeFolder
from consilium.node.processes import PROGRAM
from consilium.node.testing import LocalCluster
from tests.cluster.chains import common_chain
from tests.cluster.load import RESUME_S_MAX, Load, stands

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

PROCESS = Path(__file__).with_name("byzantine.py")
STANDSTILL_S = 4.0
"""Several view changes long."""
LOAD = 24
"""Transactions, on three nodes. A liar that is primary makes each height pay a timeout as long as its turn lasts."""

Note = Callable[[str, object], None]


def is_first_primary(node: NodeFolder) -> bool:
    """Whether height 1 is this node's to propose: the first in the order of keys."""
    genesis = founding.read_genesis(node.config().genesis_path)
    return genesis.validator_set.keys[0] == node.card().node_key


def with_liar(kind: str, settings: Mapping[str, Mapping[str, Any]] | None = None) -> LocalCluster:
    """Four nodes, of which the first primary lies from its start on; the others are the product."""

    def program(node: NodeFolder) -> Sequence[str]:
        return (sys.executable, str(PROCESS), kind) if is_first_primary(node) else PROGRAM

    return LocalCluster(
        4, settings=settings, program=program, waits_for=lambda node: not is_first_primary(node)
    )


def sides(cluster: LocalCluster) -> tuple[int, list[int]]:
    """The liar, and the honest ones."""
    liar = next(node.index for node in cluster.nodes if is_first_primary(node))
    return liar, [index for index in range(cluster.size) if index != liar]


def lies(cluster: LocalCluster, liar: int) -> dict[str, int]:
    """What was told, and at least how often: the process prints it."""
    found: dict[str, int] = {}
    for line in (cluster.nodes[liar].path / "node.log").read_text("utf-8").splitlines():
        if line.startswith('{"lie"'):
            told = json.loads(line)
            found[told["lie"]] = told["times"]
    return found


def key_of(cluster: LocalCluster, index: int) -> bytes:
    return bytes(cluster.nodes[index].card().node_key)


async def until_told(cluster: LocalCluster, liar: int, told: set[str], timeout_s: float = 120.0) -> None:
    """Wait, under load, until it told these lies.

    A liar may have missed its turn at the start, or come late to the heights that were decided so far: it has another
    one some hundred heights on.
    """
    async with asyncio.timeout(timeout_s):
        while not told <= lies(cluster, liar).keys():  # noqa: ASYNC110 - another process prints it
            await asyncio.sleep(0.1)


async def proved_faults(cluster: LocalCluster, asked: int) -> list[ballot.FaultProved]:
    """The contradictions that are on the ledger, as one node shows them over RPC; each one is verified here."""
    session = cluster.session(asked)
    found = []
    for one in await cluster.clients[asked].events(kinds=["governance.evidence"]):
        fault = codec.decode(one.event.data, ballot.FaultProved, len(one.event.data))
        place = (fault.key, fault.height.to_bytes(8, "big"), bytes((fault.fault_kind,)))
        proof = await session.state(ballot.PROVED_FAULTS, *place)
        if proof is not None:  # certified one block later
            verify_evidence(proof.evidence, cluster.genesis.chain_id)
            assert proof.evidence.validator == fault.key
            found.append(fault)
    return found


async def until_proved(
    cluster: LocalCluster, asked: int, timeout_s: float = 60.0
) -> list[ballot.FaultProved]:
    async with asyncio.timeout(timeout_s):
        while not (found := await proved_faults(cluster, asked)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return found


async def sealed_by(cluster: LocalCluster, asked: int, key: bytes) -> int:
    """How many blocks of a node's chain have this validator's seal in the certificate that the node keeps."""
    status = await cluster.clients[asked].status()
    place = [one["key"] for one in status["validators"]].index(key.hex())
    count = 0
    for height in range(1, int(status["height"]) + 1):
        certificate = (await cluster.clients[asked].block(height)).certificate
        count += certificate is not None and any(seal.validator == place for seal in certificate.seals)
    return count


async def test_an_equivocator_forks_nothing_and_is_proved_on_the_ledger(measured: Note) -> None:
    async with with_liar("equivocating") as cluster:
        liar, honest = sides(cluster)
        async with Load(cluster, honest) as load:
            await load.more(LOAD)
            found = await until_proved(cluster, honest[0])
            assert {fault.key for fault in found} == {key_of(cluster, liar)}, "only the liar is proved a liar"
            await until_told(cluster, liar, {"second proposal", "second seal"})

            # Two of four: perhaps it stands, perhaps the liar helps it on; it never forks.
            down = honest[2]
            await cluster.kill(down)
            await asyncio.sleep(STANDSTILL_S / 2)
            await common_chain(cluster, honest[:2])
            started_s = time.monotonic()
            await cluster.restart(down)
            measured("quorum_back_s", round(time.monotonic() - started_s, 2))
            resumed_s = await load.resumed_s(time.monotonic())
            measured("resumed_s", round(resumed_s, 2))
            await load.more(LOAD // 3)
        await load.nothing_lost(honest)
        assert resumed_s <= RESUME_S_MAX
        places = [(fault.key, fault.height, fault.fault_kind) for fault in await proved_faults(cluster, down)]
        assert len(places) == len(set(places)), "each contradiction is on the ledger once"
        assert {key for key, _, _ in places} == {key_of(cluster, liar)}
        for index in honest:
            assert (await cluster.clients[index].status())["healthy"]


async def test_a_silent_one_and_a_frozen_one_stop_the_chain_until_that_one_is_back(
    measured: Note,
) -> None:
    async with with_liar("silent") as cluster:
        liar, honest = sides(cluster)
        async with Load(cluster, honest) as load:
            await load.more(LOAD)
            await until_told(cluster, liar, {"silent"})
            for index in honest:
                peers = (await cluster.clients[index].status())["peers"]
                assert {"key": key_of(cluster, liar).hex(), "connected": True} in peers
            assert await sealed_by(cluster, honest[0], key_of(cluster, liar)) == 0

            down, awake = honest[2], honest[:2]
            await cluster.pause(down)
            await stands(cluster, awake, STANDSTILL_S)
            await cluster.resume(down)
            resumed_s = await load.resumed_s(time.monotonic())
            measured("resumed_after_pause_s", round(resumed_s, 2))
            await load.more(LOAD // 3)

            await cluster.kill(down)
            await stands(cluster, awake, STANDSTILL_S)
            started_s = time.monotonic()
            await cluster.restart(down)
            measured("quorum_back_s", round(time.monotonic() - started_s, 2))
            restarted_s = await load.resumed_s(time.monotonic())
            measured("resumed_after_kill_s", round(restarted_s, 2))
        await load.nothing_lost(honest)
        assert max(resumed_s, restarted_s) <= RESUME_S_MAX


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("inventing", {"bad signature", "bad state root", "bad time", "unknown batches"}),
        ("flooding", {"votes", "tips", "questions", "requests", "batches"}),
        ("babbling", {"garbage", "forged votes", "garbage batches", "oversized", "unknown kinds"}),
    ],
)
async def test_whatever_one_says_the_others_go_on(kind: str, told: set[str], measured: Note) -> None:
    async with with_liar(kind) as cluster:
        liar, honest = sides(cluster)
        async with Load(cluster, honest) as load:
            began_s = time.monotonic()
            await load.more(LOAD)
            measured("load_s", round(time.monotonic() - began_s, 2))
            await until_told(cluster, liar, told)
            await load.more(LOAD // 3)
            measured("told", json.dumps(lies(cluster, liar)))
        await load.nothing_lost(honest)
        # A flooder's votes contradict each other, and may be proved; nobody else is ever accused.
        assert {fault.key for fault in await proved_faults(cluster, honest[0])} <= {key_of(cluster, liar)}
