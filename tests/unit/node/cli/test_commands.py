"""Commands that need no running network, and what the others say where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consilium.ledger.catalogue import CATALOGUE
from consilium.node import founding
from consilium.node.cli.inputs import PASSPHRASE_VARIABLE
from consilium.node.cli.main import app
from consilium.node.cli.node import status_rows
from consilium.node.ports import Reservation

INIT = ("--address", "127.0.0.1:7100", "--listen", "127.0.0.1:0", "--rpc", "127.0.0.1:0")


@pytest.fixture(autouse=True)
def passphrase(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "a sentence of words")
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, status: int = 0) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == status, done.output
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def refused(*arguments: str, status: int = 2) -> str:
    return str(run(*arguments, status=status)["error"]["code"])


def test_errors_are_explained() -> None:
    assert run("error", "bundle.empty") == {
        "code": "bundle.empty",
        "cause": CATALOGUE["bundle.empty"].cause,
        "remedy": CATALOGUE["bundle.empty"].remedy,
    }
    assert [one["code"] for one in run("error")] == sorted(CATALOGUE)
    answer = run("error", "bundle.emty", status=2)
    assert answer["error"]["code"] == "cli.unknown_code"
    assert "bundle.empty" in answer["error"]["detail"]


def test_the_version_is_shown() -> None:
    assert run("version")["version"].count(".") == 2


def test_a_wallet_is_made_and_shown() -> None:
    made = run("keys", "create", "--out", "ada.wallet", "--role", "patient", "--label", "Ada")
    shown = run("keys", "show", "ada.wallet")
    assert (shown["label"], shown["role"], shown["compartments"]) == ("Ada", "patient", [])
    assert {name: shown[name] for name in made} == made
    assert made["did"].startswith("did:key:z6Mk")
    assert Path("ada.wallet").stat().st_mode & 0o777 == 0o600
    people = CliRunner().invoke(app, ["keys", "show", "ada.wallet"])
    assert made["did"] in people.stdout


def test_a_wallet_is_never_overwritten() -> None:
    run("keys", "create", "--out", "ada.wallet")
    before = Path("ada.wallet").read_bytes()
    assert refused("keys", "create", "--out", "ada.wallet") == "wallet.exists"
    assert Path("ada.wallet").read_bytes() == before


def test_a_wrong_passphrase_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run("keys", "create", "--out", "ada.wallet")
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "another sentence")
    assert refused("keys", "show", "ada.wallet") == "wallet.wrong_passphrase"
    told = CliRunner().invoke(app, ["keys", "show", "ada.wallet"]).stderr
    assert "ada.wallet: The passphrase does not open this wallet." in told
    monkeypatch.delenv(PASSPHRASE_VARIABLE)
    assert refused("keys", "show", "ada.wallet") == "cli.no_passphrase"


def test_files_that_are_no_wallets() -> None:
    assert refused("keys", "show", "no.wallet") == "wallet.missing"
    Path("text").write_text("hello")
    assert refused("keys", "show", "text") == "wallet.damaged"
    assert refused("keys", "create", "--out", "x", "--label", "y" * 200) == "cli.bad_value"


def test_a_node_is_made_with_a_card_that_checks() -> None:
    made = run("node", "init", "anna", "--name", "anna", *INIT, "--generate-passphrase")
    card = founding.read_card(Path("anna/card.json"))
    assert made["card"]["node_key"] == card.node_key.hex()
    assert refused("node", "init", "anna", "--name", "anna", *INIT) == "founding.folder_taken"
    for name in ("node.key", "rpc.token", "institution.wallet", "passphrase"):
        assert Path("anna", name).stat().st_mode & 0o777 == 0o600, name


def test_addresses_must_be_usable() -> None:
    for address in ("nowhere", "host:0", "host:99999", ":7100"):
        code = refused("node", "init", "x", "--name", "x", "--address", address, "--generate-passphrase")
        assert code == "founding.bad_address"
    assert not Path("x").exists()


def test_a_network_is_founded_and_joined() -> None:
    for index, name in enumerate(("anna", "bert")):
        place = ("--address", f"127.0.0.1:{7100 + index}", "--rpc", "127.0.0.1:0", "--generate-passphrase")
        run("node", "init", name, "--name", name, *place)
    cards = ("anna/card.json", "bert/card.json")
    founded = run("network", "found", *cards, "--name", "two", "--out", "genesis.json")
    shown = run("network", "show", "genesis.json")
    assert (shown["chain_id"], shown["network"], shown["quorum"]) == (founded["chain_id"], "two", 2)
    assert refused("network", "found", *cards, "--out", "genesis.json") == "cli.unwritable"
    assert refused("network", "found", cards[0], cards[0], "--out", "other.json") == "founding.bad_cards"
    joined = run("node", "join", "anna", "--genesis", "genesis.json", *cards)
    assert joined["chain_id"] == founded["chain_id"]
    run("node", "init", "carl", "--name", "carl", *INIT, "--generate-passphrase")
    assert refused("node", "join", "carl", "--genesis", "genesis.json") == "founding.not_a_founder"


def test_joining_without_a_card_is_said_and_joining_again_adds_it() -> None:
    for index, name in enumerate(("anna", "bert")):
        place = ("--address", f"127.0.0.1:{7100 + index}", "--rpc", "127.0.0.1:0", "--generate-passphrase")
        run("node", "init", name, "--name", name, *place)
    run("network", "found", "anna/card.json", "bert/card.json", "--out", "genesis.json")
    join = ("node", "join", "anna", "--genesis", "genesis.json")
    bert = founding.read_card(Path("bert/card.json"))
    named = {"key": bert.node_key.hex(), "institution": bert.institution.hex()}
    assert run(*join)["without_address"] == [named]
    people = CliRunner().invoke(app, [*join])
    assert people.exit_code == 0
    assert f"no address of validator {named['key']}" in people.stderr
    again = run(*join, "bert/card.json")
    assert (again["peers"], again["without_address"]) == (1, [])
    assert run(*join, "anna/card.json")["peers"] == 1
    run("network", "found", "anna/card.json", "--name", "other", "--out", "other.json")
    assert refused("node", "join", "anna", "--genesis", "other.json") == "founding.already_joined"
    assert "quorum 2 of 2" in CliRunner().invoke(app, ["network", "show", "genesis.json"]).stdout


def test_stores_of_nobody_are_not_joined() -> None:
    """Data in a folder that never joined is somebody else's: only joining again keeps what is there."""
    run("node", "init", "anna", "--name", "anna", *INIT, "--generate-passphrase")
    run("network", "found", "anna/card.json", "--out", "genesis.json")
    run("node", "join", "anna", "--genesis", "genesis.json")
    Path("anna/genesis.json").unlink()
    assert refused("node", "join", "anna", "--genesis", "genesis.json") == "store.exists"


