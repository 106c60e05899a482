"""Nothing personal on the chain, nor in anything else that a node writes: marked words in all input, no file has one.

A labelled and a plain bundle with a canary in every field that people fill, a FHIR Consent, and calls that are refused
with a canary in them. They travel the whole path: they are in what the reader opens at the end. Then every byte below
every node's folder is searched while the nodes run and again after they have stopped.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from consilium.client import consenting, reading, recording
from consilium.client.recording import class_map_from
from consilium.client.wallet import Wallet
from consilium.gateway.bundle import parse_bundle
from consilium.gateway.consent_fhir import Known
from consilium.gateway.consent_intake import take_consent
from consilium.gateway.importing import prepare
from consilium.gateway.synthetic import generate_bundle
from consilium.gateway.synthetic_labelled import generate_labelled
from consilium.ledger.errors import Refused
from consilium.node.testing import LocalCluster
from scripts.canaries import STEM, files_below, find, needles_of, plant

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

POLICY = "https://profiles.ihe.net/ITI/PCF/Policy-basic-normal"


async def test_no_marked_word_is_in_any_file_of_any_node(tmp_path: Path) -> None:
    bundles = [plant(generate_labelled(5).raw, "ada"), plant(generate_bundle(7), "bob")]
    texts = [text for bundle in bundles for text in bundle.texts[:24]]
    async with LocalCluster(4, tmp_path / "cluster") as cluster:
        for number, bundle in enumerate(bundles):
            read = await _record_and_read(cluster, f"{STEM} {number}", bundle.raw)
            assert sum(payload.count(STEM.encode()) for payload in read) == len(bundle.texts)
        await _refused_calls(cluster)
        folders = [node.path for node in cluster.nodes]
        assert _seen(folders, texts) == []
        for index in range(4):
            await cluster.stop_node(index)
        files = files_below(folders)
        assert {"vault", "chain"} <= {part for path in files for part in path.parts}
        assert sum(path.stat().st_size for path in files) > 4 * sum(len(bundle.raw) for bundle in bundles)
        assert _seen(folders, texts) == []
        # The same search, on a copy of one node's folder with one byte string of the input let slip into it.
        copy = tmp_path / "copy"
        shutil.copytree(folders[0], copy)
        table = max(copy.rglob("*.l[do][bg]"), key=lambda path: path.stat().st_size)
        with table.open("r+b") as file:
            file.seek(table.stat().st_size // 2)
            file.write(texts[0].encode())
        assert [path for path, _ in _seen([copy], texts)] == [table]


async def _record_and_read(cluster: LocalCluster, label: str, raw: bytes) -> list[bytes]:
    """Import at institution 0, consent by way of a FHIR Consent, read at institution 1. Returns what was opened."""
    home, away = cluster.session(0), cluster.session(1)
    patient = Wallet.create(label, "patient")
    await recording.enrol(home, "patient", patient)
    kept: list[Wallet] = []
    others = {cluster.institution(one).identity: cluster.clients[one] for one in (1, 2)}
    owner = cluster.session(0, patient)
    patient = await recording.open_compartments(owner, patient, home.identity, kept.append, others=others)
    owner = cluster.session(0, patient)
    class_map = await class_map_from(owner, patient)
    prepared = prepare(parse_bundle(raw))
    imported = await recording.import_records(
        home, patient.identity, prepared.payloads, class_map=class_map, vaults=tuple(others.values())
    )
    denied = await reading.request(away, "TREAT", record_ids=imported.records[:50])
    assert not denied.allowed
    known = Known(
        patient.identity,
        class_map,
        parties={f"Organization/{STEM}": away.identity},
        patients={f"Patient/{STEM}": patient.identity},
        policies=frozenset({POLICY}),
    )
    await take_consent(home, owner, json.dumps(_consent()).encode(), known, vaults=tuple(others.values()))
    now_ms = int(time.time() * 1000)
    await consenting.grant(
        owner, away.identity, ["TREAT"], not_before_ms=now_ms - 60_000, not_after_ms=now_ms + 3_600_000
    )
    opened: list[bytes] = []
    for start in range(0, len(imported.records), 50):
        asked = await reading.request(away, "TREAT", record_ids=imported.records[start : start + 50])
        assert asked.allowed
        custodians = [cluster.clients[one] for one in range(3)]
        opened += [one.payload for one in await reading.fetch(away, asked, *custodians)]
    return opened


async def _refused_calls(cluster: LocalCluster) -> None:
    """What a client sends by mistake must not end up in a log either."""
    for client in cluster.clients:
        for method in ("resolve", "resolve"):
            with pytest.raises(Refused):
                await getattr(client, method)(f"did:{STEM}:1")
        with pytest.raises(Refused):
            await client.put_envelopes([STEM.encode() * 40])
        answers = await client.submit([STEM.encode() * 20])
        assert answers[0].code is not None


def _consent() -> dict[str, Any]:
    treat = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}
    recipient = {"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}
    scope = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}
    return {
        "resourceType": "Consent",
        "id": STEM,
        "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{STEM}</div>'},
        "status": "active",
        "scope": {"coding": [scope], "text": STEM},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{STEM}", "display": STEM},
        "dateTime": "2022-06-13",
        "policy": [{"uri": POLICY}],
        "provision": {
            "type": "permit",
            "purpose": [treat],
            "actor": [{"role": {"coding": [recipient]}, "reference": {"reference": f"Organization/{STEM}"}}],
        },
    }


def _seen(folders: list[Path], texts: list[str]) -> list[tuple[Path, str]]:
    return [(one.file, one.form) for one in find(folders, needles_of(texts))]
