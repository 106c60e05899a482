"""`consilium delegation`: passing a consent on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from consilium.client import consenting
from consilium.client.session import Session
from consilium.contracts.consent import CONSENTS
from consilium.ledger.errors import Refused
from consilium.node.cli import options
from consilium.node.cli.acting import (
    act,
    committed,
    identifier,
    tell,
    wall_ms,
)
from consilium.node.cli.inputs import (
    identity_id,
    moment,
    purpose_code,
    when,
)
from consilium.node.cli.output import example, reporting

app = typer.Typer(no_args_is_help=True, help="Pass a transferable consent on, once.")


@app.command(
    "pass",
    epilog=example("consilium delegation pass 77a1… --node demo/node-1 --actor 9f3e… --until 7d"),
)
def pass_(
    consent: Annotated[
        str, typer.Argument(metavar="CONSENT", help="A transferable consent.", show_default=False)
    ],
    node: options.Node,
    actor: Annotated[
        str, typer.Option("--actor", metavar="ID", help="Who may read on it too.", show_default=False)
    ],
    until: options.Until,
    purposes: Annotated[
        list[str] | None,
        typer.Option("--purpose", help="What for; may be given again.", show_default="the consent's"),
    ] = None,
    compartments: Annotated[
        list[str] | None,
        typer.Option(
            "--compartment", metavar="ID", show_default="the consent's", help="What; may be given again."
        ),
    ] = None,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Let another read on the ground of a consent that was given to you: never more, never longer, never further.

    It dies with the consent that it comes from.
    """
    with reporting(as_json) as report:
        parent, to = identifier(consent, "a consent's id"), identity_id(actor)
        end_ms = moment(until, wall_ms())
        codes = None if purposes is None else [purpose_code(one) for one in purposes]
        places = (
            None if compartments is None else [identifier(one, "a compartment's id") for one in compartments]
        )

        async def work(session: Session) -> dict[str, Any]:
            known = await session.state(CONSENTS, parent)
            if known is None:
                raise Refused("consent.unknown", parent.hex())
            root = known.provisions[0]
            passed_on, done = await consenting.pass_on(
                session,
                parent,
                to,
                codes if codes is not None else list(root.purposes or []),
                not_before_ms=max(root.not_before, known.granted_ms),
                not_after_ms=min(end_ms, root.not_after),
                compartments=places if places is not None else root.compartments,
            )
            return {"consent": passed_on.hex(), **committed(done)}

        value = {
            "parent": parent.hex(),
            "actor": to.hex(),
            **act(node, work, wallet_file, passphrase_file, speaks_for),
        }
        tell(report, value, f"consent {value['consent']}: {to.hex()} may read until {when(end_ms)} at most")