def test_what_a_node_says_is_shown_value_by_value() -> None:
    said = {
        "tip_time_ms": 0,
        "institution": None,
        "validators": [{"key": "ab" * 32, "connected": True}, {"key": "cd" * 32, "connected": False}],
        "voting": {"memory": "intact", "inner": {"silent": ""}},
        "healthy": True,
    }
    assert status_rows(said) == [
        ("tip_time", "1970-01-01 00:00:00 UTC"),
        ("institution", "-"),
        ("validators", "2, 1 connected"),
        ("validators.1", f"key {'ab' * 16}…, connected"),
        ("validators.2", f"key {'cd' * 16}…, not connected"),
        ("voting.memory", "intact"),
        ("voting.inner.silent", ""),
        ("healthy", "yes"),
    ]


def test_an_application_is_signed_and_read_strictly() -> None:
    run("node", "init", "anna", "--name", "anna", *INIT, "--generate-passphrase")
    assert refused("governance", "apply", "anna", "--out", "a") == "config.missing"  # of which network?
    run("network", "found", "anna/card.json", "--out", "genesis.json")
    run("node", "join", "anna", "--genesis", "genesis.json")
    assert run("governance", "apply", "anna", "--out", "a", "--role", "author")["roles"] == ["author"]
    assert refused("governance", "apply", "anna", "--out", "a") == "cli.unwritable"
    good = json.loads(Path("a").read_text())
    propose = ("governance", "propose", "--node", "http://x", "--admit", "a")
    bad = [
        {},
        [],
        good | {"roles": ["king"]},
        good | {"proof": "00"},
        good | {"key": "zz"},
        good | {"more": 1},
    ]
    for document in bad:
        Path("a").write_text(json.dumps(document))
        answer = run(*propose, status=2)["error"]
        assert answer["code"] == "cli.bad_value"
        assert "institution's wallet" not in answer["detail"]


