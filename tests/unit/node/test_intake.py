"""What an institution takes in: every file checked before the first is imported, a wallet for each patient."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from consilium.client import wallet as wallets
from consilium.client.rpc import Submission
from consilium.client.wallet import Wallet
from consilium.gateway.bundle import PatientKey
from consilium.gateway.synthetic import generate_bundle
from consilium.gateway.synthetic_labelled import generate_labelled
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import verify_transaction
from consilium.node import founding, intake
from consilium.node.intake_journal import IntakeJournal
from tests.unit.node.care import Ward, ward

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
    assert (accounts.known(KEY), accounts.known(OTHER)) == (first.identity, None)
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


def test_a_weak_passphrase_names_the_wallets_and_makes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "patients"
    with pytest.raises(Refused) as refused:
        intake.FolderAccounts.open(folder, "short")
    assert refused.value.code == "wallet.weak_passphrase"
    assert refused.value.detail.startswith(f"wallets in {folder}: ")
    assert not folder.exists()


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


# --- taking in ------------------------------------------------------------------------------------------------------


class Account:
    """One wallet in memory."""

    def __init__(self, wallet: Wallet) -> None:
        self.wallet = wallet

    def patient(self, key: PatientKey) -> Wallet:
        return self.wallet

    def known(self, key: PatientKey) -> bytes | None:
        return self.wallet.identity

    def save(self, key: PatientKey, wallet: Wallet) -> None:
        self.wallet = wallet


@pytest.fixture
async def care() -> AsyncIterator[Ward]:
    async with ward() as made:
        yield made


def _intake(care: Ward, folder: Path, wallet: Wallet | None = None, by: int = 0) -> intake.Intake:
    rpc: Any = care.rpc
    return intake.Intake(
        rpc,
        care.rpc.service.genesis,
        care.harness.wallets[by],
        Account(wallet or Wallet.create("Ada", "patient")),
        IntakeJournal(folder / f"journal-{by}"),
    )


def _checked(folder: Path, name: str, raw: bytes) -> intake.BundleFile:
    (checked,) = intake.check_files([_file(folder, name, raw)])
    return checked


async def test_records_are_classified_and_go_to_their_compartments(care: Ward, tmp_path: Path) -> None:
    labelled = generate_labelled(3)
    taken = await _intake(care, tmp_path).take(_checked(tmp_path, "a.json", labelled.raw))
    general = taken.imported.compartment
    assert [one == general for one in taken.imported.compartments] == [
        "general" in names for names in labelled.expected
    ]
    assert len(set(taken.imported.compartments)) > 5
    assert taken.sensitive == sum("general" not in names for names in labelled.expected)
    assert care.north.identity not in taken.unserved
    assert taken.unserved


async def test_one_account_takes_no_other_persons_chart(care: Ward, tmp_path: Path) -> None:
    take = _intake(care, tmp_path)
    ada, bob = (_checked(tmp_path, f"{seed}.json", generate_bundle(seed, 5)) for seed in (1, 2))
    await take.take(ada)
    before = care.rpc.calls.count("submit")
    for ask in (take.take, take.require_importable):
        with pytest.raises(Refused, match=r"bundle\.another_patient"):
            await ask(bob)
    assert care.rpc.calls.count("submit") == before


async def test_a_file_that_was_imported_is_known_again(care: Ward, tmp_path: Path) -> None:
    take = _intake(care, tmp_path)
    file = _checked(tmp_path, "a.json", generate_bundle(1, 5))
    await take.require_new(file)
    await take.take(file)
    with pytest.raises(Refused, match=r"records\.imported_before"):
        await take.require_importable(file)
    await take.require_importable(file, again=True)
    await take.require_new(_checked(tmp_path, "b.json", generate_bundle(1, 6)))


async def test_a_run_that_was_cut_off_is_begun_again(care: Ward, tmp_path: Path) -> None:
    take = _intake(care, tmp_path)
    file = _checked(tmp_path, "a.json", generate_bundle(1, 5))
    care.rpc.fail["put_envelopes"] = [Refused("rpc.timeout")]
    with pytest.raises(Refused, match=r"rpc\.timeout"):
        await take.take(file)
    await take.require_new(file)
    await take.take(file)


async def test_a_run_that_never_heard_of_its_success_is_not_repeated(
    care: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = _intake(care, tmp_path)
    file = _checked(tmp_path, "a.json", generate_bundle(1, 5))
    with monkeypatch.context() as patched:
        patched.setattr(IntakeJournal, "finish", lambda self, bundle: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await take.take(file)
    with pytest.raises(Refused, match=r"records\.imported_before"):
        await take.require_new(file)


class Held:
    """A pool that says yes to the last transaction of an import and keeps it: its sender hears no more of it."""

    def __init__(self, care: Ward) -> None:
        self.raw: list[bytes] = []
        self._care = care

    async def submit(self, transactions: Sequence[bytes]) -> list[Submission]:
        (raw,) = transactions
        signed = verify_transaction(raw, self._care.rpc.service.genesis.chain_id)
        if signed.value.operations[0].name != "records.anchor":
            return await self._care.rpc.service.submit(transactions)
        self.raw.append(raw)
        self._care.rpc.fail["wait"] = [Refused("rpc.timeout")]
        return [Submission(signed.id, None, "")]


async def _cut_off(
    care: Ward, take: intake.Intake, file: intake.BundleFile, monkeypatch: pytest.MonkeyPatch
) -> bytes:
    """Import a file up to a last transaction that is still on its way, and return that."""
    held = Held(care)
    with monkeypatch.context() as patched:
        patched.setattr(care.rpc, "submit", held.submit)
        with pytest.raises(Refused, match=r"rpc\.timeout"):
            await take.take(file)
    (raw,) = held.raw
    return raw


async def test_what_is_still_on_its_way_is_not_imported_twice(
    care: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = _intake(care, tmp_path)
    file = _checked(tmp_path, "a.json", generate_bundle(1, 5))
    raw = await _cut_off(care, take, file, monkeypatch)
    for _ in range(2):
        with pytest.raises(Refused, match=r"records\.imported_before"):
            await take.require_importable(file)
    (late,) = await care.rpc.submit([raw])
    assert late.code == "transaction.duplicate"


async def test_what_may_still_be_decided_is_not_begun_again(
    care: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = _intake(care, tmp_path)
    file = _checked(tmp_path, "a.json", generate_bundle(1, 5))
    await _cut_off(care, take, file, monkeypatch)
    care.rpc.fail["submit"] = [Refused("rpc.unreachable")]
    with pytest.raises(Refused, match=r"rpc\.unreachable"):
        await take.require_importable(file)
    care.rpc.fail["wait"] = [Refused("rpc.timeout")]
    with pytest.raises(Refused, match=r"rpc\.timeout"):
        await take.require_importable(file)


async def test_what_can_no_longer_be_decided_is_begun_again(
    care: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = _intake(care, tmp_path)
    file = _checked(tmp_path, "a.json", generate_bundle(1, 5))
    raw = await _cut_off(care, take, file, monkeypatch)
    signed = verify_transaction(raw, care.rpc.service.genesis.chain_id)
    await care.pass_time(signed.value.valid_until - care.node.clock.now_ms() + 1)
    await take.require_importable(file)
    await take.take(file)
    with pytest.raises(Refused, match=r"records\.imported_before"):
        await take.require_importable(file)


async def test_a_second_hospital_with_a_validator_adds_to_the_chart(
    care: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node has the envelopes, and the custodian's fetches them."""
    validators = [{"institution": wallet.identity.hex()} for wallet in care.harness.wallets[:2]]

    async def status() -> dict[str, Any]:
        return {**care.rpc.service.status(), "validators": validators}

    async def deposited(parcel: bytes) -> None:
        """The second hospital's own node would take its share; there is one node here."""

    monkeypatch.setattr(care.rpc, "status", status)
    monkeypatch.setattr(care.rpc, "deposit_share", deposited)
    ada = Account(Wallet.create("Ada", "patient"))
    file = _checked(tmp_path, "a.json", generate_bundle(1, 5))
    for by in (0, 1):
        rpc: Any = care.rpc
        one = intake.Intake(
            rpc,
            care.rpc.service.genesis,
            care.harness.wallets[by],
            ada,
            IntakeJournal(tmp_path / f"journal-{by}"),
        )
        taken = await one.take(file)
        assert taken.imported.patient == ada.wallet.identity


async def test_without_a_validator_the_envelopes_would_reach_nobody(care: Ward, tmp_path: Path) -> None:
    ada = Account(Wallet.create("Ada", "patient"))
    file = _checked(tmp_path, "a.json", generate_bundle(1, 5))
    rpc: Any = care.rpc
    genesis = care.rpc.service.genesis
    await intake.Intake(rpc, genesis, care.harness.wallets[0], ada, IntakeJournal(tmp_path / "a")).take(file)
    stranger = intake.Intake(rpc, genesis, Wallet.create("x"), ada, IntakeJournal(tmp_path / "b"))
    with pytest.raises(Refused, match=r"records\.other_custodian"):
        await stranger.take(file)
