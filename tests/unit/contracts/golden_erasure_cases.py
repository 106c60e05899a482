"""The golden cases of retention and erasure. As `golden_cases`, which merges them with its own."""

from __future__ import annotations

import msgspec

from consilium.contracts import forgetting, retention
from consilium.contracts.classes import HIV, VIOLENCE
from consilium.contracts.erasure import CONTEST_MS
from consilium.ledger import codec
from tests.unit.contracts import world as w
from tests.unit.contracts.golden_care_cases import Case, by
from tests.unit.contracts.world import NORTH, PAUL, PETRA, SOUTH, WEST, Actor, World, some

RECORD = w.anchoring("r", PETRA)
SENSITIVE = w.anchoring("h", PETRA, bundle="h", classes=(HIV, VIOLENCE))


def erasing(
    label: str = "e",
    *,
    patient: Actor = PETRA,
    records: list[bytes] | None = None,
    compartment: bytes | None = None,
    epoch: int | None = None,
    basis: forgetting.ErasureBasis = "consent-withdrawn",
) -> forgetting.RequestErasure:
    return forgetting.RequestErasure(erasure(label), patient.id, records, compartment, epoch, basis)


def erasure(label: str = "e") -> bytes:
    return some(f"erasure/{label}")


def holding(
    label: str = "h",
    *,
    patient: Actor = PETRA,
    compartment: bytes | None = None,
    everything: bool = False,
    basis: retention.HoldBasis = "legal-obligation",
    not_after: int = w.START_MS + 365 * w.DAY_MS,
) -> retention.PlaceHold:
    return retention.PlaceHold(some(f"hold/{label}"), patient.id, compartment, everything, basis, not_after)


ONE = erasing(records=[RECORD.record])
ORDERED = erasing(records=[RECORD.record], basis="recorded-in-error")
PLACE = w.compartment_of(PETRA)


def _when_due(world: World) -> tuple[bytes, codec.Wire]:
    sender, _ = by(NORTH, ORDERED, (NORTH, RECORD), (NORTH, ORDERED))(world)
    world.time_ms += CONTEST_MS
    return sender, forgetting.CarryOutErasure(erasure())


CASES: dict[str, list[Case]] = {
    "retention.hold": [
        ("by an author", by(NORTH, holding())),
        ("by an authority, on everything", by(WEST, holding(everything=True, basis="court-order"))),
        ("on everything, by an author", by(NORTH, holding(everything=True))),
        ("by no author", by(WEST, holding())),
        ("of another's compartment", by(NORTH, holding(compartment=w.compartment_of(PAUL)))),
        ("until yesterday", by(NORTH, holding(not_after=w.START_MS - 1))),
    ],
    "retention.lift": [
        ("by its holder", by(NORTH, retention.LiftHold(some("hold/h")), (NORTH, holding()))),
        ("by the patient", by(PETRA, retention.LiftHold(some("hold/h")), (NORTH, holding()))),
        ("an unknown one", by(NORTH, retention.LiftHold(some("hold/x")))),
    ],
    "erasure.request": [
        ("a record, by the patient", by(PETRA, ONE, (NORTH, RECORD))),
        (
            "two records, of which a hold keeps one",
            by(
                PETRA,
                erasing(records=[RECORD.record, SENSITIVE.record]),
                (NORTH, RECORD),
                (SOUTH, SENSITIVE),
                (NORTH, holding()),
            ),
        ),
        ("a record under a hold", by(PETRA, ONE, (NORTH, RECORD), (NORTH, holding()))),
        (
            "a compartment",
            by(PETRA, erasing(compartment=PLACE, epoch=0), (NORTH, RECORD), (SOUTH, SENSITIVE)),
        ),
        (
            "a class that another record is of as well",
            by(PETRA, erasing(compartment=w.compartment_of(PETRA, VIOLENCE), epoch=0), (SOUTH, SENSITIVE)),
        ),
        ("everything", by(PETRA, erasing(), (NORTH, RECORD), (SOUTH, SENSITIVE))),
        ("everything, but one author's", by(PETRA, erasing(), (NORTH, RECORD), (NORTH, holding()))),
        (
            "everything, under an authority's hold",
            by(PETRA, erasing(), (WEST, holding(everything=True, basis="legal-claims"))),
        ),
        ("by its author, to be contested", by(NORTH, ORDERED, (NORTH, RECORD))),
        ("by a stranger", by(SOUTH, ONE, (NORTH, RECORD))),
        ("everything, by the manager", by(NORTH, erasing(), (NORTH, RECORD))),
        (
            "another patient's record",
            by(PAUL, msgspec.structs.replace(ONE, patient=PAUL.id), (NORTH, RECORD)),
        ),
        ("an epoch to come", by(PETRA, erasing(compartment=PLACE, epoch=1))),
        (
            "a second time",
            by(PETRA, erasing("again", records=[RECORD.record]), (NORTH, RECORD), (PETRA, ONE)),
        ),
    ],
    "erasure.contest": [
        (
            "by the patient",
            by(PETRA, forgetting.ContestErasure(erasure()), (NORTH, RECORD), (NORTH, ORDERED)),
        ),
        (
            "by another",
            by(PAUL, forgetting.ContestErasure(erasure()), (NORTH, RECORD), (NORTH, ORDERED)),
        ),
        ("one that is done", by(PETRA, forgetting.ContestErasure(erasure()), (NORTH, RECORD), (PETRA, ONE))),
    ],
    "erasure.carry_out": [
        ("when it is due", _when_due),
        ("too early", by(NORTH, forgetting.CarryOutErasure(erasure()), (NORTH, RECORD), (NORTH, ORDERED))),
        (
            "a contested one",
            by(
                NORTH,
                forgetting.CarryOutErasure(erasure()),
                (NORTH, RECORD),
                (NORTH, ORDERED),
                (PETRA, forgetting.ContestErasure(erasure())),
            ),
        ),
    ],
    "erasure.attest": [
        ("the only holder", by(NORTH, forgetting.AttestErasure(erasure()), (NORTH, RECORD), (PETRA, ONE))),
        (
            "one of two",
            by(NORTH, forgetting.AttestErasure(erasure()), (SOUTH, RECORD), (PETRA, ONE)),
        ),
        ("no holder", by(SOUTH, forgetting.AttestErasure(erasure()), (NORTH, RECORD), (PETRA, ONE))),
        (
            "a second time",
            by(
                NORTH,
                forgetting.AttestErasure(erasure()),
                (NORTH, RECORD),
                (PETRA, ONE),
                (NORTH, forgetting.AttestErasure(erasure())),
            ),
        ),
    ],
}
