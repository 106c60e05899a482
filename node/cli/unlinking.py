"""`consilium erasure unlink`: the institution forgets whose a pseudonym was."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from consilium.client import erasing
from consilium.client.session import Session
from consilium.node.cli import erasure, options
from consilium.node.cli.inputs import connected, identity_id, target
from consilium.node.cli.output import example, reporting

app = erasure.app

COPIES: Final = (
    "Copies are yours to destroy: backups of intake.sqlite and of the wallets, snapshots of the disk, "
    "the institution's own systems."
)


@app.command(
    "unlink",
    epilog=example("consilium erasure unlink --node demo/node-0 --patient 5b0c… --patients patients/"),
)
def unlink(
    node: options.Node,
    patient: Annotated[str, typer.Option("--patient", metavar="ID", help="Whose.", show_default=False)],
    patients: Annotated[
        Path | None,
        typer.Option(
            "--patients",
            metavar="DIR",
            show_default=False,
            help="The folder of patients' wallets that `records import` was given.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Destroy what this institution keeps of which person a pseudonym is: the journal's notes and the wallet.

    Only where the whole patient was erased, and nothing of it is held by this institution: before, the chart could not
    be found again. It can be done twice. Status 1: it is still needed.
    """
    with reporting(as_json) as report:
        chosen = target(node)
        institution = chosen.institution()
        whose = identity_id(patient)
        if chosen.config is None:
            raise typer.BadParameter("--node must be the node's folder: what is destroyed stands there")

        async def ask() -> None:
            async with connected(chosen) as (rpc, genesis):
                await erasing.require_unneeded(Session(rpc, genesis, institution), whose)

        asyncio.run(ask())
        # It knows FHIR's models, which take a second to import.
        from consilium.node.mapping import destroy_mapping

        done = destroy_mapping(chosen.config.folder, whose, patients)
        value = {
            "patient": whose.hex(),
            "person": done.person,
            "imports": done.imports,
            "wallet": None if done.wallet is None else str(done.wallet),
        }

        def words(console: Console) -> None:
            if not (done.person or done.imports):
                console.print(f"nothing here says whose {whose.hex()} was", markup=False)
                return
            kept = "no wallet of theirs was there" if done.wallet is None else f"{done.wallet} is removed"
            console.print(f"{whose.hex()} is nobody's here: {done.imports} imports, {kept}", markup=False)

        report.result(value, words)
        report.note(COPIES)
