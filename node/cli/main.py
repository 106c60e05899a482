"""`consilium`: a group of commands per subject. Commands parse, call and print; `client` and `node` do the work.

Groups are imported here and import lightly: `consilium node start` must not wait for what only an import needs.
"""

from __future__ import annotations

import difflib
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from consilium.ledger.catalogue import CATALOGUE
from consilium.ledger.errors import Refused
from consilium.node.cli import (
    accounting,
    attestation,
    cluster,
    consent,
    contradictions,
    credentials,
    delegation,
    emergency,
    mandates,
    network,
    node,
    options,
    preferences,
    receipt,
    records,
    recovery,
    renewing,
    representation,
    sessions,
    staff,
    summaries,
    teams,
    treatment,
    unlinking,
)
from consilium.node.cli.output import example, reporting, table
from consilium.node.cli.usage import Commands
from consilium.node.hardening import keep_secrets_in

app = typer.Typer(
    name="consilium",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A permissioned peer-to-peer ledger for health records.",
    epilog=example("consilium cluster create demo && consilium cluster start demo"),
)
app.add_typer(node.app, name="node")
app.add_typer(network.app, name="network")
app.add_typer(cluster.app, name="cluster")
app.add_typer(renewing.app, name="keys")
app.add_typer(records.app, name="records")
app.add_typer(consent.app, name="consent")
app.add_typer(accounting.app, name="access")
app.add_typer(unlinking.app, name="erasure")
app.add_typer(emergency.app, name="emergency")
app.add_typer(summaries.app, name="summaries")
app.add_typer(credentials.app, name="credentials")
app.add_typer(teams.app, name="teams")
app.add_typer(treatment.app, name="treatment")
app.add_typer(mandates.app, name="mandates")
app.add_typer(representation.app, name="representation")
app.add_typer(recovery.app, name="recovery")
app.add_typer(delegation.app, name="delegation")
app.add_typer(preferences.app, name="preferences")
app.add_typer(sessions.app, name="sessions")
app.add_typer(staff.app, name="staff")
app.add_typer(attestation.app, name="attestation")
app.add_typer(contradictions.app, name="governance")
app.add_typer(receipt.app, name="receipt")


@app.command("error", epilog=example("consilium error access.window_closed"))
def explain_error(
    code: Annotated[str | None, typer.Argument(help="The code; without it all are listed.")] = None,
    as_json: options.Json = False,
) -> None:
    """Say what an error code means and what to do."""
    with reporting(as_json) as report:
        if code is not None and code not in CATALOGUE:
            near = difflib.get_close_matches(code, CATALOGUE, 3)
            raise Refused(
                "cli.unknown_code", f"{code[:80]!r}" + (f": did you mean {', '.join(near)}?" if near else "")
            )
        chosen = sorted(CATALOGUE) if code is None else [code]
        values = [
            {"code": one, "cause": CATALOGUE[one].cause, "remedy": CATALOGUE[one].remedy} for one in chosen
        ]
        if code is not None:
            entry = CATALOGUE[code]
            report.result(
                values[0],
                lambda console: console.print(f"{code}\ncause: {entry.cause}\nwhat to do: {entry.remedy}"),
            )
            return
        rows = [(value["code"], value["cause"]) for value in values]
        report.result(values, lambda console: console.print(table("Errors", ("code", "cause"), rows)))


@app.command("version", epilog=example("consilium version"))
def show_version(as_json: options.Json = False) -> None:
    """Show the version of this program."""
    with reporting(as_json) as report:
        number = version("consilium")
        report.result({"version": number}, lambda console: console.print(f"consilium {number}"))


def run() -> None:
    """The console script. Every command may hold a wallet's secrets."""
    try:
        keep_secrets_in()
    except Refused as refusal:
        sys.exit(f"error: {refusal}")
    app()


if __name__ == "__main__":
    run()
