"""`consilium access accounting` and `access check`: to whom records were disclosed, and that no line is missing."""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from consilium.client import accounting_export, disclosures, recording
from consilium.client.disclosures import PROOF_BYTES_MAX, Accounting
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.gateway import accounting_fhir
from consilium.ledger.errors import Refused
from consilium.ledger.receipt import verify_receipt
from consilium.ledger.receipt_format import RECEIPT_BYTES_MAX
from consilium.node import files, founding
from consilium.node.cli import options
from consilium.node.cli.access import app
from consilium.node.cli.inputs import (
    Target,
    connected,
    hexadecimal,
    identity_id,
    open_wallet,
    target,
    when,
)
from consilium.node.cli.output import example, reporting, table
from consilium.node.cli.written import private_folder, write_over

__all__ = ["app"]

PROOF_FILE: Final = "accounting.proof.json"
SHOWN: Final = (
    "number",
    "time",
    "kind",
    "person",
    "purpose",
    "category",
    "verdict",
    "basis",
    "released_by",
    "released_at",
)


class Format(StrEnum):
    """What an accounting is written as."""

    csv = "csv"
    fhir = "fhir"


FILES: Final = {Format.csv: "accounting.csv", Format.fhir: "accounting.fhir.json"}


@app.command(
    "accounting",
    epilog=example(
        "consilium access accounting --node demo/node-0 --wallet ada.wallet --out disclosures --receipts"
    ),
)
def show_accounting(
    node: options.Node,
    wallet_file: options.Wallet,
    patient: Annotated[
        str | None,
        typer.Option(
            "--patient", metavar="ID", help="Whose accounting.", show_default="the wallet's own patient"
        ),
    ] = None,
    credential: Annotated[
        str | None,
        typer.Option("--credential", metavar="ID", help="An auditor's credential.", show_default=False),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Print CSV or FHIR AuditEvents.", show_default="a table"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Write CSV, FHIR and the proof of both.", show_default=False
        ),
    ] = None,
    receipts: Annotated[
        bool, typer.Option("--receipts", help="With --out: the receipt of each line's transaction too.")
    ] = False,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Ask for a patient's accounting of disclosures: decided and released, with nothing left out.

    It answers the patient, a representative, or an auditor with a credential. That it was asked for is a line of it.
    """
    with reporting(as_json) as report:
        if receipts and out is None:
            raise typer.BadParameter("--receipts needs --out")
        wallet = open_wallet(wallet_file, passphrase_file)
        whose = wallet.identity if patient is None else identity_id(patient)
        by = None if credential is None else hexadecimal(credential, 16, "a credential's id")
        found = asyncio.run(_consult(target(node), wallet, whose, by, out, receipts))
        if form is not None and not as_json:
            sys.stdout.write(_rendered(found, form).decode())
            return
        rows = accounting_export.rows(found)
        report.result(
            {
                "patient": whose.hex(),
                "lines": rows,
                "as_of_ms": found.time_ms,
                "head": found.head.head.hex(),
                "out": None if out is None else str(out),
            },
            lambda console: console.print(
                table(
                    f"{len(rows)} lines, none missing, as of {when(found.time_ms)}",
                    SHOWN,
                    [[row.get(name, "") for name in SHOWN] for row in rows],
                )
            ),
        )


@app.command("check", epilog=example("consilium access check disclosures --genesis demo/genesis.json"))
def check(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="What `access accounting` wrote.", show_default=False)
    ],
    genesis: Annotated[
        Path,
        typer.Option("--genesis", metavar="FILE", help="The network's genesis file.", show_default=False),
    ],
    as_json: options.Json = False,
) -> None:
    """Check an exported accounting offline: every line, that none is missing, and that the files say the same.

    Needs the genesis file alone. Status 1: it proves nothing. Names of classes are the exporter's word.
    """
    with reporting(as_json) as report:
        document = founding.read_genesis(genesis)
        found = disclosures.verify(_read(folder / PROOF_FILE, PROOF_BYTES_MAX), document)
        compared = [name for form, name in FILES.items() if _same(folder / name, _rendered(found, form))]
        missing = [name for name in FILES.values() if name not in compared]
        proved = 0
        for transaction in dict.fromkeys(line.transaction for line in found.lines):
            path = folder / accounting_export.receipt_file(transaction)
            if path.is_file():
                receipt = verify_receipt(_read(path, RECEIPT_BYTES_MAX), document)
                if receipt.transaction_id != transaction:
                    raise Refused("accounting.broken", f"{path}: the receipt is of another transaction")
                proved += 1
        value: dict[str, Any] = {
            "patient": found.patient.hex(),
            "lines": found.head.lines,
            "shown": len(found.lines),
            "as_of_ms": found.time_ms,
            "files": compared,
            "missing": missing,
            "receipts": proved,
        }
        report.result(
            value,
            lambda console: console.print(
                f"{found.head.lines} lines of patient {found.patient.hex()}, none missing, "
                f"as of {when(found.time_ms)}; {', '.join(compared) or 'no file'} compared, {proved} receipts verified"
            ),
        )
        if missing:
            report.note(f"not there, and so not compared: {', '.join(missing)}")


async def _consult(
    node: Target, wallet: Wallet, patient: bytes, credential: bytes | None, out: Path | None, receipts: bool
) -> Accounting:
    async with connected(node) as (rpc, genesis):
        session = Session(rpc, genesis, wallet)
        own = await recording.class_map_from(session, wallet) if patient == wallet.identity else None
        found = await disclosures.consult(session, patient, credential, own)
        if out is not None:
            await asyncio.to_thread(_write_all, out, found)
            for transaction in dict.fromkeys(line.transaction for line in found.lines) if receipts else ():
                raw = await rpc.verdict_receipt(transaction)
                await asyncio.to_thread(_write, out / accounting_export.receipt_file(transaction), raw)
    return found


def _write_all(out: Path, found: Accounting) -> None:
    _write(out / PROOF_FILE, found.to_json())
    for form, name in FILES.items():
        _write(out / name, _rendered(found, form))


def _write(path: Path, raw: bytes) -> None:
    private_folder(path.parent)
    write_over(path, raw, files.SECRET_MODE)


def _rendered(found: Accounting, form: Format) -> bytes:
    made = accounting_export.to_csv if form is Format.csv else accounting_fhir.to_fhir
    return made(found)


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(bytes_max + 1)
    except OSError as error:
        raise Refused("cli.unreadable", f"{path}: {error.strerror}") from None
    if len(raw) > bytes_max:
        raise Refused("codec.oversized", f"{path} has more than {bytes_max} bytes")
    return raw


def _same(path: Path, expected: bytes) -> bool:
    """Whether the file is there; it must say what the proof does. Raises Refused `accounting.broken`."""
    if not path.is_file():
        return False
    try:
        same = path.stat().st_size == len(expected) and _read(path, len(expected)) == expected
    except OSError as error:
        raise Refused("cli.unreadable", f"{path}: {error.strerror}") from None
    if not same:
        raise Refused("accounting.broken", f"{path} says something else than the proof")
    return True
