"""An institution's intake: FHIR bundles from files to anchored records, and the accounts of their patients.

Every file is read and checked before the first is imported, so that one bad bundle leaves nothing half done. Checking
is heavy and runs in a thread; sealing and submitting is `client.recording`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from consilium.client import recording
from consilium.client import wallet as wallets
from consilium.client.recording import Imported
from consilium.client.rpc import RpcClient
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts import identity, records
from consilium.contracts.classes import GENERAL
from consilium.gateway.bundle import Bundle, PatientKey, parse_bundle, read_bundle_file
from consilium.gateway.importing import payloads_of
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import Genesis
from consilium.node import files

INTAKE_BYTES_MAX: Final = 512 * 1024 * 1024
"""Of all bundles that one run imports: they are in memory together."""
PASSPHRASE_FILE: Final = "passphrase"
PASSPHRASE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A checked bundle and where it came from."""

    path: Path
    bundle: Bundle


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that was imported."""

    path: Path
    imported: Imported


class Accounts(Protocol):
    """Where the wallets of patients are kept while their institution manages them."""

    def patient(self, key: PatientKey) -> Wallet:
        """The wallet of the patient that bundles with this key are about; made where there is none."""
        ...

    def save(self, key: PatientKey, wallet: Wallet) -> None:
        """Keep a changed wallet."""
        ...


class FolderAccounts:
    """A folder with a wallet for each patient, named by the patient's opaque key.

    All have one passphrase. The institution keeps the folder as it keeps its charts: file names can be guessed back to
    medical record numbers by whoever has both.
    """

    def __init__(self, folder: Path, passphrase: str, cost: wallets.Cost = wallets.STANDARD) -> None:
        self._folder = folder
        self._passphrase = passphrase
        self._cost = cost

    @classmethod
    def open(cls, folder: Path, passphrase: str | None) -> FolderAccounts:
        """Open or make the folder. Without a passphrase, a random one is made and kept in its file `passphrase`."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Refused("wallet.unwritable", f"{folder}: {error.strerror}") from None
        if passphrase is not None:
            return cls(folder, passphrase)
        path = folder / PASSPHRASE_FILE
        with contextlib.suppress(FileExistsError):
            files.create_secret(path, secrets.token_hex(PASSPHRASE_BYTES))
        return cls(folder, files.read_secret(path))

    def patient(self, key: PatientKey) -> Wallet:
        """The patient's wallet; made where there is none. Raises Refused `wallet.*`."""
        path = self.path(key)
        if path.exists():
            return wallets.load(path, self._passphrase)
        wallet = Wallet.create("patient", identity.PATIENT)
        wallets.save(wallet, path, self._passphrase, self._cost)
        return wallet

    def save(self, key: PatientKey, wallet: Wallet) -> None:
        """Replace the patient's wallet by a later state of it."""
        wallets.save(wallet, self.path(key), self._passphrase, self._cost, replace=True)

    def path(self, key: PatientKey) -> Path:
        """The file of a patient's wallet."""
        return self._folder / f"{key}.wallet"


class SingleAccount:
    """One patient's own wallet, whose bundles all the files must be."""

    def __init__(self, path: Path, passphrase: str) -> None:
        self._path = path
        self._passphrase = passphrase
        self._key: PatientKey | None = None

    def patient(self, key: PatientKey) -> Wallet:
        """The wallet. Raises Refused `bundle.another_patient` where bundles of two patients come."""
        if self._key not in (None, key):
            raise Refused("bundle.another_patient", f"{self._path} is the wallet of one patient")
        self._key = key
        return wallets.load(self._path, self._passphrase)

    def save(self, key: PatientKey, wallet: Wallet) -> None:
        """Replace the wallet by a later state of it."""
        wallets.save(wallet, self._path, self._passphrase, replace=True)


def check_files(
    paths: Sequence[Path], progress: Callable[[Path], None] = lambda path: None
) -> list[BundleFile]:
    """Read and check every file. Raises Refused `bundle.*` with the file's name for the first that is bad.

    Heavy: call it from a thread.
    """
    checked: list[BundleFile] = []
    total = 0
    for path in paths:
        try:
            raw = read_bundle_file(path)
            total += len(raw)
            if total > INTAKE_BYTES_MAX:
                raise Refused(
                    "bundle.oversized",
                    f"the files together have more than {INTAKE_BYTES_MAX} bytes: import them in several runs",
                )
            bundle = parse_bundle(raw)
            if len(bundle.entries) > records.BUNDLE_RECORDS_MAX:
                raise Refused(
                    "bundle.oversized",
                    f"{len(bundle.entries)} entries; a bundle on the ledger has at most {records.BUNDLE_RECORDS_MAX}",
                )
        except Refused as refusal:
            named = refusal.detail if str(path) in refusal.detail else f"{path}: {refusal.detail}"
            raise Refused(refusal.code, named) from refusal
        checked.append(BundleFile(path, bundle))
        progress(path)
    return checked


class Intake:
    """Imports checked bundles as one institution, by way of its own node."""

    def __init__(self, rpc: RpcClient, genesis: Genesis, institution: Wallet, accounts: Accounts) -> None:
        self._rpc = rpc
        self._genesis = genesis
        self._session = Session(rpc, genesis, institution)
        self._accounts = accounts

    async def take(
        self, file: BundleFile, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Taken:
        """Enrol the bundle's patient if need be, open the compartments, seal and anchor every entry.

        Raises Refused: the ledger's codes, or `records.other_custodian`. Taking a file again after a failure anchors it
        as a new bundle; what the failure left behind is named by nothing.
        """
        key = file.bundle.patient_key
        patient = await asyncio.to_thread(self._accounts.patient, key)
        opened = await self._session.state(records.PATIENTS, patient.identity)
        if opened is None:
            await recording.enrol(self._session, "patient", patient)
        else:
            await self._require_custody(patient.identity)
        patient = await recording.open_compartments(
            Session(self._rpc, self._genesis, patient),
            patient,
            self._session.identity,
            lambda wallet: self._accounts.save(key, wallet),
        )
        payloads = payloads_of(file.bundle)
        sensitive = any(code != GENERAL for payload in payloads for code in payload.classes)
        imported = await recording.import_records(
            self._session,
            patient.identity,
            payloads,
            progress,
            class_map=await recording.class_map_from(self._session, patient) if sensitive else None,
        )
        return Taken(file.path, imported)

    async def _require_custody(self, patient: bytes) -> None:
        _, _, epoch = await recording.general_compartment(self._session, patient)
        if self._session.identity not in epoch.custodians:
            named = ", ".join(custodian.hex() for custodian in epoch.custodians)
            raise Refused("records.other_custodian", f"the custodian of patient {patient.hex()} is {named}")
