"""The options that many commands have, each in one place: what it is called, what it takes, what its help says.

Commands name them as annotations: `node: options.Node`. An option of one command stands with that command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consilium.node.cli.inputs import PASSPHRASE_VARIABLE

Node = Annotated[
    str,
    typer.Option(
        "--node",
        metavar="DIR|URL",
        envvar="CONSILIUM_NODE",
        show_default=False,
        help="The node to talk to: its folder, or its RPC's address.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        show_default=False,
        help=f"The wallet's passphrase, in a file of mode 0600. Else {PASSPHRASE_VARIABLE}, else you are asked.",
    ),
]
Wallet = Annotated[
    Path, typer.Option("--wallet", metavar="FILE", show_default=False, help="The wallet that signs.")
]
Signer = Annotated[
    Path | None,
    typer.Option(
        "--wallet",
        metavar="FILE",
        help="The wallet that signs.",
        show_default="the institution of the node's folder",
    ),
]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="ID",
        show_default=False,
        help="Whom the wallet's key speaks for, where it was added later: a shift, a new key.",
    ),
]
SecondWallet = Annotated[
    Path | None,
    typer.Option(
        "--second-wallet",
        metavar="FILE",
        show_default=False,
        help="Who signs beside, here and now, with the passphrase of --second-passphrase-file.",
    ),
]
SecondPassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--second-passphrase-file", metavar="FILE", show_default=False, help="As --passphrase-file."
    ),
]
SecondAs = Annotated[
    str | None,
    typer.Option("--second-as", metavar="ID", show_default=False, help="As --as, of the second signature."),
]
Draft = Annotated[
    Path | None,
    typer.Option(
        "--draft",
        metavar="FILE",
        show_default=False,
        help="Submit nothing: write what the other is to sign (`consilium attestation sign`).",
    ),
]
Patient = Annotated[
    str, typer.Option("--patient", metavar="ID", help="The patient's id.", show_default=False)
]
Until = Annotated[
    str,
    typer.Option(
        "--until",
        metavar="TIME",
        show_default=False,
        help="30d, 12h, a date (its end, UTC), or 2026-12-31T18:00:00+01:00.",
    ),
]
Custodian = Annotated[
    list[str] | None,
    typer.Option(
        "--custodian",
        metavar="DIR|URL",
        show_default="the nodes beside --node, where that is a cluster's",
        help="A custodian's node, or a cluster's folder for all its nodes; may be given again.",
    ),
]
