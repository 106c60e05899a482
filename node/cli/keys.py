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
from consilium.client.pseudonyms import Pseudonym, discover, institutions_of, pseudonym
from consilium.client.recovery_words import Restored, words_of
from consilium.client.recovery_words import restore as recover
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts.classes import NAMES
from consilium.ledger.errors import Refused
from consilium.node.cli import options
from consilium.node.cli.custody import custodian_targets, custodians
from consilium.node.cli.inputs import (
    Target,
    connected,
    identity_id,
    open_wallet,
    passphrase,
    secret_words,
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
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
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
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
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
    node: options.Node,
    wallet_file: options.Wallet,
    role: Annotated[
        Role, typer.Option("--role", help="patient, practitioner or application.", show_default=False)
    ],
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
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
    node: options.Node,
    wallet_file: options.Wallet,
    custodian: options.Custodian = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Hand custodians their shares of a patient's compartments, from the patient's wallet. Again is no error."""
    with reporting(as_json) as report:
        chosen = target(node)
        targets = custodian_targets(custodian, chosen) or [chosen]
        patient = open_wallet(wallet_file, passphrase_file)
        whose = patient.identity if speaks_for is None else identity_id(speaks_for)
        served = asyncio.run(_deliver(chosen, targets, custodian is not None, patient, whose))
        value = {"patient": whose.hex(), "custodians": [one.hex() for one in served]}
        said = f"{len(served)} custodians have the shares that are theirs"
        report.result(value, lambda console: console.print(said, markup=False))


async def _deliver(
    chosen: Target, targets: Sequence[Target], named: bool, patient: Wallet, whose: bytes
) -> list[bytes]:
    async with connected(chosen) as (rpc, genesis), custodians(targets, named=named) as known:
        to = {one.institution: one.rpc for one in known}
        await recording.deliver_shares(Session(rpc, genesis, patient, sender=whose), patient, to)
        return list(to)


@app.command("resolve", epilog=example("consilium keys resolve --node demo/node-0 --wallet ada.wallet"))
def resolve(
    node: options.Node,
    did: Annotated[
        str | None,
        typer.Option(
            "--did",
            metavar="DID",
            show_default=False,
            help="did:consilium:…, or the did:key of a signing key.",
        ),
    ] = None,
    wallet_file: Annotated[
        Path | None,
        typer.Option(
            "--wallet", metavar="FILE", show_default=False, help="In place of --did: whose wallet it is."
        ),
    ] = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Show the DID document of an identity: its keys in force, and what each is for."""
    with reporting(as_json) as report:
        if (did is None) == (wallet_file is None):
            raise Refused("cli.bad_value", "give --did or --wallet")
        asked = did if wallet_file is None else open_wallet(wallet_file, passphrase_file).did
        value = asyncio.run(_resolve(target(node), asked or ""))
        report.result(value, lambda console: console.print_json(data=value))


async def _resolve(chosen: Target, did: str) -> dict[str, Any]:
    async with connected(chosen) as (rpc, _):
        return await rpc.resolve(did)


@app.command("classes", epilog=example("consilium keys classes --node demo/node-0 --wallet ada.wallet"))
def classes(
    node: options.Node,
    wallet_file: options.Wallet,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Show a patient's compartments by class: what only the patient's wallet tells."""
    with reporting(as_json) as report:
        wallet = open_wallet(wallet_file, passphrase_file)
        value = asyncio.run(_classes(target(node), wallet))
        rows = [(one["class"], one["compartment"]) for one in value]
        report.result(
            value, lambda console: console.print(table("Compartments", ("class", "compartment"), rows))
        )


async def _classes(chosen: Target, wallet: Wallet) -> list[dict[str, str]]:
    async with connected(chosen) as (rpc, genesis):
        known = await recording.class_map_from(Session(rpc, genesis, wallet), wallet)
        entries = sorted(known.entries, key=lambda one: one.class_code)
        return [{"class": NAMES[one.class_code], "compartment": one.compartment.hex()} for one in entries]


@app.command("words", epilog=example("consilium keys words ada.wallet"))
def words(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The wallet.", show_default=False)],
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Print a wallet's 24 recovery words, for paper. Whoever has them is the owner."""
    with reporting(as_json) as report:
        said = words_of(open_wallet(file, passphrase_file))
        report.result({"words": said}, lambda console: console.print(said, markup=False))


@app.command(
    "restore",
    epilog=example("consilium keys restore --node demo/node-0 --words-file words.txt --out ada-again.wallet"),
)
def restore(
    node: options.Node,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The new wallet's file.", show_default=False)
    ],
    words_file: Annotated[
        Path | None,
        typer.Option(
            "--words-file",
            metavar="FILE",
            show_default=False,
            help="The words, in a file of mode 0600. Else you are asked.",
        ),
    ] = None,
    label: Annotated[str, typer.Option("--label", help="What its owner calls it.")] = "",
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Make a wallet anew from its recovery words and the chain. Nothing is overwritten."""
    with reporting(as_json) as report:
        if out.exists():
            raise Refused("wallet.exists", f"{out} exists")
        said = secret_words(words_file)
        secret = passphrase(passphrase_file, f"the new wallet {out}", confirm=True)
        found, pseudonyms = asyncio.run(_restore(target(node), said, label))
        wallets.save(found.wallet, out, secret)
        value = {
            "file": str(out),
            **_public(found.wallet),
            "enrolled": found.known,
            "pseudonyms": [
                {"institution": one.institution.hex(), "identity": one.wallet.identity.hex()}
                for one in pseudonyms
            ],
        }
        rows = [(name, item if isinstance(item, str) else str(item)) for name, item in value.items()]
        report.result(value, lambda console: console.print(table(str(out), ("what", "value"), rows)))


async def _restore(chosen: Target, said: str, label: str) -> tuple[Restored, list[Pseudonym]]:
    async with connected(chosen) as (rpc, genesis):
        found = await recover(rpc, said, label)
        institutions = await institutions_of(rpc)
        return found, await discover(rpc, found.wallet, genesis.chain_id, institutions)


@app.command(
    "pseudonym",
    epilog=example("consilium keys pseudonym --node demo/node-1 --wallet ada.wallet --out ada-at-1.wallet"),
)
def as_pseudonym(
    node: options.Node,
    wallet_file: options.Wallet,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The pseudonym's file.", show_default=False)
    ],
    institution: Annotated[
        str | None,
        typer.Option(
            "--institution", metavar="ID", show_default="the node's", help="At which institution it is used."
        ),
    ] = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Derive the wallet of the same person at one institution: an identity that nobody else can link to the others."""
    with reporting(as_json) as report:
        if out.exists():
            raise Refused("wallet.exists", f"{out} exists")
        chosen = target(node)
        at = chosen.institution().identity if institution is None else identity_id(institution)
        wallet = open_wallet(wallet_file, passphrase_file)
        derived = pseudonym(wallet, asyncio.run(_chain_id(chosen)), at)
        wallets.save(derived, out, passphrase(passphrase_file, f"the new wallet {out}", confirm=True))
        value = {"file": str(out), "institution": at.hex(), **_public(derived)}
        report.result(
            value, lambda console: console.print(table(str(out), ("what", "value"), list(value.items())))
        )


async def _chain_id(chosen: Target) -> bytes:
    async with connected(chosen) as (_, genesis):
        return genesis.chain_id


def _public(wallet: Wallet) -> dict[str, Any]:
    return {
        "identity": wallet.identity.hex(),
        "did": wallet.did,
        "key": wallet.signing.public.hex(),
        "encryption_key": wallet.encryption_public.hex(),
        "encryption_did": did_of_encryption_key(wallet.encryption_public),
        "author_point": wallet.point.hex(),
    }
