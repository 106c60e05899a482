"""`consilium records`: import FHIR bundles, list what is anchored, read what the ledger allows."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
from rich.console import Console

from consilium.client import charts
from consilium.client.charts import Slice
from consilium.client.history import RecordLine, records_of
from consilium.client.reading import Opened
from consilium.client.rpc import RpcClient
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts.words import describe_verdict
from consilium.node import files
from consilium.node.cli import options
from consilium.node.cli.custody import custodian_targets
from consilium.node.cli.inputs import (
    Target,
    connected,
    hexadecimal,
    identity_id,
    open_wallet,
    optional_passphrase,
    passphrase,
    purpose_code,
    require_known,
    target,
    when,
)
from consilium.node.cli.output import Report, error_value, example, reporting, table
from consilium.node.cli.written import private_folder, write_over

INDEX_FILE: Final = "index.json"

app = typer.Typer(no_args_is_help=True, help="Import, list and read records.")


# --- import ---------------------------------------------------------------------------------------------------------


@app.command(
    "import",
    epilog=example(
        "consilium records import ada.json --node demo/node-0 --patient-wallet ada.wallet",
        "consilium records import exports/*.json --node demo/node-0 --patients patients/",
    ),
)
def import_(
    bundles: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE...", help="FHIR R4 transaction bundles, JSON.", show_default=False),
    ],
    node: options.Node,
    patient_wallet: Annotated[
        Path | None,
        typer.Option(
            "--patient-wallet", metavar="FILE", help="The patient's own wallet.", show_default=False
        ),
    ] = None,
    patients: Annotated[
        Path | None,
        typer.Option(
            "--patients",
            metavar="DIR",
            show_default=False,
            help="A folder of wallets, one for each patient; missing ones are made.",
        ),
    ] = None,
    custodian: options.Custodian = None,
    again: Annotated[
        bool, typer.Option("--again", help="Import a file that was imported before once more.")
    ] = False,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Check, classify, seal, store and anchor FHIR bundles, as the node's institution.

    Every file is checked before the first is imported: a bundle that is invalid, or about two patients, is refused
    whole, and nothing is sealed. A patient's account is opened when the first bundle comes: either the patient's own
    wallet, or one that the institution keeps in a folder for now. Status 2: a file is bad.
    """
    with reporting(as_json) as report:
        if (patient_wallet is None) == (patients is None):
            raise typer.BadParameter("give either --patient-wallet or --patients")
        # FHIR's models take a second to import: only this command pays for it.
        from consilium.node import intake
        from consilium.node.cli import taking

        chosen = target(node)
        targets = custodian_targets(custodian, chosen)
        with report.progress("checking") as bar:
            done = iter(range(1, len(bundles) + 1))
            checked = intake.check_files(bundles, lambda path: bar(next(done), len(bundles)))
        accounts: intake.Accounts
        if patient_wallet is not None:
            accounts = intake.SingleAccount(patient_wallet, passphrase(passphrase_file, str(patient_wallet)))
            # Both bundles' patient and the passphrase are known to be right before anything is sent.
            for file in checked:
                accounts.patient(file.bundle.patient_key)
        else:
            accounts = intake.FolderAccounts.open(patients or Path(), optional_passphrase(passphrase_file))
        taken = asyncio.run(
            taking.import_files(report, chosen, accounts, checked, targets, custodian is not None, again)
        )
        rows = [
            (
                one.path.name,
                one.imported.patient.hex(),
                len(one.imported.records),
                one.sensitive,
                one.imported.bundle.hex(),
            )
            for one in taken
        ]
        columns = ("file", "patient", "records", "sensitive", "bundle")
        report.result(
            [taking.taken_value(one) for one in taken],
            lambda console: console.print(table("Imported", columns, rows)),
        )
        for one in taken:
            if one.unserved:
                report.note(taking.unserved_note(one))


# --- list -----------------------------------------------------------------------------------------------------------


