"""`consilium consent`: what a patient permits, and takes back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from consilium.client import consenting, recording
from consilium.client.history import ConsentLine, consents_of
from consilium.client.rpc import RpcClient
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts.classes import GENERAL, NAMES
from consilium.ledger.errors import Refused
from consilium.node.cli import options
from consilium.node.cli.inputs import (
    Target,
    connected,
    hexadecimal,
    identity_id,
    moment,
    open_wallet,
    purpose_code,
    require_known,
    target,
    when,
)
from consilium.node.cli.output import example, reporting, table

ALL: Final = "all"

ClassesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="NAME",
        show_default="general; with --deny all",
        help=f"Which records: {', '.join(NAMES.values())}, or all; may be given again.",
    ),
]
ClassWalletOption = Annotated[
    Path | None,
    typer.Option(
        "--class-wallet",
        metavar="FILE",
        show_default="--wallet",
        help="The wallet that opened the compartments, after a take-over: it knows their classes.",
    ),
]

app = typer.Typer(no_args_is_help=True, help="Grant, revoke and list consents.")


@app.command(
    "grant",
    epilog=example(
        "consilium consent grant --node demo/node-0 --wallet ada.wallet --grantee 9f3e… --purpose TREAT --until 30d"
    ),
)
def grant(
    node: options.Node,
    wallet_file: options.Wallet,
    grantee: Annotated[
        str,
        typer.Option(
            "--grantee",
            metavar="ID",
            help="An institution or practitioner: id or did:key.",
            show_default=False,
        ),
    ],
    until: Annotated[
        str,
        typer.Option(
            "--until",
            metavar="TIME",
            show_default=False,
            help="30d, 12h, a date (its end, UTC), or 2026-12-31T18:00:00+01:00. From then on nothing is permitted.",
        ),
    ],
    purposes: Annotated[
        list[str] | None,
        typer.Option(
            "--purpose", help="A code of HL7's PurposeOfUse; may be given again.", show_default="TREAT"
        ),
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="When it begins.", show_default="now")
    ] = None,
    deny: Annotated[bool, typer.Option("--deny", help="Deny instead: it wins over every permit.")] = False,
    transferable: Annotated[
        bool, typer.Option("--transferable", help="The grantee may pass it on, once (`delegation pass`).")
    ] = False,
    classes: ClassesOption = None,
    class_wallet: ClassWalletOption = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Let somebody read, for these purposes, until then. Signed with the patient's wallet."""
    with reporting(as_json) as report:
        chosen = target(node)
        now_ms = time.time_ns() // 1_000_000
        codes = [purpose_code(one) for one in purposes or ["TREAT"]]
        kinds = _classes(classes or ([ALL] if deny else [NAMES[GENERAL]]))
        who = identity_id(grantee)
        end_ms = moment(until, now_ms)
        begin_ms = moment(begin, now_ms) if begin is not None else None
        wallet = open_wallet(wallet_file, passphrase_file)
        knowing = wallet if class_wallet is None else open_wallet(class_wallet, passphrase_file)
        sender = None if speaks_for is None else identity_id(speaks_for)
        signer = _Signer(wallet, sender, knowing)
        value = asyncio.run(_grant(chosen, signer, who, codes, begin_ms, end_ms, deny, kinds, transferable))
        report.result(
            value,
            lambda console: console.print(
                f"consent {value['consent']}: {value['effect']} {who.hex()} "
                f"for {', '.join(codes)} until {when(end_ms)}, records: {', '.join(value['classes'])}",
                markup=False,
            ),
        )


class _Signer(NamedTuple):
    """Who signs, for whom, and whose wallet knows the classes."""

    wallet: Wallet
    speaks_for: bytes | None
    knowing: Wallet


async def _grant(
    node: Target,
    signer: _Signer,
    grantee: bytes,
    purposes: list[str],
    begin_ms: int | None,
    end_ms: int,
    deny: bool,
    classes: list[int] | None,
    transferable: bool,
) -> dict[str, Any]:
    async with connected(node) as (rpc, genesis):
        session = Session(rpc, genesis, signer.wallet, sender=signer.speaks_for)
        compartments = None
        if classes is not None:
            known = await recording.class_map_from(session, signer.knowing)
            compartments = sorted(known.compartment(code) for code in classes)
        if begin_ms is None:
            # Block time, not this computer's: a clock that is fast must not make a consent that is not valid yet.
            begin_ms = min(int((await rpc.status())["tip_time_ms"]), end_ms - 1)
        identifier, committed = await consenting.grant(
            session,
            grantee,
            purposes,
            not_before_ms=begin_ms,
            not_after_ms=end_ms,
            compartments=compartments,
            effect="deny" if deny else "permit",
            transferable=transferable,
        )
    return {
        "consent": identifier.hex(),
        "patient": session.identity.hex(),
        "grantee": grantee.hex(),
        "purposes": purposes,
        "effect": "deny" if deny else "permit",
        "classes": [ALL] if classes is None else [NAMES[code] for code in classes],
        "not_before_ms": begin_ms,
        "not_after_ms": end_ms,
        "transaction": committed.id.hex(),
        "height": committed.height,
    }


