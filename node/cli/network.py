"""`consilium network`: from founding cards to a genesis."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from consilium.contracts.settings import DEFAULTS, Settings
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import genesis_to_json
from consilium.node import founding, terms
from consilium.node.cli import options
from consilium.node.cli.inputs import identity_id, when
from consilium.node.cli.output import example, reporting, table
from consilium.node.cli.written import require_free, write_new

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
    issuers: Annotated[
        list[str] | None,
        typer.Option(
            "--issuer",
            metavar="NAME|ID",
            show_default=False,
            help="A founder that issues credentials, by its card's name or its id; may be given again.",
        ),
    ] = None,
    authorities: Annotated[
        list[str] | None,
        typer.Option(
            "--authority",
            metavar="NAME|ID",
            show_default=False,
            help="A founder that issues legal mandates; may be given again.",
        ),
    ] = None,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            metavar="FILE",
            show_default=False,
            help="Settings of the network that differ from the defaults, as TOML: `review_ms = 86400000`.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Make the genesis of a network from the founders' cards, and the terms that they agreed on.

    One founder runs this and sends the file to the others, who compare its chain id, the cards and the terms in it
    before they join: `consilium network show` prints them. Roles and settings can be changed later, by vote.
    """
    with reporting(as_json) as report:
        require_free(out)
        known = [founding.read_card(path) for path in cards]
        agreed = terms.Terms(
            issuers=tuple(_founder(one, known) for one in issuers or ()),
            authorities=tuple(_founder(one, known) for one in authorities or ()),
            settings=_settings(settings_file, len(known)),
        )
        genesis = founding.found(name, known, time.time_ns() // 1_000_000, agreed)
        if not agreed.issuers:
            report.note(
                "nobody issues credentials in this network: no glass can be broken until a vote changes that"
            )
        write_new(out, genesis_to_json(genesis))
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


def _settings(file: Path | None, founders: int) -> Settings | None:
    if file is None:
        return None
    least = min(DEFAULTS.sensitive_threshold_min, founders)
    return terms.settings_from({"sensitive_threshold_min": least, **terms.changes_from(file)})


def _founder(text: str, cards: Sequence[founding.FoundingCard]) -> bytes:
    """A founder by its card's name, or by its id. Raises Refused `cli.bad_value`."""
    named = [card.institution for card in cards if card.name == text]
    if len(named) > 1:
        raise Refused("cli.bad_value", f"{text}: {len(named)} founders have this name; give the id")
    return named[0] if named else identity_id(text)


@app.command("show", epilog=example("consilium network show genesis.json"))
def show(
    genesis_file: Annotated[
        Path, typer.Argument(metavar="GENESIS", help="The genesis file.", show_default=False)
    ],
    as_json: options.Json = False,
) -> None:
    """Show a genesis: its chain id, when it begins, and who founds the network."""
    with reporting(as_json) as report:
        genesis = founding.read_genesis(genesis_file)
        roles = terms.roles_in(genesis)
        settled = terms.settings_in(genesis)
        validators = [
            {
                "key": validator.key.hex(),
                "institution": validator.institution.hex(),
                "roles": roles.get(validator.institution, []),
            }
            for validator in genesis.validator_set.validators
        ]
        value = {
            "network": genesis.network,
            "chain_id": genesis.chain_id.hex(),
            "time_ms": genesis.time_ms,
            "validators": validators,
            "quorum": genesis.validator_set.quorum,
            "settings": {field: getattr(settled, field) for field in settled.__struct_fields__},
        }
        title = f"{genesis.network}, chain {genesis.chain_id.hex()}, from {when(genesis.time_ms)}"
        title += f"; quorum {genesis.validator_set.quorum} of {len(validators)}"
        rows = [(one["institution"], ", ".join(one["roles"]), one["key"]) for one in validators]
        columns = ("institution", "roles", "node key")
        chosen = list(value["settings"].items())  # type: ignore[attr-defined]

        def show(console: Console) -> None:
            console.print(table(title, columns, rows))
            console.print(table("Settings", ("setting", "value"), chosen))

        report.result(value, show)
