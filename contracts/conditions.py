"""Conditions of a consent that the chain must not show: what kind of record, whose, from when, with which labels.

They are *obligations*. The consent on the chain says that a provision has one, and has the digest of a sealed document
with all of them; custodians can open it. The contract decides as far as it can know; each custodian decides the rest,
record by record, on the header that the author signed, with the same code.

A header may leave something open: it has no period, or more references than fit. Then a condition is neither met nor
not met: a denial counts as meant, a permit does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

import msgspec

from consilium.ledger import codec

PROVISIONS_MAX: Final = 8
CONDITIONS_VERSION: Final = 1
CONDITIONS_BYTES_MAX: Final = 32 * 1024
NAMES_MAX: Final = 32
REFERENCES_MAX: Final = 64
NAME_CHARS_MAX: Final = 64
TIME_MS_MIN: Final = -62_135_596_800_000
TIME_MS_MAX: Final = 253_402_300_799_999

CONFIDENTIALITY: Final = ("U", "L", "M", "N", "R", "V")
"""v3-Confidentiality, from unrestricted to very restricted."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARS_MAX)]
Names = Annotated[list[Name], msgspec.Meta(min_length=1, max_length=NAMES_MAX)]
Tags = Annotated[list[codec.Bytes16], msgspec.Meta(min_length=1, max_length=REFERENCES_MAX)]
Level = Annotated[int, msgspec.Meta(ge=0, lt=len(CONFIDENTIALITY))]
Time = Annotated[int, msgspec.Meta(ge=TIME_MS_MIN, le=TIME_MS_MAX)]


class Truth(IntEnum):
    """Whether something holds, as far as is known."""

    NO = 0
    MAYBE = 1
    YES = 2


class Condition(codec.Wire, frozen=True):
    """What one provision demands of a record; None demands nothing, and all that is demanded must hold.

    `instances`, `authors` and `related` are tags of references, as headers have them: the record is one of them, was
    made by one, is one or refers to one. `institutions` are ids of the institutions that authored. The period is
    half-open. Levels are places in `CONFIDENTIALITY`.
    """

    provision: Annotated[int, msgspec.Meta(ge=0, lt=PROVISIONS_MAX)]
    resource_types: Names | None = None
    instances: Tags | None = None
    authors: Tags | None = None
    institutions: Tags | None = None
    related: Tags | None = None
    labels: Names | None = None
    level_min: Level | None = None
    level_max: Level | None = None
    period_start_ms: Time | None = None
    period_end_ms: Time | None = None


class Conditions(codec.Wire, frozen=True):
    """The document that a consent's obligations digest stands for. `consent` binds it to one consent."""

    version: codec.Uint
    chain_id: codec.Bytes32
    consent: codec.Bytes16
    conditions: Annotated[list[Condition], msgspec.Meta(min_length=1, max_length=PROVISIONS_MAX)]

    def of(self, provision: int) -> Condition | None:
        """The condition of a provision, by its place in the consent."""
        for condition in self.conditions:
            if condition.provision == provision:
                return condition
        return None


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What a custodian knows of one record: who authored it, and what the author's header says."""

    institution: bytes
    resource_type: str
    instances: tuple[bytes, ...]
    authors: tuple[bytes, ...] = ()
    related: tuple[bytes, ...] = ()
    labels: tuple[str, ...] = ()
    period_start_ms: int | None = None
    period_end_ms: int | None = None
    is_cut: bool = False


def meets(condition: Condition, facts: RecordFacts) -> Truth:
    """Whether a record meets a condition."""
    parts = [
        _listed(condition.resource_types, [facts.resource_type], False),
        _listed(condition.instances, facts.instances, False),
        _listed(condition.institutions, [facts.institution], False),
        _listed(condition.authors, facts.authors, facts.is_cut),
        _listed(condition.related, (*facts.related, *facts.instances), facts.is_cut),
        _listed(condition.labels, facts.labels, facts.is_cut),
        _level(condition, facts),
        _period(condition, facts),
    ]
    return min(parts)


def _listed(wanted: Sequence[str | bytes] | None, found: Sequence[str | bytes], is_open: bool) -> Truth:
    if wanted is None or any(one in wanted for one in found):
        return Truth.YES
    return Truth.MAYBE if is_open else Truth.NO


def _level(condition: Condition, facts: RecordFacts) -> Truth:
    if condition.level_min is None and condition.level_max is None:
        return Truth.YES
    levels = [CONFIDENTIALITY.index(label) for label in facts.labels if label in CONFIDENTIALITY]
    if not levels:
        return Truth.MAYBE
    level = max(levels)
    low = condition.level_min is None or level >= condition.level_min
    high = condition.level_max is None or level <= condition.level_max
    return Truth.YES if low and high else Truth.NO


def _period(condition: Condition, facts: RecordFacts) -> Truth:
    """Inside is a yes, outside a no; a record that is partly inside, or has no date, is neither."""
    start, end = condition.period_start_ms, condition.period_end_ms
    if start is None and end is None:
        return Truth.YES
    first, last = facts.period_start_ms, facts.period_end_ms
    after = end is not None and first is not None and first >= end
    before = start is not None and last is not None and last <= start
    if after or before:
        return Truth.NO
    begins = start is None or (first is not None and first >= start)
    ends = end is None or (last is not None and last <= end)
    return Truth.YES if begins and ends else Truth.MAYBE
