"""`consilium mandates`: legal orders, by an authority, countersigned."""

from __future__ import annotations

from typing import Annotated

import typer

from consilium.client import mandates
from consilium.node.cli import options
from consilium.node.cli.acting import (
    act,
    committed,
    identifier,
    perform,
    second_signer,
    tell,
    wall_ms,
)
from consilium.node.cli.inputs import identity_id, moment, purpose_code
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
    node: options.Node,
    patient: options.Patient,
    reader: Annotated[
        str,
        typer.Option(
            "--reader", metavar="ID", help="An institution, or one practitioner.", show_default=False
        ),
    ],
    purposes: Annotated[
        list[str], typer.Option("--purpose", help="What for; may be given again.", show_default=False)
    ],
    until: options.Until,
    compartments: Annotated[
        list[str] | None,
        typer.Option(
            "--compartment", metavar="ID", show_default="all", help="What it opens; may be given again."
        ),
    ] = None,
    second_wallet: options.SecondWallet = None,
    second_passphrase_file: options.SecondPassphraseFile = None,
    second_as: options.SecondAs = None,
    draft: options.Draft = None,
    as_json: options.Json = False,
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
        done = act(node, lambda session: perform(session, "mandate.issue", body, second, draft))
        value = {"mandate": body.mandate.hex(), **done}
        tell(report, value, f"mandate {body.mandate.hex()}")


@app.command("withdraw", epilog=example("consilium mandates withdraw 77a1… --node demo/node-3"))
def withdraw(
    mandate: Annotated[str, typer.Argument(metavar="MANDATE", help="Its id.", show_default=False)],
    node: options.Node,
    as_json: options.Json = False,
) -> None:
    """Withdraw a mandate, as the node's institution, which issued it."""
    with reporting(as_json) as report:
        which = identifier(mandate, "a mandate's id")
        done = act(node, lambda session: mandates.withdraw(session, which))
        value = {"mandate": which.hex(), **committed(done)}
        tell(report, value, f"mandate {which.hex()} is withdrawn")
