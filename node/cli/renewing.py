"""`consilium keys add`, `revoke`, `renew`: keys that change while the identity stays."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from consilium.client import epochs, identities
from consilium.client import wallet as wallets
from consilium.client.session import Session
from consilium.ledger.crypto import KEY_BYTES
from consilium.node.cli import keys, options
from consilium.node.cli.acting import (
    act,
    committed,
    identifier,
    tell,
)
from consilium.node.cli.custody import custodian_targets, custodians
from consilium.node.cli.inputs import (
    connected,
    hexadecimal,
    identity_id,
    open_wallet,
    passphrase,
    target,
)
from consilium.node.cli.output import example, reporting

app = keys.app


@app.command(
    "add",
    epilog=example("consilium keys add --node demo/node-0 --wallet lee.wallet --new-wallet card.wallet"),
)
def add(
    node: options.Node,
    new_wallet: Annotated[
        Path,
        typer.Option("--new-wallet", metavar="FILE", help="Whose key is added.", show_default=False),
    ],
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option("--new-passphrase-file", metavar="FILE", show_default=False, help="Of the new wallet."),
    ] = None,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Let another wallet's key speak for the signer's identity too. Commands then take `--wallet NEW --as ID`."""
    with reporting(as_json) as report:
        newcomer = open_wallet(new_wallet, new_passphrase_file)

        async def work(session: Session) -> dict[str, Any]:
            done = await identities.add_key(session, newcomer)
            return {"identity": session.identity.hex(), **committed(done)}

        value = {
            "key": newcomer.signing.public.hex(),
            **act(node, work, wallet_file, passphrase_file, speaks_for),
        }
        tell(report, value, f"key {value['key']} speaks for {value['identity']}")


@app.command("revoke", epilog=example("consilium keys revoke 3a… --node demo/node-0 --wallet lee.wallet"))
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="One of the signer's keys.", show_default=False)],
    node: options.Node,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """End one of the signer's own keys, for ever. The last one stays."""
    with reporting(as_json) as report:
        which = hexadecimal(key, KEY_BYTES, "a key")
        done = act(
            node,
            lambda session: identities.revoke_key(session, which),
            wallet_file,
            passphrase_file,
            speaks_for,
        )
        value = {"key": which.hex(), **committed(done)}
        tell(report, value, f"key {which.hex()} speaks no more")


@app.command(
    "renew",
    epilog=example("consilium keys renew 5b0c… --node demo/node-0 --wallet ada.wallet --custodian demo"),
)
def renew(
    compartment: Annotated[
        str, typer.Argument(metavar="COMPARTMENT", help="The compartment's id.", show_default=False)
    ],
    node: options.Node,
    wallet_file: options.Wallet,
    custodian: options.Custodian = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Begin a compartment's next epoch, with a fresh secret that the wallet keeps: after a compromise.

    What was sealed before stays with its custodians. Those that are named get their new shares at once, the others by
    `consilium keys deliver`.
    """
    with reporting(as_json) as report:
        chosen, which = target(node), identifier(compartment, "a compartment's id")
        targets = custodian_targets(custodian, chosen) or [chosen]
        secret = passphrase(passphrase_file, str(wallet_file))
        patient = wallets.load(wallet_file, secret)
        sender = None if speaks_for is None else identity_id(speaks_for)

        async def run() -> dict[str, Any]:
            async with (
                connected(chosen) as (rpc, genesis),
                custodians(targets, named=custodian is not None) as known,
            ):
                _, done = await epochs.begin_epoch(
                    Session(rpc, genesis, patient, sender=sender),
                    patient,
                    which,
                    lambda made: wallets.save(made, wallet_file, secret, replace=True),
                    to={one.institution: one.rpc for one in known},
                )
            return committed(done)

        value = {"compartment": which.hex(), **asyncio.run(run())}
        tell(report, value, f"compartment {which.hex()} has a new epoch; its secret is in {wallet_file}")
