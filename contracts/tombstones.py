"""What is erased, as state keeps it: asked wherever records are shown, opened, anchored or kept.

An erased *record* has its commitments blanked in state. An erased *compartment* or *patient* has tombstones: each ends
what was there until then, and spares the authors whom a retention hold made keep what they wrote. A tombstone is never
taken back. The erasures themselves are `erasure`'s.
"""

from __future__ import annotations

from typing import Annotated, Final, Protocol

import msgspec

from consilium.contracts import keys
from consilium.contracts.operation import ID_BYTES, Slot
from consilium.ledger import codec
from consilium.ledger.state import StateReader

EPOCH_MAX: Final = 65_535
TOMBSTONES_MAX: Final = 16
SPARED_MAX: Final = 64
BLANK: Final = bytes(32)
"""In place of the commitments of an erased record."""

SparedAuthors = Annotated[list[codec.Bytes16], msgspec.Meta(max_length=SPARED_MAX)]


class Tombstone(codec.Wire, frozen=True):
    """Records of epochs up to `epoch`, and those of its further classes anchored at or before `until_ms` (block time),
    are erased; not those of the authors `spared`."""

    erasure: codec.Bytes16
    epoch: Annotated[int, msgspec.Meta(ge=0, le=EPOCH_MAX)]
    until_ms: codec.Uint
    spared: SparedAuthors


class Tombstones(codec.Wire, frozen=True):
    """The tombstones of one compartment, or of one patient, oldest first."""

    stones: Annotated[list[Tombstone], msgspec.Meta(min_length=1, max_length=TOMBSTONES_MAX)]


ERASED_COMPARTMENTS: Final = Slot(keys.ERASED_COMPARTMENT, (ID_BYTES,), Tombstones, 24 * 1024)
ERASED_PATIENTS: Final = Slot(keys.ERASED_PATIENT, (ID_BYTES,), Tombstones, 24 * 1024)


def patient_erased(state: StateReader, patient: bytes) -> bool:
    """Whether the whole patient was erased: nothing is opened any more, and nothing new recorded."""
    return ERASED_PATIENTS.get(state, patient) is not None


def nobody_spared(found: Tombstones | None) -> bool:
    """Whether one of the tombstones, of a patient or through an epoch, spares nobody."""
    return found is not None and any(not stone.spared for stone in found.stones)


def epoch_erased(state: StateReader, compartment: bytes, epoch: int) -> bool:
    """Whether the epoch is over for good: nothing may be sealed to it, whatever of it is still kept."""
    found = ERASED_COMPARTMENTS.get(state, compartment)
    return found is not None and any(epoch <= stone.epoch for stone in found.stones)


def shares_erased(state: StateReader, patient: bytes, compartment: bytes, epoch: int) -> bool:
    """Whether nobody is spared in that epoch: then its custodians destroy their shares."""
    if nobody_spared(ERASED_PATIENTS.get(state, patient)):
        return True
    found = ERASED_COMPARTMENTS.get(state, compartment)
    return found is not None and any(epoch <= stone.epoch and not stone.spared for stone in found.stones)


def first_unerased(state: StateReader, compartment: bytes) -> int:
    """The first epoch of a compartment that was not erased for everybody."""
    found = ERASED_COMPARTMENTS.get(state, compartment)
    whole = [one.epoch for one in (found.stones if found is not None else []) if not one.spared]
    return max(whole) + 1 if whole else 0


class Recorded(Protocol):
    """What is asked of a record: `records.Record` has it."""

    @property
    def compartment(self) -> bytes: ...
    @property
    def also(self) -> list[bytes]: ...
    @property
    def epoch(self) -> int: ...
    @property
    def author(self) -> bytes: ...
    @property
    def anchored_ms(self) -> int: ...


def covered(state: StateReader, patient: bytes, record: Recorded) -> bool:
    """Whether a tombstone of the patient, or of one of its compartments, covers the record.

    A record of several classes is gone with any of them.
    """
    author = record.author
    whole = ERASED_PATIENTS.get(state, patient)
    if whole is not None and any(author not in stone.spared for stone in whole.stones):
        return True
    own = ERASED_COMPARTMENTS.get(state, record.compartment)
    if own is not None and any(record.epoch <= one.epoch and author not in one.spared for one in own.stones):
        return True
    for further in record.also:
        found = ERASED_COMPARTMENTS.get(state, further)
        stones = found.stones if found is not None else []
        if any(record.anchored_ms <= stone.until_ms and author not in stone.spared for stone in stones):
            return True
    return False
