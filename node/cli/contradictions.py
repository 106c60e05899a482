"""`consilium governance evidence`: which validators contradicted themselves, and what was done about it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console

from consilium.client.contradictions import Contradiction, contradictions
from consilium.ledger.crypto import KEY_BYTES
from consilium.node.cli import governance, options
from consilium.node.cli.inputs import Target, connected, hexadecimal, target
from consilium.node.cli.output import example, reporting, table

app = governance.app


@app.command(
    "evidence",
    epilog=example(
        "consilium governance evidence --node demo/node-0",
        "consilium governance evidence 5c1d… --node demo/node-0 --json",
    ),
)
def evidence(
    node: options.Node,
    validator: Annotated[
        str | None,
        typer.Argument(
            metavar="[KEY]",
            help="A validator's key: shows what it signed, with the signatures.",
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the validators that are proved to have contradicted themselves, where, and whether that was acted upon.

    The signatures are verified again here. To remove such a validator it takes fewer votes than otherwise.
    """
    with reporting(as_json) as report:
        key = None if validator is None else hexadecimal(validator, KEY_BYTES, "a validator's key")
        found = asyncio.run(_list(target(node)))
        shown = [one for one in found if key is None or one.fault.evidence.validator == key]

        def show(console: Console) -> None:
            if key is None:
                columns = (
                    "validator",
                    "institution",
                    "height",
                    "view",
                    "signed twice",
                    "reported at",
                    "standing",
                )
                console.print(table(f"{len(shown)} contradictions", columns, [_row(one) for one in shown]))
                return
            for one in shown:
                console.print(_told(one), markup=False, soft_wrap=True)
            if not shown:
                console.print("nothing is proved against this validator", markup=False)

        report.result([_value(one) for one in shown], show)


async def _list(node: Target) -> Sequence[Contradiction]:
    async with connected(node) as (rpc, genesis):
        return await contradictions(rpc, genesis.chain_id, int((await rpc.status())["tip_time_ms"]))


def _row(one: Contradiction) -> tuple[object, ...]:
    said = one.fault.evidence
    who = (said.validator.hex(), one.institution.hex())
    return (*who, said.height, said.view, one.kind, one.fault.reported_height, one.standing)


def _told(one: Contradiction) -> str:
    said = one.fault.evidence
    lines = [
        one.words,
        f"  first   {said.first.hex()}",
        f"  signed  {said.first_signature.hex()}",
        f"  second  {said.second.hex()}",
        f"  signed  {said.second_signature.hex()}",
        f"  both signatures verify; reported by {one.fault.reporter.hex()} at height {one.fault.reported_height}",
        f"  {one.standing}{_since(one)}",
    ]
    return "\n".join(lines)


def _since(one: Contradiction) -> str:
    if one.removed_height is not None:
        return f": it votes no more from height {one.removed_height} on"
    if one.removal is not None:
        return f": proposal {one.removal.proposal.hex()}"
    return ": whoever runs a validator may propose --remove-validator"


def _value(one: Contradiction) -> dict[str, Any]:
    said = one.fault.evidence
    return {
        "words": one.words,
        "validator": said.validator.hex(),
        "institution": one.institution.hex(),
        "height": said.height,
        "view": said.view,
        "kind": one.kind,
        "first": {"content": said.first.hex(), "signature": said.first_signature.hex()},
        "second": {"content": said.second.hex(), "signature": said.second_signature.hex()},
        "reporter": one.fault.reporter.hex(),
        "reported_height": one.fault.reported_height,
        "standing": one.standing,
        "removed_height": one.removed_height,
        "removal": None if one.removal is None else one.removal.proposal.hex(),
    }