def test_a_receipt_is_not_overwritten() -> None:
    Path("r").write_bytes(b"earlier")
    with Reservation(1) as reserved:
        get = ("receipt", "get", "00" * 32, "--node", f"http://127.0.0.1:{reserved.ports[0]}", "--out", "r")
        assert refused(*get) == "cli.unwritable"
        assert refused(*get, "--force", status=3) == "rpc.unreachable"
        extend = ("receipt", "extend", "r", *get[3:])
        assert refused(*extend) == "cli.unwritable"
        assert refused(*extend, "--force", status=1) == "receipt.invalid"
    assert Path("r").read_bytes() == b"earlier"


def test_a_card_that_was_changed_is_refused() -> None:
    run("node", "init", "anna", "--name", "anna", *INIT, "--generate-passphrase")
    text = Path("anna/card.json").read_text()
    for name, changed in {
        "name": text.replace('"anna"', '"bert"'),
        "cut": text[:-20],
        "other": "{}",
        "list": "[]",
    }.items():
        Path(f"{name}.json").write_text(changed)
        assert refused("network", "found", f"{name}.json", "--out", "g.json") == "founding.bad_card"
    assert refused("network", "found", "none.json", "--out", "g.json") == "config.missing"
    assert not Path("g.json").exists()


def test_a_cluster_that_is_stopped_says_so() -> None:
    made = run("cluster", "create", "demo", "--nodes", "2")
    assert [node["name"] for node in made["nodes"]] == ["node-0", "node-1"]
    reports = run("cluster", "status", "demo", status=1)
    assert [(one["pid"], one["error"]) for one in reports] == [(None, "stopped"), (None, "stopped")]
    assert run("cluster", "stop", "demo") == []
    assert refused("cluster", "create", "demo") == "founding.folder_taken"
    assert refused("cluster", "start", "demo", "--only", "2") == "cli.bad_value"
    for arguments in (
        ("node", "status", "demo/node-0"),
        ("records", "list", "--node", "demo/node-0", "--patient", "00" * 16),
    ):
        answer = run(*arguments, status=3)
        assert answer["error"]["code"] == "rpc.unreachable"
        assert "demo/node-0`" in answer["error"]["detail"]
    assert refused("node", "status", "demo") == "cli.bad_value"
    people = CliRunner().invoke(app, ["cluster", "status", "demo"])
    assert people.exit_code == 1
    assert "node-1" in people.stdout


def test_no_cluster_is_no_cluster() -> None:
    for command in ("start", "status", "stop"):
        assert refused("cluster", command, "nowhere") == "cluster.missing"
    done = CliRunner().invoke(app, ["cluster", "status", "x", "--watch", "--json"])
    assert done.exit_code == 2


def test_a_node_that_does_not_answer_is_unreachable() -> None:
    with Reservation(1) as reserved:
        url = f"http://127.0.0.1:{reserved.ports[0]}"
        run("keys", "create", "--out", "ada.wallet")
        who = "00" * 16
        for arguments in (
            ("node", "status", url),
            ("records", "list", "--node", url, "--patient", who),
            ("access", "log", "--node", url, "--patient", who),
            ("consent", "list", "--node", url, "--patient", who),
            ("governance", "list", "--node", url),
            ("receipt", "get", "00" * 32, "--node", url, "--out", "r"),
            ("consent", "revoke", who, "--node", url, "--wallet", "ada.wallet"),
        ):
            assert refused(*arguments, status=3) == "rpc.unreachable", arguments
    assert not Path("r").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("records", "list", "--node", "http://x", "--patient", "zz"), "cli.bad_value"),
        (("consent", "revoke", "12", "--node", "http://x", "--wallet", "w"), "cli.bad_value"),
        (("receipt", "get", "12", "--node", "http://x", "--out", "r"), "cli.bad_value"),
        (("receipt", "extend", "none", "--node", "http://x", "--out", "r"), "cli.unreadable"),
        (("governance", "vote", "12", "--node", "http://x"), "cli.bad_value"),
        (("governance", "propose", "--node", "http://x", "--suspend", "12"), "cli.bad_value"),
        (("governance", "propose", "--node", "http://x", "--suspend", "00" * 16), "cli.bad_value"),
        (("governance", "propose", "--node", "http://x", "--remove-validator", "12"), "cli.bad_value"),
        (("governance", "propose", "--node", "http://x", "--admit", "none"), "config.missing"),
        (("governance", "propose", "--node", "http://x", "--add-validator", "none"), "config.missing"),
        (("governance", "apply", "nowhere", "--out", "a"), "config.missing"),
        (("receipt", "get", "123", "--kind", "state", "--node", "http://x", "--out", "r"), "cli.bad_value"),
        (("records", "list", "--node", "nowhere", "--patient", "00" * 16), "config.missing"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[str, ...], code: str) -> None:
    assert refused(*arguments) == code


