"""Deciding one question: may this reader read this compartment of this patient, for this purpose, now?

`decision_table.json` is the rule: its rows are tried in order, and the first whose condition holds decides. This
module gives the conditions their meaning. Nothing is read but the facts of one question (`facts.gather`): `decide` is
a function of them alone.

The contract asks without a record, and so without the conditions that are sealed: where a consent could say one thing
of one record and another of the next, it is *open*. A permit that is possible is an allow, only a denial that is
certain is a denial, and the ruling names the conditions (*obligations*) that are still to be asked. A custodian asks
again with the record, the same table and the conditions opened: then nothing is open any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Annotated, Final, NamedTuple

import msgspec

from consilium.contracts import weights
from consilium.contracts.conditions import Conditions, RecordFacts, Truth, meets
from consilium.contracts.consent import DENY, Consent, Provision
from consilium.contracts.emergency import EMERGENCY_PURPOSE
from consilium.contracts.facts import Facts, gather
from consilium.contracts.purposes import covers, upwards
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext

BASIS_CHARS_MAX: Final = 16
TABLE_VERSION: Final = 3
CONSENTS_WEIGHED_MAX: Final = 4_096
"""A transaction weighs so many consents, each once for every compartment that a request touches: every node does."""
OBLIGATIONS_MAX: Final = 64
"""Sealed conditions that one verdict has room for; a reader's consents can have more."""
REPRESENTATIVE_PURPOSE: Final = "PATRQT"
"""A patient, or who represents one, asks at the patient's own request."""


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
class Question:
    """One compartment, one purpose, one instant (block time, milliseconds).

    `general` says of which kind the compartment is. `record` and `conditions` (by obligations digest) are what a
    custodian knows beyond the chain; the contract asks without.
    """

    facts: Facts
    compartment: bytes
    general: bool
    purpose: str
    time_ms: int
    record: RecordFacts | None = None
    conditions: Mapping[bytes, Conditions] | None = None
    opinions: list[Opinion] = field(default_factory=list, init=False, repr=False, compare=False)
    """What each of the consents says, in their order, once one of the rows has asked."""


class Match(NamedTuple):
    """Why a condition holds: its ground, where it has one, and until when (exclusive; None is without end)."""

    ground: bytes | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """The verdict on one question. `ground` is the id of the consent, mandate, emergency or relationship that decided.

    `until_ms` is None where nothing but the release window ends it. `obligations` are the digests of the sealed
    conditions that are still to be asked of each record.
    """

    allow: bool
    basis: str
    ground: bytes | None
    until_ms: int | None
    obligations: tuple[bytes, ...] = ()


class Opinion(NamedTuple):
    """What one consent may say of a question: a denial, a permit until then, or nothing. More than one means open."""

    may_deny: bool
    permits_until_ms: int | None
    may_be_silent: bool

    @property
    def is_open(self) -> bool:
        """Whether it depends on the record."""
        return self.may_deny + (self.permits_until_ms is not None) + self.may_be_silent > 1

    @property
    def denies(self) -> bool:
        """Whether it is a denial, for certain."""
        return self.may_deny and not self.is_open


def opinion_of(consent: Consent, question: Question) -> Opinion:
    """The deepest provisions that match decide; at one depth a denial wins."""
    may_deny = False
    until_ms: int | None = None
    for depth in sorted({provision.depth for provision in consent.provisions}, reverse=True):
        found = [
            (_matches(consent, place, provision, question), provision)
            for place, provision in enumerate(consent.provisions)
            if provision.depth == depth
        ]
        matching = [(truth, provision) for truth, provision in found if truth != Truth.NO]
        denials = [truth for truth, provision in matching if provision.effect == DENY]
        if Truth.YES in denials:
            return Opinion(True, until_ms, False)
        may_deny = may_deny or bool(denials)
        ends = [provision.not_after for _, provision in matching if provision.effect != DENY]
        if ends:
            until_ms = max(*ends, until_ms or 0)
        if any(truth == Truth.YES for truth, _ in matching):
            return Opinion(may_deny, until_ms, False)
    return Opinion(may_deny, until_ms, True)


