"""How fast a lane's messages are handed on, however fast they come. Pure: time comes in, in seconds.

Whoever says the same good vote thousands of times a second breaks no rule, and no single message of his costs much; but
one thread handles everybody's. So a lane has its share of the time: a burst at once, then so many messages a second.
What is beyond waits, and holds back its sender by way of the inbox and TCP, and nobody else.

Source: ITU-T I.371, the generic cell rate algorithm in its virtual scheduling form.
"""

from __future__ import annotations

from typing import Final

BURST_MESSAGES: Final = 256
"""What a lane that was quiet may bring at once: the votes of many heights, after a pause."""


class Pace:
    """The pace of one lane of one peer; it outlives the links that serve the lane."""

    def __init__(self, per_s: int) -> None:
        self._interval_s = 1 / per_s
        self._allowance_s = BURST_MESSAGES / per_s
        self._due_s = 0.0
        """When the next message would be due, did the messages come evenly."""

    def wait_s(self, now_s: float) -> float:
        """Count one message; return how long it must wait, in seconds: 0 while the lane keeps its pace."""
        self._due_s = max(self._due_s, now_s) + self._interval_s
        return max(0.0, self._due_s - now_s - self._allowance_s)
