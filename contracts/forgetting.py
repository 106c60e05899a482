"""What erasure is about, in types: what is asked, what came of it, who attested, and what nodes are told to destroy.

The rules are in erasure.py. Apart from it, because nodes and clients read these entries and make these bodies without
ever deciding anything.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from consilium.contracts import keys
from consilium.contracts.operation import ID_BYTES, EventKind, Slot
from consilium.contracts.records import EpochNumber
from consilium.contracts.retention import HOLDS_PER_PATIENT_MAX, HoldBasis
from consilium.ledger import codec

RECORDS_PER_ERASURE_MAX: Final = 64
HOLDERS_MAX: Final = 256

ErasureBasis = Literal[
    "consent-withdrawn", "erasure-ordered", "no-longer-needed", "objected", "recorded-in-error", "unlawful"
]
"""GDPR Art. 17(1) (a) to (e), and an entry that is simply wrong (Art. 16)."""
Outcome = Literal["carried-out", "contested", "partly", "pending", "refused"]

RecordIds = Annotated[list[codec.Bytes16], msgspec.Meta(min_length=1, max_length=RECORDS_PER_ERASURE_MAX)]
Institutions = Annotated[list[codec.Bytes16], msgspec.Meta(max_length=HOLDERS_MAX)]


# --- bodies, results and event data ---------------------------------------------------------------------------------


class RequestErasure(codec.Wire, frozen=True):
    """`erasure.request`: of `records`, or of `compartment` through `epoch`, or, with neither, of the whole patient."""

    erasure: codec.Bytes16
    patient: codec.Bytes16
    records: RecordIds | None
    compartment: codec.Bytes16 | None
    epoch: EpochNumber | None
    basis: ErasureBasis


class ContestErasure(codec.Wire, frozen=True):
    """`erasure.contest`: by the patient or its guardian. It is the data of `erasure.contested` as well."""

    erasure: codec.Bytes16


class CarryOutErasure(codec.Wire, frozen=True):
    """`erasure.carry_out`: by who requested it, when the time to contest it is over."""

    erasure: codec.Bytes16


class AttestErasure(codec.Wire, frozen=True):
    """`erasure.attest`: the sender, one of the holders, has destroyed every copy and share that it had."""

    erasure: codec.Bytes16


class KeptBack(codec.Wire, frozen=True):
    """What is not erased, and why: a hold, with its holder, basis and end. `record` is None for all that it covers."""

    record: codec.Bytes16 | None
    hold: codec.Bytes16
    holder: codec.Bytes16
    basis: HoldBasis
    not_after: codec.Uint


Kept = Annotated[list[KeptBack], msgspec.Meta(max_length=HOLDS_PER_PATIENT_MAX)]


class ErasureVerdict(codec.Wire, frozen=True):
    """The result of `erasure.request` and `erasure.carry_out`. `due_ms`: until when a pending one may be contested."""

    erasure: codec.Bytes16
    outcome: Outcome
    due_ms: codec.Uint
    kept: Kept
    holders: Institutions


class Erased(codec.Wire, frozen=True):
    """The data of `erasure.carried_out`: what nodes destroy. `envelopes` are those of `records`, in their order."""

    erasure: codec.Bytes16
    patient: codec.Bytes16
    records: RecordIds | None
    envelopes: Annotated[list[codec.Bytes32], msgspec.Meta(max_length=RECORDS_PER_ERASURE_MAX)]
    compartment: codec.Bytes16 | None
    epoch: EpochNumber | None


class Attested(codec.Wire, frozen=True):
    """The result of `erasure.attest`, and the data of `erasure.attested`. `missing` holders have not attested yet."""

    erasure: codec.Bytes16
    holder: codec.Bytes16
    complete: bool
    missing: Annotated[int, msgspec.Meta(ge=0, le=HOLDERS_MAX)]


class ErasureAsked(codec.Wire, frozen=True):
    """The data of `erasure.requested`: what came of it at first."""

    erasure: codec.Bytes16
    outcome: Outcome
    due_ms: codec.Uint


# --- state ----------------------------------------------------------------------------------------------------------


class Erasure(codec.Wire, frozen=True):
    """An erasure in state, for ever. `records` are those that it named, erased or kept back."""

    patient: codec.Bytes16
    requested_by: codec.Bytes16
    records: RecordIds | None
    compartment: codec.Bytes16 | None
    epoch: EpochNumber | None
    basis: ErasureBasis
    outcome: Outcome
    requested_ms: codec.Uint
    due_ms: codec.Uint
    carried_out_ms: codec.Uint | None
    kept: Kept
    holders: Institutions
    attested: Institutions

    @property
    def missing(self) -> list[bytes]:
        """The holders that have not attested."""
        return [one for one in self.holders if one not in self.attested]

    @property
    def complete(self) -> bool:
        """Whether everybody who had something has attested to have destroyed it."""
        return self.carried_out_ms is not None and not self.missing


ERASURES: Final = Slot(keys.ERASURE, (ID_BYTES,), Erasure, 32 * 1024)

REQUESTED: Final = EventKind("erasure.requested", ErasureAsked)
CONTESTED: Final = EventKind("erasure.contested", ContestErasure)
CARRIED: Final = EventKind("erasure.carried_out", Erased)
ATTESTED: Final = EventKind("erasure.attested", Attested)
