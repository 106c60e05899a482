"""A gate in front of what must not be closed under somebody's feet.

LevelDB frees its memory when it is closed, whoever is reading in another thread: the process would end in the middle of
an instruction. So every call goes through the gate, and closing waits until those inside are out.
"""

from __future__ import annotations

import threading


class Gate:
    """A context manager for each call; `closed` once nobody may enter."""

    __slots__ = ("_changed", "_inside", "closed")

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0
        self.closed = False

    def __enter__(self) -> None:
        """Raises GateClosed."""
        with self._changed:
            if self.closed:
                raise GateClosed
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._changed:
            self._inside -= 1
            if self.closed:
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in any more, and return when nobody is inside. Not from inside: it would wait for itself."""
        with self._changed:
            self.closed = True
            while self._inside:
                self._changed.wait()


class GateClosed(Exception):
    """Whoever comes too late."""
