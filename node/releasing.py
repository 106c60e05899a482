"""One page of a release: what a custodian hands out at a time on a committed decision, item by item.

A decision may name more than fits into memory or into one answer. So a release comes in pages, from a place on: the
places of a decision are its verdicts in order, and in each the records that it names, or those of the compartment,
oldest first. A verdict that has ended, or a record that cannot be released, is refused by its name with its reason,
and the rest goes out. What goes out is in the journal, synced, before it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from consilium.client.release import RecordPartial
from consilium.client.rpc_answers import Withheld
from consilium.contracts.access import Decision
from consilium.contracts.accounting import RELEASED_RECORDS_MAX
from consilium.ledger.errors import Refused
from consilium.storage.releases import ReleaseKey, ReleaseNote

PAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of envelopes in a page; a longer one comes alone."""
PAGE_PARTIALS_MAX: Final = 512
PAGE_PLACES_MAX: Final = 4_096
"""So many places are looked at for one page: it may be empty and not the last."""


def place_of(verdict: int, offset: int) -> int:
    """The place of a verdict's record number `offset`, as a number."""
    return verdict * RELEASED_RECORDS_MAX + offset


def from_place(place: int) -> tuple[int, int]:
    """Verdict and offset of a place."""
    return divmod(place, RELEASED_RECORDS_MAX)


@dataclass
class Page:
    """A page in the making. `next` is the place to go on from, None where the decision ends here."""

    partials: list[RecordPartial] = field(default_factory=list)
    envelopes: list[bytes] = field(default_factory=list)
    withheld: list[Withheld] = field(default_factory=list)
    next: int | None = None
    kept: dict[tuple[bytes, int], bool] = field(default_factory=dict)
    """Which compartments and epochs are this custodian's, as far as they were met."""
    looked: int = 0
    _bytes: int = 0
    _places: dict[int, tuple[int, list[int]]] = field(default_factory=dict)

    def is_full(self) -> bool:
        """Whether nothing more is looked at for it."""
        return (
            len(self.partials) >= PAGE_PARTIALS_MAX
            or self.looked >= PAGE_PLACES_MAX
            or self._bytes >= PAGE_BYTES_MAX
        )

    def has_room(self, size: int) -> bool:
        """Whether an envelope of so many bytes goes in; the first always does."""
        return not self.envelopes or self._bytes + size <= PAGE_BYTES_MAX

    def add(self, verdict: int, offset: int, epoch: int, partial: RecordPartial, envelope: bytes) -> None:
        """Release a record."""
        self.partials.append(partial)
        self.envelopes.append(envelope)
        self._bytes += len(envelope)
        self._places.setdefault(verdict, (epoch, []))[1].append(offset)

    def withhold(self, verdict: int, record: bytes | None, refusal: Refused) -> None:
        """Refuse a verdict, or one record of it, by name."""
        self.withheld.append(Withheld(verdict, record, refusal.code, refusal.detail))

    def notes(
        self, transaction: bytes, operation: int, decision: Decision, now_ms: int
    ) -> Iterator[ReleaseNote]:
        """What the journal must know before the page leaves."""
        for verdict, (epoch, offsets) in self._places.items():
            yield ReleaseNote(
                ReleaseKey(transaction, operation, verdict),
                epoch,
                tuple(offsets),
                now_ms,
                decision.verdicts[verdict].valid_until,
            )

    def refuse_empty(self, start: int) -> None:
        """Where the decision opens nothing at all here, one reason is the answer. Raises Refused with it."""
        if start or self.next is not None or self.partials:
            return
        codes = {one.code for one in self.withheld}
        if len(codes) == 1:
            raise Refused(self.withheld[0].code, self.withheld[0].detail)
        if not codes and self.kept and not any(self.kept.values()):
            raise Refused("custodian.not_ours", "none of the records is in a compartment kept here")
