"""Time, chance and the record of one schedule.

Everything that happens is an event in one queue, ordered by (time, order of scheduling); every choice is drawn from
one generator seeded by the schedule's name. The trace is hashed as it grows: two runs are the same run exactly when
their hashes are.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable

WALL_EPOCH_MS = 1_800_000_000_000
TRACE_LINES_KEPT = 3_000
EVENTS_MAX = 500_000
"""Twenty times what the longest honest schedule takes: beyond it, somebody talks without end."""


class Endless(Exception):
    """Events breed events."""


class World:
    """Simulated time is in milliseconds and starts at 0."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rng = random.Random(name)
        self.now = 0
        self.lines: deque[str] = deque(maxlen=TRACE_LINES_KEPT)
        self.events = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._trace = hashlib.sha256(name.encode())

    def at(self, time_ms: int, action: Callable[[], None]) -> None:
        """Run the action at this time, or now if the time is past."""
        self._order += 1
        heapq.heappush(self._queue, (max(time_ms, self.now), self._order, action))

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Run the action so much later."""
        self.at(self.now + delay_ms, action)

    def run_until(self, time_ms: int, done: Callable[[], bool] = lambda: False) -> bool:
        """Run events up to a time, or until `done`, which is asked now and then. Returns whether it was done."""
        while self._queue and self._queue[0][0] <= time_ms:
            self.now, _, action = heapq.heappop(self._queue)
            self.events += 1
            if self.events > EVENTS_MAX:
                raise Endless(f"more than {EVENTS_MAX} events, at {self.now} ms")
            action()
            if self.events % 32 == 0 and done():
                return True
        self.now = max(self.now, time_ms)
        return done()

    def note(self, line: str) -> None:
        """Record what happened, for the trace hash and for people."""
        text = f"{self.now:>7} {line}"
        self._trace.update(text.encode())
        self.lines.append(text)

    @property
    def trace(self) -> str:
        """The hash of all that happened so far, in hex."""
        return self._trace.hexdigest()
