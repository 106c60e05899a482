"""Free ports of this machine, asked from the system, and held until a node has taken them.

A port that was asked for and let go can be given to the next program that asks. A reservation stays bound, with
SO_REUSEADDR and without listening: the system gives the port to nobody else, neither to a listener that asks for any
port nor to an outgoing connection, and a node (which sets SO_REUSEADDR too) can still listen on it. Where a system
does not allow this second binding, the reservation is let go just before the node starts.

Source: socket(7), SO_REUSEADDR.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from types import TracebackType
from typing import Final

LOOPBACK: Final = "127.0.0.1"
SHARES_RESERVED: Final = sys.platform == "linux"


class Reservation:
    """Some ports of one address. A context manager; `release` may be called twice."""

    def __init__(self, count: int, host: str = LOOPBACK) -> None:
        self._sockets: list[socket.socket] = []
        try:
            for _ in range(count):
                self._sockets.append(bound(host, 0))
        except OSError:
            self.release()
            raise
        self.ports: tuple[int, ...] = tuple(held.getsockname()[1] for held in self._sockets)

    def yield_to_nodes(self) -> None:
        """Let the nodes listen now."""
        if not SHARES_RESERVED:
            self.release()

    def release(self) -> None:
        """Give the ports back to the system."""
        while self._sockets:
            self._sockets.pop().close()

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.release()


def bound(host: str, port: int) -> socket.socket:
    """A socket that holds a port without listening. Raises OSError where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, port))
    except OSError:
        held.close()
        raise
    return held


def is_free(host: str, port: int) -> bool:
    """Whether a node could listen there now."""
    with contextlib.suppress(OSError):
        bound(host, port).close()
        return True
    return False
