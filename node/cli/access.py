"""`consilium access`: who asked to read, and what was decided."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from consilium.client.history import AccessLine, accesses_of
from consilium.client.rpc import RpcClient
from consilium.contracts.words import BASES
from consilium.node.cli import options
from consilium.node.cli.inputs import Target, identity_id, require_known, target, when
from consilium.node.cli.output import example, reporting, table

app = typer.Typer(no_args_is_help=True, help="The access log, and the accounting of disclosures.")


@app.command("log", epilog=example("consilium access log --node demo/node-0 --patient 5b0c…"))
def log(
    node: options.Node,
    patient: Annotated[
        str,
        typer.Option(
            "--patient",
            metavar="ID",
            help="The patient; or a reader: what they asked for.",
            show_default=False,
        ),
    ],
    as_json: options.Json = False,
) -> None:
    """Show every verdict, allow and deny: when, who, for what purpose, on what basis; and what was released on it.

    Each line is a decision on the chain: `consilium receipt get` proves it by its transaction.
    """
    with reporting(as_json) as report:
        lines = asyncio.run(_log(target(node), identity_id(patient)))
        rows = [
            (
                when(line.time_ms),
                line.reader.hex(),
                line.purpose,
                "ALLOW" if line.allow else "DENY",
                BASES.get(line.basis, line.basis),
                "all" if line.records is None else line.records,
                ", ".join(f"{one.records} by {one.custodian.hex()}" for one in line.released),
                line.transaction.hex(),
            )
            for line in lines
        ]
        columns = ("time", "reader", "purpose", "verdict", "basis", "records", "released", "transaction")
        report.result(
            [_value(line) for line in lines],
            lambda console: console.print(table(f"{len(lines)} verdicts", columns, rows)),
        )


async def _log(node: Target, subject: bytes) -> list[AccessLine]:
    async with RpcClient(node.url) as rpc:
        await require_known(rpc, subject)
        return await accesses_of(rpc, subject)


def _value(line: AccessLine) -> dict[str, Any]:
    return {
        "time_ms": line.time_ms,
        "height": line.height,
        "transaction": line.transaction.hex(),
        "patient": _hex(line.patient),
        "reader": line.reader.hex(),
        "institution": _hex(line.institution),
        "purpose": line.purpose,
        "allow": line.allow,
        "basis": line.basis,
        "consent": _hex(line.ground),
        "compartment": _hex(line.compartment),
        "records": line.records,
        "application": _hex(line.application),
        "automated": line.automated,
        "released": [
            {
                "custodian": one.custodian.hex(),
                "records": one.records,
                "released_ms": one.released_ms,
                "attested_ms": one.attested_ms,
                "height": one.height,
                "transaction": one.transaction.hex(),
            }
            for one in line.released
        ],
    }


def _hex(identifier: bytes | None) -> str | None:
    return None if identifier is None else identifier.hex()
