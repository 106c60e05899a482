"""Emergency summaries: who may have one, who opens it, and how a log reaches the chain, whole or visibly not."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import emergency, preferences, settings, summaries
from consilium.ledger import codec
from tests.unit.contracts import summarising as s
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DAN, DORA, NORTH, PETRA, SOUTH, WEST, World


@pytest.fixture
def world() -> World:
    made = s.switch_on(World().populate())
    made.ok(SOUTH, s.setting_key(made))
    made.ok(PETRA, s.placing(made))
    return made


def told(world: World) -> summaries.SummaryOpened:
    (event,) = [one for one in world.events if one.kind == "summary.opened"]
    return codec.decode(event.data, summaries.SummaryOpened, 512)


def test_an_opening_is_told_and_owed_a_review(world: World) -> None:
    body = s.reporting(world)
    world.ok(SOUTH, body)
    opened = told(world)
    assert (opened.is_sound, opened.is_late, opened.glass) == (True, False, body.entry.glass)
    assert world.events[0].subjects == [PETRA.id, DORA.id, s.SAM.id, SOUTH.id]
    assert emergency.institutions_owing(world.state) == [SOUTH.id]
    # On the chain it opens nothing.
    verdict = world.ask(DORA, compartments=[w.compartment_of(PETRA)], purpose="ETREAT").verdicts[0]
    assert not verdict.allow
    assert world.refused(SOUTH, emergency.ReviewEmergency(opened.glass, "justified")) == (
        "emergency.not_independent"
    )
    world.ok(NORTH, emergency.ReviewEmergency(opened.glass, "justified"))
    assert emergency.institutions_owing(world.state) == []


def test_entries_come_in_their_order_and_none_is_left_out(world: World) -> None:
    first = s.opening(world)
    second = s.opening(world, sequence=2, previous=first.hash)
    third = s.opening(world, sequence=3, previous=second.hash)
    assert world.refused(SOUTH, s.reporting(world, entry=second)) == "summary.out_of_order"
    world.ok(SOUTH, s.reporting(world, entry=first))
    assert world.refused(SOUTH, s.reporting(world, entry=first)) == "summary.out_of_order"
    assert world.refused(SOUTH, s.reporting(world, entry=third)) == "summary.out_of_order"
    forked = s.opening(world, sequence=2, previous=third.hash)
    assert world.refused(SOUTH, s.reporting(world, entry=forked)) == "summary.out_of_order"
    # Who opened it has a copy, and need not wait for the institution.
    world.ok(s.SAM, s.reporting(world, entry=second))
    world.ok(SOUTH, s.reporting(world, entry=third))
    kept = summaries.openings_of(world.state, SOUTH.id)
    assert kept == summaries.Openings(3, third.hash, 0)


def test_what_was_done_wrong_is_reported_all_the_same(world: World) -> None:
    entries = [s.opening(world, second=DORA)]
    entries.append(s.opening(world, sequence=2, previous=entries[-1].hash, second=DAN))
    forged = s.opening(world, sequence=3, previous=entries[-1].hash)
    entries.append(msgspec.structs.replace(forged, second_signature=bytes(64)))
    entries.append(
        msgspec.structs.replace(
            s.opening(world, sequence=4, previous=entries[-1].hash), key=w.some("another key")
        )
    )
    for entry in entries:
        world.ok(SOUTH, s.reporting(world, entry=entry))
        assert not told(world).is_sound


def test_a_late_report_is_counted(world: World) -> None:
    entry = s.opening(world)
    world.time_ms += settings.DEFAULTS.summary_report_ms
    world.ok(SOUTH, s.reporting(world, entry=entry))
    assert told(world).is_late
    assert summaries.openings_of(world.state, SOUTH.id).late == 1
    # Five days without a quorum are no delay.
    entry = s.opening(world, sequence=2, previous=entry.hash)
    world.time_ms += 5 * w.DAY_MS
    world.ok(SOUTH, s.reporting(world, entry=entry, returned_ms=world.time_ms - 1_000))
    assert not told(world).is_late


def test_times_stand_in_order(world: World) -> None:
    entry = s.opening(world)
    for returned_ms in (entry.opened_ms - 1, world.time_ms + 60_000):
        body = s.reporting(world, entry=entry, returned_ms=returned_ms)
        assert world.refused(SOUTH, body) == "summary.bad_times"


def test_only_the_institution_and_the_two_report(world: World) -> None:
    for who in (PETRA, NORTH, DAN):
        assert world.refused(who, s.reporting(world)) == "summary.not_yours"
    assert world.refused(SOUTH, s.reporting(world, institution=NORTH)) == "summary.bad_entry"
    changed = msgspec.structs.replace(
        s.reporting(world), entry=msgspec.structs.replace(s.opening(world), reason="cannot-be-asked")
    )
    assert world.refused(SOUTH, changed) == "summary.bad_entry"


def test_the_patient_may_opt_out(world: World) -> None:
    chosen = preferences.Preferences(emergency_deny=False, opt_out=False, summary_opt_out=True)
    world.ok(PETRA, chosen)
    assert world.refused(NORTH, s.placing(world)) == "summary.opted_out"
    assert summaries.refusal_to_open(world.state, PETRA.id) == "summary.opted_out"
    world.ok(PETRA, preferences.Preferences(emergency_deny=True, opt_out=False))
    assert summaries.refusal_to_open(world.state, PETRA.id) == "summary.opted_out"
    world.ok(PETRA, preferences.Preferences(emergency_deny=False, opt_out=False))
    assert summaries.refusal_to_open(world.state, PETRA.id) is None


def test_a_summary_is_withdrawn_by_either_side(world: World) -> None:
    assert world.refused(WEST, s.WITHDRAWAL) == "records.not_yours"
    world.ok(SOUTH, s.WITHDRAWAL)
    assert summaries.SUMMARIES.get(world.state, PETRA.id, SOUTH.id) is None
    assert world.refused(PETRA, s.WITHDRAWAL) == "summary.unknown"


def test_it_is_sealed_to_the_key_in_use(world: World) -> None:
    fresh = w.some("fresh key")
    world.ok(SOUTH, s.setting_key(world, key=fresh))
    assert world.refused(PETRA, s.placing(world)) == "summary.unknown_key"
    world.ok(PETRA, s.placing(world, key=fresh))
    assert world.refused(SOUTH, s.setting_key(world, key=fresh)) == "summary.id_taken"


def test_the_network_decides_whether_there_are_any(world: World) -> None:
    off = msgspec.structs.replace(settings.DEFAULTS, emergency_summaries=False)
    world.state.values[settings.SETTINGS.key()] = codec.encode(off)
    assert world.refused(PETRA, s.placing(world)) == "summary.switched_off"
    assert world.refused(SOUTH, s.setting_key(world, key=w.some("k"))) == "summary.switched_off"
    assert summaries.refusal_to_open(world.state, PETRA.id) == "summary.switched_off"
    # What was opened before is still reported.
    world.ok(SOUTH, s.reporting(world))
