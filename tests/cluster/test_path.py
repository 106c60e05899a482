"""The whole path by the commands alone, as a person types them: import, refuse, consent, read, revoke, prove."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consilium.gateway.bundle import parse_bundle
from consilium.gateway.synthetic import generate_bundle
from consilium.gateway.synthetic_labelled import generate_labelled

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

COMMAND = [sys.executable, "-P", "-m", "consilium.node.cli.main"]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("CONSILIUM_")},
    "CONSILIUM_PASSPHRASE": "a sentence of several words",
}
TIMEOUT_S = 100.0


class Terminal:
    """Runs commands in a folder. What `run` returns is what the command printed as JSON."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str, status: int = 0) -> Any:
        done = self.type(*arguments, "--json")
        assert done.returncode == status, f"{arguments}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout)

    def type(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    here = Terminal(tmp_path)
    yield here
    if (tmp_path / "demo").exists():
        here.run("cluster", "stop", "demo")


def test_import_consent_read_revoke_prove(terminal: Terminal) -> None:
    made = terminal.run("cluster", "create", "demo", "--nodes", "4")
    institutions = [node["institution"] for node in made["nodes"]]
    started = terminal.run("cluster", "start", "demo")
    assert started["started"] == ["node-0", "node-1", "node-2", "node-3"]
    raw = generate_bundle(7)
    (terminal.folder / "ada.json").write_bytes(raw)
    entries = parse_bundle(raw).entries

    ada = terminal.run("keys", "create", "--out", "ada.wallet", "--role", "patient")["identity"]
    (imported,) = terminal.run(
        "records", "import", "ada.json", "--node", "demo/node-0", "--patient-wallet", "ada.wallet"
    )
    assert imported["patient"] == ada
    assert len(imported["records"]) == len(entries)
    listed = terminal.run("records", "list", "--node", "demo/node-2", "--patient", ada)
    assert [one["record"] for one in listed] == imported["records"]
    assert all(one["visible"] for one in listed)

    read = ("records", "read", "--node", "demo/node-1", "--custodian", "demo", "--patient", ada)
    denied = terminal.run(*read, "--out", "before", status=1)
    assert denied["denied"] == len(denied["requests"][0]["verdicts"]) > 0
    assert denied["records"] == []
    assert denied["requests"][0]["verdicts"][0]["basis"] == "no-basis"

    wallet = ("--node", "demo/node-0", "--wallet", "ada.wallet")
    grant = ("consent", "grant", *wallet, "--grantee", institutions[1], "--until", "30d")
    granted = terminal.run(*grant, "--class", "all")
    allowed = terminal.run(*read, "--out", "chart")
    assert allowed["denied"] == 0
    opened = {one["record"]: Path(one["file"]).name for one in allowed["records"]}
    for record, entry in zip(imported["records"], entries, strict=True):
        assert (terminal.folder / "chart" / opened[record]).read_bytes() == entry.raw
    # Another institution was permitted nothing, and another purpose neither.
    other = ("records", "read", "--node", "demo/node-3", "--custodian", "demo", "--patient", ada)
    terminal.run(*other, "--out", "other", status=1)
    terminal.run(*read, "--purpose", "HMARKT", "--out", "other", status=1)

    (standing,) = terminal.run("consent", "list", "--node", "demo/node-3", "--patient", ada)
    assert standing["standing"] == "active"
    terminal.run("consent", "revoke", granted["consent"], *wallet)
    terminal.run("consent", "revoke", granted["consent"], *wallet, status=1)
    terminal.run(*read, "--out", "after", status=1)
    assert list((terminal.folder / "after").iterdir()) == []

    log = terminal.run("access", "log", "--node", "demo/node-2", "--patient", ada)
    asked = list(dict.fromkeys(line["transaction"] for line in log))
    verdicts = [{line["allow"] for line in log if line["transaction"] == one} for one in asked]
    assert verdicts == [{False}, {True}, {False}, {False}, {False}]
    _prove(terminal, asked[1], "ALLOW")
    _prove(terminal, asked[4], "DENY")


def test_sensitive_records_take_a_consent_of_their_own_and_two_custodians(terminal: Terminal) -> None:
    made = terminal.run("cluster", "create", "demo", "--nodes", "4")
    institutions = [node["institution"] for node in made["nodes"]]
    terminal.run("cluster", "start", "demo")
    labelled = generate_labelled(3)
    (terminal.folder / "ada.json").write_bytes(labelled.raw)
    (terminal.folder / "bob.json").write_bytes(generate_bundle(8))
    (terminal.folder / "more.json").write_bytes(labelled.raw.rstrip() + b"\n\n\n")
    originals = [entry.raw for entry in parse_bundle(labelled.raw).entries]

    ada = terminal.run("keys", "create", "--out", "ada.wallet", "--role", "patient")["identity"]
    bring = ("records", "import", "ada.json", "--node", "demo/node-0", "--patient-wallet", "ada.wallet")
    (imported,) = terminal.run(*bring)
    general = {"general"}
    sensitive = [names != general for names in labelled.expected]
    assert imported["sensitive"] == sum(sensitive) > 0
    assert imported["unserved"] == []
    assert len(set(imported["compartments"])) > 5
    assert [one != imported["compartment"] for one in imported["compartments"]] == sensitive
    assert terminal.run(*bring, status=2)["error"]["code"] == "records.imported_before"
    other = ("records", "import", "bob.json", "--node", "demo/node-0", "--patient-wallet", "ada.wallet")
    assert terminal.run(*other, status=2)["error"]["code"] == "bundle.another_patient"

    wallet = ("--node", "demo/node-0", "--wallet", "ada.wallet")
    grant = ("consent", "grant", *wallet, "--grantee", institutions[1], "--until", "30d")
    assert terminal.run(*grant)["classes"] == ["general"]
    read = ("records", "read", "--node", "demo/node-1", "--patient", ada)
    partly = terminal.run(*read, "--out", "partly", status=1)
    plain = [record for record, hidden in zip(imported["records"], sensitive, strict=True) if not hidden]
    assert sorted(one["record"] for one in partly["records"]) == sorted(plain)
    assert partly["denied"] > 0

    terminal.run(*grant, "--class", "all")
    one_of_two = terminal.type(*read, "--custodian", "demo/node-0", "--out", "too-few")
    assert one_of_two.returncode == 1
    terminal.run(*read, "--custodian", "demo", "--out", "chart")
    index = json.loads((terminal.folder / "chart" / "index.json").read_text())
    files = {one["record"]: one for one in index}
    assert len(files) == len(originals)
    for record, original in zip(imported["records"], originals, strict=True):
        assert (terminal.folder / "chart" / files[record]["file"]).read_bytes() == original
        assert files[record]["sha256"] == hashlib.sha256(original).hexdigest()
        assert files[record]["resource_type"] == json.loads(original)["resourceType"]

    # Another hospital has a file of its own for her: its node keeps the envelopes, the custodians' fetch them.
    second = ("records", "import", "more.json", "--node", "demo/node-2", "--patient-wallet", "ada.wallet")
    assert terminal.run(*second)[0]["patient"] == ada
    terminal.run(*read, "--out", "both")
    assert len(json.loads((terminal.folder / "both" / "index.json").read_text())) == 2 * len(originals)
    served = terminal.run("keys", "deliver", *wallet, "--custodian", "demo")["custodians"]
    assert sorted(served) == sorted(institutions)


def _prove(terminal: Terminal, transaction: str, verdict: str) -> None:
    terminal.run(
        "receipt", "get", transaction, "--node", "demo/node-3", "--out", "decision.receipt", "--force"
    )
    verify = ("receipt", "verify", "decision.receipt", "--genesis", "demo/genesis.json")
    proved = terminal.run(*verify)
    assert proved["transaction"] == transaction
    assert any(line.startswith(verdict) for line in proved["words"])
    file = terminal.folder / "decision.receipt"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    terminal.run(*verify, status=1)


def test_bad_input_gets_one_clear_line(terminal: Terminal) -> None:
    terminal.run("cluster", "create", "demo", "--nodes", "1")
    terminal.run("cluster", "start", "demo")
    good = json.loads(generate_bundle(3))
    patient = next(one for one in good["entry"] if one["resource"]["resourceType"] == "Patient")
    second = json.loads(json.dumps(patient))
    second["fullUrl"] = "urn:uuid:00000000-0000-4000-8000-000000000001"
    second["resource"].pop("id", None)
    invalid = json.loads(json.dumps(good))
    invalid["entry"][2]["resource"]["status"] = 7
    cases: dict[str, tuple[bytes, str]] = {
        "no-json": (b"{", "bundle.not_json"),
        "no-bundle": (b'{"resourceType":"Patient"}', "bundle.not_bundle"),
        "empty": (b"", "bundle.empty"),
        "latin": ('{"resourceType":"Bündle"}'.encode("latin-1"), "bundle.not_utf8"),
        "two": (json.dumps({**good, "entry": [*good["entry"], second]}).encode(), "bundle.several_patients"),
        "invalid": (json.dumps(invalid).encode(), "bundle.invalid_resource"),
    }
    (terminal.folder / "good.json").write_bytes(generate_bundle(4))
    for name, (raw, code) in cases.items():
        (terminal.folder / f"{name}.json").write_bytes(raw)
        place = ("--node", "demo/node-0", "--patients", "patients")
        # The good file before it is not imported either: every file is checked first.
        refused = terminal.run("records", "import", "good.json", f"{name}.json", *place, status=2)
        assert refused["error"]["code"] == code, refused
        assert f"{name}.json" in refused["error"]["detail"]
    huge = terminal.folder / "huge.json"
    with huge.open("wb") as file:
        file.truncate(500 * 1024 * 1024)
    refused = terminal.run("records", "import", "huge.json", *place, status=2)
    assert refused["error"]["code"] == "bundle.oversized"
    assert "entry[2]" in terminal.type("records", "import", "invalid.json", *place).stderr
    status = terminal.run("node", "status", "demo/node-0")
    assert status["vault"]["envelopes"] == 0


def test_institutions_found_a_network_by_exchanging_cards(terminal: Terminal) -> None:
    names = ["anna", "bert"]
    for index, name in enumerate(names):
        # Port 0 is what a founder must not give; these are never listened on by anybody else in this test.
        address = f"127.0.0.1:{_port()}"
        place = ("--address", address, "--listen", address, "--rpc", "127.0.0.1:0")
        made = terminal.run("node", "init", name, "--name", name, *place, "--generate-passphrase")
        assert made["card"]["name"] == name, index
    cards = [f"{name}/card.json" for name in names]
    founded = terminal.run("network", "found", *cards, "--name", "two", "--out", "genesis.json")
    shown = terminal.run("network", "show", "genesis.json")
    assert shown["chain_id"] == founded["chain_id"]
    processes = []
    try:
        for name in names:
            joined = terminal.run("node", "join", name, "--genesis", "genesis.json", *cards)
            assert joined["chain_id"] == founded["chain_id"]
            command = [*COMMAND, "node", "start", name]
            processes.append(
                subprocess.Popen(
                    command, cwd=terminal.folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
                )
            )
        for process in processes:
            _wait_started(process)
        (terminal.folder / "ada.json").write_bytes(generate_bundle(5))
        (imported,) = terminal.run(
            "records", "import", "ada.json", "--node", "anna", "--patients", "patients"
        )
        listed = terminal.run("records", "list", "--node", "bert", "--patient", imported["patient"])
        assert len(listed) == len(imported["records"])
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        statuses = [process.wait(20) for process in processes]
        for process in processes:
            if process.stderr is not None:
                process.stderr.close()
    assert statuses == [0, 0]


def _wait_started(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if "node.started" in line:
            return
    raise AssertionError("the node ended before it started")


def _port() -> int:
    from consilium.node.ports import Reservation

    with Reservation(1) as reserved:
        return reserved.ports[0]
