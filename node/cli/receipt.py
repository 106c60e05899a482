"""`consilium receipt`: get a proof of one fact, and check it with the genesis file alone."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from consilium.contracts.words import describe_entry, describe_operation, describe_receipt
from consilium.ledger.crypto import DIGEST_BYTES
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import Genesis
from consilium.ledger.receipt import Proved, verify_receipt
from consilium.ledger.receipt_format import RECEIPT_BYTES_MAX, Statement, decode_receipt
from consilium.ledger.state import STATE_KEY_BYTES_MAX
from consilium.node import founding
from consilium.node.cli import options
from consilium.node.cli.inputs import (
    Target,
    connected,
    hexadecimal,
    target,
    transaction_id,
    when,
)
from consilium.node.cli.output import Report, example, reporting
from consilium.node.cli.written import write_over

app = typer.Typer(no_args_is_help=True, help="Proofs of single facts that verify offline.")

SinceOption = Annotated[
    int | None,
    typer.Option(
        "--since",
        metavar="HEIGHT",
        min=0,
        help="Of a header that the verifier trusts: rest on it.",
        show_default="genesis",
    ),
]
SinceHashOption = Annotated[
    str | None,
    typer.Option(
        "--trusted-header", metavar="HASH", help="The hash of the header at --since.", show_default=False
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there already.")]


class Kind(StrEnum):
    """What a receipt is to prove."""

    verdict = "verdict"
    transaction = "transaction"
    state = "state"


@app.command(
    "get",
    epilog=example("consilium receipt get 41d8… --node demo/node-0 --out decision.receipt"),
)
def get(
    subject: Annotated[
        str,
        typer.Argument(metavar="ID", help="A transaction's id; for state, the key.", show_default=False),
    ],
    node: options.Node,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the receipt goes.", show_default=False)
    ],
    kind: Annotated[
        Kind,
        typer.Option("--kind", help="What became of a transaction; that it is in a block; or a state entry."),
    ] = Kind.verdict,
    height: Annotated[
        int | None,
        typer.Option("--height", min=0, help="For state: as of this height.", show_default="newest"),
    ] = None,
    since: SinceOption = None,
    trusted_header: SinceHashOption = None,
    force: ForceOption = False,
    as_json: options.Json = False,
) -> None:
    """Get a receipt from a node and check it. It stays good without the node, or any node."""
    with reporting(as_json) as report:
        _require_free(out, force)
        if height is not None and kind is not Kind.state:
            raise typer.BadParameter("--height is for --kind state")
        trusted = _trusted(since, trusted_header)
        chosen = target(node)
        raw, genesis = asyncio.run(_get(chosen, kind, subject, height, since))
        _keep(report, out, raw, verify_receipt(raw, genesis, trusted))


@app.command(
    "extend",
    epilog=example(
        "consilium receipt extend decision.receipt --node demo/node-0 --to 120 --out extended.receipt"
    ),
)
def extend(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The receipt.", show_default=False)],
    node: options.Node,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the new receipt goes.", show_default=False)
    ],
    to_height: Annotated[
        int | None,
        typer.Option(
            "--to", metavar="HEIGHT", min=0, help="Of the header to hang it from.", show_default="newest"
        ),
    ] = None,
    since: SinceOption = None,
    trusted_header: SinceHashOption = None,
    force: ForceOption = False,
    as_json: options.Json = False,
) -> None:
    """Let a node hang a receipt's fact from a later header, or from one that the verifier trusts."""
    with reporting(as_json) as report:
        _require_free(out, force)
        trusted = _trusted(since, trusted_header)
        chosen = target(node)
        old = _bytes_of(file)
        statement = _statement(old, file)
        raw, genesis = asyncio.run(_extend(chosen, old, to_height, since))
        proved = verify_receipt(raw, genesis, trusted)
        if decode_receipt(raw).statement != statement:
            raise Refused("receipt.invalid", "the node's answer proves another fact")
        _keep(report, out, raw, proved)


def _statement(raw: bytes, file: Path) -> Statement:
    try:
        return decode_receipt(raw).statement
    except Refused as refusal:
        raise Refused("receipt.invalid", f"{file} is no receipt, or was changed ({refusal})") from None


async def _extend(
    node: Target, old: bytes, to_height: int | None, since: int | None
) -> tuple[bytes, Genesis]:
    async with connected(node) as (rpc, genesis):
        return await rpc.extend_receipt(old, to_height, since), genesis


def _trusted(since: int | None, trusted_header: str | None) -> bytes | None:
    """The hash of the header at `since`: who trusts it has it from elsewhere, not from the node."""
    if (since is None) != (trusted_header is None):
        raise typer.BadParameter("--since and --trusted-header go together: a height, and that header's hash")
    return None if trusted_header is None else hexadecimal(trusted_header, DIGEST_BYTES, "a header's hash")


def _keep(report: Report, out: Path, raw: bytes, proved: Proved) -> None:
    write_over(out, raw)
    value = {"file": str(out), "bytes": len(raw), **_value(proved)}
    report.result(
        value,
        lambda console: console.print(f"{out}: {len(raw)} bytes, proves: {_title(proved)}", markup=False),
    )


