"""`consilium erasure`: what shall be forgotten, what a law keeps, and the certificate of who has destroyed it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from consilium.client import erasing
from consilium.client.erasure_certificate import CERTIFICATE_BYTES_MAX, verify_certificate
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts.forgetting import ErasureBasis
from consilium.contracts.operation import ID_BYTES
from consilium.contracts.retention import HoldBasis
from consilium.node import files, founding
from consilium.node.cli import options
from consilium.node.cli.erasure_words import (
    certified_value,
    certified_words,
    erasure_value,
    status_words,
    verdict_value,
    verdict_words,
)
from consilium.node.cli.inputs import (
    Target,
    connected,
    hexadecimal,
    identity_id,
    moment,
    open_wallet,
    require_known,
    target,
    when,
)
from consilium.node.cli.output import example, reporting, table
from consilium.node.cli.written import require_free, write_new

app = typer.Typer(no_args_is_help=True, help="Order and certify erasures; hold records.")


ErasureArgument = Annotated[
    str, typer.Argument(metavar="ERASURE", help="The erasure's id.", show_default=False)
]
SignerOption = Annotated[
    Path | None,
    typer.Option(
        "--wallet", metavar="FILE", help="The wallet that signs.", show_default="the node's institution's"
    ),
]
PatientOption = Annotated[
    str | None,
    typer.Option("--patient", metavar="ID", help="Whose.", show_default="who signs"),
]


@app.command(
    "request",
    epilog=example(
        "consilium erasure request --node demo/node-0 --wallet ada.wallet --basis consent-withdrawn",
        "consilium erasure request --node demo/node-0 --wallet ada.wallet --record 8c1f… --basis objected",
    ),
)
def request(
    node: options.Node,
    basis: Annotated[ErasureBasis, typer.Option("--basis", help="The ground.", show_default=False)],
    record: Annotated[
        list[str] | None,
        typer.Option(
            "--record", metavar="ID", help="A record; may be given again.", show_default="everything"
        ),
    ] = None,
    compartment: Annotated[
        str | None,
        typer.Option("--compartment", metavar="ID", help="A compartment.", show_default="everything"),
    ] = None,
    epoch: Annotated[
        int | None,
        typer.Option(
            "--epoch", min=0, help="With --compartment: through this.", show_default="its current one"
        ),
    ] = None,
    patient: PatientOption = None,
    wallet_file: SignerOption = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Order the erasure of records, of a compartment, or of everything of a patient's.

    The patient orders anything; an institution what it authored, which the patient may contest for 30 days. What a
    law keeps is not erased: the answer says by whom, why and until when. Status 1: nothing at all is erased.
    """
    with reporting(as_json) as report:
        if epoch is not None and compartment is None:
            raise typer.BadParameter("--epoch is for --compartment")
        chosen = target(node)
        signer = _signer(chosen, wallet_file, passphrase_file)
        whose = identity_id(patient) if patient is not None else None
        records = [hexadecimal(one, ID_BYTES, "a record's id") for one in record or []]
        place = hexadecimal(compartment, ID_BYTES, "a compartment's id") if compartment is not None else None

        async def ask(session: Session) -> dict[str, Any]:
            verdict, committed = await erasing.request(
                session,
                basis,
                patient=whose,
                record_ids=records or None,
                compartment=place,
                epoch=epoch,
            )
            return verdict_value(verdict, committed.id, committed.height)

        value = _run(chosen, signer, ask)
        report.result(value, lambda console: console.print(verdict_words(value), markup=False))
        if value["outcome"] == "refused":
            raise typer.Exit(1)


