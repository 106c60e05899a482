"""The drill: what is erased leaves every disk, stays away, and nothing else is lost.

A backup is made before, and restored after; a holder is away while it happens, and comes back. Every byte of every file
of every node is looked at, before (where it must be found) and after. Old receipts still verify, the chain replays from
its genesis, and the certificate proves offline who attested.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from consilium.client import consenting, erasing, reading, recording
from consilium.client.envelope import Context, HeaderFields
from consilium.client.erasure_certificate import Certified, verify_certificate
from consilium.client.recording import Imported, Payload
from consilium.client.session import Session
from consilium.client.streaming import download
from consilium.client.wallet import Wallet
from consilium.contracts import records
from consilium.contracts.classes import GENERAL, HIV
from consilium.contracts.registry import default_registry
from consilium.ledger.batch import verify_batch
from consilium.ledger.errors import Refused
from consilium.ledger.execution import execute_genesis
from consilium.ledger.genesis import genesis_block
from consilium.ledger.receipt import verify_receipt
from consilium.ledger.state import MemoryState
from consilium.node.backup import check_stores, restore
from consilium.node.executor import Executor
from consilium.node.stores import CHAIN_FOLDER
from consilium.node.testing import LocalCluster
from consilium.storage.chain import ChainStore, create_chain
from consilium.storage.kv import MemoryKV
from consilium.storage.leveldb import LevelKV
from tests.cluster import erasure_needles as needles
from tests.cluster.erasure_needles import Needles

pytestmark = pytest.mark.cluster

TIMEOUT_S = 120.0
TEST_TIMEOUT_S = 600
POLL_S = 0.5
SMALL, LARGE = 2_000, 2_500_000
HOLDERS = (0, 1, 2)
"""The custodian, the author, and a custodian of the sensitive classes, who will be away."""
AWAY, READER = 2, 3


@dataclass
class Chart:
    """A patient's records, with all that there is to look for."""

    patient: Wallet
    imported: Imported
    payloads: list[bytes]
    digests: list[bytes]
    envelopes: list[bytes]
    needles: Needles
    secrets: Needles


async def until(check: Callable[[], Awaitable[object]]) -> None:
    """Ask again until it holds: other processes can only be asked."""
    async with asyncio.timeout(TIMEOUT_S):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)


