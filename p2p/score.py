"""How a peer's faults add up: a penalty that time forgives, and bans that grow. Pure: time comes in, in
seconds.

One fault is an accident (a bug, a version, a restart in mid-sentence); many in a short time are a bad peer.
The penalty falls steadily; at its limit the peer is banned, each ban twice as long as the last, up to a
limit: a validator that was repaired must come back by itself. Bans are forgotten after a long time without
one.
"""

from __future__ import annotations

from typing import Final

from consilium.p2p.policy import MeshPolicy

DOUBLINGS_MAX: Final = 30


class Score:
    """The record of one peer."""

    def __init__(self, policy: MeshPolicy) -> None:
        self._policy = policy
        self._penalty = 0.0
        self._penalty_at_s = 0.0
        self._bans = 0
        self._banned_until_s = 0.0

    def value(self, now_s: float) -> float:
        """0 for a spotless peer, lower with each fault."""
        return -self._decayed(now_s)

    def banned_s(self, now_s: float) -> float:
        """Seconds until the ban ends; 0 when there is none."""
        return max(0.0, self._banned_until_s - now_s) if self._bans else 0.0

    def fault(self, weight: int, now_s: float) -> bool:
        """Count a fault. True when it is the one that bans the peer."""
        if self.banned_s(now_s):
            return False
        self._penalty = self._decayed(now_s) + max(0, weight)
        self._penalty_at_s = now_s
        if self._penalty < self._policy.penalty_max:
            return False
        if self._bans and now_s - self._banned_until_s > self._policy.ban_memory_s:
            self._bans = 0
        self._bans += 1
        factor = 2 ** min(self._bans - 1, DOUBLINGS_MAX)
        self._banned_until_s = now_s + min(self._policy.ban_first_s * factor, self._policy.ban_max_s)
        self._penalty = 0.0
        return True

    def _decayed(self, now_s: float) -> float:
        forgiven = (now_s - self._penalty_at_s) * self._policy.recovery_per_s
        return max(0.0, self._penalty - forgiven)
