"""`consilium attestation`: second signatures, on another computer than the sender's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from consilium.client import attesting
from consilium.client.attesting import Draft
from consilium.node import files
from consilium.node.cli import options
from consilium.node.cli.acting import act, committed, tell
from consilium.node.cli.inputs import (
    identity_id,
    open_wallet,
)
from consilium.node.cli.output import example, reporting
from consilium.node.cli.written import write_over

app = typer.Typer(no_args_is_help=True, help="Sign beside somebody: acts that take two.")

DraftArgument = Annotated[
    Path, typer.Argument(metavar="DRAFT", help="The file that --draft wrote.", show_default=False)
]


def _read(path: Path) -> Draft:
    return attesting.draft_from_json(files.read_bounded(path, attesting.DRAFT_BYTES_MAX))


def _value(draft: Draft) -> dict[str, Any]:
    signed = draft.attestation
    return {
        "operation": draft.operation,
        "sender": bytes(draft.sender).hex(),
        "signed_by": None if signed is None else bytes(signed.identity).hex(),
        "words": attesting.describe_draft(draft),
    }


@app.command("show", epilog=example("consilium attestation show mandate.draft"))
def show(draft_file: DraftArgument, as_json: options.Json = False) -> None:
    """Show in words what a draft would do, who sends it and who signed beside. Needs no node."""
    with reporting(as_json) as report:
        value = _value(_read(draft_file))
        report.result(value, lambda console: console.print("\n".join(value["words"]), markup=False))


@app.command("sign", epilog=example("consilium attestation sign mandate.draft --wallet court.wallet"))
def sign(
    draft_file: DraftArgument,
    wallet_file: options.Wallet,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Put the second signature into a draft, as a witness, second person or countersigner. Read it first: `show`."""
    with reporting(as_json) as report:
        draft = _read(draft_file)
        wallet = open_wallet(wallet_file, passphrase_file)
        who = None if speaks_for is None else identity_id(speaks_for)
        signed = attesting.sign_draft(draft, wallet, who)
        write_over(draft_file, attesting.draft_to_json(signed))
        value = {"file": str(draft_file), **_value(signed)}
        report.result(
            value,
            lambda console: console.print(
                "\n".join([*value["words"], f"{draft_file} is signed"]), markup=False
            ),
        )


@app.command("submit", epilog=example("consilium attestation submit mandate.draft --node demo/node-3"))
def submit(
    draft_file: DraftArgument,
    node: options.Node,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Submit a draft that was signed beside, as its sender."""
    with reporting(as_json) as report:
        draft = _read(draft_file)
        done = act(
            node,
            lambda session: attesting.submit_draft(session, draft),
            wallet_file,
            passphrase_file,
            speaks_for,
        )
        value = {**committed(done), "operation": draft.operation}
        tell(report, value, f"{draft.operation} is committed, at height {value['height']}")
