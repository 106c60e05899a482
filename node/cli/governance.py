"""`consilium governance`: what the institutions that run validators propose to each other, and vote on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from consilium.client import governing
from consilium.client.governing import ProposalLine
from consilium.client.rpc import RpcClient
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts import ballot, quotas, settings
from consilium.ledger.crypto import KEY_BYTES, SIGNATURE_BYTES
from consilium.ledger.errors import Refused
from consilium.node import files, founding, terms
from consilium.node.cli import options
from consilium.node.cli.inputs import (
    Target,
    connected,
    hexadecimal,
    identity_id,
    node_config,
    target,
    wallet_of,
    when,
)
from consilium.node.cli.output import example, reporting, table
from consilium.node.cli.written import require_free, write_new

ID_BYTES: Final = 16
APPLICATION_BYTES_MAX: Final = 4 * 1024

app = typer.Typer(no_args_is_help=True, help="Decide who validates: propose, vote, list.")


class Application(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An institution's signed wish to be admitted, as a file: `ballot.AdmitInstitution` in hexadecimal."""

    key: str
    encryption_key: str
    author_point: str
    roles: list[str]
    proof: str


class Role(StrEnum):
    """What an institution may be."""

    author = "author"
    authority = "authority"
    custodian = "custodian"
    issuer = "issuer"
    manager = "manager"


