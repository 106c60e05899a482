"""A node whose votes are heard by everybody it is connected to: the product says them to validators alone.

The wiretap is no validator, so without this it would hear nothing and find nothing. Whoever is told a vote twice takes
it for one. Run as a program, this is `consilium node start` with such a mesh; the folder and options follow.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from consilium.node.cli.output import reporting
from consilium.node.config import load_config
from consilium.node.founding import CONFIG_FILE
from consilium.node.peer_messages import Kind
from consilium.node.running import run_in_foreground
from consilium.p2p.frame import Lane
from consilium.p2p.mesh import Mesh


class Overheard(Mesh):
    """See the module."""

    _last = b""

    def send(self, peer_key: bytes, kind: int, body: bytes, lane: Lane) -> bool:
        """As `Mesh.send`; what is a vote goes to all others too, once."""
        sent = super().send(peer_key, kind, body, lane)
        if kind == Kind.CONSENSUS and body != self._last:
            self._last = body
            for other in self.connected():
                if other != peer_key:
                    super().send(other, kind, body, lane)
        return sent


if __name__ == "__main__":
    # A node that halts names what broke, and ends with the status of that, as the command does.
    try:
        with reporting(as_json=False):
            settings = load_config(Path(sys.argv[1]) / CONFIG_FILE, {})
            run_in_foreground(settings, stop_on_eof="--stop-on-eof" in sys.argv, mesh=Overheard)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
