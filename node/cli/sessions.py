"""`consilium sessions`: a practitioner's shift, opened by the employer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consilium.client import shifts
from consilium.client import wallet as wallets
from consilium.client.wallet import Wallet
from consilium.ledger.crypto import KEY_BYTES
from consilium.ledger.errors import Refused
from consilium.node.cli import options
from consilium.node.cli.acting import (
    act,
    committed,
    tell,
    wall_ms,
)
from consilium.node.cli.inputs import (
    hexadecimal,
    identity_id,
    moment,
    passphrase,
    when,
)
from consilium.node.cli.output import example, reporting

app = typer.Typer(no_args_is_help=True, help="Session keys of a shift: begin, end.")

PractitionerOption = Annotated[
    str, typer.Option("--practitioner", metavar="ID", help="Who works.", show_default=False)
]


@app.command(
    "begin",
    epilog=example(
        "consilium sessions begin --node demo/node-1 --practitioner 9f3e… --until 8h --out shift.wallet"
    ),
)
def begin(
    node: options.Node,
    practitioner: PractitionerOption,
    until: options.Until,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The shift's new wallet.", show_default=False)
    ],
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Log a practitioner in, as the node's institution: a fresh wallet speaks for the practitioner, at most 12 hours.

    Commands then take `--wallet shift.wallet --as ID`. It breaks no glass and changes no keys.
    """
    with reporting(as_json) as report:
        if out.exists():
            raise Refused("wallet.exists", f"{out} exists")
        who, end_ms = identity_id(practitioner), moment(until, wall_ms())
        shift = Wallet.create("shift", "practitioner")
        wallets.save(shift, out, passphrase(passphrase_file, f"the new wallet {out}", confirm=True))
        done = act(node, lambda session: shifts.begin(session, who, shift, end_ms))
        value = {
            "practitioner": who.hex(),
            "key": shift.signing.public.hex(),
            "file": str(out),
            "not_after_ms": end_ms,
            **committed(done),
        }
        tell(report, value, f"{out} speaks for {who.hex()} until {when(end_ms)}")


@app.command("end", epilog=example("consilium sessions end 3a… --node demo/node-1 --practitioner 9f3e…"))
def end(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The shift's key.", show_default=False)],
    node: options.Node,
    practitioner: PractitionerOption,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """End a session key before its time, as the employer or the practitioner."""
    with reporting(as_json) as report:
        who, which = identity_id(practitioner), hexadecimal(key, KEY_BYTES, "a key")
        done = act(
            node, lambda session: shifts.end(session, who, which), wallet_file, passphrase_file, speaks_for
        )
        value = {"key": which.hex(), **committed(done)}
        tell(report, value, f"key {which.hex()} speaks no more")
