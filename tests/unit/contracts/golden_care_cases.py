"""The golden cases of what belongs to care: settings, consent, treatment, emergencies, who speaks for a patient.

As `golden_cases`, which merges them with its own.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from consilium.contracts import settings
from consilium.ledger import codec
from consilium.ledger.genesis import FOUNDER
from tests.unit.contracts.world import NORTH, Actor, World

Prepare = Callable[[World], tuple[bytes, codec.Wire]]
Case = tuple[str, Prepare]


def by(who: Actor, body: codec.Wire, *before: tuple[Actor, codec.Wire]) -> Prepare:
    """`body` by `who`, after these others."""

    def prepare(world: World) -> tuple[bytes, codec.Wire]:
        for actor, earlier in before:
            world.ok(actor, earlier)
        return who.id, body

    return prepare


def _with_settings(world: World) -> tuple[bytes, codec.Wire]:
    world.state.values[settings.SETTINGS.key()] = codec.encode(settings.DEFAULTS)
    return FOUNDER, settings.DEFAULTS


CASES: dict[str, list[Case]] = {
    "settings.found": [
        ("the defaults", lambda world: (FOUNDER, settings.DEFAULTS)),
        ("a second time", _with_settings),
        ("not after genesis", by(NORTH, settings.DEFAULTS)),
        (
            "a policy for research",
            lambda world: (
                FOUNDER,
                msgspec.structs.replace(settings.DEFAULTS, policy_purposes=["TREAT", "CLINTRCH"]),
            ),
        ),
    ],
}
