"""`consilium erasure` against a real node: ordered, held, listed, certified, and the certificate verified offline."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consilium.client import recording
from consilium.client import wallet as wallets
from consilium.client.envelope import HeaderFields
from consilium.client.recording import Payload
from consilium.client.wallet import Wallet
from consilium.gateway.synthetic import generate_bundle
from consilium.node.cli.main import app
from consilium.node.founding import LOCAL_COST
from consilium.node.testing import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

TIMEOUT_S = 60.0
PASSPHRASE = "a passphrase for a test"


def damage(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


async def run(*arguments: str, status: int = 0) -> Any:
    done = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--json"])
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


async def shown(*arguments: str) -> str:
    done = await asyncio.to_thread(CliRunner().invoke, app, [*arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


async def test_an_erasure_from_order_to_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_PASSPHRASE", PASSPHRASE)
    async with LocalCluster(1) as cluster:
        node = str(cluster.nodes[0].path)
        hospital = cluster.session(0)
        patient = Wallet.create("ada", "patient")
        await recording.enrol(hospital, "patient", patient)
        owner = cluster.session(0, patient)
        patient = await recording.open_compartments(owner, patient, hospital.identity, lambda kept: None)
        imported = await recording.import_records(
            hospital,
            patient.identity,
            [Payload(b"{}" * 50, HeaderFields("Binary", str(n), "x")) for n in range(2)],
        )
        await cluster.commit(0)
        wallet = tmp_path / "ada.wallet"
        wallets.save(patient, wallet, PASSPHRASE, LOCAL_COST)
        sign = ("--node", node, "--wallet", str(wallet))
        first, second = (one.hex() for one in imported.records)

        held = await run(
            "erasure", "hold", "--node", node, "--patient", patient.identity.hex(),
            "--basis", "legal-obligation", "--until", "30d",
        )  # fmt: skip
        kept = await run("erasure", "request", *sign, "--record", first, "--basis", "objected", status=1)
        assert (kept["outcome"], kept["kept"][0]["hold"]) == ("refused", held["hold"])
        await run("erasure", "lift", held["hold"], "--node", node)
        ordered = await run(
            "erasure", "request", "--node", node, "--patient", patient.identity.hex(),
            "--record", first, "--basis", "recorded-in-error",
        )  # fmt: skip
        assert ordered["outcome"] == "pending"
        early = await run("erasure", "enact", ordered["erasure"], "--node", node, status=1)
        assert early["error"]["code"] == "erasure.contestable"
        await run("erasure", "contest", ordered["erasure"], *sign)

        erased = await run("erasure", "request", *sign, "--record", second, "--basis", "objected")
        assert erased["outcome"] == "carried-out"
        async with asyncio.timeout(TIMEOUT_S):
            while not (await run("erasure", "status", erased["erasure"], "--node", node))["complete"]:
                await cluster.commit(0)
        listed = await run("erasure", "list", "--node", node, "--patient", patient.identity.hex())
        assert [one["outcome"] for one in listed] == ["refused", "contested", "carried-out"]
        lines = await run("records", "list", "--node", node, "--patient", patient.identity.hex())
        assert [line["erased"] for line in lines] == [False, True]

        file = str(tmp_path / "ada.erasure")
        made = await run("erasure", "certificate", erased["erasure"], "--node", node, "--out", file)
        assert made["complete"]
        again = ("erasure", "certificate", erased["erasure"], "--node", node, "--out", file)
        assert (await run(*again, status=2))["error"]["code"] == "cli.unwritable"
        words = await shown("erasure", "status", erased["erasure"], "--node", node)
        assert "1 of 1 holders attested" in words
        genesis = cluster.genesis_path.read_bytes()

    (tmp_path / "genesis.json").write_bytes(genesis)
    verify = ("erasure", "verify", file, "--genesis", str(tmp_path / "genesis.json"))
    proved = await run(*verify)
    assert (proved["valid"], proved["complete"], proved["records"]) == (True, True, [second])
    assert "Complete." in await shown(*verify)
    damage(Path(file))
    assert "error" in await run(*verify, status=1)


async def test_who_is_who_is_destroyed_when_the_whole_patient_is_erased_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSILIUM_PASSPHRASE", PASSPHRASE)
    async with LocalCluster(3) as cluster:
        folder = cluster.nodes[0].path
        node = ("--node", str(folder))
        bundle, patients = tmp_path / "ada.json", tmp_path / "patients"
        bundle.write_bytes(generate_bundle(11))
        bring = ("records", "import", str(bundle), *node, "--patients", str(patients))
        (imported,) = await run(*bring)
        ada = imported["patient"]
        (wallet,) = patients.glob("*.wallet")
        person = wallet.stem
        journal = folder / "intake.sqlite"
        mapping = [person.encode(), bytes.fromhex(ada), hashlib.sha256(bundle.read_bytes()).digest()]
        assert all(one in journal.read_bytes() for one in mapping)

        unlink = ("erasure", "unlink", *node, "--patient", ada, "--patients", str(patients))
        assert (await run(*unlink, status=1))["error"]["code"] == "erasure.mapping_needed"
        one = ("--record", imported["records"][0], "--basis", "objected")
        sign = (*node, "--wallet", str(wallet))
        await run("erasure", "request", *sign, *one)
        await cluster.commit(0)
        assert (await run(*unlink, status=1))["error"]["code"] == "erasure.mapping_needed"
        assert all(one in journal.read_bytes() for one in mapping)

        erased = await run("erasure", "request", *sign, "--basis", "consent-withdrawn")
        async with asyncio.timeout(TIMEOUT_S):
            while not (await run("erasure", "status", erased["erasure"], *node))["complete"]:
                await cluster.commit(0)
        done = await run(*unlink)
        assert done == {"patient": ada, "person": True, "imports": 1, "wallet": str(wallet)}
        assert list(patients.iterdir()) == []
        assert sorted(one.name for one in folder.glob("intake*")) == [journal.name]
        raw = journal.read_bytes()
        assert not [one for one in mapping if one in raw]
        for file in folder.rglob("*"):  # nor does anything else of the node know the person
            assert not file.is_file() or person.encode() not in file.read_bytes()
        assert (await run(*unlink))["person"] is False
        assert "nothing here says whose" in await shown(*unlink)

        # Who comes again is a stranger.
        (again,) = await run(*bring)
        assert again["patient"] != ada
