"""`consilium attestation`: second signatures, on another computer than the sender's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from consilium.client import attesting
from consilium.client.attesting import Draft
from consilium.client.session import Session
from consilium.node import files
from consilium.node.cli.acting import AsOption, SignerOption, act, committed, tell
from consilium.node.cli.inputs import (
    JsonOption,
    NodeOption,
    PassphraseFileOption,
    WalletOption,
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
def show(draft_file: DraftArgument, as_json: JsonOption = False) -> None:
    """Show in words what a draft would do, who sends it and who signed beside. Needs no node."""
    with reporting(as_json) as report:
        value = _value(_read(draft_file))
        report.result(value, lambda console: console.print("\n".join(value["words"]), markup=False))


@app.command("sign", epilog=example("consilium attestation sign mandate.draft --wallet court.wallet"))
def sign(
    draft_file: DraftArgument,
    wallet_file: WalletOption,
    speaks_for: AsOption = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
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
    node: NodeOption,
    wallet_file: SignerOption = None,
    speaks_for: AsOption = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a draft that was signed beside, as its sender."""
    with reporting(as_json) as report:
        draft = _read(draft_file)

        async def work(session: Session) -> dict[str, Any]:
            return committed(await attesting.submit_draft(session, draft))

        value = {**act(node, wallet_file, passphrase_file, speaks_for, work), "operation": draft.operation}
        tell(report, value, f"{draft.operation} is committed, at height {value['height']}")