def _matches(consent: Consent, place: int, provision: Provision, question: Question) -> Truth:
    facts = question.facts
    speaks = (
        provision.not_before <= question.time_ms < provision.not_after
        and (provision.actors is None or any(actor in facts.parties for actor in provision.actors))
        and (provision.compartments is None or question.compartment in provision.compartments)
        and (
            provision.purposes is None
            or any(purpose in provision.purposes for purpose in upwards(question.purpose))
        )
    )
    if not speaks:
        return Truth.NO
    if not provision.conditional:
        return Truth.YES
    if question.record is None:
        return Truth.MAYBE
    truth = _meets(consent, place, question, question.record)
    if truth == Truth.MAYBE:
        # What the author left open: a denial counts as meant, a permit does not.
        return Truth.YES if provision.effect == DENY else Truth.NO
    return truth


def _meets(consent: Consent, place: int, question: Question, record: RecordFacts) -> Truth:
    opened = (question.conditions or {}).get(consent.obligations or b"")
    # What was passed on has the conditions of the one provision that it came from.
    condition = opened.of(place) if opened is not None else None
    return Truth.MAYBE if condition is None else meets(condition, record)


# --- the conditions of the table ------------------------------------------------------------------------------------


def _erased(question: Question) -> Match | None:
    return Match() if question.facts.erased else None


def _suspended(question: Question) -> Match | None:
    return None if question.facts.standing else Match()


def _emergency_deny(question: Question) -> Match | None:
    refused = question.facts.emergency_deny and covers(EMERGENCY_PURPOSE, question.purpose)
    return Match() if refused else None


def _legal_mandate(question: Question) -> Match | None:
    found = [
        Match(identifier, mandate.not_after)
        for identifier, mandate in question.facts.mandates
        if mandate.withdrawn_ms is None
        and mandate.not_before <= question.time_ms < mandate.not_after
        and (mandate.compartments is None or question.compartment in mandate.compartments)
        and any(covers(purpose, question.purpose) for purpose in mandate.purposes)
    ]
    return _longest(found)


def _break_glass(question: Question) -> Match | None:
    if not covers(EMERGENCY_PURPOSE, question.purpose):
        return None
    return _longest(
        [
            Match(identifier, glass.not_after)
            for identifier, glass in question.facts.glasses
            if glass.declared_ms <= question.time_ms < glass.not_after
        ]
    )


def _opinions(question: Question) -> list[Opinion]:
    if not question.opinions:
        question.opinions.extend(opinion_of(consent, question) for _, consent in question.facts.consents)
    return question.opinions


def _matching_deny(question: Question) -> Match | None:
    for (identifier, _), opinion in zip(question.facts.consents, _opinions(question), strict=True):
        if opinion.denies:
            return Match(identifier)
    return None


def _matching_permit(question: Question) -> Match | None:
    """The one that lasts longest, and of equals the first."""
    return _longest(
        [
            Match(identifier, opinion.permits_until_ms)
            for (identifier, _), opinion in zip(question.facts.consents, _opinions(question), strict=True)
            if opinion.permits_until_ms is not None
        ]
    )


def _representative(question: Question) -> Match | None:
    """The patient reads everything; a guardian the general class, so that what is sensitive stays the patient's own."""
    facts = question.facts
    if not covers(REPRESENTATIVE_PURPOSE, question.purpose):
        return None
    if facts.is_patient:
        return Match()
    if facts.lease_ms is not None and question.general and question.time_ms < facts.lease_ms:
        return Match(None, facts.lease_ms)
    return None


