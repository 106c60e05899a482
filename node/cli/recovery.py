"""`consilium recovery`: a new key for a patient who lost every key, by guardians."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from consilium.client import recovering
from consilium.client.session import Session
from consilium.contracts.recovery import ProposeRecovery, Recovery
from consilium.ledger.crypto import KEY_BYTES
from consilium.ledger.errors import Refused
from consilium.node import files
from consilium.node.cli import options
from consilium.node.cli.acting import (
    act,
    committed,
    tell,
)
from consilium.node.cli.inputs import (
    connected,
    hexadecimal,
    identity_id,
    open_wallet,
    require_known,
    target,
    when,
)
from consilium.node.cli.output import example, reporting, table
from consilium.node.cli.written import write_new

OFFER_BYTES_MAX = 4_096

app = typer.Typer(no_args_is_help=True, help="Recovery of a patient's account by guardians.")

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The proposed key.", show_default=False)]


class OfferFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the patient hands to a guardian, in hexadecimal."""

    patient: str
    key: str
    encryption_key: str
    proof: str


@app.command(
    "offer",
    epilog=example(
        "consilium recovery offer --node demo/node-0 --patient 5b0c… --wallet fresh.wallet --out ada.offer"
    ),
)
def offer(
    node: options.Node,
    patient: options.Patient,
    wallet_file: options.Wallet,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where it goes.", show_default=False)],
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Write what a guardian proposes: the public keys of the patient's fresh wallet, signed for by it."""
    with reporting(as_json) as report:
        who, fresh = identity_id(patient), open_wallet(wallet_file, passphrase_file)

        async def ask() -> ProposeRecovery:
            async with connected(target(node)) as (rpc, genesis):
                return await recovering.offer(Session(rpc, genesis, fresh, sender=who), who, fresh)

        made = asyncio.run(ask())
        value = {
            "patient": who.hex(),
            "key": made.key.hex(),
            "encryption_key": made.encryption_key.hex(),
            "proof": made.proof.hex(),
        }
        write_new(out, json.dumps(value, indent=2).encode() + b"\n")
        tell(report, {"file": str(out), **value}, f"{out}: hand it to a guardian")


@app.command(
    "propose", epilog=example("consilium recovery propose ada.offer --node demo/node-0 --wallet bob.wallet")
)
def propose(
    offer_file: Annotated[
        Path, typer.Argument(metavar="OFFER", help="What the patient wrote.", show_default=False)
    ],
    node: options.Node,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Propose the offered key, as a guardian. Be sure that it is the patient who offers it."""
    with reporting(as_json) as report:
        offered = _offer(offer_file)
        done = act(
            node,
            lambda session: recovering.propose(session, offered),
            wallet_file,
            passphrase_file,
            speaks_for,
        )
        value = {
            "patient": offered.patient.hex(),
            "key": offered.key.hex(),
            **committed(done),
        }
        tell(report, value, f"key {offered.key.hex()} is proposed: the other guardians approve it")


def _step(name: str, said: str) -> Any:
    """`approve` and `complete` take the same and differ in the step alone."""

    def command(
        key: KeyArgument,
        node: options.Node,
        patient: options.Patient,
        wallet_file: options.Signer = None,
        speaks_for: options.As = None,
        passphrase_file: options.PassphraseFile = None,
        as_json: options.Json = False,
    ) -> None:
        with reporting(as_json) as report:
            who, which = identity_id(patient), hexadecimal(key, KEY_BYTES, "a key")
            step = recovering.approve if name == "approve" else recovering.complete

            async def work(session: Session) -> dict[str, Any]:
                return committed(await step(session, who, which))

            value = {
                "patient": who.hex(),
                "key": which.hex(),
                **act(node, work, wallet_file, passphrase_file, speaks_for),
            }
            tell(report, value, f"key {which.hex()} is {said}")

    return command


app.command(
    "approve",
    help="Approve a proposed key, as another guardian. With more than half of them the waiting time begins.",
    epilog=example("consilium recovery approve 3a… --node demo/node-0 --patient 5b0c… --wallet eve.wallet"),
)(_step("approve", "approved"))
app.command(
    "complete",
    help="Carry a recovery out, as a guardian, when the waiting time is over: the old keys end, the new one speaks.",
    epilog=example("consilium recovery complete 3a… --node demo/node-0 --patient 5b0c… --wallet bob.wallet"),
)(_step("complete", "the patient's"))


@app.command("veto", epilog=example("consilium recovery veto 3a… --node demo/node-0 --wallet ada.wallet"))
def veto(
    key: KeyArgument,
    node: options.Node,
    wallet_file: options.Wallet,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Stop a recovery, as the patient, with any key that still speaks."""
    with reporting(as_json) as report:
        which = hexadecimal(key, KEY_BYTES, "a key")
        done = act(
            node, lambda session: recovering.veto(session, which), wallet_file, passphrase_file, speaks_for
        )
        value = {"key": which.hex(), **committed(done)}
        tell(report, value, f"key {which.hex()} will not become yours")


@app.command("list", epilog=example("consilium recovery list --node demo/node-0 --patient 5b0c…"))
def list_(node: options.Node, patient: options.Patient, as_json: options.Json = False) -> None:
    """List a patient's open recoveries: who proposed which key, who approves, when it can be completed."""
    with reporting(as_json) as report:
        who = identity_id(patient)

        async def ask(session: Session) -> list[Recovery]:
            await require_known(session.rpc, who)
            return await recovering.proposals(session, who)

        found = act(node, ask)
        value = [
            {
                "key": one.key.hex(),
                "proposer": one.proposer.hex(),
                "approved_by": [guardian.hex() for guardian in one.approved_by],
                "proposed_ms": one.proposed_ms,
                "ready_ms": one.ready_ms,
            }
            for one in found
        ]
        rows = [
            (
                one.key.hex(),
                one.proposer.hex(),
                len(one.approved_by),
                "too few approve" if one.ready_ms is None else when(one.ready_ms),
            )
            for one in found
        ]
        columns = ("key", "proposer", "approvals", "ready")
        report.result(value, lambda console: console.print(table(f"{len(value)} recoveries", columns, rows)))


def _offer(path: Path) -> ProposeRecovery:
    raw = files.read_bounded(path, OFFER_BYTES_MAX)
    try:
        given = msgspec.json.decode(raw, type=OfferFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("cli.bad_value", f"{path}: {error}") from None
    return ProposeRecovery(
        hexadecimal(given.patient, 16, f"{path}: an id"),
        hexadecimal(given.key, 32, f"{path}: a key"),
        hexadecimal(given.encryption_key, 32, f"{path}: a key"),
        hexadecimal(given.proof, 64, f"{path}: a signature"),
    )
