"""`consilium node`: make, complete, run and look at one node."""

from __future__ import annotations

import asyncio
import gc
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from consilium.client.rpc import RpcClient
from consilium.ledger.errors import Refused
from consilium.node import files, founding
from consilium.node.cli import options, storage
from consilium.node.cli.inputs import (
    INSTITUTION_VARIABLE,
    node_config,
    passphrase,
    target,
    when,
)
from consilium.node.cli.output import example, reporting, table
from consilium.node.cluster import ALL_INTERFACES
from consilium.node.config_sections import host_and_port
from consilium.node.founding import Place

GENERATED_BYTES: Final = 32
GENERATED_FILE: Final = "passphrase"
SHORT_CHARS: Final = 32
GC_THRESHOLDS: Final = (50_000, 20, 50)

app = typer.Typer(no_args_is_help=True, help="Make, run and look at one node.")
storage.add_to(app)

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The node's folder.", show_default=False)]


@app.command(
    "init",
    epilog=example(
        "consilium node init ./node --name 'St. Anna' --address node.st-anna.example:7100 --generate-passphrase"
    ),
)
def init(
    folder: FolderArgument,
    name: Annotated[
        str, typer.Option("--name", help="The institution's name, for people.", show_default=False)
    ],
    address: Annotated[
        str,
        typer.Option(
            "--address", metavar="HOST:PORT", help="Where other nodes reach this one.", show_default=False
        ),
    ],
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="Where it listens for nodes.",
            show_default="all interfaces, at the address's port",
        ),
    ] = None,
    rpc: Annotated[
        str, typer.Option("--rpc", metavar="HOST:PORT", help="Where its RPC listens.")
    ] = "127.0.0.1:7200",
    observer: Annotated[bool, typer.Option("--observer", help="Follow the chain, and do not vote.")] = False,
    passphrase_file: options.PassphraseFile = None,
    generate: Annotated[
        bool,
        typer.Option(
            "--generate-passphrase", help=f"Make a passphrase, and keep it in DIR/{GENERATED_FILE}."
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Make an institution's node: its keys, its wallet, its configuration.

    Prints the founding card: public, for the other institutions. `consilium network found` makes a genesis of the
    cards, and `consilium node join` completes the folder with it.
    """
    with reporting(as_json) as report:
        place = Place(
            address,
            _address(listen) if listen else (ALL_INTERFACES, _address(address)[1]),
            _address(rpc),
            role="observer" if observer else "validator",
        )
        if generate:
            secret, kept = secrets.token_hex(GENERATED_BYTES), GENERATED_FILE
        else:
            secret = passphrase(passphrase_file, "the institution's wallet", confirm=True)
            kept = str(passphrase_file.resolve()) if passphrase_file is not None else ""
        card = founding.make_folder(folder, name, place, secret, passphrase_file=kept)
        if generate:
            files.create_secret(folder / GENERATED_FILE, secret)
        text = founding.card_to_json(card).decode()

        def show(console: Console) -> None:
            console.print(text, markup=False, end="")
            report.note(f"kept as {folder / founding.CARD_FILE}; give it to whoever founds the network")
            if not kept:
                report.note(f"the node reads the wallet's passphrase from {INSTITUTION_VARIABLE}")

        report.result({"folder": str(folder), "card": json.loads(text)}, show)


@app.command(
    "join", epilog=example("consilium node join ./node --genesis genesis.json st-anna.json charite.json")
)
def join(
    folder: FolderArgument,
    genesis_file: Annotated[
        Path, typer.Option("--genesis", metavar="FILE", help="The network's genesis.", show_default=False)
    ],
    cards: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CARD...", help="Founding cards of the other nodes.", show_default=False),
    ] = None,
    newcomer: Annotated[
        bool, typer.Option("--newcomer", help="The node is to become a validator by the network's decision.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Complete a node's folder with the network's genesis and the other nodes' addresses, and make its stores.

    Called again, it adds the addresses of further cards, and replaces those that changed; the stores stay.
    """
    with reporting(as_json) as report:
        from consilium.node.stores import init_stores

        genesis = founding.read_genesis(genesis_file)
        others = [founding.read_card(path) for path in cards or []]
        joined = founding.has_joined(folder)
        config = founding.join(folder, genesis, others, newcomer=newcomer)
        try:
            init_stores(config)
        except Refused as refusal:
            if not joined or refusal.code != "store.exists":
                raise
        chain_id = genesis.chain_id.hex()
        missing = [
            {"key": one.key.hex(), "institution": one.institution.hex()}
            for one in founding.without_address(config, genesis)
        ]
        report.result(
            {
                "folder": str(folder),
                "network": genesis.network,
                "chain_id": chain_id,
                "peers": len(config.p2p.peers),
                "without_address": missing,
            },
            lambda console: console.print(
                f"{folder} belongs to {genesis.network}, chain {chain_id}", markup=False
            ),
        )
        for one in missing:
            report.note(
                f"warning: no address of validator {one['key']} (institution {one['institution']}): "
                "this node waits to be dialled by it; join again with its card to add it"
            )


@app.command("start", epilog=example("consilium node start demo/node-0"))
def start(
    folder: FolderArgument,
    stop_on_eof: Annotated[
        bool,
        typer.Option("--stop-on-eof", help="End when standard input ends: for programs that own the node."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Run a node until it is asked to stop (SIGTERM, Ctrl-C). It logs to standard error.

    Status 0: it was stopped. 4: it contradicts itself or the network, and must not go on. The ports that it got are
    in DIR/data/ports.json.
    """
    with reporting(as_json) as report:
        from consilium.node.running import run_in_foreground

        config = node_config(folder)
        _collect_seldom()
        run_in_foreground(config, stop_on_eof=stop_on_eof)
        if as_json:
            report.result({"stopped": True}, lambda console: None)


def _collect_seldom() -> None:
    """A node makes values by the ten thousand that live for a block, and no cycles to speak of: looking for cycles as
    often as a script does took a seventh of its time. What the modules are made of is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


@app.command("status", epilog=example("consilium node status demo/node-0"))
def status(
    node: Annotated[
        str,
        typer.Argument(
            metavar="DIR|URL", help="The node's folder, or its RPC's address.", show_default=False
        ),
    ],
    as_json: options.Json = False,
) -> None:
    """Show what a node says of itself. Status 1: it is not healthy; 3: it does not answer."""
    with reporting(as_json) as report:
        value = asyncio.run(_status(node))
        report.result(
            value, lambda console: console.print(table("Node", ("what", "value"), status_rows(value)))
        )
        if not value.get("healthy", False):
            raise typer.Exit(1)


async def _status(node: str) -> dict[str, Any]:
    chosen = target(node)
    async with RpcClient(chosen.url) as rpc:
        return await rpc.status()


def status_rows(value: Mapping[str, Any], of: str = "") -> list[tuple[str, str]]:
    """What a node says of itself, a row for each single value: `vault.envelopes`, `peers.2`."""
    rows: list[tuple[str, str]] = []
    for name, item in value.items():
        path = f"{of}{name}"
        if name == "tip_time_ms":
            rows.append(("tip_time", when(int(item))))
        elif isinstance(item, Mapping):
            rows += status_rows(item, f"{path}.")
        elif isinstance(item, list):
            rows.append((path, _counted(item)))
            rows += [(f"{path}.{index}", _line(one)) for index, one in enumerate(item, 1)]
        else:
            rows.append((path, _word(item)))
    return rows


def _counted(items: Sequence[Any]) -> str:
    linked = [one for one in items if isinstance(one, Mapping) and "connected" in one]
    reached = sum(1 for one in linked if one["connected"])
    return f"{len(items)}, {reached} connected" if linked else str(len(items))


def _line(item: Any) -> str:
    """An item of a list on one line, its keys shortened: --json has them whole."""
    if not isinstance(item, Mapping):
        return _word(item)
    words = []
    for name, value in item.items():
        if name == "connected":
            words.append("connected" if value else "not connected")
        else:
            text = _word(value)
            words.append(f"{name} {text}" if len(text) <= SHORT_CHARS else f"{name} {text[:SHORT_CHARS]}…")
    return ", ".join(words)


def _word(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _address(text: str) -> tuple[str, int]:
    try:
        return host_and_port(text)
    except ValueError as error:
        raise Refused("founding.bad_address", f"{text!r}: {error}") from None