def canary(label: str, size: int) -> bytes:
    return (f"CANARY {label} " + os.urandom(16).hex() + " ").encode() * (size // 48)


async def record(cluster: LocalCluster, label: str, classes: Sequence[tuple[int, int]]) -> Chart:
    """A patient at institution 0, with records by institution 1: (size, class) each."""
    custodian, author = cluster.session(0), cluster.session(1)
    patient = Wallet.create("patient")
    await recording.enrol(custodian, "patient", patient)
    owner = cluster.session(0, patient)
    others = {cluster.institution(one).identity: cluster.clients[one] for one in (1, AWAY)}
    patient = await recording.open_compartments(
        owner, patient, custodian.identity, lambda kept: None, others=others
    )
    payloads = [canary(f"{label} {number}", size) for number, (size, _) in enumerate(classes)]
    imported = await recording.import_records(
        author,
        patient.identity,
        [
            Payload(raw, HeaderFields("Binary", str(number), "x"), (code,))
            for number, (raw, (_, code)) in enumerate(zip(payloads, classes, strict=True))
        ],
        class_map=await recording.class_map_from(owner, patient),
    )
    await settle(cluster)
    chart = Chart(patient, imported, payloads, [], [], Needles({}), Needles({}))
    for number, identifier in enumerate(imported.records):
        known = await author.state(records.RECORDS, identifier)
        assert known is not None
        envelope = await cluster.clients[1].get_envelope(known.envelope)
        context = Context(author.chain_id, identifier, known.compartment, known.epoch, known.author)
        name = f"{label}/{number}"
        key = needles.data_key_of(envelope, context, author.wallet)
        chart.digests.append(known.envelope)
        chart.envelopes.append(envelope)
        chart.needles = chart.needles.joined(needles.of_envelope(name, envelope, context, author.wallet))
        chart.secrets = chart.secrets.joined(needles.of_secrets(name, payloads[number], key))
    return chart


async def settle(cluster: LocalCluster) -> None:
    """Let every node's certified state have what was committed so far."""
    await cluster.commit(1)
    last = await cluster.commit(1)
    await cluster.wait_height(last.height)


async def holds(cluster: LocalCluster, node: int, digest: bytes) -> bool:
    try:
        await cluster.clients[node].get_envelope(digest)
    except Refused:
        return False
    return True


async def code_of(call: Awaitable[object]) -> str:
    try:
        await call
    except Refused as refusal:
        return refusal.code
    return "ok"


async def clean(cluster: LocalCluster, node: int, sought: Needles) -> bool:
    return not await asyncio.to_thread(sought.found, cluster.nodes[node].path)


async def there(cluster: LocalCluster, node: int, sought: Needles, names: set[str]) -> bool:
    """Exactly these are there. Asked again, since a store that runs may replace a file while it is looked at."""
    return set(await asyncio.to_thread(sought.found, cluster.nodes[node].path)) == names


async def never_served_until_gone(cluster: LocalCluster, node: int, digests: Sequence[bytes]) -> None:
    """From its first answer on, a node that came back gives none of them; in the end it says that they are gone."""
    waiting = list(digests)
    async with asyncio.timeout(TIMEOUT_S):
        while waiting:
            code = await code_of(cluster.clients[node].get_envelope(waiting[0]))
            assert code in ("vault.behind", "vault.deleted", "rpc.timeout", "rpc.unreachable"), code
            if code == "vault.deleted":
                waiting.pop(0)


def replay(cluster: LocalCluster, node: int) -> int:
    """Execute a stopped node's chain again from the genesis document alone. Every header is held against its own roots
    and the last against the node's tip. Returns the height."""
    genesis = cluster.genesis
    level = LevelKV(cluster.nodes[node].config().data_dir / CHAIN_FOLDER)
    kept = ChainStore(level, genesis.chain_id)
    memory = MemoryKV()
    outcome = execute_genesis(genesis, MemoryState(), default_registry())
    create_chain(memory, genesis_block(genesis), outcome, genesis.validator_set)
    again = Executor(ChainStore(memory, genesis.chain_id), default_registry())
    for height in range(1, kept.tip.height + 1):
        certificate = kept.certificate(height)
        assert certificate is not None
        batches = [verify_batch(raw, genesis.chain_id) for raw in kept.batches(height)]
        again.commit(kept.block(height), certificate, batches)
    assert again.store.tip == kept.tip
    level.close()
    return kept.tip.height


async def back_up(cluster: LocalCluster, node: int, to: Path) -> Path:
    """A running node's backup, as `consilium node backup` fetches it."""
    to.parent.mkdir(exist_ok=True)
    with to.open("wb") as file:
        async for piece in download(cluster.nodes[node].url(), "/backup", cluster.nodes[node].token()):
            file.write(piece)
    return to


def restored(cluster: LocalCluster, node: int, backup: Path) -> int:
    """Put a backup in place of a stopped node's data. Returns its height."""
    config = cluster.nodes[node].config()
    shutil.rmtree(config.data_dir)
    with backup.open("rb") as file:
        return restore(config, file).head.height


async def prove(session: Session, erasure: bytes, cluster: LocalCluster) -> Certified:
    raw = await erasing.certificate(session, erasure)
    return await asyncio.to_thread(verify_certificate, raw, cluster.genesis)


@pytest.mark.timeout(TEST_TIMEOUT_S)
async def test_what_is_erased_is_gone_everywhere_and_stays_gone(tmp_path: Path) -> None:
    async with LocalCluster(nodes=4) as cluster:
        gone = await record(cluster, "gone", [(SMALL, GENERAL), (LARGE, GENERAL), (SMALL, HIV), (LARGE, HIV)])
        half = await record(cluster, "half", [(SMALL, GENERAL), (SMALL, GENERAL)])
        general, sensitive = gone.digests[:2], gone.digests[2:]
        for node, digests in ((0, gone.digests + half.digests), (AWAY, sensitive)):
            for digest in digests:
                await until(lambda node=node, digest=digest: holds(cluster, node, digest))  # type: ignore[misc]

        # --- before: everything is there, and can be read
        reader, owner = cluster.session(READER), cluster.session(0, gone.patient)
        now_ms = int(time.time() * 1000)
        for patient in (gone.patient, half.patient):
            await consenting.grant(
                cluster.session(0, patient),
                reader.identity,
                ["TREAT"],
                not_before_ms=now_ms - 60_000,
                not_after_ms=now_ms + 3_600_000,
            )
        custodians = [cluster.clients[one] for one in HOLDERS]
        asked = await reading.request(reader, "TREAT", record_ids=gone.imported.records)
        opened = await reading.fetch(reader, asked, *custodians)
        assert sorted(one.payload for one in opened) == sorted(gone.payloads)
        receipts = [await cluster.clients[0].verdict_receipt(one) for one in gone.imported.transactions]
        receipts.append(await cluster.clients[0].verdict_receipt(asked.transaction))
        backups = [await back_up(cluster, node, tmp_path / f"before-{node}.backup") for node in HOLDERS]
        opened_by = await owner.state(records.PATIENTS, gone.patient.identity)
        assert opened_by is not None
        shares = [needles.shares_in(backup, opened_by.compartments) for backup in backups]
        assert [len(one.windows) for one in shares] == [9, 8, 8]
        for node, expected in (
            (0, gone.needles.names()),
            (1, gone.needles.names()),
            (AWAY, {name for name in gone.needles.names() if name.split("/")[1] in "23"}),
        ):
            await until(lambda node=node, expected=expected: there(cluster, node, gone.needles, expected))  # type: ignore[misc]
            own = shares[HOLDERS.index(node)]
            await until(lambda node=node, own=own: there(cluster, node, own, own.names()))  # type: ignore[misc]
            assert gone.secrets.joined(half.secrets).found(cluster.nodes[node].path) == {}
        assert set(gone.needles.found(tmp_path)) == gone.needles.names()  # the backups, too

        # --- erased, while one holder is away
        await cluster.stop_node(AWAY)
        verdict, _ = await erasing.request(owner, "consent-withdrawn")
        named = [cluster.institution(one).identity for one in HOLDERS]
        assert (verdict.outcome, verdict.kept, verdict.holders) == ("carried-out", [], sorted(named))
        one, _ = await erasing.request(
            cluster.session(0, half.patient), "objected", record_ids=half.imported.records[:1]
        )
        assert one.holders == sorted(named[:2])

        async def attested(erasure: bytes, missing: list[bytes]) -> bool:
            return (await erasing.status(owner, erasure)).missing == missing

        await until(lambda: attested(verdict.erasure, [named[2]]))
        await until(lambda: attested(one.erasure, []))
        await settle_without(cluster, AWAY)
        early = await prove(owner, verdict.erasure, cluster)
        assert (early.complete, early.missing, early.patient) == (False, (named[2],), gone.patient.identity)
        assert {key.destroyed for key in early.keys} == {
            True
        }  # two of three custodians suffice for two of three
        assert [one.reader for one in early.recipients] == [reader.identity]

        # --- nothing is left on the nodes that run, and nothing else went
        lost = gone.needles.joined(half.needles.only(n for n in half.needles.names() if "/0/" in n))
        kept = half.needles.only(name for name in half.needles.names() if "/1/" in name)
        for node in (0, 1, READER):
            everything = lost.joined(shares[0]).joined(shares[1]).joined(shares[2]).joined(gone.secrets)
            assert everything.found(cluster.nodes[node].path) == {}, node
        for node in (0, 1):
            await until(lambda node=node: there(cluster, node, kept, kept.names()))  # type: ignore[misc]
        assert await code_of(cluster.clients[0].get_envelope(general[0])) == "vault.deleted"
        assert await code_of(cluster.clients[0].put_envelopes([gone.envelopes[0]])) == "vault.deleted"
        denied = await reading.request(reader, "TREAT", record_ids=gone.imported.records)
        assert {verdict.basis for verdict in denied.decision.verdicts} == {"erased"}
        assert await code_of(reading.fetch(reader, asked, *custodians[:2])) == "erasure.erased"
        mixed = await reading.request(reader, "TREAT", record_ids=half.imported.records)
        found = await reading.fetch(reader, mixed, *custodians[:2])
        assert [one.payload for one in found] == [half.payloads[1]]
        later = await back_up(cluster, 0, tmp_path / "after" / "0.backup")
        assert lost.joined(shares[0]).found(later.parent) == {}

        # --- the holder that was away comes back
        assert lost.found(cluster.nodes[AWAY].path) != {}
        await cluster.restart(AWAY)
        await never_served_until_gone(cluster, AWAY, sensitive)
        await until(lambda: attested(verdict.erasure, []))
        assert await clean(cluster, AWAY, lost.joined(shares[2]))

        # --- a backup of before is restored
        await cluster.kill(0)
        before = await asyncio.to_thread(restored, cluster, 0, backups[0])
        assert before < await cluster.height(1)
        assert set(gone.needles.found(cluster.nodes[0].path)) == gone.needles.names()
        await cluster.restart(0)
        await never_served_until_gone(cluster, 0, gone.digests)
        await until(lambda: clean(cluster, 0, lost.joined(shares[0])))
        assert await holds(cluster, 0, half.digests[1])
        await settle(cluster)
        for node in range(4):
            assert lost.joined(shares[0]).joined(shares[2]).found(cluster.nodes[node].path) == {}

        # --- what was proved stays proved
        final = await prove(owner, verdict.erasure, cluster)
        assert (final.complete, sorted(final.attested)) == (True, sorted(named))
        for receipt in receipts:
            assert verify_receipt(receipt, cluster.genesis).kind == "verdict"
        height = await cluster.height(READER)
        await cluster.stop_node(READER)
        assert await asyncio.to_thread(replay, cluster, READER) >= height
        checked = await asyncio.to_thread(check_stores, cluster.nodes[READER].config())
        assert int(checked["height"]) >= height
        await cluster.restart(READER)


async def settle_without(cluster: LocalCluster, away: int) -> None:
    last = await cluster.commit(1)
    again = await cluster.commit(1)
    rest = [node for node in range(cluster.size) if node != away]
    await cluster.wait_height(max(last.height, again.height), rest)
