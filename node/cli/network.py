"""`consilium network`: from founding cards to a genesis."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from consilium.ledger.errors import Refused
from consilium.ledger.genesis import genesis_to_json
from consilium.node import files, founding
from consilium.node.cli.inputs import JsonOption, when
from consilium.node.cli.output import example, reporting, table

app = typer.Typer(no_args_is_help=True, help="Found a network of several institutions.")


@app.command(
    "found",
    epilog=example("consilium network found a.json b.json c.json --name west --out genesis.json"),
)
def found(
    cards: Annotated[
        list[Path], typer.Argument(metavar="CARD...", help="A card of each founder.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the genesis goes.", show_default=False)
    ],
    name: Annotated[str, typer.Option("--name", help="What people call the network.")] = "consilium",
    as_json: JsonOption = False,
) -> None:
    """Make the genesis of a network from the founders' cards.

    One founder runs this and sends the file to the others, who compare its chain id and the cards in it before they
    join: `consilium network show` prints both.
    """
    with reporting(as_json) as report:
        if out.exists():
            raise Refused("cli.unwritable", f"{out} exists")
        genesis = founding.found(
            name, [founding.read_card(path) for path in cards], time.time_ns() // 1_000_000
        )
        try:
            files.write_atomically(out, genesis_to_json(genesis))
        except OSError as error:
            raise Refused("cli.unwritable", f"{out}: {error.strerror}") from None
        value = {
            "file": str(out),
            "network": name,
            "chain_id": genesis.chain_id.hex(),
            "validators": len(cards),
        }
        report.result(
            value,
            lambda console: console.print(
                f"{out}: chain {value['chain_id']}, {len(cards)} validators", markup=False
            ),
        )


@app.command("show", epilog=example("consilium network show genesis.json"))
def show(
    genesis_file: Annotated[
        Path, typer.Argument(metavar="GENESIS", help="The genesis file.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Show a genesis: its chain id, when it begins, and who founds the network."""
    with reporting(as_json) as report:
        genesis = founding.read_genesis(genesis_file)
        validators = [
            {"key": validator.key.hex(), "institution": validator.institution.hex()}
            for validator in genesis.validator_set.validators
        ]
        value = {
            "network": genesis.network,
            "chain_id": genesis.chain_id.hex(),
            "time_ms": genesis.time_ms,
            "validators": validators,
            "quorum": genesis.validator_set.quorum,
        }
        title = f"{genesis.network}, chain {genesis.chain_id.hex()}, from {when(genesis.time_ms)}"
        title += f"; quorum {genesis.validator_set.quorum} of {len(validators)}"
        rows = [(one["institution"], one["key"]) for one in validators]
        report.result(value, lambda console: console.print(table(title, ("institution", "node key"), rows)))
