"""`consilium teams`: teams of practitioners, to which a consent can speak."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from consilium.client import teams
from consilium.client.session import Session
from consilium.node.cli import options
from consilium.node.cli.acting import act, committed, identifier, tell
from consilium.node.cli.inputs import identity_id, require_known
from consilium.node.cli.output import example, reporting, table

app = typer.Typer(no_args_is_help=True, help="Teams: form, admit, join, leave.")

TeamArgument = Annotated[str, typer.Argument(metavar="TEAM", help="The team's id.", show_default=False)]
MemberOption = Annotated[
    str, typer.Option("--member", metavar="ID", help="A practitioner.", show_default=False)
]


class Kind(StrEnum):
    """What a team is."""

    role = "role"
    care_team = "care-team"


@app.command("form", epilog=example("consilium teams form --node demo/node-1 --kind role"))
def form(
    node: options.Node,
    kind: Annotated[Kind, typer.Option("--kind", help="A role of own staff, or a care team with guests.")],
    as_json: options.Json = False,
) -> None:
    """Form a team of the node's institution. What it is for stays off the chain."""
    with reporting(as_json) as report:

        async def work(session: Session) -> dict[str, Any]:
            team, done = await teams.form(session, kind.value)
            return {"team": team.hex(), "kind": kind.value, **committed(done)}

        value = act(node, work)
        tell(report, value, f"{kind.value} {value['team']}")


@app.command("admit", epilog=example("consilium teams admit 5b0c… --node demo/node-1 --member 9f3e…"))
def admit(
    team: TeamArgument, node: options.Node, member: MemberOption, as_json: options.Json = False
) -> None:
    """Admit a practitioner to a team of the node's institution: own staff at once, others once they join."""
    with reporting(as_json) as report:
        which, who = identifier(team, "a team's id"), identity_id(member)
        done = act(node, lambda session: teams.admit(session, which, who))
        value = {"team": which.hex(), "member": who.hex(), **committed(done)}
        tell(report, value, f"{who.hex()} is admitted to {which.hex()}")


@app.command("join", epilog=example("consilium teams join 5b0c… --node demo/node-0 --wallet lee.wallet"))
def join(
    team: TeamArgument,
    node: options.Node,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Join a team that admitted this practitioner, who works for another institution."""
    with reporting(as_json) as report:
        which = identifier(team, "a team's id")

        async def work(session: Session) -> dict[str, Any]:
            done = await teams.join(session, which)
            return {"team": which.hex(), "member": session.identity.hex(), **committed(done)}

        value = act(node, work, wallet_file, passphrase_file, speaks_for)
        tell(report, value, f"{value['member']} is in {which.hex()}")


@app.command("remove", epilog=example("consilium teams remove 5b0c… --node demo/node-1 --member 9f3e…"))
def remove(
    team: TeamArgument,
    node: options.Node,
    member: MemberOption,
    wallet_file: options.Signer = None,
    speaks_for: options.As = None,
    passphrase_file: options.PassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Remove a member, as the institution that formed the team, or leave: no consent to the team counts any more."""
    with reporting(as_json) as report:
        which, who = identifier(team, "a team's id"), identity_id(member)
        done = act(
            node, lambda session: teams.remove(session, which, who), wallet_file, passphrase_file, speaks_for
        )
        value = {
            "team": which.hex(),
            "member": who.hex(),
            **committed(done),
        }
        tell(report, value, f"{who.hex()} is not in {which.hex()} any more")


@app.command("list", epilog=example("consilium teams list --node demo/node-0 --member 9f3e…"))
def list_(node: options.Node, member: MemberOption, as_json: options.Json = False) -> None:
    """List the teams that a practitioner is a member of. Asked with the folder of a node."""
    with reporting(as_json) as report:
        who = identity_id(member)

        async def ask(session: Session) -> list[bytes]:
            await require_known(session.rpc, who)
            return await teams.members_teams(session, who)

        found = act(node, ask)
        value = [one.hex() for one in found]
        report.result(
            value,
            lambda console: console.print(table(f"{len(value)} teams", ("team",), [(one,) for one in value])),
        )
