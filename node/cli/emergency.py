"""`consilium emergency`: breaking the glass with two persons, and reviewing who did."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from consilium.client import emergency
from consilium.client.emergency import Notice
from consilium.client.rpc import RpcClient
from consilium.client.rpc_emergency import AlarmsValue, alarms
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
from consilium.node.cli.inputs import (
    identity_id,
    moment,
    require_known,
    target,
    when,
)
from consilium.node.cli.output import ExitStatus, example, reporting, table

app = typer.Typer(no_args_is_help=True, help="Break-glass: declare, review, see what is overdue.")

GlassArgument = Annotated[
    str, typer.Argument(metavar="EMERGENCY", help="The emergency's id.", show_default=False)
]


class Reason(StrEnum):
    """Why the glass is broken."""

    cannot_be_asked = "cannot-be-asked"
    danger_to_life = "danger-to-life"
    danger_to_others = "danger-to-others"


class Outcome(StrEnum):
    """What a review says."""

    justified = "justified"
    unclear = "unclear"
    unjustified = "unjustified"


@app.command(
    "declare",
    epilog=example(
        "consilium emergency declare --node demo/node-0 --wallet lee.wallet --patient 5b0c… --reason danger-to-life "
        "--licence 77a1… --second-wallet kim.wallet --second-licence 3f20… --until 2h"
    ),
)
def declare(
    node: options.Node,
    wallet_file: options.Wallet,
    patient: options.Patient,
    reason: Annotated[Reason, typer.Option("--reason", help="Why.", show_default=False)],
    licence: Annotated[
        str,
        typer.Option(
            "--licence", metavar="ID", help="The clinician's, bound to the wallet's key.", show_default=False
        ),
    ],
    until: options.Until,
    second_licence: Annotated[
        str | None,
        typer.Option(
            "--second-licence", metavar="ID", help="The second person's, bound likewise.", show_default=False
        ),
    ] = None,
    second_wallet: options.SecondWallet = None,
    second_passphrase_file: options.SecondPassphraseFile = None,
    second_as: options.SecondAs = None,
    draft: options.Draft = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Break the glass for one patient: two licensed persons sign, each with the key that the own licence is bound to.

    Then ask as always, for the purpose BTG. The patient is told, and another institution reviews.
    """
    with reporting(as_json) as report:
        body = emergency.declaration(
            identity_id(patient),
            reason.value,
            identifier(licence, "a credential's id"),
            moment(until, wall_ms()),
            None if second_licence is None else identifier(second_licence, "a credential's id"),
        )
        second = second_signer(second_wallet, second_passphrase_file, second_as)
        done = act(
            node,
            lambda session: perform(session, "emergency.declare", body, second, draft),
            wallet_file,
            passphrase_file,
            speaks_for,
        )
        value = {
            "emergency": body.glass.hex(),
            "not_after_ms": body.not_after,
            **done,
        }
        tell(
            report, value, f"emergency {body.glass.hex()} until {when(body.not_after)}: read for purpose BTG"
        )


@app.command(
    "close", epilog=example("consilium emergency close 3a9c… --node demo/node-0 --wallet lee.wallet")
)
def close(
    glass: GlassArgument,
    node: options.Node,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """End an emergency before its time, as the clinician or the employer."""
    with reporting(as_json) as report:
        which = identifier(glass, "an emergency's id")
        done = act(
            node, lambda session: emergency.close(session, which), wallet_file, passphrase_file, speaks_for
        )
        value = {"emergency": which.hex(), **committed(done)}
        tell(report, value, f"emergency {which.hex()} has ended")


@app.command(
    "review", epilog=example("consilium emergency review 3a9c… --node demo/node-2 --outcome justified")
)
def review(
    glass: GlassArgument,
    node: options.Node,
    outcome: Annotated[Outcome, typer.Option("--outcome", help="What was found.", show_default=False)],
    as_json: options.Json = False,
) -> None:
    """Review an emergency, as the node's institution: neither the clinician's nor the second person's."""
    with reporting(as_json) as report:
        which = identifier(glass, "an emergency's id")
        done = act(node, lambda session: emergency.review(session, which, outcome.value))
        value = {
            "emergency": which.hex(),
            "outcome": outcome.value,
            **committed(done),
        }
        tell(report, value, f"emergency {which.hex()}: {outcome.value}")


@app.command("report", epilog=example("consilium emergency report 3a9c… --node demo/node-2"))
def report_(
    glass: GlassArgument,
    node: options.Node,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Say on the chain that a review is overdue, as anybody. Nodes do it by themselves too."""
    with reporting(as_json) as report:
        which = identifier(glass, "an emergency's id")
        done = act(
            node,
            lambda session: emergency.report_overdue(session, which),
            wallet_file,
            passphrase_file,
            speaks_for,
        )
        value = {"emergency": which.hex(), **committed(done)}
        tell(report, value, f"it is told that the review of {which.hex()} is overdue")


@app.command("alarms", epilog=example("consilium emergency alarms --node demo/node-0"))
def alarms_(node: options.Node, as_json: options.Json = False) -> None:
    """Show what is overdue: the network's reviews, this node's openings of summaries. Status 1: something is."""
    with reporting(as_json) as report:
        found = asyncio.run(_alarms(target(node).url))
        value = {
            "time_ms": found.time_ms,
            "overdue": found.overdue,
            "institutions": [
                {
                    "institution": bytes(owed.institution).hex(),
                    "open": owed.open,
                    "overdue": [
                        {"emergency": bytes(one.glass).hex(), "due_ms": one.due_ms} for one in owed.overdue
                    ],
                    "uncounted": owed.uncounted,
                    "told": owed.told,
                    "late": owed.late,
                }
                for owed in found.institutions
            ],
            "openings_unreported": found.unreported,
            "openings_overdue": found.is_overdue,
            "log_damaged": found.is_damaged,
        }
        rows = [
            (bytes(owed.institution).hex(), bytes(one.glass).hex(), when(one.due_ms))
            for owed in found.institutions
            for one in owed.overdue
        ]
        waiting = sum(owed.open for owed in found.institutions)
        title = (
            f"{found.overdue} reviews overdue of {waiting} that wait; {found.unreported} openings unreported"
        )
        columns = ("institution", "emergency", "was due")
        report.result(value, lambda console: console.print(table(title, columns, rows)))
        if found.overdue or found.is_overdue or found.is_damaged:
            raise typer.Exit(ExitStatus.REFUSED)


@app.command("notices", epilog=example("consilium emergency notices --node demo/node-0 --patient 5b0c…"))
def notices(node: options.Node, patient: options.Patient, as_json: options.Json = False) -> None:
    """Show what a patient (or clinician, or institution) was told: emergencies, what they opened, their reviews."""
    with reporting(as_json) as report:
        found = asyncio.run(_notices(target(node).url, identity_id(patient)))
        value = [
            {
                "time_ms": one.time_ms,
                "kind": one.kind,
                "emergency": None if one.glass is None else one.glass.hex(),
                "transaction": one.transaction.hex(),
            }
            for one in found
        ]
        rows = [(when(one.time_ms), one.kind, one.glass.hex() if one.glass else "") for one in found]
        columns = ("time", "what", "emergency")
        report.result(value, lambda console: console.print(table(f"{len(rows)} notices", columns, rows)))


async def _alarms(url: str) -> AlarmsValue:
    async with RpcClient(url) as rpc:
        return await alarms(rpc)


async def _notices(url: str, subject: bytes) -> list[Notice]:
    async with RpcClient(url) as rpc:
        await require_known(rpc, subject)
        return await emergency.notices_of(rpc, subject)
