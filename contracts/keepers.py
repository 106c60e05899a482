"""Who keeps envelopes of a compartment's epoch beside its custodians, noted as records are anchored; and who keeps
something of a patient as a whole, such as an emergency summary, noted under the patient's own id.

A contract never searches: who must attest to an erasure has to be known by key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from consilium.contracts import keys
from consilium.contracts.operation import ID_BYTES, Slot
from consilium.contracts.tombstones import patient_erased
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.state import Overlay, StateReader

KEEPERS_MAX: Final = 256
EPOCH_BYTES: Final = 2

KeeperIds = Annotated[list[codec.Bytes16], msgspec.Meta(max_length=KEEPERS_MAX)]


class Keepers(codec.Wire, frozen=True):
    """Authors, and custodians of records that are of this class further, in the order in which they came."""

    institutions: KeeperIds


KEEPERS: Final = Slot(keys.KEEPERS, (ID_BYTES, EPOCH_BYTES), Keepers, 8_192)


WHOLE: Final = bytes(EPOCH_BYTES)
"""In place of an epoch, under a patient's id."""


def keepers_of(state: StateReader, patient: bytes) -> list[bytes]:
    """Who keeps something of the patient as a whole."""
    known = KEEPERS.get(state, patient, WHOLE)
    return known.institutions if known is not None else []


def note_keepers(state: Overlay, keeping: Sequence[bytes], compartment: bytes, epoch: bytes) -> None:
    """These institutions keep an envelope there. Raises Refused `records.too_many_keepers`."""
    known = KEEPERS.get(state, compartment, epoch)
    listed = known.institutions if known is not None else []
    if len(keeping) == 1 and keeping[0] in listed:
        return  # as for nearly every record
    new = [one for one in dict.fromkeys(keeping) if one not in listed]
    if len(listed) + len(new) > KEEPERS_MAX:
        raise Refused("records.too_many_keepers", f"the limit is {KEEPERS_MAX}")
    if new:
        KEEPERS.put(state, Keepers([*listed, *new]), compartment, epoch)


def note_beside(state: Overlay, keeper: bytes, patient: bytes) -> None:
    """The institution keeps something of the patient as a whole, beside records.

    Raises Refused `erasure.erased`, `records.too_many_keepers`.
    """
    if patient_erased(state, patient):
        raise Refused("erasure.erased", patient.hex())
    note_keepers(state, [keeper], patient, WHOLE)
