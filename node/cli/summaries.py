"""`consilium summaries`: sealed emergency summaries, for when no quorum answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from consilium.client import summaries
from consilium.client.rpc import RpcClient
from consilium.client.session import Session
from consilium.client.summaries import Given, Person
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.node import files
from consilium.node.cli import options
from consilium.node.cli.acting import (
    act,
    committed,
    identifier,
    tell,
    wall_ms,
)
from consilium.node.cli.emergency import Reason
from consilium.node.cli.inputs import (
    connected,
    hexadecimal,
    identity_id,
    open_wallet,
    target,
)
from consilium.node.cli.output import example, reporting
from consilium.node.cli.written import private_folder, require_free, write_new

SUMMARY_BYTES_MAX = 512 * 1024
SHARE_BYTES_MAX = 4_096
COPY_BYTES_MAX = 8_192

app = typer.Typer(no_args_is_help=True, help="Emergency summaries: seal, open with two persons, report.")

InstitutionOption = Annotated[
    str,
    typer.Option("--institution", metavar="ID", help="Who may open it in an emergency.", show_default=False),
]


class CopyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The entry of the institution's log, as the two who opened keep it."""

    entry: bytes
    institution_key: str
    signature: str


@app.command(
    "key",
    epilog=example("consilium summaries key --node demo/node-0 --holder 9f3e… --holder 5b0c… --out shares"),
)
def key(
    node: options.Node,
    holders: Annotated[
        list[str],
        typer.Option(
            "--holder", metavar="ID", help="An employed practitioner; twice at least.", show_default=False
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the shares go.", show_default=False)
    ],
    as_json: options.Json = False,
) -> None:
    """Make the emergency key of the node's institution: any two of the holders open summaries together.

    Each holder gets a file of the folder, sealed to the holder's wallet: no other copy is kept.
    """
    with reporting(as_json) as report:
        named = [identity_id(one) for one in holders]
        private_folder(out)

        def keep(made: bytes, parcels: Mapping[bytes, bytes]) -> None:
            for holder, parcel in parcels.items():
                write_new(out / f"{made.hex()[:8]}-{holder.hex()}.share", parcel, files.SECRET_MODE)

        async def work(session: Session) -> dict[str, Any]:
            made, parcels, done = await summaries.make_key(session, named, keep)
            return {"key": made.hex(), "holders": [one.hex() for one in parcels], **committed(done)}

        value = {"folder": str(out), **act(node, work)}
        tell(report, value, f"emergency key {value['key']}: {len(named)} shares in {out}")


@app.command(
    "place",
    epilog=example(
        "consilium summaries place ips.json --node demo/node-1 --wallet ada.wallet --institution 77a1… --at demo/node-0"
    ),
)
def place(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The summary, such as a FHIR IPS.", show_default=False)
    ],
    node: options.Node,
    institution: InstitutionOption,
    at: Annotated[
        str, typer.Option("--at", metavar="DIR|URL", help="That institution's node.", show_default=False)
    ],
    patient: Annotated[
        str | None,
        typer.Option("--patient", metavar="ID", show_default="who signs", help="Whose, where another signs."),
    ] = None,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Seal a summary to an institution's emergency key, place it on the chain, hand it to that institution's node.

    By the patient, a guardian or the manager. It replaces the one that was there.
    """
    with reporting(as_json) as report:
        payload = files.read_bounded(file, SUMMARY_BYTES_MAX)
        where, whose = identity_id(institution), None if patient is None else identity_id(patient)
        there = target(at)

        async def work(session: Session) -> dict[str, Any]:
            async with RpcClient(there.url, there.token) as vault:
                made, done = await summaries.place(session, where, payload, vault, patient=whose)
            return {"summary": made.hex(), **committed(done)}

        value = {"institution": where.hex(), **act(node, work, wallet_file, passphrase_file, speaks_for)}
        tell(report, value, f"summary {value['summary']} is with {where.hex()}")


@app.command(
    "withdraw",
    epilog=example(
        "consilium summaries withdraw --node demo/node-1 --wallet ada.wallet --patient 5b0c… --institution 77a1…"
    ),
)
def withdraw(
    node: options.Node,
    patient: options.Patient,
    institution: InstitutionOption,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """End a summary, as who may place one, or as the institution: its node removes it."""
    with reporting(as_json) as report:
        whose, where = identity_id(patient), identity_id(institution)
        done = act(
            node,
            lambda session: summaries.withdraw(session, whose, where),
            wallet_file,
            passphrase_file,
            speaks_for,
        )
        value = {"patient": whose.hex(), **committed(done)}
        tell(report, value, f"there is no summary of {whose.hex()} at {where.hex()} any more")


@app.command(
    "open",
    epilog=example(
        "consilium summaries open --node demo/node-0 --patient 5b0c… --reason danger-to-life "
        "--wallet lee.wallet --share lee.share --licence 77a1… "
        "--second-wallet kim.wallet --second-share kim.share --second-licence 3f20… --out ada.summary"
    ),
)
def open_(
    node: options.Node,
    patient: options.Patient,
    reason: Annotated[Reason, typer.Option("--reason", help="Why.", show_default=False)],
    wallet_file: options.Wallet,
    share: Annotated[
        Path, typer.Option("--share", metavar="FILE", help="The first's share.", show_default=False)
    ],
    licence: Annotated[
        str, typer.Option("--licence", metavar="ID", help="The first's licence.", show_default=False)
    ],
    second_wallet: Annotated[
        Path, typer.Option("--second-wallet", metavar="FILE", help="The second's.", show_default=False)
    ],
    second_share: Annotated[
        Path, typer.Option("--second-share", metavar="FILE", help="The second's.", show_default=False)
    ],
    second_licence: Annotated[
        str, typer.Option("--second-licence", metavar="ID", help="The second's.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the summary goes.", show_default=False)
    ],
    speaks_for: options.As = None,
    second_as: options.SecondAs = None,
    passphrase_file: options.PassphraseFile = None,
    second_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--second-passphrase-file", metavar="FILE", show_default=False, help="As --passphrase-file."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Open a patient's summary while no quorum answers: two holders, at the institution's own node.

    The node writes its log first, and reports it when blocks come again. A copy of the entry goes to FILE.opening:
    keep it, either of the two can report it too.
    """
    with reporting(as_json) as report:
        chosen, whose = target(node), identity_id(patient)
        copy = out.with_name(f"{out.name}.opening")
        require_free(out, copy)
        institution = chosen.institution().identity
        persons = (
            _person(wallet_file, passphrase_file, speaks_for, licence, share),
            _person(second_wallet, second_passphrase_file, second_as, second_licence, second_share),
        )

        async def run() -> summaries.OpenedSummary:
            async with connected(chosen) as (rpc, genesis):
                return await summaries.open_offline(
                    rpc, genesis.chain_id, institution, whose, reason.value, persons, wall_ms()
                )

        opened = asyncio.run(run())
        entry = opened.given.entry
        kept = CopyFile(codec.encode(entry), opened.given.institution_key.hex(), opened.given.signature.hex())
        write_new(copy, msgspec.json.encode(kept), files.SECRET_MODE)
        write_new(out, opened.payload, files.SECRET_MODE)
        value = {
            "file": str(out),
            "copy": str(copy),
            "emergency": entry.glass.hex(),
            "sequence": entry.sequence,
            "opened_ms": entry.opened_ms,
        }
        tell(report, value, f"{out}; opening {entry.sequence} of the log, to be reported: {copy}")


@app.command(
    "report",
    epilog=example("consilium summaries report ada.summary.opening --node demo/node-1 --wallet lee.wallet"),
)
def report_(
    copy: Annotated[
        Path, typer.Argument(metavar="OPENING", help="The copy of the entry.", show_default=False)
    ],
    node: options.Node,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Report an opening from the copy, as one of the two. The institution's node does it by itself."""
    with reporting(as_json) as report:
        given = _copy(copy)

        async def work(session: Session) -> dict[str, Any]:
            seen_ms = max(given.entry.opened_ms, await session.tip_ms())
            return committed(await summaries.report(session, given, seen_ms))

        value = {
            "emergency": given.entry.glass.hex(),
            **act(node, work, wallet_file, passphrase_file, speaks_for),
        }
        tell(report, value, f"opening {given.entry.sequence} is on the chain")


def _person(
    wallet_file: Path, passphrase_file: Path | None, speaks_for: str | None, licence: str, share: Path
) -> Person:
    wallet = open_wallet(wallet_file, passphrase_file)
    return Person(
        wallet,
        wallet.identity if speaks_for is None else identity_id(speaks_for),
        identifier(licence, "a credential's id"),
        files.read_bounded(share, SHARE_BYTES_MAX),
    )


def _copy(path: Path) -> Given:
    raw = files.read_bounded(path, COPY_BYTES_MAX)
    try:
        given = msgspec.json.decode(raw, type=CopyFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("cli.bad_value", f"{path}: {error}") from None
    return Given(
        b"",
        summaries.entry_from(given.entry),
        hexadecimal(given.institution_key, 32, f"{path}: a key"),
        hexadecimal(given.signature, 64, f"{path}: a signature"),
    )