def _network_policy(question: Question) -> Match | None:
    facts = question.facts
    reached = question.general and not facts.opt_out
    if not reached or not any(covers(one, question.purpose) for one in facts.policy_purposes):
        return None
    return _longest(
        [
            Match(identifier, relationship.not_after)
            for identifier, relationship in facts.relationships
            if relationship.ended_ms is None
            and relationship.begun_ms <= question.time_ms < relationship.not_after
            and (relationship.practitioners is None or facts.reader in relationship.practitioners)
        ]
    )


def _always(_: Question) -> Match | None:
    return Match()


def _longest(found: Sequence[Match]) -> Match | None:
    return max(found, key=lambda match: match.until_ms or 0) if found else None


CONDITIONS: Final[Mapping[str, Callable[[Question], Match | None]]] = {
    "erased": _erased,
    "suspended": _suspended,
    "emergency_deny": _emergency_deny,
    "legal_mandate": _legal_mandate,
    "break_glass": _break_glass,
    "matching_deny": _matching_deny,
    "matching_permit": _matching_permit,
    "representative": _representative,
    "network_policy": _network_policy,
    "otherwise": _always,
}
AFTER_DENIALS: Final = ("matching_permit", "representative", "network_policy")
"""The rows that a denial, had it been certain, would have come before."""


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
    return _together([decide(question) for question in questions])


def _together(rulings: Sequence[Ruling]) -> Ruling:
    for ruling in rulings:
        if not ruling.allow:
            return ruling
    ends = [ruling.until_ms for ruling in rulings if ruling.until_ms is not None]
    owed = tuple(dict.fromkeys(one for ruling in rulings for one in ruling.obligations))
    return replace(rulings[0], until_ms=min(ends) if ends else None, obligations=owed)


class Weighing:
    """The rulings of one request, for one purpose at one instant: a compartment is ruled on once, however often it is
    named, and consents are not weighed without end."""

    def __init__(self, context: OperationContext) -> None:
        self._rulings: dict[bytes, Ruling] = {}
        self._facts: dict[bytes, Facts] = {}
        self._context = context

    def facts(self, patient: bytes) -> Facts:
        """What is known of the sender and a patient, gathered once. Raises Refused `transaction.too_heavy`."""
        known = self._facts.get(patient)
        if known is None:
            context = self._context
            known = self._facts[patient] = gather(context.state, context.sender, patient, context.time_ms)
            context.charge(weights.FACT * known.count)
        return known

    def decide_all(self, questions: Sequence[Question]) -> Ruling:
        """As the function. Raises Refused `access.too_many_consents`, `access.too_many_conditions`."""
        ruling = _together([self._decide(question) for question in questions])
        if len(ruling.obligations) > OBLIGATIONS_MAX:
            raise Refused("access.too_many_conditions", f"the limit is {OBLIGATIONS_MAX}")
        return ruling

    def _decide(self, question: Question) -> Ruling:
        known = self._rulings.get(question.compartment)
        if known is None:
            self._context.charge(weights.CONSENT * len(question.facts.consents))
            self._context.weighed += len(question.facts.consents)
            if self._context.weighed > CONSENTS_WEIGHED_MAX:
                raise Refused("access.too_many_consents", f"the limit is {CONSENTS_WEIGHED_MAX}")
            known = self._rulings[question.compartment] = decide(question)
        return known


def decide(question: Question) -> Ruling:
    """The first row whose condition holds."""
    for row in TABLE.rows:
        match = CONDITIONS[row.condition](question)
        if match is not None:
            owed = _obligations(question) if row.condition in AFTER_DENIALS else ()
            return Ruling(row.allow, row.basis, match.ground, match.until_ms, owed)
    raise LookupError("the last row of the table always holds")


def _obligations(question: Question) -> tuple[bytes, ...]:
    """The sealed conditions on which it depends what the consents say."""
    open_ = [
        consent.obligations
        for (_, consent), opinion in zip(question.facts.consents, _opinions(question), strict=True)
        if consent.obligations is not None and opinion.is_open
    ]
    return tuple(dict.fromkeys(open_))
