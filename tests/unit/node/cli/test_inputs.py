"""What commands accept, and the clear line for what they do not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consilium.client.wallet import Wallet
from consilium.ledger.errors import Refused
from consilium.node import files, founding
from consilium.node.cli import inputs
from consilium.node.config import load_config, write_ports
from tests.unit.node.care import ward

NOW_MS = 1_800_000_000_000


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1000


def test_an_identity_is_named_by_its_id_or_its_key() -> None:
    wallet = Wallet.create("x")
    assert inputs.identity_id(wallet.identity.hex()) == wallet.identity
    assert inputs.identity_id(wallet.identity.hex().upper()) == wallet.identity
    assert inputs.identity_id(wallet.did) == wallet.identity


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "cli.bad_value"),
        ("00", "cli.bad_value"),
        ("0" * 31, "cli.bad_value"),
        ("0" * 33, "cli.bad_value"),
        ("g" * 32, "cli.bad_value"),
        ("0x" + "0" * 30, "cli.bad_value"),
        ("did:key:z6Mkx", "did.malformed"),
        ("did:web:example.org", "did.malformed"),
    ],
)
def test_what_names_nobody_is_refused(text: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        inputs.identity_id(text)
    assert refused.value.code == code


def test_an_encryption_key_names_nobody() -> None:
    from consilium.client.did import did_of_encryption_key

    with pytest.raises(Refused, match="signing key"):
        inputs.identity_id(did_of_encryption_key(Wallet.create("x").encryption_public))


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("90s", NOW_MS + 90_000),
        ("15m", NOW_MS + 900_000),
        ("12h", NOW_MS + 43_200_000),
        ("30d", NOW_MS + 30 * 86_400_000),
        ("2w", NOW_MS + 14 * 86_400_000),
        ("1y", NOW_MS + 365 * 86_400_000),
        ("2026-12-31", _ms("2027-01-01T00:00:00+00:00")),
        ("2024-02-29", _ms("2024-03-01T00:00:00+00:00")),
        ("2026-12-31T18:00:00+01:00", _ms("2026-12-31T17:00:00+00:00")),
        ("2026-12-31T18:00:00Z", _ms("2026-12-31T18:00:00+00:00")),
        ("2026-12-31 18:00:00Z", _ms("2026-12-31T18:00:00+00:00")),
    ],
)
def test_moments(text: str, expected_ms: int) -> None:
    assert inputs.moment(text, NOW_MS) == expected_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "0d",
        "-3d",
        "3",
        "d",
        "30D",
        "2026-13-01",
        "2026-02-30",
        "2026-12-31T18:00:00",
        "9999-12-31",
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        inputs.moment(text, NOW_MS)
    assert refused.value.code == "cli.bad_value"


def test_moments_are_shown_in_utc() -> None:
    assert inputs.when(_ms("2026-12-31T18:00:00+01:00")) == "2026-12-31 17:00:00 UTC"
    assert inputs.when(2**63) == f"{2**63} ms"
    assert datetime.fromtimestamp(0, UTC).year == 1970


def test_a_passphrase_comes_from_file_then_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(inputs.PASSPHRASE_VARIABLE, raising=False)
    file = tmp_path / "passphrase"
    files.create_secret(file, "from the file")
    assert inputs.passphrase(file, "w") == "from the file"
    monkeypatch.setenv(inputs.PASSPHRASE_VARIABLE, "from the environment")
    assert inputs.passphrase(file, "w") == "from the file"
    assert inputs.passphrase(None, "w") == "from the environment"


def test_nobody_to_ask_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(inputs.PASSPHRASE_VARIABLE, raising=False)
    with pytest.raises(Refused) as refused:
        inputs.passphrase(None, "ada.wallet")
    assert (refused.value.code, refused.value.detail) == ("cli.no_passphrase", "for ada.wallet")


def test_a_passphrase_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text("open")
    file.chmod(0o644)
    with pytest.raises(Refused) as refused:
        inputs.passphrase(file, "w")
    assert refused.value.code == "config.insecure_file"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = founding.Place("127.0.0.1:7100", ("127.0.0.1", 0), ("0.0.0.0", 0))
    path = tmp_path / "node"
    founding.make_folder(
        path, "anna", place, "a passphrase", passphrase_file="passphrase", cost=founding.LOCAL_COST
    )
    files.create_secret(path / "passphrase", "a passphrase")
    return path


def test_a_folder_gives_address_token_and_institution(folder: Path) -> None:
    config = load_config(folder / founding.CONFIG_FILE, {})
    config.data_dir.mkdir()
    write_ports(config, {"p2p": 1, "rpc": 4321})
    target = inputs.target(str(folder))
    assert target.url == "http://127.0.0.1:4321"
    assert target.token == files.load_token(folder / "rpc.token")
    card = founding.read_card(folder / founding.CARD_FILE)
    assert target.institution().identity == card.institution


def test_a_node_that_never_ran_has_no_address(folder: Path) -> None:
    with pytest.raises(Refused) as refused:
        inputs.target(str(folder))
    assert refused.value.code == "rpc.unreachable"


def test_an_address_gives_no_institution() -> None:
    target = inputs.target("http://127.0.0.1:1")
    assert (target.url, target.token) == ("http://127.0.0.1:1", None)
    with pytest.raises(Refused, match="give the node's folder"):
        target.institution()


def test_a_cluster_is_no_node(tmp_path: Path) -> None:
    (tmp_path / "node-0").mkdir()
    with pytest.raises(Refused, match="is a cluster"):
        inputs.target(str(tmp_path))


def test_a_missing_wallet_is_found_missing_before_a_passphrase_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        inputs.open_wallet(tmp_path / "no.wallet", None)
    assert refused.value.code == "wallet.missing"


async def test_somebody_is_known_or_it_is_said() -> None:
    async with ward() as care:
        rpc: Any = care.rpc
        await inputs.require_known(rpc, care.north.identity)
        with pytest.raises(Refused, match=r"identity\.unknown"):
            await inputs.require_known(rpc, bytes(16))
