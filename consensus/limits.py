"""Every limit and every period of the machine, by name, and the few of them that a network may choose.

Why each has its value: docs/consensus.md, "Limits". Times are milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

VIEW_TIMEOUT_MS: Final = 600
"""How long view 0 may take: with a dead primary, a block is decided by the next one in under a second."""
VIEW_TIMEOUT_MAX_MS: Final = 10_000
"""The stated synchrony assumption: a view in which everything works decides within this time."""
VIEW_TIMEOUT_GROWTH: Final = (3, 2)
"""Each further view may take three halves of the time of the view before it, up to the maximum."""
FAILURES_MAX: Final = 12
"""Failed views beyond these are not remembered: the timer is at its maximum by then, and must come back."""
RESEND_FIRST_MS: Final = 250
RESEND_MS: Final = 1_000
"""A replica that is stuck repeats what it last said, first after RESEND_FIRST_MS, then so often."""
CLOCK_BOUND_MS: Final = 2_000
"""A fresh proposal's time may be so far ahead of a replica's own clock."""
PROPOSAL_AGE_MAX_MS: Final = CLOCK_BOUND_MS + VIEW_TIMEOUT_MAX_MS
"""A fresh proposal's time may be so far behind a replica's own clock."""
HEARTBEAT_GRACE_MS: Final = CLOCK_BOUND_MS
"""Replicas expect the heartbeat block so much after it is due: their clocks may be ahead of the primary's."""
ANSWER_EVERY_MS: Final = 200
"""A peer that lags is sent a decided block at most so often."""
CATCH_UP_EVERY_MS: Final = 1_000
"""The host is asked to catch up at most so often."""

VOTES_PER_VALIDATOR_MAX: Final = 4
"""Of each kind of vote, those of so many views (the highest) are kept of each validator."""
FUTURE_PER_VALIDATOR_MAX: Final = 8
"""So many messages for the next height are kept of each validator."""
PEERS_MAX: Final = 256
"""So many peers' heights and last answers are remembered."""
CENSORED_MAX: Final = 64
"""So many censored batches are remembered."""
CENSORED_HEIGHTS: Final = 8
"""For a censored batch a view change is demanded at so many heights, so that the demands of several replicas, which
notice at different heights, meet."""


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """What a network may choose. All validators should choose alike; safety never depends on it."""

    view_timeout_ms: int = VIEW_TIMEOUT_MS
    view_timeout_max_ms: int = VIEW_TIMEOUT_MAX_MS
    resend_first_ms: int = RESEND_FIRST_MS
    resend_ms: int = RESEND_MS
    clock_bound_ms: int = CLOCK_BOUND_MS
    proposal_age_max_ms: int = PROPOSAL_AGE_MAX_MS

    def __post_init__(self) -> None:
        if not 0 < self.view_timeout_ms <= self.view_timeout_max_ms:
            raise ValueError("0 < view_timeout_ms <= view_timeout_max_ms must hold")
        if not 0 < self.resend_first_ms <= self.resend_ms:
            raise ValueError("0 < resend_first_ms <= resend_ms must hold")
        if self.clock_bound_ms < 0 or self.proposal_age_max_ms < self.clock_bound_ms:
            raise ValueError("0 <= clock_bound_ms <= proposal_age_max_ms must hold")
