"""The slow twin of the decision: it reads the same table, keeps everything in lists, and searches them each time.

It shares no code with `contracts.decision`, `contracts.facts` and `contracts.consent`; its purposes come from the table
of children. What a consent may say while its conditions are unknown it finds by trying out every way they could fall.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from consilium.contracts.purposes import CHILDREN

TABLE = Path(__file__).resolve().parents[3] / "contracts" / "decision_table.json"
ROWS = json.loads(TABLE.read_text())["rows"]

Answer = tuple[bool, str, bytes | None, int | None, bool]
"""allow, basis, ground, until, whether conditions are still to be asked"""


@dataclass(frozen=True)
class Rule:
    """A provision as a person would note it; None means everybody, any purpose, all compartments, no condition.

    `condition` is what a record must be called for the rule to match it.
    """

    effect: str
    start: int
    end: int
    depth: int = 0
    actors: tuple[str, ...] | None = None
    purposes: tuple[str, ...] | None = ("TREAT",)
    compartments: tuple[bytes, ...] | None = None
    condition: str | None = None


@dataclass(frozen=True)
class Grant:
    name: bytes
    patient: str
    rules: tuple[Rule, ...]
    revoked: bool = False
    parent: bytes | None = None


@dataclass(frozen=True)
class Mandate:
    name: bytes
    patient: str
    reader: str
    purposes: tuple[str, ...]
    compartments: tuple[bytes, ...] | None
    start: int
    end: int


@dataclass(frozen=True)
class Emergency:
    name: bytes
    patient: str
    clinician: str
    start: int
    end: int


@dataclass(frozen=True)
class Treatment:
    name: bytes
    patient: str
    institution: str
    people: tuple[str, ...] | None
    start: int
    end: int


@dataclass
class Twin:
    """Everything that anybody ever said."""

    employer: dict[str, str] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    teams: dict[str, set[str]] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    mandates: list[Mandate] = field(default_factory=list)
    emergencies: list[Emergency] = field(default_factory=list)
    treatments: list[Treatment] = field(default_factory=list)
    emergency_deny: set[str] = field(default_factory=set)
    opt_out: set[str] = field(default_factory=set)
    guardians: list[tuple[str, str, int]] = field(default_factory=list)
    general: set[bytes] = field(default_factory=set)
    policy: tuple[str, ...] = ("TREAT",)
    people: set[str] = field(default_factory=set)
    """Readers who are patients themselves."""

    def revoke(self, name: bytes) -> None:
        self.grants = [replace(g, revoked=True) if g.name == name else g for g in self.grants]

    def decide(
        self, reader: str, patient: str, compartment: bytes, purpose: str, now: int, record: str | None = None
    ) -> Answer:
        holds = {
            "erased": [(None, None)] if patient in self.erased else [],
            "suspended": self._silent(reader, patient),
            "emergency_deny": [(None, None)]
            if patient in self.emergency_deny and purpose in below(("ETREAT",))
            else [],
            "legal_mandate": [
                (m.name, m.end)
                for who in self._readers(reader)
                for m in self.mandates
                if (m.reader, m.patient) == (who, patient) and m.start <= now < m.end
                if purpose in below(m.purposes)
                if m.compartments is None or compartment in m.compartments
            ],
            "break_glass": [
                (e.name, e.end)
                for e in self.emergencies
                if (e.clinician, e.patient) == (reader, patient) and e.start <= now < e.end
                if purpose in below(("ETREAT",))
            ],
            "matching_deny": [],
            "matching_permit": [],
            "representative": self._represents(reader, patient, compartment, purpose, now),
            "network_policy": self._policy(reader, patient, compartment, purpose, now),
            "otherwise": [(None, None)],
        }
        owed = False
        for grant in self._speaking(reader, patient):
            outcomes = set(self._outcomes(grant, reader, compartment, purpose, now, record))
            effects = {effect for effect, _ in outcomes}
            owed = owed or len(effects) > 1
            if effects == {"deny"}:
                holds["matching_deny"].append((grant.name, None))
            ends = [end for effect, end in outcomes if effect == "permit" and end is not None]
            if ends:
                holds["matching_permit"].append((grant.name, max(ends)))
        for row in ROWS:
            found = holds[row["condition"]]
            if found:
                if row["condition"] == "matching_deny":
                    name, end = found[0]
                else:
                    name, end = sorted(found, key=lambda one: -(one[1] or 0))[0]
                late = row["condition"] in ("matching_permit", "representative", "network_policy")
                return row["allow"], row["basis"], name, end, owed and late
        raise AssertionError("the table has no last row")

    def _silent(self, reader: str, patient: str) -> list[tuple[None, None]]:
        concerned = {reader, patient, self.employer.get(reader, reader)}
        return [(None, None)] if concerned & self.suspended else []

    def _readers(self, reader: str) -> list[str]:
        return [reader, *([self.employer[reader]] if reader in self.employer else [])]

    def _names(self, reader: str) -> set[str]:
        return {*self._readers(reader), *(team for team, people in self.teams.items() if reader in people)}

    def _speaking(self, reader: str, patient: str) -> list[Grant]:
        """In the order of the reader, its employer, its teams, and those to everybody."""
        if reader in self.people:
            return []
        alive = {g.name for g in self.grants if not g.revoked}
        found = []
        teams = [team for team, people in self.teams.items() if reader in people]
        for party in [*self._readers(reader), *teams, None]:
            for grant in self.grants:
                if grant.patient != patient or grant.name not in alive or grant in found:
                    continue
                if grant.parent is not None and grant.parent not in alive:
                    continue
                named = [r.actors for r in grant.rules]
                everybody = any(actors is None for actors in named)
                listed = everybody if party is None else not everybody and any(party in a for a in named if a)
                if listed:
                    found.append(grant)
        return found

    def _outcomes(
        self, grant: Grant, reader: str, compartment: bytes, purpose: str, now: int, record: str | None
    ) -> Iterator[tuple[str | None, int | None]]:
        names = self._names(reader)
        rules = [
            rule
            for rule in grant.rules
            if rule.start <= now < rule.end
            if rule.actors is None or names & {*rule.actors}
            if rule.purposes is None or purpose in below(rule.purposes)
            if rule.compartments is None or compartment in rule.compartments
        ]
        unknown = [r for r in rules if r.condition is not None and record is None]
        for met in itertools.product((True, False), repeat=len(unknown)):
            matching = [
                rule
                for rule in rules
                if rule.condition is None
                or (record is not None and rule.condition == record)
                or (record is None and dict(zip(map(id, unknown), met, strict=True))[id(rule)])
            ]
            deepest = [r for r in matching if r.depth == max(m.depth for m in matching)]
            if not deepest:
                yield None, None
            elif any(rule.effect == "deny" for rule in deepest):
                yield "deny", None
            else:
                yield "permit", max(rule.end for rule in deepest)

    def _represents(self, reader, patient, compartment, purpose, now):
        if purpose not in below(("PATRQT",)):
            return []
        if reader == patient:
            return [(None, None)]
        return [
            (None, end)
            for guardian, of, end in self.guardians
            if (guardian, of) == (reader, patient) and now < end and compartment in self.general
        ]

    def _policy(self, reader, patient, compartment, purpose, now):
        if patient in self.opt_out or compartment not in self.general or purpose not in below(self.policy):
            return []
        return [
            (t.name, t.end)
            for t in self.treatments
            if t.patient == patient and t.institution == self.employer.get(reader, reader)
            if t.start <= now < t.end
            if t.people is None or reader in t.people
        ]


def below(purposes: tuple[str, ...]) -> set[str]:
    found = set(purposes)
    while True:
        more = found | {child for purpose in found for child in CHILDREN.get(purpose, ())}
        if more == found:
            return found
        found = more
