"""Joining by a snapshot, on real nodes: what a newcomer answers is what its peers answer, and a crash costs nothing."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consilium.client import disclosures, history, recording
from consilium.client import wallet as wallets
from consilium.client.rpc import RpcClient
from consilium.client.rpc_values import Cursor
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts import keys
from consilium.ledger import codec
from consilium.ledger.block import BLOCK_BYTES_MAX, Block
from consilium.ledger.errors import Refused
from consilium.ledger.receipt import verify_receipt
from consilium.node.cli.main import app
from consilium.node.stores import CHAIN_FOLDER, SYNCED_FOLDER, SYNCING_FOLDER, request_staging
from consilium.node.testing import LocalCluster
from consilium.storage import schema
from consilium.storage.leveldb import LevelKV
from consilium.storage.pruning import lowest_writes, prune_writes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SETTINGS: dict[str, dict[str, Any]] = {"storage": {"snapshot_every_s": 1}, "log": {"level": "info"}}
WAIT_S = 180.0
POLL_S = 0.05


async def commits(cluster: LocalCluster, count: int) -> list[bytes]:
    """Ids of transactions that were committed, one after the other."""
    return [(await cluster.commit(number % 4, WAIT_S)).id for number in range(count)]


async def until_base(client: RpcClient) -> dict[str, Any]:
    """Wait until the node runs on a chain that came as a snapshot, and follows."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                status = await client.status()
                if status["sync"]["base_height"] and status["healthy"]:
                    return status
            except Refused:  # it starts again
                pass
            await asyncio.sleep(POLL_S)


async def held(cluster: LocalCluster, above: int) -> None:
    """Wait until the founders offer a snapshot of a later height; blocks are made meanwhile."""
    async with asyncio.timeout(WAIT_S):
        while max((await cluster.clients[0].status())["sync"]["snapshots"], default=0) <= above:
            await cluster.commit(0, WAIT_S)
    # The one before is offered until the next header certifies this one.
    done = await cluster.commit(0, WAIT_S)
    await cluster.wait_height(done.height, range(4), WAIT_S)


async def code(call: Any) -> str:
    try:
        await call
    except Refused as refusal:
        return refusal.code
    return "ok"


async def test_an_observer_joins_by_a_snapshot_and_answers_as_its_peers() -> None:
    async with LocalCluster(4, settings=SETTINGS, observers=1, observer_settings=SETTINGS) as cluster:
        old = await commits(cluster, 6)
        await held(cluster, 6)
        request_staging(cluster.observers[0].config())
        index = await cluster.join_observer(WAIT_S)
        status = await until_base(cluster.clients[index])
        base = status["sync"]["base_height"]
        assert base > 6
        assert status["role"] == "observer"
        data = cluster.nodes[index].config().data_dir
        names = {path.name for path in data.iterdir()}
        assert CHAIN_FOLDER in names
        assert not names & {SYNCING_FOLDER, SYNCED_FOLDER}

        # What is decided from now on reaches it, and both prove the same.
        new = (await commits(cluster, 3))[-1]
        await cluster.commit(0, WAIT_S)
        height = await cluster.height(0)
        await cluster.wait_height(height, [index], WAIT_S)
        founder, newcomer = cluster.clients[0], cluster.clients[index]
        settings = keys.SETTINGS
        proofs = [await one.state_receipt(settings, height - 1) for one in (founder, newcomer)]
        first, second = (verify_receipt(raw, cluster.genesis) for raw in proofs)
        assert (first.value, first.height) == (second.value, second.height)
        blocks = [await one.block(height) for one in (founder, newcomer)]
        assert blocks[0].block == blocks[1].block
        verdict = verify_receipt(await newcomer.verdict_receipt(new), cluster.genesis)
        assert verdict.leaf is not None
        assert verdict.transaction_id == new

        # An old receipt is extended by it, and not made by it: it says why.
        receipt = await founder.verdict_receipt(old[0])
        assert verify_receipt(await newcomer.extend_receipt(receipt), cluster.genesis).height < base
        assert await code(newcomer.verdict_receipt(old[0])) in (
            "chain.height_pruned",
            "chain.before_snapshot",
        )
        assert await code(newcomer.verdict_receipt(bytes(32))) == "chain.before_snapshot"


