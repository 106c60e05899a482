"""Deciding one question: may this reader read this compartment of this patient, for this purpose, now?

`decision_table.json` is the rule: its rows are tried in order, and the first whose condition holds decides. This
module gives the conditions their meaning. A condition that no contract keeps facts for yet never holds; the contract
that brings the facts replaces `_never` here, and the table does not change.

Nothing is read but the facts of one question: `gather` takes them from state, `decide` is a function of them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Annotated, Final

import msgspec

from consilium.contracts import identity
from consilium.contracts.consent import DENY, PERMIT, Consent, consents_between
from consilium.contracts.purposes import covers
from consilium.ledger.state import StateReader

BASIS_CHARS_MAX: Final = 16
TABLE_VERSION: Final = 1


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the table: where the condition holds, this is the verdict and its basis."""

    condition: str
    allow: bool
    basis: Annotated[str, msgspec.Meta(min_length=1, max_length=BASIS_CHARS_MAX)]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The decision table as its file has it."""

    version: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a reader's questions about one patient are decided from.

    `standing` is False where the reader, its employer or the patient is unknown, suspended or erased. `consents` are
    the patient's to the reader and then to the reader's institution, each oldest first.
    """

    patient: bytes
    standing: bool
    consents: tuple[tuple[bytes, Consent], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """One compartment, one purpose, one instant (block time, milliseconds)."""

    facts: Facts
    compartment: bytes
    purpose: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Match:
    """Why a condition holds: the consent, where there is one, and until when (exclusive; None is without end)."""

    consent: bytes | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """The verdict on one question. `until_ms` is None where nothing but the release window ends it."""

    allow: bool
    basis: str
    consent: bytes | None
    until_ms: int | None


def gather(state: StateReader, reader: bytes, patient: bytes) -> Facts:
    """The facts about a reader and a patient."""
    known = identity.IDENTITIES.get(state, reader)
    grantees = [reader]
    if known is not None and known.kind == identity.PRACTITIONER and known.sponsor is not None:
        grantees.append(known.sponsor)
    return Facts(
        patient=patient,
        standing=identity.standing(state, reader) is None and identity.standing(state, patient) is None,
        consents=tuple(found for grantee in grantees for found in consents_between(state, patient, grantee)),
    )


def applies(consent: Consent, question: Question) -> bool:
    """Whether the consent says anything about the question."""
    return (
        consent.patient == question.facts.patient
        and consent.revoked_ms is None
        and consent.not_before <= question.time_ms < consent.not_after
        and (consent.compartments is None or question.compartment in consent.compartments)
        and any(covers(purpose, question.purpose) for purpose in consent.purposes)
    )


def _matching(question: Question, effect: str) -> list[tuple[bytes, Consent]]:
    return [
        (identifier, consent)
        for identifier, consent in question.facts.consents
        if consent.effect == effect and applies(consent, question)
    ]


def _erased_or_suspended(question: Question) -> Match | None:
    return None if question.facts.standing else Match()


def _matching_deny(question: Question) -> Match | None:
    found = _matching(question, DENY)
    return Match(found[0][0]) if found else None


def _matching_permit(question: Question) -> Match | None:
    """The one that lasts longest, and of equals the first."""
    found = _matching(question, PERMIT)
    if not found:
        return None
    identifier, consent = max(found, key=lambda entry: entry[1].not_after)
    return Match(identifier, consent.not_after)


def _never(_: Question) -> Match | None:
    """No contract keeps the facts for this condition yet."""
    return None


def _always(_: Question) -> Match | None:
    return Match()


CONDITIONS: Final[Mapping[str, Callable[[Question], Match | None]]] = {
    "erased_or_suspended": _erased_or_suspended,
    "emergency_deny": _never,
    "legal_mandate": _never,
    "break_glass": _never,
    "matching_deny": _matching_deny,
    "matching_permit": _matching_permit,
    "network_policy": _never,
    "otherwise": _always,
}


def _load() -> Table:
    raw = resources.files("consilium.contracts").joinpath("decision_table.json").read_bytes()
    table = msgspec.json.decode(raw, type=Table)
    names = [row.condition for row in table.rows]
    if table.version != TABLE_VERSION or sorted(names) != sorted(CONDITIONS) or names[-1] != "otherwise":
        raise ValueError("the decision table is not the one that this program knows")
    return table


TABLE: Final = _load()


def decide_all(questions: Sequence[Question]) -> Ruling:
    """One ruling on several compartments at once: the first denial, or else the first allow, with the earliest end."""
    rulings = [decide(question) for question in questions]
    for ruling in rulings:
        if not ruling.allow:
            return ruling
    ends = [ruling.until_ms for ruling in rulings if ruling.until_ms is not None]
    return replace(rulings[0], until_ms=min(ends) if ends else None)


def decide(question: Question) -> Ruling:
    """The first row whose condition holds."""
    for row in TABLE.rows:
        match = CONDITIONS[row.condition](question)
        if match is not None:
            return Ruling(row.allow, row.basis, match.consent, match.until_ms)
    raise LookupError("the last row of the table always holds")
