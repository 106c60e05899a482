"""`consilium staff`: stopping those whom an institution enrolled, and letting them act again."""

from __future__ import annotations

from typing import Annotated

import typer

from consilium.client import identities
from consilium.node.cli import options
from consilium.node.cli.acting import act, committed, tell
from consilium.node.cli.inputs import identity_id
from consilium.node.cli.output import example, reporting

app = typer.Typer(no_args_is_help=True, help="Staff and applications: suspend, reinstate.")

WhoArgument = Annotated[
    str, typer.Argument(metavar="ID", help="A practitioner or application.", show_default=False)
]


@app.command("suspend", epilog=example("consilium staff suspend 9f3e… --node demo/node-1"))
def suspend(who: WhoArgument, node: options.Node, as_json: options.Json = False) -> None:
    """Stop a practitioner or application of the node's institution: it may not act from that block on."""
    with reporting(as_json) as report:
        which = identity_id(who)
        done = act(node, lambda session: identities.suspend(session, which))
        value = {"identity": which.hex(), **committed(done)}
        tell(report, value, f"{which.hex()} is suspended")


@app.command("reinstate", epilog=example("consilium staff reinstate 9f3e… --node demo/node-1"))
def reinstate(who: WhoArgument, node: options.Node, as_json: options.Json = False) -> None:
    """Let a suspended practitioner or application of the node's institution act again."""
    with reporting(as_json) as report:
        which = identity_id(who)
        done = act(node, lambda session: identities.reinstate(session, which))
        value = {"identity": which.hex(), **committed(done)}
        tell(report, value, f"{which.hex()} may act again")
