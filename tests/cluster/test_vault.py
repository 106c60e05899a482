"""Envelopes find their way to the custodian, and come back when they are lost or damaged."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from consilium.client import consenting, reading, recording
from consilium.client.envelope import HeaderFields, envelope_digest, envelope_hasher
from consilium.client.recording import Payload
from consilium.client.streaming import get_envelope
from consilium.client.studies import read_study, record_study
from consilium.client.wallet import Wallet
from consilium.contracts import records
from consilium.ledger.errors import Refused
from consilium.node.stores import VAULT_FOLDER
from consilium.node.testing import LocalCluster
from consilium.storage import schema
from consilium.storage.envelopes import check_all
from consilium.storage.leveldb import LevelKV
from consilium.storage.vault import Vault

pytestmark = pytest.mark.cluster

TIMEOUT_S = 60.0
STUDY_MIB = 24
PAYLOADS = [os.urandom(size) for size in (100, 70_000, 3_000_000)]


async def until(check: Callable[[], object]) -> None:
    """Ask again until it does not raise Refused."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                await check()  # type: ignore[misc]
                return
            except Refused:
                await asyncio.sleep(0.2)


async def settle(cluster: LocalCluster) -> None:
    """Let every node's certified state have what was committed so far."""
    await cluster.commit(0)
    last = await cluster.commit(0)
    await cluster.wait_height(last.height)


async def test_envelopes_are_replicated_and_repaired() -> None:
    async with LocalCluster(nodes=4) as cluster:
        patient = Wallet.create("patient")
        custodian, author, reader = (cluster.session(index) for index in (0, 1, 2))
        await recording.enrol(custodian, "patient", patient)
        owner = cluster.session(0, patient)
        patient = await recording.open_compartments(owner, patient, custodian.identity, lambda kept: None)
        await settle(cluster)
        imported = await recording.import_records(
            author, patient.identity, [Payload(raw, HeaderFields("Binary", "1", "x")) for raw in PAYLOADS]
        )
        await settle(cluster)
        digests = []
        for identifier in imported.records:
            record = await author.state(records.RECORDS, identifier)
            assert record is not None
            digests.append(record.envelope)
        for digest in digests:
            await until(lambda digest=digest: cluster.clients[0].get_envelope(digest))  # type: ignore[misc]
        for node in (2, 3):
            with pytest.raises(Refused):
                await cluster.clients[node].get_envelope(digests[0])

        # The custodian loses one envelope and has another one damaged: both come back from the author's node.
        await cluster.kill(0)
        level = LevelKV(cluster.nodes[0].config().data_dir / VAULT_FOLDER)
        vault = Vault(level, envelope_digest, hasher=envelope_hasher)
        vault.forget([digests[0]])
        key, piece = next(iter(level.iterate(schema.PIECE)))
        level.write([(key, b"?" + piece[1:])], sync=True)
        assert check_all(vault) != []
        level.close()
        await cluster.restart(0)
        for digest in digests:
            await until(lambda digest=digest: cluster.clients[0].get_envelope(digest))  # type: ignore[misc]

        now_ms = int(time.time() * 1000)
        await consenting.grant(
            cluster.session(0, patient),
            reader.identity,
            ["TREAT"],
            not_before_ms=now_ms - 60_000,
            not_after_ms=now_ms + 3_600_000,
        )
        asked = await reading.request(reader, "TREAT", record_ids=imported.records)
        opened = await reading.fetch(reader, asked, cluster.clients[0])
        assert sorted(one.payload for one in opened) == sorted(PAYLOADS)


async def test_a_study_is_recorded_replicated_and_read_in_pieces(tmp_path: Path) -> None:
    original = tmp_path / "study.dcm"
    with original.open("wb") as file:
        for _ in range(STUDY_MIB):
            file.write(os.urandom(1 << 20))
        file.write(b"and a tail")
    async with LocalCluster(nodes=4) as cluster:
        patient = Wallet.create("patient")
        custodian, author = cluster.session(0), cluster.session(1)
        await recording.enrol(custodian, "patient", patient)
        owner = cluster.session(0, patient)
        await recording.open_compartments(owner, patient, custodian.identity, lambda kept: None)
        await settle(cluster)
        token = cluster.nodes[1].token()
        header = HeaderFields("ImagingStudy", "1", "application/dicom")
        study = await record_study(author, token, patient.identity, original, header, tmp_path)
        back = tmp_path / "back.dcm"
        signed = await read_study(author, token, study.record, back)
        assert signed.fields == header
        assert back.read_bytes() == original.read_bytes()
        assert sorted(os.listdir(tmp_path)) == ["back.dcm", "study.dcm"]

        async def custodian_has_it() -> None:
            pieces = get_envelope(cluster.nodes[0].url(), study.seals.digest, cluster.nodes[0].token())
            hasher = envelope_hasher()
            async for piece in pieces:
                hasher.update(piece)
            assert hasher.digest() == study.seals.digest

        await until(custodian_has_it)
