"""`consilium credentials`: what accredited institutions say about others, and take back."""

from __future__ import annotations

import asyncio
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from consilium.client import credentialing
from consilium.client.credentialing import Holder
from consilium.client.session import Session, new_id
from consilium.contracts import credentials
from consilium.ledger.errors import Refused
from consilium.node import files
from consilium.node.cli import options
from consilium.node.cli.acting import (
    act,
    committed,
    identifier,
    tell,
    wall_ms,
)
from consilium.node.cli.inputs import (
    connected,
    hexadecimal,
    identity_id,
    moment,
    open_wallet,
    target,
    when,
)
from consilium.node.cli.output import example, reporting, table
from consilium.node.cli.written import write_new

PROOF_BYTES_MAX = 4_096

app = typer.Typer(no_args_is_help=True, help="Credentials: issue, bind to a key, revoke.")

CredentialArgument = Annotated[
    str, typer.Argument(metavar="CREDENTIAL", help="The credential's id.", show_default=False)
]


class Kind(StrEnum):
    """What a credential says."""

    licence = "licence"
    part2 = "part2"
    auditor = "auditor"


class ProofFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a holder signed, in hexadecimal."""

    credential: str
    issuer: str
    subject: str
    holder: str
    proof: str


@app.command(
    "issue",
    epilog=example(
        "consilium credentials issue --node demo/node-3 --subject 9f3e… --until 1y --holder-wallet lee.wallet",
        "consilium credentials issue --node demo/node-3 --subject 9f3e… --until 1y --proof lee.proof",
    ),
)
def issue(
    node: options.Node,
    subject: Annotated[
        str, typer.Option("--subject", metavar="ID", help="Of whom it speaks.", show_default=False)
    ],
    until: options.Until,
    kind: Annotated[Kind, typer.Option("--kind", help="What it says.")] = Kind.licence,
    holder_wallet: Annotated[
        Path | None,
        typer.Option(
            "--holder-wallet",
            metavar="FILE",
            show_default=False,
            help="Bind it to this wallet's key: the person is here, and types the passphrase.",
        ),
    ] = None,
    proof_file: Annotated[
        Path | None,
        typer.Option(
            "--proof", metavar="FILE", show_default=False, help="Bind it to the key that signed this file."
        ),
    ] = None,
    holder_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--holder-passphrase-file", metavar="FILE", show_default=False, help="As --passphrase-file."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Issue a credential, as the node's institution, which must be an issuer and not the subject's employer.

    A licence that is to break a glass must be bound to a key in the person's own hand: check who stands before you.
    """
    with reporting(as_json) as report:
        if holder_wallet is not None and proof_file is not None:
            raise typer.BadParameter("give --holder-wallet or --proof")
        who, end_ms = identity_id(subject), moment(until, wall_ms())
        wallet = None if holder_wallet is None else open_wallet(holder_wallet, holder_passphrase_file)
        given = None if proof_file is None else _proof(proof_file, who)

        async def work(session: Session) -> dict[str, Any]:
            credential, done = await credentialing.issue(
                session,
                who,
                kind.value,
                end_ms,
                holder=given[1] if given is not None else wallet,
                identifier=given[0] if given is not None else None,
            )
            return {"credential": credential.hex(), **committed(done)}

        value = {
            **act(node, work),
            "subject": who.hex(),
            "kind": kind.value,
            "bound": wallet is not None or given is not None,
        }
        tell(report, value, f"{kind.value} {value['credential']} of {who.hex()} until {when(end_ms)}")


@app.command(
    "prove",
    epilog=example(
        "consilium credentials prove --node demo/node-0 --issuer 77a1… --wallet lee.wallet --out lee.proof"
    ),
)
def prove(
    node: options.Node,
    wallet_file: options.Wallet,
    issuer: Annotated[
        str, typer.Option("--issuer", metavar="ID", help="Who is to issue it.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where it goes.", show_default=False)],
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Sign for a credential to come, with the key that it is to be bound to, and hand the file to its issuer."""
    with reporting(as_json) as report:
        wallet = open_wallet(wallet_file, passphrase_file)
        who = wallet.identity if speaks_for is None else identity_id(speaks_for)
        by, credential = identity_id(issuer), new_id()

        async def chain_id() -> bytes:
            async with connected(target(node)) as (_, genesis):
                return genesis.chain_id

        made = credentialing.prove_holder(asyncio.run(chain_id()), by, credential, wallet, who)
        value = {
            "credential": credential.hex(),
            "issuer": by.hex(),
            "subject": who.hex(),
            "holder": made.key.hex(),
            "proof": made.proof.hex(),
        }
        write_new(out, json.dumps(value, indent=2).encode() + b"\n")
        tell(report, {"file": str(out), **value}, f"{out}: hand it to {by.hex()}")


@app.command("revoke", epilog=example("consilium credentials revoke 5b0c… --node demo/node-3"))
def revoke(credential: CredentialArgument, node: options.Node, as_json: options.Json = False) -> None:
    """Take a credential back, as the node's institution, which issued it: from then on it is worth nothing."""
    with reporting(as_json) as report:
        which = identifier(credential, "a credential's id")
        done = act(node, lambda session: credentialing.revoke(session, which))
        value = {"credential": which.hex(), **committed(done)}
        tell(report, value, f"credential {which.hex()} is revoked, at height {value['height']}")


@app.command("show", epilog=example("consilium credentials show 5b0c… --node demo/node-0"))
def show(
    credential: CredentialArgument,
    node: options.Node,
    as_json: options.Json = False,
) -> None:
    """Show a credential: who issued it to whom, until when, to which key it is bound, whether it was revoked."""
    with reporting(as_json) as report:
        which = identifier(credential, "a credential's id")

        async def ask() -> credentials.Credential:
            async with connected(target(node)) as (rpc, _):
                raw, _height = await rpc.state(credentials.CREDENTIALS.key(which))
            if raw is None:
                raise Refused("credential.unknown", which.hex())
            return credentials.CREDENTIALS.decode(raw)

        found = asyncio.run(ask())
        value = {
            "credential": which.hex(),
            "kind": found.kind,
            "issuer": found.issuer.hex(),
            "subject": found.subject.hex(),
            "issued_ms": found.issued_ms,
            "not_after_ms": found.not_after,
            "revoked_ms": found.revoked_ms,
            "holder": None if found.holder is None else found.holder.hex(),
        }
        report.result(
            value, lambda console: console.print(table(which.hex(), ("what", "value"), list(value.items())))
        )


def _proof(path: Path, subject: bytes) -> tuple[bytes, Holder]:
    raw = files.read_bounded(path, PROOF_BYTES_MAX)
    try:
        given = msgspec.json.decode(raw, type=ProofFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("cli.bad_value", f"{path}: {error}") from None
    if hexadecimal(given.subject, 16, f"{path}: an id") != subject:
        raise Refused("cli.bad_value", f"{path} was signed for {given.subject[:40]}")
    holder = Holder(
        hexadecimal(given.holder, 32, f"{path}: a key"), hexadecimal(given.proof, 64, f"{path}: a signature")
    )
    return hexadecimal(given.credential, 16, f"{path}: an id"), holder
