"""The slow twin of the decision: it reads the same table, keeps every consent in one list, and searches it each time.

It shares no code with `contracts.decision` and `contracts.consent`; its purposes come from the table of children.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from consilium.contracts.purposes import CHILDREN

TABLE = Path(__file__).resolve().parents[3] / "contracts" / "decision_table.json"


@dataclass(frozen=True)
class Grant:
    """A consent as a person would note it; `compartments` None means all."""

    name: bytes
    patient: str
    grantee: str
    purposes: tuple[str, ...]
    compartments: tuple[bytes, ...] | None
    effect: str
    start: int
    end: int
    revoked: bool = False


@dataclass
class Twin:
    """`employer` of each practitioner, who is suspended, and every consent ever granted."""

    employer: dict[str, str] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    grants: list[Grant] = field(default_factory=list)

    def revoke(self, name: bytes) -> None:
        self.grants = [replace(g, revoked=True) if g.name == name else g for g in self.grants]

    def decide(
        self, reader: str, patient: str, compartment: bytes, purpose: str, now: int
    ) -> tuple[bool, str, bytes | None, int | None]:
        """(allow, basis, consent, end of the consent)."""
        silent = {reader, patient, self.employer.get(reader, reader)} & self.suspended
        speaking = [
            g
            for grantee in (reader, self.employer.get(reader))
            for g in self.grants
            if g.grantee == grantee and g.patient == patient and not g.revoked
            if g.start <= now and now < g.end
            if g.compartments is None or compartment in g.compartments
            if purpose in _below(g.purposes)
        ]
        denies = [g for g in speaking if g.effect == "deny"]
        permits = [g for g in speaking if g.effect == "permit"]
        for row in json.loads(TABLE.read_text())["rows"]:
            outcome = (row["allow"], row["basis"])
            if row["condition"] == "erased_or_suspended" and silent:
                return *outcome, None, None
            if row["condition"] == "matching_deny" and denies:
                return *outcome, denies[0].name, None
            if row["condition"] == "matching_permit" and permits:
                longest = sorted(permits, key=lambda g: -g.end)[0]
                return *outcome, longest.name, longest.end
            if row["condition"] == "otherwise":
                return *outcome, None, None
        raise AssertionError("the table has no last row")


def _below(purposes: tuple[str, ...]) -> set[str]:
    found = set(purposes)
    while True:
        more = found | {child for purpose in found for child in CHILDREN.get(purpose, ())}
        if more == found:
            return found
        found = more
