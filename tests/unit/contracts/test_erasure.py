"""Erasure: who may order it, what holds keep, what is gone from then on, and who must attest."""

from __future__ import annotations

import pytest

from consilium.contracts import (
    access,
    erasure,
    forgetting,
    keepers,
    records,
    retention,
    summaries,
    tombstones,
)
from consilium.contracts.classes import CLASSES, HIV, VIOLENCE
from consilium.contracts.erasure import CONTEST_MS
from consilium.contracts.forgetting import ERASURES, Attested, ErasureVerdict
from consilium.ledger import codec
from consilium.ledger.execution import ReceiptLeaf
from tests.unit.contracts import care, summarising
from tests.unit.contracts import world as w
from tests.unit.contracts.golden_erasure_cases import erasing, holding
from tests.unit.contracts.golden_erasure_cases import erasure as erasure_id
from tests.unit.contracts.test_records import beginning
from tests.unit.contracts.world import NORTH, PAUL, PETRA, SOUTH, WEST, World, some

FIRST = w.anchoring("r", PETRA, bundle="r")
SECOND = w.anchoring("s", PETRA, bundle="s")
BOTH = w.anchoring("h", PETRA, bundle="h", classes=(HIV, VIOLENCE))
PLACE = w.compartment_of(PETRA)


@pytest.fixture
def world() -> World:
    """Petra has a record by North, one by South, and one of two classes by South; South may read."""
    world = World().populate()
    world.ok(NORTH, FIRST)
    world.ok(SOUTH, SECOND)
    world.ok(SOUTH, BOTH)
    world.ok(PETRA, w.granting("c", SOUTH))
    return world


def erase(world: World, who: w.Actor, body: forgetting.RequestErasure) -> ErasureVerdict:
    return codec.decode(world.ok(who, body).results[0], ErasureVerdict, 1 << 14)


def attest(world: World, who: w.Actor, label: str = "e") -> Attested:
    leaf = world.ok(who, forgetting.AttestErasure(erasure_id(label)))
    return codec.decode(leaf.results[0], Attested, 1 << 10)


def basis(world: World, record: bytes, who: w.Actor = SOUTH, purpose: str = "TREAT") -> str:
    (verdict,) = world.ask(who, records_=[record], purpose=purpose).verdicts
    assert (verdict.valid_until > 0) == verdict.allow
    return verdict.basis


def test_an_erased_record_is_denied_by_name_and_its_commitments_are_blank(world: World) -> None:
    verdict = erase(world, PETRA, erasing(records=[FIRST.record]))
    assert (verdict.outcome, verdict.kept, verdict.holders) == ("carried-out", [], [NORTH.id])
    assert basis(world, FIRST.record) == "erased"
    assert basis(world, SECOND.record) == "consent"
    assert records.visible_record(world.state, FIRST.record) is None
    known = records.RECORDS.get(world.state, FIRST.record)
    assert known is not None
    assert (known.anchor, known.envelope) == (bytes(32), bytes(32))
    again = w.anchoring("r", PETRA, bundle="again")
    assert world.refused(NORTH, again) == "records.id_taken"


def test_a_decision_of_before_releases_nothing_after(world: World) -> None:
    decision = world.ask(SOUTH, compartments=[PLACE])
    (verdict,) = decision.verdicts
    erase(world, PETRA, erasing())
    assert access.still_stands(world.state, decision, verdict, world.time_ms) == "erasure.erased"


def test_the_event_tells_nodes_what_to_destroy(world: World) -> None:
    erase(world, PETRA, erasing(records=[FIRST.record, BOTH.record]))
    (told,) = [event for event in world.events if event.kind == "erasure.carried_out"]
    data = codec.decode(told.data, forgetting.Erased, 1 << 14)
    assert (data.records, data.envelopes) == (
        [FIRST.record, BOTH.record],
        [FIRST.envelope, BOTH.envelope],
    )
    assert told.subjects == [PETRA.id, erasure_id()]


