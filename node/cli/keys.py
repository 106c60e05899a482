"""`consilium keys`: wallets, and enrolling their owners."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from consilium.client import recording
from consilium.client import wallet as wallets
from consilium.client.did import did_of_encryption_key
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.ledger.errors import Refused
from consilium.node.cli.custody import CustodianOption, custodian_targets, custodians
from consilium.node.cli.inputs import (
    JsonOption,
    NodeOption,
    PassphraseFileOption,
    Target,
    WalletOption,
    connected,
    open_wallet,
    passphrase,
    target,
)
from consilium.node.cli.output import example, reporting, table

app = typer.Typer(no_args_is_help=True, help="Wallets: keys at rest, under a passphrase.")


class Role(StrEnum):
    """What a wallet is used for."""

    patient = "patient"
    practitioner = "practitioner"
    institution = "institution"
    application = "application"


@app.command("create", epilog=example("consilium keys create --out ada.wallet --role patient --label 'Ada'"))
def create(
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The new wallet's file.", show_default=False)
    ],
    role: Annotated[Role, typer.Option("--role", help="What it is used for.")] = Role.patient,
    label: Annotated[
        str,
        typer.Option("--label", help="What its owner calls it; it stays inside.", show_default="the role"),
    ] = "",
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a wallet: an identity's keys, encrypted under a passphrase (Argon2id). Nothing is overwritten."""
    with reporting(as_json) as report:
        if out.exists():
            raise Refused("wallet.exists", f"{out} exists")
        secret = passphrase(passphrase_file, f"the new wallet {out}", confirm=True)
        try:
            wallet = Wallet.create(label or role.value, role.value)
        except ValueError as error:
            raise Refused("cli.bad_value", str(error)) from None
        wallets.save(wallet, out, secret)
        value = {"file": str(out), **_public(wallet)}
        report.result(
            value, lambda console: console.print(table(str(out), ("what", "value"), list(value.items())))
        )


@app.command("show", epilog=example("consilium keys show ada.wallet"))
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The wallet.", show_default=False)],
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a wallet's public side: its identity, its did:key, its public keys."""
    with reporting(as_json) as report:
        wallet = open_wallet(file, passphrase_file)
        value = {"file": str(file), "label": wallet.label, "role": wallet.role, **_public(wallet)}
        value["compartments"] = [
            {"compartment": kept.compartment.hex(), "epoch": kept.epoch} for kept in wallet.compartments
        ]
        rows = [(name, item if isinstance(item, str) else len(item)) for name, item in value.items()]
        report.result(value, lambda console: console.print(table(str(file), ("what", "value"), rows)))


@app.command(
    "enrol",
    epilog=example("consilium keys enrol --node demo/node-1 --wallet dr-lee.wallet --role practitioner"),
)
def enrol(
    node: NodeOption,
    wallet_file: WalletOption,
    role: Annotated[
        Role, typer.Option("--role", help="patient, practitioner or application.", show_default=False)
    ],
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enrol the owner of a wallet on the ledger, as the node's institution. Doing it again is no error."""
    with reporting(as_json) as report:
        if role is Role.institution:
            raise Refused("contract.founding_only", "institutions are founded by the genesis")
        chosen = target(node)
        newcomer = open_wallet(wallet_file, passphrase_file)
        identity = asyncio.run(_enrol(chosen, role, newcomer))
        value = {"identity": identity.hex(), "did": newcomer.did, "role": role.value}
        report.result(
            value, lambda console: console.print(f"{role.value} {identity.hex()} is enrolled", markup=False)
        )


async def _enrol(chosen: Any, role: Role, newcomer: Wallet) -> bytes:
    async with connected(chosen) as (rpc, genesis):
        session = Session(rpc, genesis, chosen.institution())
        return await recording.enrol(session, role.value, newcomer)  # type: ignore[arg-type]


@app.command(
    "deliver",
    epilog=example("consilium keys deliver --node demo/node-0 --wallet ada.wallet --custodian demo"),
)
def deliver(
    node: NodeOption,
    wallet_file: WalletOption,
    custodian: CustodianOption = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand custodians their shares of a patient's compartments, from the patient's wallet. Again is no error."""
    with reporting(as_json) as report:
        chosen = target(node)
        keepers = custodian_targets(custodian, chosen) or [chosen]
        patient = open_wallet(wallet_file, passphrase_file)
        served = asyncio.run(_deliver(chosen, keepers, custodian is not None, patient))
        value = {"patient": patient.identity.hex(), "custodians": [one.hex() for one in served]}
        said = f"{len(served)} custodians have the shares that are theirs"
        report.result(value, lambda console: console.print(said, markup=False))


async def _deliver(chosen: Target, keepers: Sequence[Target], named: bool, patient: Wallet) -> list[bytes]:
    async with connected(chosen) as (rpc, genesis), custodians(keepers, named=named) as known:
        to = {one.institution: one.rpc for one in known}
        await recording.deliver_shares(Session(rpc, genesis, patient), patient, to)
        return list(to)


def _public(wallet: Wallet) -> dict[str, Any]:
    return {
        "identity": wallet.identity.hex(),
        "did": wallet.did,
        "key": wallet.signing.public.hex(),
        "encryption_key": wallet.encryption_public.hex(),
        "encryption_did": did_of_encryption_key(wallet.encryption_public),
        "author_point": wallet.point.hex(),
    }