def test_a_consent_is_checked_before_anybody_is_asked() -> None:
    grant = ("consent", "grant", "--node", "http://x", "--wallet", "w", "--grantee", "00" * 16)
    assert refused(*grant, "--until", "whenever") == "cli.bad_value"
    assert refused(*grant, "--until", "30d", "--purpose", "FUN") == "consent.unknown_purpose"


@pytest.mark.parametrize(
    "arguments",
    [
        ("records", "import", "a.json", "--node", "http://x"),
        ("records", "import", "a.json", "--node", "http://x", "--patients", "p", "--patient-wallet", "w"),
        ("records", "read", "--node", "http://x", "--custodian", "http://x", "--out", "o"),
        ("consent", "list", "--node", "http://x"),
        ("receipt", "get", "00" * 32, "--node", "http://x", "--out", "r", "--height", "3"),
        ("receipt", "get", "00" * 32, "--node", "http://x", "--out", "r", "--since", "3"),
        ("receipt", "extend", "x", "--node", "http://x", "--out", "r", "--trusted-header", "00" * 32),
        ("governance", "propose", "--node", "http://x"),
        ("governance", "propose", "--node", "http://x", "--suspend", "00" * 16, "--reinstate", "00" * 16),
    ],
)
def test_options_that_exclude_each_other(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2
    assert "Usage" in done.output
    error = run(*arguments, status=2)["error"]
    assert error["code"] == "cli.bad_value"
    assert error["detail"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("node", "nonsense"),
        ("--nonsense",),
        ("node",),
        ("node", "status"),
        ("node", "status", "x", "--y"),
    ],
)
def test_wrong_usage_is_json_too(arguments: tuple[str, ...]) -> None:
    error = run(*arguments, status=2)["error"]
    assert error["code"] == "cli.bad_value"
    assert error["remedy"] == CATALOGUE["cli.bad_value"].remedy


def test_what_is_no_receipt_proves_nothing() -> None:
    run("node", "init", "anna", "--name", "anna", *INIT, "--generate-passphrase")
    run("network", "found", "anna/card.json", "--out", "genesis.json")
    verify = ("receipt", "verify", "r", "--genesis", "genesis.json")
    assert refused(*verify) == "cli.unreadable"
    for raw in (b"", b"hello", bytes(100), b"\xff" * 10_000):
        Path("r").write_bytes(raw)
        assert refused(*verify, status=1).startswith("receipt.")
    Path("genesis.json").write_text("{}")
    assert refused(*verify) == "genesis.malformed"


def test_a_bad_bundle_is_named_with_its_file() -> None:
    run("cluster", "create", "demo", "--nodes", "1")
    from consilium.node.cluster import open_cluster
    from consilium.node.config import write_ports

    (node,) = open_cluster(Path("demo"))
    write_ports(node.config(), {"p2p": 1, "rpc": 1})
    Path("b.json").write_text("{}")
    answer = run("records", "import", "b.json", "--node", "demo/node-0", "--patients", "p", status=2)
    assert answer["error"]["code"] == "bundle.not_bundle"
    assert answer["error"]["detail"].startswith("b.json: ")
    assert not Path("p").exists()
