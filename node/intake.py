"""An institution's intake: FHIR bundles from files to anchored records, and the accounts of their patients.

Every file is read and checked before the first is imported, so that one bad bundle leaves nothing half done. Checking
is heavy and runs in a thread; sealing and submitting is `client.recording`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from consilium.client import recording
from consilium.client import wallet as wallets
from consilium.client.recording import Imported
from consilium.client.rpc import RpcClient
from consilium.client.session import Session, new_id
from consilium.client.wallet import Wallet
from consilium.contracts import identity, records, settings
from consilium.contracts.classes import GENERAL
from consilium.gateway.bundle import Bundle, PatientKey, parse_bundle, read_bundle_file
from consilium.gateway.importing import prepare
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OK
from consilium.ledger.genesis import Genesis
from consilium.ledger.transaction import Transaction, Verified, verify_transaction
from consilium.node import files
from consilium.node.intake_journal import IntakeJournal

INTAKE_BYTES_MAX: Final = 512 * 1024 * 1024
"""Of all bundles that one run imports: they are in memory together."""
SETTLE_S: Final = 3.0
"""So long a decided block may take to be certified before a run that was cut off counts as failed."""
SETTLE_POLL_S: Final = 0.05
PASSPHRASE_FILE: Final = "passphrase"
PASSPHRASE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A checked bundle and where it came from."""

    path: Path
    bundle: Bundle
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that was imported. `sensitive` counts its records that are of other classes than the general one,
    `unserved` are the custodians of these that no client was given for: they have no share from this import."""

    path: Path
    imported: Imported
    sensitive: int
    unserved: tuple[bytes, ...]


class Accounts(Protocol):
    """Where the wallets of patients are kept while their institution manages them."""

    def patient(self, key: PatientKey) -> Wallet:
        """The wallet of the patient that bundles with this key are about; made where there is none."""
        ...

    def known(self, key: PatientKey) -> bytes | None:
        """The identity (16 bytes) of that wallet, or None where there is none yet. Makes nothing."""
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
        if passphrase is not None:
            wallets.require_passphrase(passphrase, f"wallets in {folder}")
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

    def known(self, key: PatientKey) -> bytes | None:
        """The identity of the patient's wallet, if there is one."""
        return self.patient(key).identity if self.path(key).exists() else None

    def save(self, key: PatientKey, wallet: Wallet) -> None:
        """Replace the patient's wallet by a later state of it."""
        wallets.save(wallet, self.path(key), self._passphrase, self._cost, replace=True)

    def path(self, key: PatientKey) -> Path:
        """The file of a patient's wallet."""
        return wallet_path(self._folder, key)


def wallet_path(folder: Path, key: PatientKey) -> Path:
    """The file of a patient's wallet in the folder of an institution's patients."""
    return folder / f"{key}.wallet"


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

    def known(self, key: PatientKey) -> bytes | None:
        """The identity of the wallet. Raises as `patient`."""
        return self.patient(key).identity

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
        checked.append(BundleFile(path, bundle, hashlib.sha256(raw).digest()))
        progress(path)
    return checked