@app.command("apply", epilog=example("consilium governance apply ./node --out st-anna.application"))
def apply(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The newcomer's folder, joined.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the application goes.", show_default=False)
    ],
    roles: Annotated[
        list[Role] | None,
        typer.Option(
            "--role", help="What it is to be; may be given again.", show_default="author, custodian, manager"
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Sign an institution's application to a network that others founded. One of them proposes it.

    The network's other institutions need the node's founding card too, for `--add-validator`.
    """
    with reporting(as_json) as report:
        config = node_config(folder)
        require_free(out)
        chain_id = founding.read_genesis(config.genesis_path).chain_id
        wallet = wallet_of(config)
        named: list[Any] = sorted({role.value for role in roles} if roles else terms.ROLES)
        admitted = governing.admission(chain_id, wallet, named)
        document = Application(
            admitted.key.hex(),
            admitted.encryption_key.hex(),
            admitted.author_point.hex(),
            list(admitted.roles),
            admitted.proof.hex(),
        )
        write_new(out, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
        value = {"file": str(out), "institution": wallet.identity.hex(), "roles": named}
        report.result(
            value,
            lambda console: console.print(f"{out}: institution {wallet.identity.hex()}", markup=False),
        )


@app.command(
    "propose",
    epilog=example(
        "consilium governance propose --node demo/node-0 --admit st-anna.application",
        "consilium governance propose --node demo/node-0 --add-validator st-anna.json",
        "consilium governance propose --node demo/node-0 --change-roles 9f3e… --role author --role issuer",
    ),
)
def propose(
    node: options.Node,
    admit: Annotated[
        Path | None,
        typer.Option("--admit", metavar="FILE", help="Admit an institution: its application."),
    ] = None,
    add: Annotated[
        Path | None,
        typer.Option("--add-validator", metavar="CARD", help="Make a node a validator: its founding card."),
    ] = None,
    remove: Annotated[
        str | None, typer.Option("--remove-validator", metavar="KEY", help="By the key of its node.")
    ] = None,
    suspend: Annotated[
        str | None, typer.Option("--suspend", metavar="ID", help="An institution, and the staff it enrolled.")
    ] = None,
    reinstate: Annotated[
        str | None, typer.Option("--reinstate", metavar="ID", help="A suspended institution.")
    ] = None,
    change_roles: Annotated[
        str | None,
        typer.Option("--change-roles", metavar="ID", help="An institution: it is then what --role says."),
    ] = None,
    roles: Annotated[
        list[Role] | None, typer.Option("--role", help="With --change-roles: all that it is to be.")
    ] = None,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings", metavar="FILE", help="Change settings of the network: those that differ, as TOML."
        ),
    ] = None,
    member_quota: Annotated[
        int | None,
        typer.Option("--member-quota", metavar="BYTES", help="Of state, that a member adds in a day."),
    ] = None,
    patient_quota: Annotated[
        int | None,
        typer.Option(
            "--patient-quota", metavar="BYTES", help="Of state, that a patient adds in thirty days."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Propose one change, as the node's institution, which approves it by that. The others vote on its id."""
    with reporting(as_json) as report:
        bytes_ = (member_quota, patient_quota) if (member_quota, patient_quota) != (None, None) else None
        if [admit, add, remove, suspend, reinstate, change_roles, settings_file, bytes_].count(None) != 7:
            raise typer.BadParameter(
                "give one of --admit, --add-validator, --remove-validator, --suspend, --reinstate, "
                "--change-roles, --settings, or the quotas"
            )
        if (roles is None) != (change_roles is None):
            raise typer.BadParameter("--change-roles and --role belong together")
        chosen = target(node)
        if change_roles is not None:
            named: list[Any] = sorted({role.value for role in roles or []})
            change: ballot.Change = ballot.ChangeRoles(identity_id(change_roles), named)
        elif bytes_ is not None:
            change = asyncio.run(_quotas(chosen, *bytes_))
        elif settings_file is not None:
            change = asyncio.run(_settings(chosen, settings_file))
        else:
            change = _change(admit, add, remove, suspend, reinstate)
        value = asyncio.run(_propose(chosen, chosen.institution(), change))
        report.result(value, lambda console: console.print(_standing(value), markup=False))


async def _settings(node: Target, file: Path) -> ballot.ChangeSettings:
    """The network's settings as they are now, with what the file changes."""
    changes = terms.changes_from(file)
    async with connected(node) as (rpc, _):
        current = await _current(rpc)
    return ballot.ChangeSettings(terms.settings_from(changes, current))


async def _quotas(node: Target, member: int | None, patient: int | None) -> ballot.ChangeQuotas:
    """The network's quotas as they are now, with what is given changed."""
    async with connected(node) as (rpc, _):
        raw, _ = await rpc.state(quotas.QUOTAS.key())
    current = quotas.DEFAULTS if raw is None else quotas.QUOTAS.decode(raw)
    wanted = [member or current.member_bytes, patient or current.patient_bytes]
    try:
        return ballot.ChangeQuotas(msgspec.convert(wanted, quotas.Quotas))
    except msgspec.ValidationError as error:
        raise Refused("cli.bad_value", str(error)) from None


async def _current(rpc: RpcClient) -> settings.Settings:
    raw, _ = await rpc.state(settings.SETTINGS.key())
    return settings.DEFAULTS if raw is None else settings.SETTINGS.decode(raw)


def _change(
    admit: Path | None, add: Path | None, remove: str | None, suspend: str | None, reinstate: str | None
) -> ballot.Change:
    if admit is not None:
        return _admission(admit)
    if add is not None:
        card = founding.read_card(add)
        return ballot.AddValidator(bytes(card.node_key), card.institution)
    if remove is not None:
        return ballot.RemoveValidator(hexadecimal(remove, KEY_BYTES, "a validator's key"))
    if suspend is not None:
        return ballot.SuspendInstitution(identity_id(suspend))
    return ballot.ReinstateInstitution(identity_id(reinstate or ""))


def _admission(path: Path) -> ballot.AdmitInstitution:
    raw = files.read_bounded(path, APPLICATION_BYTES_MAX)
    try:
        given = msgspec.json.decode(raw, type=Application)
        roles: list[Any] = sorted({Role(one).value for one in given.roles})
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Refused("cli.bad_value", f"{path} is no application: {error}") from None
    key, encryption_key, point = (
        hexadecimal(one, KEY_BYTES, f"{path}: a key")
        for one in (given.key, given.encryption_key, given.author_point)
    )
    proof = hexadecimal(given.proof, SIGNATURE_BYTES, f"{path}: a signature")
    return ballot.AdmitInstitution(key, encryption_key, point, roles, proof)


async def _propose(node: Target, wallet: Wallet, change: ballot.Change) -> dict[str, Any]:
    async with connected(node) as (rpc, genesis):
        proposal, counted = await governing.propose(Session(rpc, genesis, wallet), change)
    return {"proposal": proposal.hex(), **_counted(counted)}


@app.command("vote", epilog=example("consilium governance vote 77a1… --node demo/node-1"))
def vote(
    proposal: Annotated[
        str, typer.Argument(metavar="PROPOSAL", help="The proposal's id.", show_default=False)
    ],
    node: options.Node,
    reject: Annotated[bool, typer.Option("--reject", help="Vote against it.")] = False,
    as_json: options.Json = False,
) -> None:
    """Approve or reject a proposal, as the node's institution. Its last vote counts while the proposal is open."""
    with reporting(as_json) as report:
        identifier = hexadecimal(proposal, ID_BYTES, "a proposal's id")
        chosen = target(node)
        value = asyncio.run(_vote(chosen, chosen.institution(), identifier, not reject))
        report.result(value, lambda console: console.print(_standing(value), markup=False))


async def _vote(node: Target, wallet: Wallet, proposal: bytes, approve: bool) -> dict[str, Any]:
    async with connected(node) as (rpc, genesis):
        counted = await governing.vote(Session(rpc, genesis, wallet), proposal, approve=approve)
    return {"proposal": proposal.hex(), **_counted(counted)}


@app.command("list", epilog=example("consilium governance list --node demo/node-0"))
def list_(
    node: options.Node,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are decided or lapsed.")] = False,
    as_json: options.Json = False,
) -> None:
    """List the proposals that are open: what each would change, and who approves."""
    with reporting(as_json) as report:
        lines, time_ms, current = asyncio.run(_list(target(node)))
        shown = [one for one in lines if everything or one.standing(time_ms) == "open"]
        rows = [
            (
                line.proposal.hex(),
                _words(line.value.change, current if line.standing(time_ms) == "open" else None),
                line.value.proposer.hex(),
                len(line.value.approvals),
                len(line.value.rejections),
                when(line.value.expires_ms),
                line.standing(time_ms),
            )
            for line in shown
        ]
        columns = ("proposal", "change", "proposer", "for", "against", "until", "standing")
        report.result(
            [_value(line, time_ms) for line in shown],
            lambda console: console.print(table(f"{len(shown)} proposals", columns, rows)),
        )


async def _list(node: Target) -> tuple[Sequence[ProposalLine], int, settings.Settings]:
    async with RpcClient(node.url) as rpc:
        lines, time_ms = await governing.proposals(rpc), int((await rpc.status())["tip_time_ms"])
        return lines, time_ms, await _current(rpc)


def _counted(counted: ballot.VoteCounted) -> dict[str, Any]:
    return {"approving": counted.approving, "needed": counted.needed, "outcome": counted.outcome}


def _standing(value: dict[str, Any]) -> str:
    return (
        f"proposal {value['proposal']} is {value['outcome']}: "
        f"{value['approving']} of {value['needed']} validators that it needs"
    )


def _words(change: ballot.Change, current: settings.Settings | None = None) -> str:
    """What would change; of settings those that differ from the `current` ones, or all by name."""
    match change:
        case ballot.AddValidator(key, institution):
            return f"add validator {key.hex()} of {institution.hex()}"
        case ballot.RemoveValidator(key):
            return f"remove validator {key.hex()}"
        case ballot.SuspendInstitution(institution):
            return f"suspend {institution.hex()}"
        case ballot.ReinstateInstitution(institution):
            return f"reinstate {institution.hex()}"
        case ballot.AdmitInstitution():
            return f"admit institution {governing.admitted(change).hex()}"
        case ballot.ChangeRoles(institution, roles):
            return f"{institution.hex()} is {', '.join(roles) or 'nothing'} from then on"
        case ballot.ChangeQuotas(allowed):
            return f"quotas: {allowed.member_bytes} bytes a day for members, {allowed.patient_bytes} in 30 for patients"
        case ballot.ChangeSettings(settled):
            told = [
                f"{name} = {msgspec.json.encode(value).decode()}"
                for name, value in msgspec.structs.asdict(settled).items()
                if current is None or value != getattr(current, name)
            ]
            return f"settings: {', '.join(told) or 'as they are'}"


def _value(line: ProposalLine, time_ms: int) -> dict[str, Any]:
    return {
        "proposal": line.proposal.hex(),
        "change": _words(line.value.change),
        "proposer": line.value.proposer.hex(),
        "approvals": [one.hex() for one in line.value.approvals],
        "rejections": [one.hex() for one in line.value.rejections],
        "expires_ms": line.value.expires_ms,
        "standing": line.standing(time_ms),
    }
