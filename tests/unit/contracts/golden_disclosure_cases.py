"""The golden cases of the accounting of disclosures. As `golden_cases`, which merges them with its own."""

from __future__ import annotations

from collections.abc import Callable

from consilium.contracts import access
from consilium.contracts.disclosures import AttestedRelease, AttestReleases, ConsultAccounting
from consilium.ledger import codec
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import APP, DAN, DORA, NORTH, PETRA, SOUTH, WEST, Actor, World

Prepare = Callable[[World], tuple[bytes, codec.Wire]]
PLACE = w.compartment_of(PETRA)


def _asked(world: World, who: Actor) -> tuple[bytes, access.Decision]:
    transaction = world.sign(who, w.asking(compartments=[PLACE]))
    world.block([transaction])
    raw = world.state.get(access.decision_key(transaction.id, 0))
    if raw is None:
        raise LookupError("nothing was decided")
    return transaction.id, access.DECISIONS.decode(raw)


def _attesting(reader: Actor, custodian: Actor, records: int = 3, late_ms: int = 0) -> Prepare:
    def prepare(world: World) -> tuple[bytes, codec.Wire]:
        world.ok(PETRA, w.granting("c", SOUTH))
        transaction, decision = _asked(world, reader)
        released = AttestedRelease(transaction, 0, 0, 0, records, decision.time_ms + late_ms)
        return custodian.id, AttestReleases([released])

    return prepare


def _twice(world: World) -> tuple[bytes, codec.Wire]:
    sender, body = _attesting(SOUTH, NORTH)(world)
    world.ok(NORTH, body)
    return sender, body


def _consulting(who: Actor, credential: bytes | None = None) -> Prepare:
    def prepare(world: World) -> tuple[bytes, codec.Wire]:
        if credential is not None:
            world.ok(WEST, care.licensing(world, DAN, "audit", "auditor"))
        return who.id, ConsultAccounting(PETRA.id, credential)

    return prepare


CASES: dict[str, list[tuple[str, Prepare]]] = {
    "disclosure.attest": [
        ("by the custodian", _attesting(SOUTH, NORTH)),
        ("a second time", _twice),
        ("on a denial", _attesting(DAN, NORTH)),
        ("by another custodian", _attesting(SOUTH, SOUTH)),
        ("after the window", _attesting(SOUTH, NORTH, late_ms=access.RELEASE_WINDOW_MS)),
    ],
    "disclosure.consult": [
        ("by the patient", _consulting(PETRA)),
        ("by an auditor", _consulting(DAN, w.some("credential/audit"))),
        ("by a stranger, who is denied", _consulting(DORA)),
        ("not by an application", _consulting(APP)),
    ],
}