def _classes(names: list[str]) -> list[int] | None:
    """The codes of classes, ascending; None is all. Raises Refused `cli.bad_value`."""
    if ALL in names:
        return None
    codes = {name: code for code, name in NAMES.items()}
    for name in names:
        if name not in codes:
            raise Refused("cli.bad_value", f"{name[:100]!r}: a class is one of {', '.join(codes)}, or {ALL}")
    return sorted({codes[name] for name in names})


@app.command(
    "revoke", epilog=example("consilium consent revoke 77a1… --node demo/node-0 --wallet ada.wallet")
)
def revoke(
    consent: Annotated[str, typer.Argument(metavar="CONSENT", help="The consent's id.", show_default=False)],
    node: options.Node,
    wallet_file: options.Wallet,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Take a consent back: from that block on nothing is decided, and nothing released, on its ground."""
    with reporting(as_json) as report:
        identifier = hexadecimal(consent, 16, "a consent's id")
        chosen = target(node)
        sender = None if speaks_for is None else identity_id(speaks_for)
        wallet = open_wallet(wallet_file, passphrase_file)
        value = asyncio.run(_revoke(chosen, wallet, sender, identifier))
        report.result(
            value,
            lambda console: console.print(
                f"consent {identifier.hex()} is revoked, at height {value['height']}", markup=False
            ),
        )


async def _revoke(node: Target, wallet: Wallet, sender: bytes | None, identifier: bytes) -> dict[str, Any]:
    async with connected(node) as (rpc, genesis):
        committed = await consenting.revoke(Session(rpc, genesis, wallet, sender=sender), identifier)
    return {
        "consent": identifier.hex(),
        "transaction": committed.id.hex(),
        "height": committed.height,
        "revoked_ms": committed.time_ms,
    }


@app.command(
    "list",
    epilog=example(
        "consilium consent list --node demo/node-0 --patient 5b0c…",
        "consilium consent list --node demo/node-0 --wallet ada.wallet",
    ),
)
def list_(
    node: options.Node,
    patient: Annotated[
        str | None,
        typer.Option(
            "--patient", metavar="ID", help="The patient's (or a grantee's) id.", show_default=False
        ),
    ] = None,
    wallet_file: Annotated[
        Path | None,
        typer.Option(
            "--wallet", metavar="FILE", help="The patient's wallet, in place of the id.", show_default=False
        ),
    ] = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """List the consents that a patient granted, with their standing now."""
    with reporting(as_json) as report:
        if (patient is None) == (wallet_file is None):
            raise typer.BadParameter("give either --patient or --wallet")
        chosen = target(node)
        if wallet_file is not None:
            subject = open_wallet(wallet_file, passphrase_file).identity
        elif patient is not None:
            subject = identity_id(patient)
        else:
            raise Refused("cli.bad_value", "nobody is named")
        lines, time_ms = asyncio.run(_list(chosen, subject))
        rows = [
            (
                line.consent.hex(),
                line.effect,
                line.grantee.hex() if line.grantee is not None else "anybody",
                ", ".join(line.purposes),
                when(line.not_before_ms),
                when(line.not_after_ms),
                line.standing(time_ms),
            )
            for line in lines
        ]
        columns = ("consent", "effect", "grantee", "purposes", "from", "until", "standing")
        report.result(
            [_value(line, time_ms) for line in lines],
            lambda console: console.print(table(f"{len(lines)} consents", columns, rows)),
        )


async def _list(node: Target, subject: bytes) -> tuple[list[ConsentLine], int]:
    async with RpcClient(node.url) as rpc:
        await require_known(rpc, subject)
        return await consents_of(rpc, subject), int((await rpc.status())["tip_time_ms"])


def _value(line: ConsentLine, time_ms: int) -> dict[str, Any]:
    return {
        "consent": line.consent.hex(),
        "patient": line.patient.hex(),
        "grantee": line.grantee.hex() if line.grantee is not None else None,
        "purposes": list(line.purposes),
        "effect": line.effect,
        "compartments": None if line.compartments is None else [one.hex() for one in line.compartments],
        "not_before_ms": line.not_before_ms,
        "not_after_ms": line.not_after_ms,
        "granted_ms": line.granted_ms,
        "revoked_ms": line.revoked_ms,
        "standing": line.standing(time_ms),
        "transaction": line.transaction.hex(),
        "parent": None if line.parent is None else line.parent.hex(),
    }
