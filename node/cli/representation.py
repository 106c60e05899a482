"""`consilium representation`: who speaks for a patient, and the patient's take-over."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from consilium.client import representing
from consilium.client import wallet as wallets
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.ledger.errors import Refused
from consilium.node.cli import options
from consilium.node.cli.acting import (
    act,
    committed,
    perform,
    second_signer,
    tell,
    wall_ms,
)
from consilium.node.cli.custody import custodian_targets, custodians
from consilium.node.cli.inputs import (
    connected,
    identity_id,
    moment,
    open_wallet,
    passphrase,
    target,
    when,
)
from consilium.node.cli.output import example, reporting, table

app = typer.Typer(no_args_is_help=True, help="Who speaks for a patient: delegates, guardians, take-over.")


class Capacity(StrEnum):
    """As what somebody speaks."""

    delegate = "delegate"
    guardian = "guardian"


@app.command(
    "appoint",
    epilog=example(
        "consilium representation appoint 9f3e… --node demo/node-0 --wallet ada.wallet --capacity delegate --until 90d"
    ),
)
def appoint(
    who: Annotated[str, typer.Argument(metavar="ID", help="Who is to speak.", show_default=False)],
    node: options.Node,
    capacity: Annotated[Capacity, typer.Option("--capacity", help="As what.", show_default=False)],
    until: options.Until,
    patient: Annotated[
        str | None,
        typer.Option(
            "--patient", metavar="ID", show_default="who signs", help="Whose, where a manager signs."
        ),
    ] = None,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    second_wallet: options.SecondWallet = None,
    second_passphrase_file: options.SecondPassphraseFile = None,
    second_as: options.SecondAs = None,
    draft: options.Draft = None,
    as_json: options.Json = False,
) -> None:
    """Appoint a representative, or renew the lease. A guardian's ends on a quarter day (1 January, April, July,
    October).

    By the patient; a guardian also by the manager, with the countersignature of another institution.
    """
    with reporting(as_json) as report:
        whose = None if patient is None else identity_id(patient)
        named, end_ms = identity_id(who), moment(until, wall_ms())
        second = second_signer(second_wallet, second_passphrase_file, second_as)

        async def work(session: Session) -> dict[str, Any]:
            body = await representing.appointment(session, named, capacity.value, end_ms, patient=whose)
            return await perform(session, "representation.appoint", body, second, draft)

        value = {
            "representative": named.hex(),
            "capacity": capacity.value,
            "not_after_ms": end_ms,
            **act(node, work, wallet_file, passphrase_file, speaks_for),
        }
        tell(report, value, f"{named.hex()} is {capacity.value} until {when(end_ms)}")


@app.command(
    "dismiss",
    epilog=example("consilium representation dismiss 9f3e… --node demo/node-0 --wallet ada.wallet"),
)
def dismiss(
    who: Annotated[str, typer.Argument(metavar="ID", help="Who speaks no more.", show_default=False)],
    node: options.Node,
    patient: Annotated[
        str | None,
        typer.Option("--patient", metavar="ID", show_default="who signs", help="Whose, where one gives up."),
    ] = None,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Dismiss a representative, as the patient, or give up oneself."""
    with reporting(as_json) as report:
        named = identity_id(who)
        whose = None if patient is None else identity_id(patient)
        done = act(
            node,
            lambda session: representing.dismiss(session, named, patient=whose),
            wallet_file,
            passphrase_file,
            speaks_for,
        )
        value = {
            "representative": named.hex(),
            **committed(done),
        }
        tell(report, value, f"{named.hex()} speaks for the patient no more")


@app.command("show", epilog=example("consilium representation show --node demo/node-0 --patient 5b0c…"))
def show(node: options.Node, patient: options.Patient, as_json: options.Json = False) -> None:
    """Show who may speak for a patient beside the patient. Asked with the folder of a node."""
    with reporting(as_json) as report:
        who = identity_id(patient)
        account = act(node, lambda session: representing.account_of(session, who))
        value = {
            "patient": who.hex(),
            "manager": None if account.manager is None else account.manager.hex(),
            "generation": account.generation,
            "representatives": [
                {"identity": one.identity.hex(), "capacity": one.capacity, "not_after_ms": one.not_after}
                for one in account.representatives
            ],
        }
        rows = [(one.identity.hex(), one.capacity, when(one.not_after)) for one in account.representatives]
        title = f"manager {value['manager'] or 'none'}, {account.generation} take-overs"
        report.result(
            value, lambda console: console.print(table(title, ("identity", "capacity", "until"), rows))
        )


@app.command(
    "takeover",
    epilog=example(
        "consilium representation takeover --node demo/node-0 --wallet ada.wallet --out own.wallet --custodian demo"
    ),
)
def takeover(
    node: options.Node,
    wallet_file: options.Wallet,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The patient's new wallet.", show_default=False)
    ],
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--new-passphrase-file", metavar="FILE", show_default=False, help="The new wallet's passphrase."
        ),
    ] = None,
    custodian: options.Custodian = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Make the account the patient's own: a fresh wallet in place of every key, nobody else speaks, new epochs.

    What others kept until now they may still have. Keep the old wallet: it knows which compartment is of which class.
    """
    with reporting(as_json) as report:
        if out.exists():
            raise Refused("wallet.exists", f"{out} exists")
        chosen = target(node)
        targets = custodian_targets(custodian, chosen) or [chosen]
        old = open_wallet(wallet_file, passphrase_file)
        secret = passphrase(new_passphrase_file, f"the new wallet {out}", confirm=True)
        sender = None if speaks_for is None else identity_id(speaks_for)
        fresh = Wallet.create(old.label, "patient")

        async def run() -> dict[str, Any]:
            async with (
                connected(chosen) as (rpc, genesis),
                custodians(targets, named=custodian is not None) as known,
            ):
                session = Session(rpc, genesis, old, sender=sender)
                done = await representing.take_over(
                    session,
                    fresh,
                    lambda made: wallets.save(made, out, secret),
                    custodians={one.institution: one.rpc for one in known},
                )
            return {"patient": session.identity.hex(), "file": str(out), **committed(done.committed)}

        value = asyncio.run(run())
        tell(report, value, f"{value['patient']} is its own: use {out} with --as {value['patient']}")