@app.command("list", epilog=example("consilium records list --node demo/node-1 --patient 5b0c…"))
def list_(
    node: options.Node,
    patient: Annotated[
        str, typer.Option("--patient", metavar="ID", help="The patient's id or did:key.", show_default=False)
    ],
    as_json: options.Json = False,
) -> None:
    """List a patient's records: ids and commitments. What they are about, only their readers know."""
    with reporting(as_json) as report:
        lines = asyncio.run(_list(target(node), identity_id(patient)))
        rows = [
            (line.record.hex(), when(line.anchored_ms), line.author.hex(), line.bundle.hex(), _place(line))
            for line in lines
        ]
        report.result(
            [_record_value(line) for line in lines],
            lambda console: console.print(
                table(f"{len(lines)} records", ("record", "anchored", "author", "bundle", "place"), rows)
            ),
        )


async def _list(node: Target, patient: bytes) -> list[RecordLine]:
    async with RpcClient(node.url) as rpc:
        await require_known(rpc, patient)
        return await records_of(rpc, patient)


def _place(line: RecordLine) -> str:
    place = f"{line.position + 1} of {line.count}"
    if line.erased:
        return f"{place}, erased"
    return place if line.visible else f"{place}, bundle incomplete"


def _record_value(line: RecordLine) -> dict[str, Any]:
    return {
        "record": line.record.hex(),
        "compartment": line.compartment.hex(),
        "bundle": line.bundle.hex(),
        "position": line.position,
        "count": line.count,
        "author": line.author.hex(),
        "anchored_ms": line.anchored_ms,
        "transaction": line.transaction.hex(),
        "visible": line.visible,
        "erased": line.erased,
    }


# --- read -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Reading:
    """What a reading brought so far."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)


@app.command(
    "read",
    epilog=example(
        "consilium records read --node demo/node-1 --custodian demo/node-0 --patient 5b0c… --purpose TREAT --out chart/"
    ),
)
def read(
    node: options.Node,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the records go.", show_default=False)
    ],
    purpose: Annotated[str, typer.Option("--purpose", help="Why: a code of HL7's PurposeOfUse.")] = "TREAT",
    record: Annotated[
        list[str] | None,
        typer.Option("--record", metavar="ID", help="A record; may be given again.", show_default=False),
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option("--patient", metavar="ID", help="All records of this patient.", show_default=False),
    ] = None,
    custodian: options.Custodian = None,
    wallet_file: Annotated[
        Path | None,
        typer.Option(
            "--wallet", metavar="FILE", help="The reader's wallet.", show_default="the node's institution"
        ),
    ] = None,
    application: Annotated[
        str | None,
        typer.Option("--application", metavar="ID", help="The program that asks.", show_default=False),
    ] = None,
    automated: Annotated[
        bool, typer.Option("--automated", help="No person asks: a program by itself.")
    ] = False,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Ask the ledger to read, and fetch and open what it allows.

    Every request is decided on the chain and stands in the patient's access log, allowed or not. Each record's bytes
    are written, as its author sealed them, to a file of its own. Status 1: something was denied.
    """
    with reporting(as_json) as report:
        if (not record) == (patient is None):
            raise typer.BadParameter("give either --record or --patient")
        named = [hexadecimal(one, 16, "a record's id") for one in record or []]
        whose = identity_id(patient) if patient is not None else None
        chosen = target(node)
        targets = custodian_targets(custodian, chosen)
        if not targets:
            raise typer.BadParameter("give --custodian: the node of each custodian of the records")
        purpose_code(purpose)
        by = None if application is None else identity_id(application)
        asker = charts.Asker(by, automated)
        reader = chosen.institution() if wallet_file is None else open_wallet(wallet_file, passphrase_file)
        private_folder(out)
        who = _Reader(reader, None if speaks_for is None else identity_id(speaks_for))
        found = asyncio.run(_read(report, chosen, targets, who, purpose, named, whose, out, asker))
        value = {"requests": found.requests, "records": found.files, "denied": len(found.denied)}
        said = "; ".join(dict.fromkeys(found.denied))
        if found.denied:
            value["error"] = error_value("access.not_allowed", said)
        report.result(value, lambda console: _show_reading(console, found, out))
        if found.denied:
            report.error("access.not_allowed", said)
            raise typer.Exit(1)


