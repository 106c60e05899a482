"""`consilium treatment`: that an institution treats a patient now."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from consilium.client import treatment
from consilium.client.session import Session
from consilium.node.cli.acting import (
    AsOption,
    DraftOption,
    PatientOption,
    SecondAsOption,
    SecondPassphraseOption,
    SecondWalletOption,
    SignerOption,
    UntilOption,
    act,
    committed,
    identifier,
    perform,
    second_signer,
    tell,
    wall_ms,
)
from consilium.node.cli.inputs import JsonOption, NodeOption, PassphraseFileOption, identity_id, moment
from consilium.node.cli.output import example, reporting

app = typer.Typer(no_args_is_help=True, help="Treatment relationships: attest, end.")


@app.command(
    "attest",
    epilog=example(
        "consilium treatment attest --node demo/node-1 --patient 5b0c… --until 7d --second-wallet ada.wallet"
    ),
)
def attest(
    node: NodeOption,
    patient: PatientOption,
    until: UntilOption,
    practitioners: Annotated[
        list[str] | None,
        typer.Option(
            "--practitioner",
            metavar="ID",
            show_default="all of its staff",
            help="Who treats; may be given again.",
        ),
    ] = None,
    second_wallet: SecondWalletOption = None,
    second_passphrase_file: SecondPassphraseOption = None,
    second_as: SecondAsOption = None,
    draft: DraftOption = None,
    as_json: JsonOption = False,
) -> None:
    """Attest, as the node's institution, that it treats a patient, at most 30 days ahead.

    The witness is the patient, or somebody of another institution. The network's policy then opens the general class.
    """
    with reporting(as_json) as report:
        named = None if practitioners is None else [identity_id(one) for one in practitioners]
        body = treatment.relationship(identity_id(patient), moment(until, wall_ms()), named)
        second = second_signer(second_wallet, second_passphrase_file, second_as)

        async def work(session: Session) -> dict[str, Any]:
            return await perform(session, "treatment.attest", body, second, draft)

        value = {"relationship": body.relationship.hex(), **act(node, None, None, None, work)}
        tell(report, value, f"relationship {body.relationship.hex()}")


@app.command("end", epilog=example("consilium treatment end 77a1… --node demo/node-1"))
def end(
    relationship: Annotated[str, typer.Argument(metavar="RELATIONSHIP", help="Its id.", show_default=False)],
    node: NodeOption,
    wallet_file: SignerOption = None,
    speaks_for: AsOption = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a treatment relationship, as the institution or the patient."""
    with reporting(as_json) as report:
        which = identifier(relationship, "a relationship's id")

        async def work(session: Session) -> dict[str, Any]:
            return committed(await treatment.end(session, which))

        value = {"relationship": which.hex(), **act(node, wallet_file, passphrase_file, speaks_for, work)}
        tell(report, value, f"relationship {which.hex()} has ended")