async def test_a_newcomer_says_what_it_cannot_know_instead_of_a_short_answer(tmp_path: Path) -> None:
    """Whose records went to whom before its snapshot, it has never heard: it names that, and where to ask."""
    async with LocalCluster(4, settings=SETTINGS, observers=1, observer_settings=SETTINGS) as cluster:
        ada = Wallet.create("patient")
        home = cluster.session(0)
        await recording.enrol(home, "patient", ada)
        owner = cluster.session(0, ada)
        ada = await recording.open_compartments(owner, ada, home.identity, lambda kept: None)
        old = (await commits(cluster, 1))[0]
        before = await disclosures.consult(owner, ada.identity)
        assert len(before.lines) == 1
        await held(cluster, await cluster.height(0))
        request_staging(cluster.observers[0].config())
        index = await cluster.join_observer(WAIT_S)
        newcomer = cluster.clients[index]
        base = (await until_base(newcomer))["sync"]["base_height"]
        done = await cluster.commit(0, WAIT_S)
        await cluster.wait_height(done.height, [index], WAIT_S)

        async def first(after: Cursor | None) -> Cursor:
            async with contextlib.aclosing(newcomer.subscribe(after)) as told, asyncio.timeout(WAIT_S):
                async for event in told:
                    return event.cursor
            raise AssertionError("the subscription ended")

        refused = {
            "all events": newcomer.events(),
            "those of a kind": newcomer.events(kinds=["records.anchored"]),
            "those of a subject": newcomer.events(subject=ada.identity),
            "from the base itself": newcomer.events(Cursor(base - 1, 0)),
            "a subscription": first(None),
            "records of a patient": history.records_of(newcomer, ada.identity),
            "consents of a patient": history.consents_of(newcomer, ada.identity),
            "accesses to a patient": history.accesses_of(newcomer, ada.identity),
            "a transaction that it never heard of": newcomer.transaction(bytes(32)),
            "an accounting": disclosures.consult(Session(newcomer, cluster.genesis, ada), ada.identity),
        }
        assert {name: await code(call) for name, call in refused.items()} == dict.fromkeys(
            refused, "chain.before_snapshot"
        )
        # Within the window of repetition it has what each block executed, and so answers whole.
        assert await newcomer.transaction(old) == await cluster.clients[0].transaction(old)
        # The same question at a node that followed from genesis: the one refused is in it, for it was decided.
        assert len((await disclosures.consult(owner, ada.identity)).lines) == 3

        # What came after it, it tells as anybody does.
        after = Cursor(base, 2**32 - 1)
        new = await cluster.commit(1, WAIT_S)
        await cluster.wait_height(new.height, [0, index], WAIT_S)
        told = [await client.events(after) for client in (cluster.clients[0], newcomer)]
        assert told[0] == told[1] != []
        assert await first(after) == told[0][0].cursor
        assert (await newcomer.transaction(new.id)).height == new.height

        # On the command line: the name, the reason, and what to do.
        wallet, secret = tmp_path / "ada.wallet", tmp_path / "passphrase"
        wallets.save(ada, wallet, "a passphrase for tests")
        secret.write_text("a passphrase for tests")
        secret.chmod(0o600)
        url = cluster.nodes[index].url()
        asking = [
            "access",
            "accounting",
            "--node",
            url,
            "--wallet",
            str(wallet),
            "--passphrase-file",
            str(secret),
        ]
        shown = await asyncio.to_thread(CliRunner().invoke, app, asking)
        assert shown.exit_code == 1
        assert "chain.before_snapshot" in shown.output
        assert "followed the chain from genesis" in " ".join(shown.output.split())


async def test_an_observer_whose_peers_have_pruned_takes_a_snapshot_by_itself() -> None:
    """Nobody has the first blocks any more: `keep_blocks` is small, and block time has passed the window."""
    pruning = {**SETTINGS, "storage": {"snapshot_every_s": 1, "keep_blocks": 1}}
    async with LocalCluster(4, settings=pruning, observers=1, observer_settings=SETTINGS) as cluster:
        await commits(cluster, 3)
        # Committed is what one node has: the one that comes last must have the blocks too that are deleted.
        await cluster.wait_height(3, range(4), WAIT_S)
        for index in range(4):
            await cluster.stop_node(index)
        for node in cluster.nodes:
            pretend_pruned(node.config(), 3)
        for index in range(4):
            cluster._start(cluster.nodes[index])
        await cluster._ready(cluster.nodes, WAIT_S)
        for client, node in zip(cluster.clients, cluster.nodes, strict=True):
            await client.__aexit__(None, None, None)
            await client.__aenter__()
            assert node.url()
        await held(cluster, 3)
        node = cluster.observers.pop(0)
        cluster.nodes.append(node)
        cluster._start(node)
        async with asyncio.timeout(WAIT_S):
            while not node.config().ports_path.exists():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(POLL_S)
        async with RpcClient(node.url(), node.token()) as newcomer:
            status = await until_base(newcomer)
            assert status["sync"]["base_height"] >= 3


def pretend_pruned(config: Any, below: int) -> None:
    """Delete blocks as pruning does: real pruning keeps those of the last ten minutes."""
    store = LevelKV(config.data_dir / CHAIN_FOLDER)
    try:
        writes = lowest_writes(below)
        for height in range(1, below):
            raw = store.get(schema.at_height(schema.BLOCK, height))
            assert raw is not None
            writes += [
                write
                for write in prune_writes(store, codec.decode(raw, Block, BLOCK_BYTES_MAX))
                # What a node needs of the window of repetition it keeps.
                if write[0][:1] not in (schema.LEAVES, schema.SEEN)
            ]
        store.write(writes, sync=True)
    finally:
        store.close()
