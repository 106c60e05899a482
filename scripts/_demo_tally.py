"""What the demonstration (`_demo`) counts, and whom it tells of."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from typing import Any

from consilium.client.wallet import Wallet


class DemoFailed(Exception):
    """Something did not hold; the message says what."""


@dataclass
class Tally:
    """What the summary tells."""

    patients: int = 0
    resources_in: int = 0
    resources_sensitive: int = 0
    resources_identical: int = 0
    decisions_allow: int = 0
    decisions_deny: int = 0
    receipts_verified: int = 0
    blocks: int = 0
    sensitive_read: int = 0
    glass_read: int = 0
    glass_notices: int = 0
    accounting_lines: int = 0
    erasure_attested: int = 0
    words_not_found: int = 0
    failover_ms: int | None = None
    seconds: float = 0.0
    seconds_by_step: dict[str, float] = field(default_factory=dict)

    def spent(self, step: str, since_s: float) -> None:
        """Add the time since `since_s` to a step."""
        self.seconds_by_step[step] = self.seconds_by_step.get(step, 0.0) + time.monotonic() - since_s

    def summary(self, steps: dict[str, float]) -> dict[str, Any]:
        """The JSON object at the end; `steps` are the seconds by step, rounded."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**values, "seconds_by_step": steps}


@dataclass(frozen=True)
class Patient:
    """An imported patient: at which institution, with which resources, by record id."""

    name: str
    wallet: Wallet
    home: int
    records: tuple[bytes, ...]
    originals: tuple[bytes, ...]
    sensitive: tuple[bytes, ...]
