"""Bodies of emergency summaries, for tests: South's key is held by Dora and Sam, who are licensed, and Petra has a
summary there."""

from __future__ import annotations

import msgspec

from consilium.contracts import identity, settings, summaries
from consilium.ledger import codec
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DORA, PETRA, SOUTH, WEST, Actor, World, some

SAM = w.actor("sam")
KEY = some("summary key")
SUMMARY = some("summary")
WITHDRAWAL = summaries.WithdrawSummary(PETRA.id, SOUTH.id)


def switch_on(world: World) -> World:
    """The network uses summaries, and Sam works for South too."""
    settled = msgspec.structs.replace(settings.DEFAULTS, emergency_summaries=True)
    world.state.values[settings.SETTINGS.key()] = codec.encode(settled)
    if identity.IDENTITIES.get(world.state, SAM.id) is None:
        world.ok(SOUTH, world.enrolment(SAM, SOUTH, "practitioner"))
        world.ok(WEST, care.licensing(world, SAM, "sam"), care.licensing(world, DORA, "dora's for summaries"))
    return world


def setting_key(world: World, *, key: bytes = KEY, holders: int = 2) -> summaries.SetSummaryKey:
    points = [w.some_point(f"summary/{number}") for number in range(2)]
    named = [DORA.id, SAM.id] if holders == 2 else [DORA.id, DORA.id]
    return summaries.SetSummaryKey(key, points, named)


def placing(world: World, *, key: bytes = KEY) -> summaries.PlaceSummary:
    return summaries.PlaceSummary(SUMMARY, PETRA.id, key, some("anchor", 32), some("envelope", 32))


def opening(
    world: World,
    *,
    sequence: int = 1,
    previous: bytes = summaries.FIRST,
    second: Actor = SAM,
    opened_ms: int | None = None,
) -> summaries.SummaryOpening:
    at_ms = opened_ms or world.time_ms
    digest = summaries.request_digest(
        chain_id=world.chain_id,
        institution=SOUTH.id,
        summary=SUMMARY,
        reason="danger-to-life",
        opener=DORA.id,
        second=second.id,
        opened_ms=at_ms,
    )
    return summaries.SummaryOpening(
        version=summaries.OPENING_VERSION,
        institution=SOUTH.id,
        sequence=sequence,
        previous=previous,
        summary=SUMMARY,
        patient=PETRA.id,
        key=KEY,
        reason="danger-to-life",
        opened_ms=at_ms,
        height=world.height,
        opener=DORA.id,
        opener_credential=some("credential/dora's for summaries"),
        opener_key=DORA.key.public,
        opener_signature=DORA.key.sign(digest),
        second=second.id,
        second_credential=some("credential/sam"),
        second_key=second.key.public,
        second_signature=second.key.sign(digest),
    )


def reporting(
    world: World,
    *,
    sequence: int = 1,
    second: Actor = SAM,
    institution: Actor = SOUTH,
    entry: summaries.SummaryOpening | None = None,
    returned_ms: int | None = None,
) -> summaries.ReportOpening:
    written = entry or opening(world, sequence=sequence, second=second)
    return summaries.ReportOpening(
        written, institution.key.public, institution.key.sign(written.hash), returned_ms or written.opened_ms
    )
