"""What an institution takes in: every file checked before the first is imported, a wallet for each patient."""

from __future__ import annotations

from pathlib import Path

import pytest

from consilium.client import wallet as wallets
from consilium.client.wallet import Wallet
from consilium.gateway.bundle import PatientKey
from consilium.gateway.synthetic import generate_bundle
from consilium.ledger.errors import Refused
from consilium.node import founding, intake

KEY = PatientKey("ab" * 32)
OTHER = PatientKey("cd" * 32)


def _file(folder: Path, name: str, raw: bytes) -> Path:
    path = folder / name
    path.write_bytes(raw)
    return path


def test_good_files_come_back_in_order(tmp_path: Path) -> None:
    paths = [_file(tmp_path, f"{seed}.json", generate_bundle(seed, 5)) for seed in (3, 1)]
    seen: list[Path] = []
    checked = intake.check_files(paths, seen.append)
    assert [one.path for one in checked] == paths == seen
    assert checked[0].bundle.patient_key != checked[1].bundle.patient_key


def test_one_bad_file_refuses_all_and_is_named(tmp_path: Path) -> None:
    good = _file(tmp_path, "good.json", generate_bundle(1, 5))
    for name, raw, code in (
        ("text.json", b"hello", "bundle.not_json"),
        ("empty.json", b"", "bundle.empty"),
        ("utf16.json", "{}".encode("utf-16"), "bundle.not_utf8"),
        ("list.json", b"[]", "bundle.not_bundle"),
    ):
        with pytest.raises(Refused) as refused:
            intake.check_files([good, _file(tmp_path, name, raw)])
        assert refused.value.code == code
        assert name in refused.value.detail
    with pytest.raises(Refused) as refused:
        intake.check_files([tmp_path / "missing.json"])
    assert refused.value.code == "bundle.unreadable"


def test_all_files_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _file(tmp_path, "a.json", generate_bundle(1, 5))
    monkeypatch.setattr(intake, "INTAKE_BYTES_MAX", path.stat().st_size)
    assert len(intake.check_files([path])) == 1
    with pytest.raises(Refused) as refused:
        intake.check_files([path, path])
    assert refused.value.code == "bundle.oversized"


def test_a_patient_has_one_wallet(tmp_path: Path) -> None:
    accounts = intake.FolderAccounts(tmp_path, "a passphrase", founding.LOCAL_COST)
    first = accounts.patient(KEY)
    assert accounts.patient(KEY).identity == first.identity
    assert accounts.patient(OTHER).identity != first.identity
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{KEY}.wallet", f"{OTHER}.wallet"]


def test_a_saved_wallet_is_found_again(tmp_path: Path) -> None:
    accounts = intake.FolderAccounts(tmp_path, "a passphrase", founding.LOCAL_COST)
    before = accounts.patient(KEY)
    accounts.save(KEY, before)
    assert accounts.patient(KEY).identity == before.identity


def test_without_a_passphrase_the_folder_keeps_one(tmp_path: Path) -> None:
    folder = tmp_path / "patients"
    first = intake.FolderAccounts.open(folder, None).patient(KEY)
    again = intake.FolderAccounts.open(folder, None).patient(KEY)
    assert again.identity == first.identity
    assert (folder / intake.PASSPHRASE_FILE).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(Refused) as refused:
        intake.FolderAccounts.open(folder, "another passphrase").patient(KEY)
    assert refused.value.code == "wallet.wrong_passphrase"


def test_one_wallet_is_one_patient(tmp_path: Path) -> None:
    path = tmp_path / "ada.wallet"
    wallet = Wallet.create("Ada", "patient")
    wallets.save(wallet, path, "a passphrase", founding.LOCAL_COST)
    account = intake.SingleAccount(path, "a passphrase")
    assert account.patient(KEY).identity == wallet.identity
    assert account.patient(KEY).identity == wallet.identity
    with pytest.raises(Refused) as refused:
        account.patient(OTHER)
    assert refused.value.code == "bundle.another_patient"
