"""Changes of the validator set on real nodes: a newcomer with an empty disk, the removal of the primary, evidence."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consilium.client import governing
from consilium.client import wallet as wallets
from consilium.client.rpc import RpcClient
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.consensus.evidence import Evidence, make_evidence
from consilium.consensus.messages import sign_commit
from consilium.contracts import ballot
from consilium.contracts.ballot import AddValidator, Change, RemoveValidator, ReportEvidence
from consilium.contracts.registry import operation
from consilium.ledger.errors import Refused
from consilium.ledger.receipt import verify_receipt
from consilium.node import cluster as clusters
from consilium.node import files, founding
from consilium.node.cli.main import app
from consilium.node.cluster import NodeFolder
from consilium.node.files import load_node_key
from consilium.node.founding import Place
from consilium.node.ports import LOOPBACK, Reservation
from consilium.node.stores import init_stores
from consilium.node.testing import LocalCluster

pytestmark = pytest.mark.cluster

WAIT_S = 60.0
POLL_S = 0.05


def node_key(cluster: LocalCluster, index: int) -> bytes:
    return bytes(cluster.nodes[index].card().node_key)


async def decide(cluster: LocalCluster, change: Change, voters: list[int]) -> ballot.VoteCounted:
    """Have institutions approve until it is accepted."""
    first, *rest = voters
    proposal, counted = await governing.propose(cluster.session(first), change)
    for voter in rest:
        assert counted.outcome == "open"
        counted = await governing.vote(cluster.session(voter), proposal)
    assert counted.outcome == "accepted"
    return counted


async def validators_of(cluster: LocalCluster, index: int) -> list[bytes]:
    status = await cluster.clients[index].status()
    return [bytes.fromhex(one["key"]) for one in status["validators"]]


async def until_validators(cluster: LocalCluster, index: int, expected: set[bytes]) -> None:
    """Wait until a node decides with this set. The set takes effect with blocks, and an idle chain makes few."""
    async with asyncio.timeout(WAIT_S):
        while set(await validators_of(cluster, index)) != expected:
            await cluster.commit(index)
            await asyncio.sleep(POLL_S)


def newcomer_folder(cluster: LocalCluster) -> tuple[NodeFolder, Wallet]:
    """A fifth node's folder beside the others: keys, configuration, and an empty chain."""
    path: Path = cluster.folder / "node-4"
    passphrase = secrets.token_hex(32)
    with Reservation(2) as reserved:
        p2p, rpc = reserved.ports
    place = Place(f"{LOOPBACK}:{p2p}", (LOOPBACK, p2p), (LOOPBACK, rpc))
    founding.make_folder(
        path,
        "node-4",
        place,
        passphrase,
        passphrase_file=clusters.PASSPHRASE_FILE,
        cost=founding.LOCAL_COST,
    )
    files.create_secret(path / clusters.PASSPHRASE_FILE, passphrase)
    cards = [node.card() for node in cluster.nodes]
    init_stores(founding.join(path, cluster.genesis, cards, {}, newcomer=True))
    return NodeFolder(4, path), wallets.load(path / founding.WALLET_FILE, passphrase)


async def test_a_fifth_validator_with_an_empty_disk() -> None:
    async with LocalCluster(4) as cluster:
        founders = await validators_of(cluster, 0)
        await cluster.commit(0)
        newcomer, wallet = newcomer_folder(cluster)
        key = load_node_key(newcomer.config().key_path).public
        cluster.nodes.append(newcomer)
        cluster._start(newcomer)
        admission = governing.admission(cluster.genesis.chain_id, wallet, ["author", "manager"])
        await decide(cluster, admission, [0, 1, 2])
        await decide(cluster, AddValidator(key, wallet.identity), [1, 2, 3])
        await until_validators(cluster, 0, {*founders, key})
        await cluster._ready([newcomer], WAIT_S)
        async with RpcClient(newcomer.url(), newcomer.token()) as rpc:
            cluster.clients.append(rpc)
            cluster.size = 5
            # Four of five are a quorum: with one of the founders dead, the newcomer's vote is needed.
            await cluster.kill(0)
            committed = await cluster.commit(1, timeout_s=WAIT_S)
            await cluster.wait_height(committed.height, [4], WAIT_S)
            # Its institution has a voice now, and receipts lead from genesis over the change of the set.
            session = Session(rpc, cluster.genesis, wallet)
            _, counted = await governing.propose(session, RemoveValidator(node_key(cluster, 0)))
            assert (counted.approving, counted.needed) == (1, 4)
            await cluster.commit(1)
            receipt = await rpc.transaction_receipt(committed.id)
            assert verify_receipt(receipt, cluster.genesis).set_changes == 1
            for index in (1, 2, 3, 4):
                assert (await cluster.clients[index].status())["evidence"] == 0
            cluster.clients.pop()