class _Reader(NamedTuple):
    """The wallet that asks, and whom its key speaks for where that is not its own identity."""

    wallet: Wallet
    speaks_for: bytes | None


async def _read(
    report: Report,
    node: Target,
    targets: Sequence[Target],
    reader: _Reader,
    purpose: str,
    named: Sequence[bytes],
    patient: bytes | None,
    out: Path,
    asker: charts.Asker,
) -> _Reading:
    found = _Reading()
    async with connected(node) as (rpc, genesis), AsyncExitStack() as stack:
        asked = [await stack.enter_async_context(RpcClient(one.url)) for one in targets]
        session = Session(rpc, genesis, reader.wallet, sender=reader.speaks_for)
        slices = (
            charts.read_records(session, asked, purpose, named, asker)
            if patient is None
            else charts.read_patient(session, asked, purpose, patient, asker)
        )
        with report.progress("reading") as bar:
            async for slice_ in slices:
                await _keep(slice_, found, out)
                bar(len(found.files), max(len(named), len(found.files)))
    if found.files:
        await asyncio.to_thread(_write_index, found, out)
    return found


def _write_index(found: _Reading, out: Path) -> None:
    """Which file is what, for programs."""
    listed = [{**one, "file": Path(one["file"]).name} for one in found.files]
    write_over(
        out / INDEX_FILE, json.dumps(listed, ensure_ascii=False, indent=2).encode() + b"\n", files.SECRET_MODE
    )


async def _keep(slice_: Slice, found: _Reading, out: Path) -> None:
    asked = slice_.asked
    verdicts = [describe_verdict(verdict) for verdict in asked.decision.verdicts]
    found.requests.append(
        {
            "transaction": asked.transaction.hex(),
            "height": asked.height,
            "verdicts": [
                {
                    "allow": verdict.allow,
                    "basis": verdict.basis,
                    "patient": verdict.patient.hex() if verdict.patient else None,
                    "compartment": verdict.compartment.hex() if verdict.compartment else None,
                    "consent": verdict.ground.hex() if verdict.ground else None,
                    "words": words,
                }
                for verdict, words in zip(asked.decision.verdicts, verdicts, strict=True)
            ],
            "withheld": [
                {
                    "verdict": one.verdict,
                    "record": one.record.hex() if one.record else None,
                    **error_value(one.refusal.code, one.refusal.detail),
                }
                for one in slice_.withheld
            ],
        }
    )
    found.denied += [
        words for verdict, words in zip(asked.decision.verdicts, verdicts, strict=True) if not verdict.allow
    ]
    for opened in slice_.opened:
        found.files.append(await asyncio.to_thread(_write, opened, out))


def _write(opened: Opened, out: Path) -> dict[str, Any]:
    fields = opened.header.fields
    suffix = "json" if fields.media_type.endswith("json") else "bin"
    path = out / f"{opened.record.hex()}.{suffix}"
    write_over(path, opened.payload, files.SECRET_MODE)
    return {
        "record": opened.record.hex(),
        "file": str(path),
        "bytes": len(opened.payload),
        "sha256": hashlib.sha256(opened.payload).hexdigest(),
        "resource_type": fields.resource_type,
        "resource_id": fields.resource_id,
        "full_url": fields.full_url,
    }


def _show_reading(console: Console, found: _Reading, out: Path) -> None:
    """What was allowed: the error says what was not."""
    for request in found.requests:
        for verdict in request["verdicts"]:
            if verdict["allow"]:
                console.print(verdict["words"], markup=False)
    if found.files:
        total = sum(one["bytes"] for one in found.files)
        console.print(f"{len(found.files)} records, {total} bytes, in {out}", markup=False)