def test_a_hold_refuses_with_its_basis_and_ends(world: World) -> None:
    ends = world.time_ms + w.DAY_MS
    world.ok(NORTH, holding(not_after=ends))
    refused = erase(world, PETRA, erasing(records=[FIRST.record]))
    (kept,) = refused.kept
    assert refused.outcome == "refused"
    assert (kept.record, kept.holder, kept.basis, kept.not_after) == (
        FIRST.record,
        NORTH.id,
        "legal-obligation",
        ends,
    )
    assert basis(world, FIRST.record) == "consent"
    partly = erase(world, PETRA, erasing("both", records=[FIRST.record, SECOND.record]))
    assert (partly.outcome, [one.record for one in partly.kept]) == ("partly", [FIRST.record])
    assert basis(world, SECOND.record) == "erased"
    world.time_ms = ends
    assert erase(world, PETRA, erasing("late", records=[FIRST.record])).outcome == "carried-out"


def test_a_hold_on_one_compartment_keeps_no_other(world: World) -> None:
    world.ok(SOUTH, holding(compartment=w.compartment_of(PETRA, VIOLENCE)))
    named = erasing(records=[SECOND.record, BOTH.record])
    assert [one.record for one in erase(world, PETRA, named).kept] == [BOTH.record]


def test_a_lifted_hold_keeps_nothing(world: World) -> None:
    world.ok(NORTH, holding())
    world.ok(NORTH, retention.LiftHold(some("hold/h")))
    assert erase(world, PETRA, erasing(records=[FIRST.record])).outcome == "carried-out"
    assert world.refused(NORTH, retention.LiftHold(some("hold/h"))) == "retention.lifted_already"


def test_a_compartment_is_erased_through_an_epoch_and_a_new_one_goes_on(world: World) -> None:
    world.ok(PETRA, beginning(PETRA))
    later = w.anchoring("later", PETRA, bundle="later", epoch=1)
    world.ok(NORTH, later)
    verdict = erase(world, PETRA, erasing(compartment=PLACE, epoch=0))
    assert verdict.holders == sorted([NORTH.id, SOUTH.id])
    assert [basis(world, one.record) for one in (FIRST, SECOND, later)] == ["erased", "erased", "consent"]
    assert tombstones.shares_erased(world.state, PETRA.id, PLACE, 0)
    assert not tombstones.shares_erased(world.state, PETRA.id, PLACE, 1)
    assert world.refused(PETRA, erasing("again", compartment=PLACE, epoch=0)) == "erasure.erased"
    erase(world, PETRA, erasing("next", compartment=PLACE, epoch=1))
    assert world.refused(NORTH, w.anchoring("x", PETRA, bundle="x", epoch=1)) == "erasure.erased"
    world.ok(PETRA, beginning(PETRA, "third"))
    world.ok(NORTH, w.anchoring("x", PETRA, bundle="x", epoch=2))
    assert basis(world, w.record_id("x")) == "consent"


def test_a_record_of_several_classes_goes_with_any_of_them(world: World) -> None:
    verdict = erase(world, PETRA, erasing(compartment=w.compartment_of(PETRA, VIOLENCE), epoch=0))
    assert verdict.holders == sorted([NORTH.id, SOUTH.id])
    assert records.visible_record(world.state, BOTH.record) is None
    # What is recorded in the class's next epoch is not meant.
    place = w.compartment_of(PETRA, VIOLENCE)
    points = [w.some_point("fresh/1"), w.some_point("fresh/2")]
    world.ok(PETRA, records.BeginEpoch(place, points, [NORTH.id, SOUTH.id]))
    after = w.anchoring("after", PETRA, bundle="after", classes=(HIV, VIOLENCE))
    world.ok(SOUTH, after)
    assert records.visible_record(world.state, after.record) is not None


