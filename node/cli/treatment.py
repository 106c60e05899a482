"""`consilium treatment`: that an institution treats a patient now."""

from __future__ import annotations

from typing import Annotated

import typer

from consilium.client import treatment
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
from consilium.node.cli.inputs import identity_id, moment
from consilium.node.cli.output import example, reporting

app = typer.Typer(no_args_is_help=True, help="Treatment relationships: attest, end.")


@app.command(
    "attest",
    epilog=example(
        "consilium treatment attest --node demo/node-1 --patient 5b0c… --until 7d --second-wallet ada.wallet"
    ),
)
def attest(
    node: options.Node,
    patient: options.Patient,
    until: options.Until,
    practitioners: Annotated[
        list[str] | None,
        typer.Option(
            "--practitioner",
            metavar="ID",
            show_default="all of its staff",
            help="Who treats; may be given again.",
        ),
    ] = None,
    second_wallet: options.SecondWallet = None,
    second_passphrase_file: options.SecondPassphraseFile = None,
    second_as: options.SecondAs = None,
    draft: options.Draft = None,
    as_json: options.Json = False,
) -> None:
    """Attest, as the node's institution, that it treats a patient, at most 30 days ahead.

    The witness is the patient, or somebody of another institution. The network's policy then opens the general class.
    """
    with reporting(as_json) as report:
        named = None if practitioners is None else [identity_id(one) for one in practitioners]
        body = treatment.relationship(identity_id(patient), moment(until, wall_ms()), named)
        second = second_signer(second_wallet, second_passphrase_file, second_as)
        done = act(node, lambda session: perform(session, "treatment.attest", body, second, draft))
        value = {"relationship": body.relationship.hex(), **done}
        tell(report, value, f"relationship {body.relationship.hex()}")


@app.command("end", epilog=example("consilium treatment end 77a1… --node demo/node-1"))
def end(
    relationship: Annotated[str, typer.Argument(metavar="RELATIONSHIP", help="Its id.", show_default=False)],
    node: options.Node,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """End a treatment relationship, as the institution or the patient."""
    with reporting(as_json) as report:
        which = identifier(relationship, "a relationship's id")
        done = act(
            node, lambda session: treatment.end(session, which), wallet_file, passphrase_file, speaks_for
        )
        value = {"relationship": which.hex(), **committed(done)}
        tell(report, value, f"relationship {which.hex()} has ended")
