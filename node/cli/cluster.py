"""`consilium cluster`: a network of several institutions on this computer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from consilium.ledger.errors import Refused
from consilium.node import cluster as clusters
from consilium.node import terms
from consilium.node.cli import options
from consilium.node.cli.output import example, reporting, table
from consilium.node.cluster import NodeReport

WATCH_S: Final = 0.5
COLUMNS: Final = ("node", "pid", "height", "age", "view", "primary", "peers", "kept", "port", "state")
"""What fits into 80 columns. `age` is that of the newest block, `kept` counts envelopes, `port` is the RPC's."""


app = typer.Typer(no_args_is_help=True, help="A local cluster: several nodes in one folder, a process each.")

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="The cluster's folder.", show_default=False)
]
OnlyOption = Annotated[
    list[int] | None,
    typer.Option(
        "--only", metavar="N", min=0, help="This node only; may be given again.", show_default="all"
    ),
]


@app.command("create", epilog=example("consilium cluster create demo --nodes 4"))
def create(
    folder: FolderArgument,
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=60, help="How many institutions.")] = 4,
    network: Annotated[str, typer.Option("--name", help="What people call the network.")] = "local",
    hosts: Annotated[
        str | None,
        typer.Option(
            "--hosts",
            metavar="TEMPLATE",
            show_default="all on this computer",
            help="For containers: each node's host name, {} for its number. Nodes listen on all interfaces there, "
            f"port {clusters.HOST_P2P_PORT} for nodes and {clusters.HOST_RPC_PORT} for the RPC.",
        ),
    ] = None,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            metavar="FILE",
            show_default=False,
            help="Settings of the network that differ, as TOML: `review_ms = 60000`.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Found a network of several institutions in a new folder: keys, wallets, genesis, stores.

    The last institution is an authority too, and the last two issue credentials.
    """
    with reporting(as_json) as report:
        with report.progress("creating") as bar:
            steps = iter(range(1, 2 * nodes + 1))
            made = clusters.create_cluster(
                folder,
                nodes,
                network=network,
                hosts=hosts,
                decided={} if settings_file is None else terms.changes_from(settings_file),
                progress=lambda step: bar(next(steps), 2 * nodes),
            )
        chain_id = clusters.cluster_genesis(folder).chain_id.hex()
        value = {
            "folder": str(folder),
            "genesis": str(folder / clusters.GENESIS_FILE),
            "chain_id": chain_id,
            "nodes": [
                {"folder": str(node.path), "name": node.name, "institution": node.card().institution.hex()}
                for node in made
            ],
        }
        rows = [(node["name"], node["institution"], node["folder"]) for node in value["nodes"]]  # type: ignore[index]
        title = f"{network}, chain {chain_id}"
        report.result(
            value, lambda console: console.print(table(title, ("node", "institution", "folder"), rows))
        )


@app.command("start", epilog=example("consilium cluster start demo"))
def start(
    folder: FolderArgument,
    only: OnlyOption = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, max=3_600, help="Seconds until every node must be healthy.")
    ] = clusters.START_TIMEOUT_S,
    as_json: options.Json = False,
) -> None:
    """Start the nodes that do not run, and wait until each is healthy. They go on when this command ends."""
    with reporting(as_json) as report:
        started = asyncio.run(
            clusters.start_cluster(
                folder, only=_checked(folder, only), timeout_s=timeout_s, progress=report.note
            )
        )
        names = [node.name for node in started]
        reports = asyncio.run(clusters.cluster_status(folder))
        value = {"started": names, "nodes": [_value(one) for one in reports]}
        report.result(value, lambda console: console.print(_table(folder, reports)))


@app.command(
    "status", epilog=example("consilium cluster status demo", "consilium cluster status demo --watch")
)
def status(
    folder: FolderArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Show it live until Ctrl-C.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show every node: its process, how far it has come, whom it reaches. Status 1: a node is not healthy."""
    if watch and as_json:
        raise typer.BadParameter("--watch is for people: for programs, call it with --json again and again")
    with reporting(as_json) as report:
        if watch:
            asyncio.run(_watch(folder, report.console))
            return
        reports = asyncio.run(clusters.cluster_status(folder))
        report.result(
            [_value(one) for one in reports], lambda console: console.print(_table(folder, reports))
        )
        if not all(one.status is not None and one.status.get("healthy") for one in reports):
            raise typer.Exit(1)


@app.command("stop", epilog=example("consilium cluster stop demo"))
def stop(
    folder: FolderArgument,
    only: OnlyOption = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0, max=3_600, help="Seconds until a node is forced to end.")
    ] = clusters.STOP_TIMEOUT_S,
    as_json: options.Json = False,
) -> None:
    """Stop the nodes that run: asked first, forced after the time. Only processes that this cluster started end."""
    with reporting(as_json) as report:
        stopped = asyncio.run(clusters.stop_cluster(folder, only=_checked(folder, only), timeout_s=timeout_s))
        value = [{"name": node.name, "forced": not by_itself} for node, by_itself in stopped]

        def show(console: Console) -> None:
            for node, by_itself in stopped:
                console.print(f"{node.name} {'stopped' if by_itself else 'was forced to end'}")
            if not stopped:
                console.print("no node was running")

        report.result(value, show)


def _checked(folder: Path, only: Sequence[int] | None) -> Sequence[int] | None:
    """Nodes that are named must be there."""
    size = len(clusters.open_cluster(folder))
    for index in only or ():
        if index >= size:
            raise Refused("cli.bad_value", f"--only {index}: the nodes are 0 to {size - 1}")
    return only or None


async def _watch(folder: Path, console: Console) -> None:
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            live.update(_table(folder, await clusters.cluster_status(folder)), refresh=True)
            await asyncio.sleep(WATCH_S)


def _value(report: NodeReport) -> dict[str, Any]:
    return asdict(report)


def _table(folder: Path, reports: Sequence[NodeReport]) -> Table:
    names = _names(folder)
    return table(str(folder), COLUMNS, [_row(report, names) for report in reports])


def _names(folder: Path) -> dict[str, str]:
    """Which node has which key, from the nodes' cards: one that is down cannot say it itself."""
    names: dict[str, str] = {}
    for node in clusters.open_cluster(folder):
        with contextlib.suppress(Refused):
            names[node.card().node_key.hex()] = node.name
    return names


def _row(report: NodeReport, names: Mapping[str, str]) -> tuple[object, ...]:
    said = report.status
    port = (report.rpc or "").rpartition(":")[2]
    if said is None:
        return (report.name, report.pid or "", *("",) * 6, port, report.error or "")
    primary = names.get(said["primary"], str(said["primary"])[:8])
    state = "healthy" if said["healthy"] else str(said.get("reason", "unhealthy"))
    return (
        report.name,
        report.pid or "",
        said["height"],
        f"{max(0, time.time_ns() // 1_000_000 - int(said['tip_time_ms'])) // 1000} s",
        said["view"],
        primary,
        sum(1 for peer in said["peers"] if peer.get("connected")),
        said["vault"].get("envelopes", ""),
        port,
        state,
    )