def test_an_ended_epoch_of_a_further_class_takes_only_what_was_recorded_in_its_time(world: World) -> None:
    place = w.compartment_of(PETRA, VIOLENCE)
    points = [w.some_point("fresh/1"), w.some_point("fresh/2")]
    world.ok(PETRA, records.BeginEpoch(place, points, [NORTH.id, SOUTH.id]))
    after = w.anchoring("after", PETRA, bundle="after", classes=(HIV, VIOLENCE))
    world.ok(SOUTH, after)
    erase(world, PETRA, erasing(compartment=place, epoch=0))
    assert records.visible_record(world.state, BOTH.record) is None
    assert records.visible_record(world.state, after.record) is not None


def test_an_erased_patient_is_opened_to_nobody_and_recorded_no_more(world: World) -> None:
    verdict = erase(world, PETRA, erasing())
    assert (verdict.outcome, verdict.holders) == ("carried-out", sorted([NORTH.id, SOUTH.id]))
    for who, purpose in ((SOUTH, "TREAT"), (PETRA, "PATRQT"), (NORTH, "TREAT")):
        assert basis(world, SECOND.record, who, purpose) == "erased"
        (named,) = world.ask(who, compartments=[PLACE], purpose=purpose).verdicts
        assert named.basis == "erased"
    world.ok(WEST, care.mandating(world, reader=SOUTH))
    assert basis(world, SECOND.record, SOUTH, "HLEGAL") == "erased"
    assert world.refused(NORTH, w.anchoring("x", PETRA, bundle="x")) == "erasure.erased"
    assert world.refused(PETRA, beginning(PETRA)) == "erasure.erased"
    assert world.refused(PETRA, erasing("again")) == "erasure.erased"
    for code in CLASSES:
        assert tombstones.shares_erased(world.state, PETRA.id, w.compartment_of(PETRA, code), 0)
    assert basis(world, w.record_id("unknown")) == "unknown"


def test_who_must_keep_is_spared_and_asked_again_when_the_hold_has_ended(world: World) -> None:
    world.ok(NORTH, holding())
    verdict = erase(world, PETRA, erasing())
    assert (verdict.outcome, [one.holder for one in verdict.kept]) == ("partly", [NORTH.id])
    assert records.visible_record(world.state, FIRST.record) is not None
    assert records.visible_record(world.state, SECOND.record) is None
    assert not tombstones.shares_erased(world.state, PETRA.id, PLACE, 0)
    # It is kept, and not opened.
    (named,) = world.ask(SOUTH, records_=[FIRST.record]).verdicts
    assert (named.allow, named.basis) == (False, "erased")
    world.ok(NORTH, retention.LiftHold(some("hold/h")))
    assert erase(world, PETRA, erasing("rest")).outcome == "carried-out"
    assert records.visible_record(world.state, FIRST.record) is None
    found = tombstones.ERASED_PATIENTS.get(world.state, PETRA.id)
    assert found is not None
    assert [stone.erasure for stone in found.stones] == [erasure_id("rest")]


def test_a_later_hold_brings_nothing_back(world: World) -> None:
    erase(world, PETRA, erasing(compartment=PLACE, epoch=0))
    world.ok(PETRA, beginning(PETRA))
    world.ok(NORTH, holding())
    erase(world, PETRA, erasing("more", compartment=PLACE, epoch=1))
    assert records.visible_record(world.state, FIRST.record) is None
    found = tombstones.ERASED_COMPARTMENTS.get(world.state, PLACE)
    assert found is not None
    assert len(found.stones) == 2


def test_an_authoritys_hold_refuses_everything(world: World) -> None:
    world.ok(WEST, holding(everything=True, basis="court-order"))
    for label, body in (("a", erasing("a")), ("b", erasing("b", compartment=PLACE, epoch=0))):
        verdict = erase(world, PETRA, body)
        assert (verdict.outcome, verdict.kept[0].basis) == ("refused", "court-order"), label
    assert basis(world, FIRST.record) == "consent"