@app.command(
    "contest", epilog=example("consilium erasure contest 4be0… --node demo/node-0 --wallet ada.wallet")
)
def contest(
    erasure: ErasureArgument,
    node: options.Node,
    wallet_file: SignerOption = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Contest an erasure that an institution ordered and that is still pending: nothing is erased."""
    _act(erasure, node, wallet_file, passphrase_file, as_json, erasing.contest, "is contested")


@app.command("enact", epilog=example("consilium erasure enact 4be0… --node demo/node-0"))
def enact(
    erasure: ErasureArgument,
    node: options.Node,
    wallet_file: SignerOption = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Carry out an erasure of one's own that nobody contested in time. Status 1: holds keep all of it."""
    with reporting(as_json) as report:
        chosen = target(node)
        identifier = hexadecimal(erasure, ID_BYTES, "an erasure's id")

        async def carry(session: Session) -> dict[str, Any]:
            verdict, committed = await erasing.carry_out(session, identifier)
            return verdict_value(verdict, committed.id, committed.height)

        value = _run(chosen, _signer(chosen, wallet_file, passphrase_file), carry)
        report.result(value, lambda console: console.print(verdict_words(value), markup=False))
        if value["outcome"] == "refused":
            raise typer.Exit(1)


@app.command(
    "hold",
    epilog=example(
        "consilium erasure hold --node demo/node-0 --patient 5b0c… --basis legal-obligation --until 10y"
    ),
)
def hold(
    node: options.Node,
    patient: Annotated[str, typer.Option("--patient", metavar="ID", help="Whose.", show_default=False)],
    basis: Annotated[HoldBasis, typer.Option("--basis", help="The ground.", show_default=False)],
    until: Annotated[
        str, typer.Option("--until", metavar="TIME", help="When it ends by itself.", show_default=False)
    ],
    compartment: Annotated[
        str | None,
        typer.Option("--compartment", metavar="ID", help="In this compartment.", show_default="all"),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="As an authority: whoever authored it.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Keep what this node's institution authored of a patient's, whatever is ordered, until then."""
    with reporting(as_json) as report:
        chosen = target(node)
        whose = identity_id(patient)
        ends_ms = moment(until, time.time_ns() // 1_000_000)
        place = hexadecimal(compartment, ID_BYTES, "a compartment's id") if compartment is not None else None

        async def place_hold(session: Session) -> dict[str, Any]:
            held, committed = await erasing.hold(
                session,
                whose,
                basis,
                not_after_ms=ends_ms,
                compartment=place,
                everything=everything,
            )
            return {"hold": held.hex(), "not_after_ms": ends_ms, "transaction": committed.id.hex()}

        value = _run(chosen, chosen.institution(), place_hold)
        report.result(
            value, lambda console: console.print(f"hold {value['hold']} until {when(ends_ms)}", markup=False)
        )


@app.command("lift", epilog=example("consilium erasure lift 1d77… --node demo/node-0"))
def lift(
    held: Annotated[str, typer.Argument(metavar="HOLD", help="The hold's id.", show_default=False)],
    node: options.Node,
    as_json: options.Json = False,
) -> None:
    """Lift a hold of this node's institution before its time."""
    _act(held, node, None, None, as_json, erasing.lift, "is lifted")


@app.command("status", epilog=example("consilium erasure status 4be0… --node demo/node-0"))
def status(erasure: ErasureArgument, node: options.Node, as_json: options.Json = False) -> None:
    """Show what became of an erasure: what is kept and why, who has attested, who is missing."""
    with reporting(as_json) as report:
        chosen = target(node)
        identifier = hexadecimal(erasure, ID_BYTES, "an erasure's id")

        async def look(session: Session) -> dict[str, Any]:
            return erasure_value(identifier, await erasing.status(session, identifier))

        value = _run(chosen, None, look)
        report.result(value, lambda console: console.print(status_words(value), markup=False))


@app.command("list", epilog=example("consilium erasure list --node demo/node-0 --patient 5b0c…"))
def list_(
    node: options.Node,
    patient: Annotated[str, typer.Option("--patient", metavar="ID", help="Whose.", show_default=False)],
    as_json: options.Json = False,
) -> None:
    """List the erasures that were ordered about a patient."""
    with reporting(as_json) as report:
        chosen = target(node)
        whose = identity_id(patient)

        async def collect(session: Session) -> list[dict[str, Any]]:
            await require_known(session.rpc, whose)
            return [erasure_value(*found) for found in await erasing.erasures_of(session, whose)]

        values = _run(chosen, None, collect)
        columns = ("erasure", "ordered", "basis", "outcome", "missing")
        rows = [
            (one["erasure"], when(one["requested_ms"]), one["basis"], one["outcome"], len(one["missing"]))
            for one in values
        ]
        report.result(values, lambda console: console.print(table(f"{len(rows)} erasures", columns, rows)))


@app.command(
    "certificate", epilog=example("consilium erasure certificate 4be0… --node demo/node-0 --out ada.erasure")
)
def certificate(
    erasure: ErasureArgument,
    node: options.Node,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where it goes.", show_default=False)],
    as_json: options.Json = False,
) -> None:
    """Make the certificate of an erasure as of now, and check it. It verifies without any node.

    Who has not attested yet is named in it as missing: make it anew when they have.
    """
    with reporting(as_json) as report:
        chosen = target(node)
        identifier = hexadecimal(erasure, ID_BYTES, "an erasure's id")
        require_free(out)

        async def make(session: Session) -> dict[str, Any]:
            raw = await erasing.certificate(session, identifier)
            value = certified_value(verify_certificate(raw, session.genesis))
            await asyncio.to_thread(write_new, out, raw)
            return {"file": str(out), **value}

        value = _run(chosen, None, make)
        report.result(value, lambda console: console.print(certified_words(value), markup=False))


@app.command("verify", epilog=example("consilium erasure verify ada.erasure --genesis demo/genesis.json"))
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The certificate.", show_default=False)],
    genesis: Annotated[
        Path,
        typer.Option("--genesis", metavar="FILE", help="The network's genesis file.", show_default=False),
    ],
    as_json: options.Json = False,
) -> None:
    """Check a certificate with the genesis file alone, and say what it proves. Status 1: it proves nothing."""
    with reporting(as_json) as report:
        document = founding.read_genesis(genesis)
        raw = files.read_bounded(file, CERTIFICATE_BYTES_MAX)
        value = {"valid": True, **certified_value(verify_certificate(raw, document))}
        report.result(value, lambda console: console.print(certified_words(value), markup=False))


# --- within ---------------------------------------------------------------------------------------------------------


def _signer(node: Target, wallet_file: Path | None, passphrase_file: Path | None) -> Wallet:
    return node.institution() if wallet_file is None else open_wallet(wallet_file, passphrase_file)


def _run(node: Target, wallet: Wallet | None, work: Callable[[Session], Awaitable[Any]]) -> Any:
    """Without a wallet, for those who only look, a session signs with one that nobody knows."""

    async def inside() -> Any:
        async with connected(node) as (rpc, genesis):
            return await work(Session(rpc, genesis, wallet or Wallet.create("onlooker")))

    return asyncio.run(inside())


def _act(
    text: str,
    node: str,
    wallet_file: Path | None,
    passphrase_file: Path | None,
    as_json: bool,
    act: Callable[[Session, bytes], Awaitable[Any]],
    became: str,
) -> None:
    with reporting(as_json) as report:
        chosen = target(node)
        identifier = hexadecimal(text, ID_BYTES, "an id")

        async def work(session: Session) -> dict[str, Any]:
            committed = await act(session, identifier)
            return {"id": text, "transaction": committed.id.hex(), "height": committed.height}

        value = _run(chosen, _signer(chosen, wallet_file, passphrase_file), work)
        report.result(value, lambda console: console.print(f"{text} {became}", markup=False))
