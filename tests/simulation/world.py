"""Time, chance and the record of one schedule.

Everything that happens is an event in one queue, ordered by (time, order of scheduling); every choice is drawn from
one generator seeded by the schedule's name. What happened is kept as it happens and hashed at the end, together with
the state of the generator: two runs are the same run exactly when their hashes are.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from typing import Any

WALL_EPOCH_MS = 1_800_000_000_000
EVENTS_MAX = 400_000
"""Twenty times what the longest honest schedule takes: beyond it, somebody talks without end."""
ASKED_EVERY = 16


class Endless(Exception):
    """Events breed events."""


class World:
    """Simulated time is in milliseconds and starts at 0."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rng = random.Random(name)
        self.now = 0
        self.entries: list[tuple[Any, ...]] = []
        self.events = 0
        self.failure: BaseException | None = None
        """What ends the schedule: set by whoever finds it, wherever it is raised."""
        self._queue: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = 0

    def at(self, time_ms: int, action: Callable[..., object], *arguments: Any) -> None:
        """Run the action at this time, or now if the time is past."""
        self._order += 1
        now = self.now
        heapq.heappush(self._queue, (time_ms if time_ms > now else now, self._order, action, arguments))

    def after(self, delay_ms: int, action: Callable[..., object], *arguments: Any) -> None:
        """Run the action so much later."""
        self._order += 1
        heapq.heappush(self._queue, (self.now + delay_ms, self._order, action, arguments))

    def run_until(self, time_ms: int, done: Callable[[], bool] | None = None) -> bool:
        """Run events up to a time, or until `done`, which is asked now and then. Returns whether it was done.

        Raises what anybody found on the way.
        """
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= time_ms:
            self.now, _, action, arguments = pop(queue)
            self.events += 1
            action(*arguments)
            if self.failure is not None:
                raise self.failure
            if self.events % ASKED_EVERY == 0:
                if self.events > EVENTS_MAX:
                    raise Endless(f"more than {EVENTS_MAX} events, at {self.now} ms")
                if done is not None and done():
                    return True
        self.now = max(self.now, time_ms)
        return done is not None and done()

    def note(self, *parts: Any) -> None:
        """Record what happened, for the trace hash and for people. Kept as it is: made into text only for people."""
        self.entries.append((self.now, *parts))

    @property
    def lines(self) -> list[str]:
        """What happened, for people."""
        return [f"{entry[0]:>7} {' '.join(_text(part) for part in entry[1:])}" for entry in self.entries]

    @property
    def trace(self) -> str:
        """The hash of all that happened so far, and of every choice that was made, in hex."""
        told = repr((self.name, self.events, self._order, self.rng.getstate()[1][:8], self.entries))
        return hashlib.sha256(told.encode()).hexdigest()


def _text(part: Any) -> str:
    if isinstance(part, bytes):
        return part[:4].hex()
    return f"{part:>2}" if isinstance(part, int) else str(part)