def test_an_author_orders_what_it_authored_and_the_patient_may_contest(world: World) -> None:
    verdict = erase(world, NORTH, erasing(records=[FIRST.record], basis="recorded-in-error"))
    assert (verdict.outcome, verdict.due_ms) == ("pending", world.time_ms + CONTEST_MS)
    assert world.events[0].subjects == [PETRA.id, erasure_id(), NORTH.id]
    assert basis(world, FIRST.record) == "consent"
    carry = forgetting.CarryOutErasure(erasure_id())
    assert world.refused(NORTH, carry) == "erasure.contestable"
    assert world.refused(NORTH, forgetting.AttestErasure(erasure_id())) == "erasure.not_a_holder"
    world.ok(PETRA, forgetting.ContestErasure(erasure_id()))
    world.time_ms += CONTEST_MS
    assert world.refused(NORTH, carry) == "erasure.not_pending"


def test_what_nobody_contested_is_carried_out_by_who_ordered_it(world: World) -> None:
    erase(world, NORTH, erasing(records=[FIRST.record], basis="recorded-in-error"))
    world.time_ms += CONTEST_MS
    carry = forgetting.CarryOutErasure(erasure_id())
    assert world.refused(SOUTH, carry) == "erasure.not_yours"
    world.ok(NORTH, carry)
    assert basis(world, FIRST.record) == "erased"


def test_a_hold_placed_while_it_could_be_contested_counts(world: World) -> None:
    erase(world, NORTH, erasing(records=[FIRST.record]))
    world.ok(WEST, holding(everything=True))
    world.time_ms += CONTEST_MS
    leaf = world.ok(NORTH, forgetting.CarryOutErasure(erasure_id()))
    assert codec.decode(leaf.results[0], ErasureVerdict, 1 << 14).outcome == "refused"


def test_an_order_of_what_went_meanwhile_leaves_nobody_to_attest(world: World) -> None:
    erase(world, NORTH, erasing(records=[FIRST.record]))
    erase(world, PETRA, erasing("own", records=[FIRST.record]))
    world.time_ms += CONTEST_MS
    world.ok(NORTH, forgetting.CarryOutErasure(erasure_id()))
    assert [event.kind for event in world.events] == []
    known = ERASURES.get(world.state, erasure_id())
    assert known is not None
    assert (known.holders, known.complete) == ([], True)
    assert records.visible_record(world.state, SECOND.record) is not None


@pytest.mark.parametrize(
    ("who", "body"),
    [
        (SOUTH, erasing(records=[FIRST.record])),
        (SOUTH, erasing(records=[FIRST.record, SECOND.record])),
        (NORTH, erasing()),
        (NORTH, erasing(compartment=PLACE, epoch=0)),
        (PAUL, erasing()),
    ],
)
def test_nobody_else_orders(world: World, who: w.Actor, body: forgetting.RequestErasure) -> None:
    assert world.refused(who, body) == "erasure.not_yours"


def test_a_guardian_orders_what_is_general(world: World) -> None:
    care.with_guardians(world, PAUL)
    assert world.refused(PAUL, erasing()) == "erasure.not_yours"
    assert world.refused(PAUL, erasing(records=[BOTH.record])) == "erasure.not_yours"
    sensitive = erasing(compartment=w.compartment_of(PETRA, HIV), epoch=0)
    assert world.refused(PAUL, sensitive) == "erasure.not_yours"
    assert erase(world, PAUL, erasing(compartment=PLACE, epoch=0)).outcome == "carried-out"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (erasing(records=[FIRST.record], compartment=PLACE, epoch=0), "erasure.bad_scope"),
        (erasing(records=[FIRST.record] * 2), "erasure.bad_scope"),
        (erasing(compartment=PLACE), "erasure.bad_scope"),
        (erasing(epoch=0), "erasure.bad_scope"),
        (erasing(compartment=PLACE, epoch=1), "erasure.bad_scope"),
        (erasing(compartment=w.compartment_of(PAUL), epoch=0), "records.unknown_compartment"),
        (erasing(records=[some("nothing")]), "erasure.unknown_record"),
    ],
)
def test_scopes_that_mean_nothing(world: World, body: forgetting.RequestErasure, code: str) -> None:
    assert world.refused(PETRA, body) == code