class Intake:
    """Imports checked bundles as one institution, by way of its own node.

    `others` are clients of further custodians' nodes, by institution: a new patient's sensitive compartments are given
    to them, in this order, and they get their shares. `vaults` are those of them that take envelopes from here at
    once; the rest fetch theirs from the institution's node.
    """

    def __init__(
        self,
        rpc: RpcClient,
        genesis: Genesis,
        institution: Wallet,
        accounts: Accounts,
        journal: IntakeJournal,
        *,
        others: Mapping[bytes, RpcClient] | None = None,
        vaults: Sequence[RpcClient] = (),
    ) -> None:
        self._rpc = rpc
        self._genesis = genesis
        self._session = Session(rpc, genesis, institution)
        self._accounts = accounts
        self._journal = journal
        self._others = dict(others or {})
        self._vaults = tuple(vaults)

    async def require_importable(self, file: BundleFile, *, again: bool = False) -> None:
        """Raises Refused where the file's account is another person's, or, unless `again`, the file was imported."""
        known = await asyncio.to_thread(self._accounts.known, file.bundle.patient_key)
        if known is not None:
            await asyncio.to_thread(self._journal.require_same_person, known, file.bundle.patient_key)
        if not again:
            await self.require_new(file)

    async def require_new(self, file: BundleFile) -> None:
        """Raises Refused `records.imported_before` where the file's records are on the chain already, and as
        `Session.send` where that cannot be known yet."""
        for noted in await asyncio.to_thread(self._journal.imports, file.sha256):
            if not noted.done:
                # That run ended before it knew. The chain knows.
                if not await self._became_whole(noted.bundle) and not await self._closed(noted.closing):
                    continue
                await asyncio.to_thread(self._journal.finish, noted.bundle)
            raise Refused(
                "records.imported_before", f"as bundle {noted.bundle.hex()} of patient {noted.patient.hex()}"
            )

    async def _closed(self, raw: bytes | None) -> bool:
        """Whether the transaction that was to make a bundle whole did. It may still wait for its block, here or at
        another node, and then it would after us: so it is sent once more, which counts once, until it is decided or
        can no longer be."""
        if raw is None:
            return False
        try:
            signed = verify_transaction(raw, self._session.chain_id)
            return (await self._session.send(signed)).leaf.code == OK
        except Refused as refusal:
            if refusal.code not in ("transaction.expired", "transaction.wrong_chain"):
                raise
            return False

    async def _became_whole(self, bundle: bytes) -> bool:
        """Whether a bundle is complete on the chain. What was decided just now is certified by the next block only;
        that is waited for, though not for long, since an idle chain makes none for a while."""
        height = int((await self._rpc.status())["height"])
        slot = records.BUNDLES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while True:
                    raw, certified = await self._rpc.state(slot.key(self._session.identity, bundle))
                    if raw is not None and slot.decode(raw).complete:
                        return True
                    if certified >= height:
                        return False
                    await asyncio.sleep(SETTLE_POLL_S)
        return False

    async def take(
        self, file: BundleFile, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Taken:
        """Enrol the bundle's patient if need be, open the compartments, classify, seal and anchor every entry.

        Raises Refused: the ledger's codes, `bundle.another_patient`, `records.other_custodian`. Taking a file again
        after a failure anchors it as a new bundle; what the failure left behind is named by nothing. Whether the
        failed one became whole, `require_new` tells.
        """
        key = file.bundle.patient_key
        patient = await asyncio.to_thread(self._accounts.patient, key)
        await asyncio.to_thread(self._journal.require_same_person, patient.identity, key)
        prepared = await asyncio.to_thread(prepare, file.bundle)
        patient = await self._admit(patient, key)
        bundle = new_id()
        await asyncio.to_thread(self._journal.begin, file.sha256, patient.identity, bundle)

        async def keep_last(signed: Verified[Transaction]) -> None:
            await asyncio.to_thread(self._journal.close, bundle, signed.raw)

        imported = await recording.import_records(
            self._session,
            patient.identity,
            prepared.payloads,
            progress,
            class_map=await recording.class_map_from(self._session, patient),
            vaults=self._vaults,
            bundle=bundle,
            keep_last=keep_last,
        )
        await asyncio.to_thread(self._journal.finish, bundle)
        sensitive = sum(any(code != GENERAL for code in payload.classes) for payload in prepared.payloads)
        return Taken(file.path, imported, sensitive, await self._unserved(imported))

    async def _admit(self, patient: Wallet, key: PatientKey) -> Wallet:
        """The patient's wallet, with the secrets of its compartments, whose custodians here have their shares."""
        opened = await self._session.state(records.PATIENTS, patient.identity)
        others = dict(self._others)
        if opened is None:
            await recording.enrol(self._session, "patient", patient)
            settled = await self._session.state(settings.SETTINGS) or settings.DEFAULTS
            # One more than it takes, so that one may be missing: each further one is one more that could be asked.
            others = dict(list(others.items())[: settled.sensitive_threshold_min])
        else:
            await self._require_custody(patient.identity)
        await asyncio.to_thread(self._journal.note_person, patient.identity, key)
        return await recording.open_compartments(
            Session(self._rpc, self._genesis, patient),
            patient,
            self._session.identity,
            lambda wallet: self._accounts.save(key, wallet),
            others=others,
        )

    async def _unserved(self, imported: Imported) -> tuple[bytes, ...]:
        served = {self._session.identity, *self._others}
        lacking: dict[bytes, None] = {}
        for compartment in dict.fromkeys(imported.compartments):
            _, epoch = await recording.current_epoch(self._session, compartment)
            if sum(custodian in served for custodian in epoch.custodians) < len(epoch.commitments):
                lacking.update((custodian, None) for custodian in epoch.custodians if custodian not in served)
        return tuple(lacking)

    async def _require_custody(self, patient: bytes) -> None:
        """The envelopes must come to the custodians: from here where this is one, or where a validator's node fetches
        them from this institution's."""
        _, _, epoch = await recording.general_compartment(self._session, patient)
        validators = {str(one["institution"]) for one in (await self._rpc.status())["validators"]}
        if self._session.identity not in epoch.custodians and self._session.identity.hex() not in validators:
            named = ", ".join(custodian.hex() for custodian in epoch.custodians)
            raise Refused("records.other_custodian", f"the custodian of patient {patient.hex()} is {named}")