async def test_the_current_primary_is_removed() -> None:
    async with LocalCluster(4) as cluster:
        await cluster.commit(0)
        primary = bytes.fromhex((await cluster.clients[0].status())["primary"])
        gone = next(index for index in range(4) if node_key(cluster, index) == primary)
        rest = [index for index in range(4) if index != gone]
        founders = await validators_of(cluster, rest[0])
        await decide(cluster, RemoveValidator(primary), rest)
        await until_validators(cluster, rest[0], {*founders} - {primary})
        committed = await cluster.commit(rest[1])
        await cluster.wait_height(committed.height, rest)
        status = await cluster.clients[rest[0]].status()
        assert bytes.fromhex(status["primary"]) != primary
        with pytest.raises(Refused) as refused:
            await governing.propose(cluster.session(rest[0]), RemoveValidator(primary))
        assert refused.value.code == "governance.not_validator"
        # The others hang up on it.
        async with asyncio.timeout(WAIT_S):
            while primary in {bytes.fromhex(p["key"]) for p in status["peers"]}:
                await asyncio.sleep(POLL_S)
                status = await cluster.clients[rest[0]].status()


def contradiction(cluster: LocalCluster, of: int, height: int) -> Evidence:
    """What the key of a node could be made to sign."""
    key = load_node_key(cluster.nodes[of].config().key_path)
    one, other = (
        sign_commit(key, cluster.genesis.chain_id, height, 0, bytes([label]) * 32) for label in (1, 2)
    )
    return make_evidence(one, other)


async def test_evidence_is_included_once_and_eases_the_removal() -> None:
    async with LocalCluster(4) as cluster:
        height = (await cluster.commit(0)).height
        proof = contradiction(cluster, 3, height)
        reports = await asyncio.gather(
            *(
                cluster.session(index).submit(
                    [operation("governance.report_evidence", ReportEvidence(proof))]
                )
                for index in (0, 1)
            ),
            return_exceptions=True,
        )
        refusals = [one.code for one in reports if isinstance(one, Refused)]
        assert refusals == ["governance.evidence_known"]
        (told,) = await cluster.clients[2].events(kinds=["governance.evidence"])
        assert told.event.kind == "governance.evidence"
        await cluster.commit(0)
        place = (proof.validator, height.to_bytes(8, "big"), b"\x01")
        kept = await cluster.session(2).state(ballot.PROVED_FAULTS, *place)
        assert kept is not None
        assert kept.evidence == proof
        (listed,) = await shown_evidence(cluster, 2)
        assert (listed["validator"], listed["height"]) == (proof.validator.hex(), height)
        assert (listed["kind"], listed["standing"]) == ("seal", "not acted upon")
        # Two of four suffice now.
        await decide(cluster, RemoveValidator(proof.validator), [0, 1])
        await until_validators(cluster, 0, {node_key(cluster, index) for index in (0, 1, 2)})
        (listed,) = await shown_evidence(cluster, 0, proof.validator.hex())
        assert listed["standing"] == "removed"
        assert await shown_evidence(cluster, 0, node_key(cluster, 0).hex()) == []


async def shown_evidence(cluster: LocalCluster, index: int, *key: str) -> Any:
    """What `consilium governance evidence` prints, as JSON and for people."""
    asked = ["governance", "evidence", *key, "--node", str(cluster.nodes[index].path)]
    told = await asyncio.to_thread(CliRunner().invoke, app, asked)
    done = await asyncio.to_thread(CliRunner().invoke, app, [*asked, "--json"])
    assert (told.exit_code, done.exit_code) == (0, 0), told.output + done.output
    found = json.loads(done.stdout)
    assert key == () or all(one["words"] in told.stdout for one in found)
    return found