def test_every_holder_attests_and_the_missing_are_named(world: World) -> None:
    erase(world, PETRA, erasing())
    assert world.refused(WEST, forgetting.AttestErasure(erasure_id())) == "erasure.not_a_holder"
    first = attest(world, SOUTH)
    assert (first.complete, first.missing) == (False, 1)
    known = ERASURES.get(world.state, erasure_id())
    assert known is not None
    assert (known.missing, known.complete) == ([NORTH.id], False)
    assert world.refused(SOUTH, forgetting.AttestErasure(erasure_id())) == "erasure.attested_already"
    assert attest(world, NORTH).complete
    known = ERASURES.get(world.state, erasure_id())
    assert known is not None
    assert known.complete


def test_anchors_and_requests_of_the_same_block_come_too_late(world: World) -> None:
    late = w.anchoring("late", PETRA, bundle="late")
    block = [world.sign(NORTH, late), world.sign(SOUTH, w.asking(records_=[FIRST.record]))]
    outcome = world.block([*block, world.sign(PETRA, erasing())])
    leaves = [codec.decode(raw, ReceiptLeaf, 1 << 20) for raw in outcome.leaves]
    found = {leaf.transaction: leaf for leaf in leaves}
    assert found[block[0].id].code == "erasure.erased"
    decision = access.DECISIONS.decode(found[block[1].id].results[0])
    assert decision.verdicts[0].basis == "erased"


def test_more_epochs_than_the_erasures_of_one_transaction_look_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "EPOCHS_PER_TRANSACTION_MAX", 2)
    first, second, third = (
        erasing(f"e{code}", compartment=w.compartment_of(PETRA, code), epoch=0) for code in CLASSES[:3]
    )
    assert world.refused(PETRA, first, second, third) == "erasure.too_large"
    world.ok(PETRA, first, second)
    world.ok(PETRA, third)


def test_more_epochs_than_one_erasure_looks_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "EPOCHS_PER_ERASURE_MAX", len(CLASSES) - 1)
    assert world.refused(PETRA, erasing()) == "erasure.too_large"
    assert erase(world, PETRA, erasing(compartment=PLACE, epoch=0)).outcome == "carried-out"


def test_more_holders_than_one_erasure_names(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "HOLDERS_MAX", 1)
    assert world.refused(PETRA, erasing()) == "erasure.too_many_holders"


def test_an_epoch_with_too_many_keepers_takes_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepers, "KEEPERS_MAX", 1)
    world.ok(SOUTH, w.anchoring("y", PAUL, bundle="y"))
    assert world.refused(NORTH, w.anchoring("z", PAUL, bundle="z")) == "records.too_many_keepers"


def test_holds_are_bounded(world: World) -> None:
    for number in range(retention.HOLDS_PER_HOLDER_MAX):
        world.ok(NORTH, holding(str(number)))
    assert world.refused(NORTH, holding("more")) == "retention.too_many_holds"
    world.ok(SOUTH, holding("other"))
    world.ok(NORTH, retention.LiftHold(some("hold/0")))
    world.ok(NORTH, holding("more"))
    far = holding("far", not_after=world.time_ms + retention.HOLD_MS_MAX + 2 * w.STEP_MS)
    assert world.refused(SOUTH, far) == "retention.bad_period"


def test_who_keeps_an_emergency_summary_is_a_holder_too(world: World) -> None:
    summarising.switch_on(world)
    world.ok(SOUTH, summarising.setting_key(world))
    world.ok(PETRA, summarising.placing(world))
    assert keepers.keepers_of(world.state, PETRA.id) == [SOUTH.id]
    assert keepers.keepers_of(world.state, PAUL.id) == []
    # Of that institution alone, beside the custodian of the general class.
    assert erase(world, PETRA, erasing("one", records=[FIRST.record])).holders == [NORTH.id]
    assert SOUTH.id in erase(world, PETRA, erasing()).holders
    assert world.refused(PETRA, summarising.placing(world)) == "erasure.erased"
    assert summaries.refusal_to_open(world.state, PETRA.id) == "erasure.erased"
