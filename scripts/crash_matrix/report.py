"""What a run counted, and what it must not have found."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Report:
    """Counts by kind of cycle and by outcome; times of restarts; every violation in words."""

    cycles: int = 0
    kills: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    strikes: dict[str, int] = field(default_factory=dict)
    """Strikes that hit, by action and effect."""
    corruption: dict[str, int] = field(default_factory=dict)
    """What became of flipped bits: refused at the start, halted when read, found by a full check, or harmless."""
    restarts: int = 0
    restarts_at_head: int = 0
    resynced: int = 0
    acknowledged_commits: int = 0
    lost_commits: int = 0
    acknowledged_envelopes: int = 0
    lost_envelopes: int = 0
    votes_heard: int = 0
    contradicting_votes: int = 0
    blocks: int = 0
    violations: list[str] = field(default_factory=list)
    catch_up_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, table: dict[str, int], name: str) -> None:
        """One more of `name`."""
        table[name] = table.get(name, 0) + 1

    def violated(self, text: str) -> None:
        """Something that must hold did not."""
        self.violations.append(text)

    @property
    def good(self) -> bool:
        """Whether everything held."""
        return (
            not self.violations
            and self.votes_heard > 0  # an audit that heard nothing found nothing
            and self.lost_commits == self.lost_envelopes == self.contradicting_votes == 0
            and self.restarts == self.restarts_at_head
        )

    def as_json(self) -> dict[str, Any]:
        """All of it, with the times summed up."""
        value = asdict(self)
        times = sorted(value.pop("catch_up_s"))
        if times:
            value["restart_to_head_s"] = {
                "median": round(statistics.median(times), 3),
                "p95": round(times[min(len(times) - 1, int(0.95 * len(times)))], 3),
                "max": round(times[-1], 3),
            }
        value["seconds"] = round(self.seconds, 1)
        value["good"] = self.good
        return value
