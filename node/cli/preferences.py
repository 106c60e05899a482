"""`consilium preferences`: what a patient decides once for everybody."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from consilium.client import preferences
from consilium.client.session import Session
from consilium.contracts.preferences import DEFAULTS, PREFERENCES, Preferences
from consilium.node.cli import options
from consilium.node.cli.acting import act, committed
from consilium.node.cli.inputs import (
    connected,
    identity_id,
    require_known,
    target,
)
from consilium.node.cli.output import Report, example, reporting, table

app = typer.Typer(no_args_is_help=True, help="A patient's preferences: emergencies, policy, summaries.")


def _shown(chosen: Preferences) -> dict[str, Any]:
    return {field: getattr(chosen, field) for field in chosen.__struct_fields__}


def _print(report: Report, value: dict[str, Any]) -> None:
    report.result(
        value, lambda console: console.print(table("Preferences", ("what", "value"), list(value.items())))
    )


@app.command(
    "set", epilog=example("consilium preferences set --node demo/node-0 --wallet ada.wallet --emergency-deny")
)
def set_(
    node: options.Node,
    wallet_file: options.Wallet,
    emergency_deny: Annotated[
        bool | None,
        typer.Option(
            "--emergency-deny/--emergency-allow",
            show_default="as it is",
            help="Nobody breaks the glass, and no summary is opened.",
        ),
    ] = None,
    opt_out: Annotated[
        bool | None,
        typer.Option(
            "--opt-out/--opt-in", show_default="as it is", help="The network's policy opens nothing."
        ),
    ] = None,
    summary_opt_out: Annotated[
        bool | None,
        typer.Option(
            "--summary-opt-out/--summary-opt-in",
            show_default="as it is",
            help="No emergency summary is kept or opened.",
        ),
    ] = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Change the patient's preferences, signed with the patient's wallet and no other. What is not named stays."""
    with reporting(as_json) as report:

        async def work(session: Session) -> dict[str, Any]:
            chosen, done = await preferences.set_preferences(
                session, emergency_deny=emergency_deny, opt_out=opt_out, summary_opt_out=summary_opt_out
            )
            return {**_shown(chosen), **committed(done)}

        _print(report, act(node, work, wallet_file, passphrase_file, speaks_for))


@app.command("show", epilog=example("consilium preferences show --node demo/node-0 --patient 5b0c…"))
def show(node: options.Node, patient: options.Patient, as_json: options.Json = False) -> None:
    """Show a patient's preferences. They are public: every node must honour them."""
    with reporting(as_json) as report:
        who = identity_id(patient)

        async def ask() -> Preferences:
            async with connected(target(node)) as (rpc, _):
                await require_known(rpc, who)
                raw, _height = await rpc.state(PREFERENCES.key(who))
            return DEFAULTS if raw is None else PREFERENCES.decode(raw)

        _print(report, {"patient": who.hex(), **_shown(asyncio.run(ask()))})
