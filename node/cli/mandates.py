"""`consilium mandates`: legal orders, by an authority, countersigned."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from consilium.client import mandates
from consilium.client.session import Session
from consilium.node.cli.acting import (
    DraftOption,
    PatientOption,
    SecondAsOption,
    SecondPassphraseOption,
    SecondWalletOption,
    UntilOption,
    act,
    committed,
    identifier,
    perform,
    second_signer,
    tell,
    wall_ms,
)
from consilium.node.cli.inputs import JsonOption, NodeOption, identity_id, moment, purpose_code
from consilium.node.cli.output import example, reporting

app = typer.Typer(no_args_is_help=True, help="Legal mandates: issue, withdraw.")


@app.command(
    "issue",
    epilog=example(
        "consilium mandates issue --node demo/node-3 --patient 5b0c… --reader 9f3e… --purpose HLEGAL --until 7d "
        "--draft mandate.draft"
    ),
)
def issue(
    node: NodeOption,
    patient: PatientOption,
    reader: Annotated[
        str,
        typer.Option(
            "--reader", metavar="ID", help="An institution, or one practitioner.", show_default=False
        ),
    ],
    purposes: Annotated[
        list[str], typer.Option("--purpose", help="What for; may be given again.", show_default=False)
    ],
    until: UntilOption,
    compartments: Annotated[
        list[str] | None,
        typer.Option(
            "--compartment", metavar="ID", show_default="all", help="What it opens; may be given again."
        ),
    ] = None,
    second_wallet: SecondWalletOption = None,
    second_passphrase_file: SecondPassphraseOption = None,
    second_as: SecondAsOption = None,
    draft: DraftOption = None,
    as_json: JsonOption = False,
) -> None:
    """Issue a mandate, as the node's institution, an authority; another institution, not the reader's, countersigns.

    It opens what it names whatever the patient says, and the patient is told.
    """
    with reporting(as_json) as report:
        body = mandates.mandate(
            identity_id(patient),
            identity_id(reader),
            [purpose_code(one) for one in purposes],
            not_before_ms=0,
            not_after_ms=moment(until, wall_ms()),
            compartments=None
            if compartments is None
            else [identifier(one, "a compartment's id") for one in compartments],
        )
        second = second_signer(second_wallet, second_passphrase_file, second_as)

        async def work(session: Session) -> dict[str, Any]:
            return await perform(session, "mandate.issue", body, second, draft)

        value = {"mandate": body.mandate.hex(), **act(node, None, None, None, work)}
        tell(report, value, f"mandate {body.mandate.hex()}")


@app.command("withdraw", epilog=example("consilium mandates withdraw 77a1… --node demo/node-3"))
def withdraw(
    mandate: Annotated[str, typer.Argument(metavar="MANDATE", help="Its id.", show_default=False)],
    node: NodeOption,
    as_json: JsonOption = False,
) -> None:
    """Withdraw a mandate, as the node's institution, which issued it."""
    with reporting(as_json) as report:
        which = identifier(mandate, "a mandate's id")

        async def work(session: Session) -> dict[str, Any]:
            return committed(await mandates.withdraw(session, which))

        value = {"mandate": which.hex(), **act(node, None, None, None, work)}
        tell(report, value, f"mandate {which.hex()} is withdrawn")