async def _get(
    node: Target, kind: Kind, subject: str, height: int | None, since: int | None
) -> tuple[bytes, Genesis]:
    if kind is Kind.state:
        if not 2 <= len(subject) <= 2 * STATE_KEY_BYTES_MAX or len(subject) % 2:
            raise Refused(
                "cli.bad_value", f"a state key has 1 to {STATE_KEY_BYTES_MAX} bytes, in hexadecimal"
            )
        key = hexadecimal(subject, len(subject) // 2, "a state key")
    else:
        key = transaction_id(subject)
    async with connected(node) as (rpc, genesis):
        match kind:
            case Kind.verdict:
                return await rpc.verdict_receipt(key, since), genesis
            case Kind.transaction:
                return await rpc.transaction_receipt(key, since), genesis
            case Kind.state:
                return await rpc.state_receipt(key, height, since), genesis


@app.command("verify", epilog=example("consilium receipt verify decision.receipt --genesis genesis.json"))
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The receipt.", show_default=False)],
    genesis_file: Annotated[
        Path, typer.Option("--genesis", metavar="FILE", help="The network's genesis.", show_default=False)
    ],
    trusted_header: Annotated[
        str | None,
        typer.Option(
            "--trusted-header",
            metavar="HASH",
            help="Demand that it rests on this header, whose hash you know from elsewhere.",
            show_default="genesis alone is trusted",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Check a receipt with the genesis file alone, offline, and say what it proves. Status 1: it proves nothing."""
    with reporting(as_json) as report:
        genesis = founding.read_genesis(genesis_file)
        trusted = None
        if trusted_header is not None:
            trusted = hexadecimal(trusted_header, DIGEST_BYTES, "a header's hash")
        raw = _bytes_of(file)
        try:
            proved = verify_receipt(raw, genesis, trusted)
        except Refused as refusal:
            if refusal.code.startswith("codec."):
                raise Refused(
                    "receipt.invalid", f"{file} is no receipt, or was changed ({refusal})"
                ) from None
            raise
        words = _words(proved)
        value = {"valid": True, "network": genesis.network, **_value(proved), "words": words}

        def show(console: Any) -> None:
            console.print(f"Proved for {genesis.network}: {_title(proved)}", markup=False)
            console.print(_basis(proved), markup=False)
            for line in words:
                console.print(line, markup=False)

        report.result(value, show)


def _require_free(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise Refused("cli.unwritable", f"{out} exists: --force overwrites it")


def _bytes_of(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            raw = opened.read(RECEIPT_BYTES_MAX + 1)
    except OSError as error:
        raise Refused("cli.unreadable", f"{file}: {error.strerror}") from None
    if len(raw) > RECEIPT_BYTES_MAX:
        raise Refused("receipt.invalid", f"{file} has more than {RECEIPT_BYTES_MAX} bytes")
    return raw


def _title(proved: Proved) -> str:
    place = f"at height {proved.height}, certified {when(proved.time_ms)}"
    if proved.kind == "state":
        return f"a state entry {place}"
    identifier = proved.transaction_id.hex() if proved.transaction_id is not None else "unknown"
    what = "what became of transaction" if proved.kind == "verdict" else "inclusion of transaction"
    return f"{what} {identifier} {place}"


def _basis(proved: Proved) -> str:
    """What the proof rests on: docs/receipts.md, "What it rests on"."""
    if proved.trusted_height is None:
        rests = "It rests on the genesis file alone"
    else:
        rests = f"It rests on the genesis file and on the trusted header at height {proved.trusted_height}"
    changes = proved.set_changes
    crossed = f", over {changes} change{'s' if changes > 1 else ''} of the validators" if changes else ""
    return f"{rests}{crossed}; its newest header is at height {proved.top_height}."


def _words(proved: Proved) -> list[str]:
    """What is proved, in the contracts' words; where this program's contracts have none, it is proved all the same."""
    if proved.key is not None and proved.value is None:
        return ["There is no entry under this key."]
    try:
        if proved.leaf is not None and proved.transaction is not None:
            return describe_receipt(proved.leaf, list(proved.transaction.operations))
        if proved.transaction is not None:
            return [line for one in proved.transaction.operations for line in describe_operation(one)]
        if proved.key is not None and proved.value is not None:
            return describe_entry(proved.key, proved.value)
    except Refused as refusal:
        return [f"This program has no words for it: {refusal.detail or refusal.entry.cause}"]
    return []


def _value(proved: Proved) -> dict[str, Any]:
    value: dict[str, Any] = {
        "kind": proved.kind,
        "chain_id": proved.chain_id.hex(),
        "height": proved.height,
        "certified_height": proved.certified_height,
        "time_ms": proved.time_ms,
        "top_height": proved.top_height,
        "set_changes": proved.set_changes,
        "trusted_height": proved.trusted_height,
    }
    if proved.transaction_id is not None:
        value["transaction"] = proved.transaction_id.hex()
    if proved.leaf is not None:
        value["code"] = proved.leaf.code
    if proved.key is not None:
        value["key"] = proved.key.hex()
        value["value"] = proved.value.hex() if proved.value is not None else None
    return value
