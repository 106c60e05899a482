"""Tombstones against a twin that remembers every single record: whatever is ordered, held and lifted in whatever order,
the same records are gone, and nothing comes back."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.contracts import erasure, records, retention, tombstones
from consilium.contracts.classes import GENERAL, HIV, VIOLENCE
from consilium.contracts.forgetting import ErasureVerdict
from consilium.ledger import codec
from consilium.ledger.state import MemoryState
from tests.unit.contracts import world as w
from tests.unit.contracts.golden_erasure_cases import erasing, holding
from tests.unit.contracts.world import NORTH, PETRA, SOUTH, Actor, World, some

AUTHORS = (NORTH, SOUTH)
CLASSES = (GENERAL, HIV, VIOLENCE)
PLACES = [w.compartment_of(PETRA, code) for code in CLASSES]


@dataclass
class Kept:
    """A record as the twin remembers it: the epochs are those of its compartments when it was anchored."""

    identifier: bytes
    author: Actor
    epochs: dict[bytes, int]


@dataclass
class Twin:
    records: list[Kept] = field(default_factory=list)
    erased: set[bytes] = field(default_factory=set)
    holds: dict[bytes, tuple[Actor, bytes | None]] = field(default_factory=dict)

    def holders(self, place: bytes | None) -> set[bytes]:
        """Who holds something there; with no place, anywhere."""
        return {who.id for who, where in self.holds.values() if place is None or where in (None, place)}

    def is_held(self, record: Kept) -> bool:
        return any(
            who is record.author and (where is None or where in record.epochs)
            for who, where in self.holds.values()
        )

    def erase_place(self, place: bytes, epoch: int) -> None:
        spared = self.holders(place)
        self.erased |= {
            one.identifier
            for one in self.records
            if one.author.id not in spared and place in one.epochs and one.epochs[place] <= epoch
        }

    def erase_all(self) -> None:
        spared = self.holders(None)
        self.erased |= {one.identifier for one in self.records if one.author.id not in spared}


STEPS = st.one_of(
    st.tuples(
        st.just("record"),
        st.sampled_from(AUTHORS),
        st.sampled_from([(GENERAL,), (HIV,), (VIOLENCE,), (HIV, VIOLENCE), (VIOLENCE, HIV)]),
    ),
    st.tuples(st.just("epoch"), st.sampled_from(CLASSES)),
    st.tuples(st.just("hold"), st.sampled_from(AUTHORS), st.sampled_from([None, *PLACES])),
    st.tuples(st.just("lift"), st.integers(0, 3)),
    st.tuples(st.just("erase"), st.sampled_from(CLASSES), st.integers(0, 2)),
    st.tuples(st.just("one"), st.integers(0, 9)),
    st.tuples(st.just("everything")),
)

POPULATED = World().populate()


class Play:
    """One history, played to both."""

    def __init__(self) -> None:
        self.world = World()
        self.world.state.values = dict(POPULATED.state.values)
        self.world.time_ms, self.world.height = POPULATED.time_ms, POPULATED.height
        self.twin = Twin()
        self.count = 0
        self.over = False

    def label(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def epoch(self, place: bytes) -> int:
        known = records.COMPARTMENTS.get(self.world.state, place)
        assert known is not None
        return known.epoch

    def step(self, step: tuple[object, ...]) -> None:
        getattr(self, f"do_{step[0]}")(*step[1:])

    def do_record(self, author: Actor, classes: tuple[int, ...]) -> None:
        label = self.label()
        place = w.compartment_of(PETRA, classes[0])
        body = w.anchoring(label, PETRA, bundle=label, epoch=self.epoch(place), classes=classes)
        closed = self.over or tombstones.epoch_erased(self.world.state, place, self.epoch(place))
        if closed:
            assert self.world.refused(author, body) == "erasure.erased"
            return
        self.world.ok(author, body)
        named = [w.compartment_of(PETRA, code) for code in classes]
        self.twin.records.append(Kept(body.record, author, {one: self.epoch(one) for one in named}))

    def do_epoch(self, code: int) -> None:
        place, label = w.compartment_of(PETRA, code), self.label()
        points = [w.some_point(f"{label}/{number}") for number in range(1 if code == GENERAL else 2)]
        custodians = [one.id for one in AUTHORS][: len(points)]
        body = records.BeginEpoch(place, points, custodians)
        if self.over:
            assert self.world.refused(PETRA, body) == "erasure.erased"
        else:
            self.world.ok(PETRA, body)

    def do_hold(self, author: Actor, place: bytes | None) -> None:
        if sum(who is author for who, _ in self.twin.holds.values()) == retention.HOLDS_PER_HOLDER_MAX:
            return
        label = self.label()
        self.world.ok(author, holding(label, compartment=place))
        self.twin.holds[some(f"hold/{label}")] = (author, place)

    def do_lift(self, number: int) -> None:
        if self.twin.holds:
            held = sorted(self.twin.holds)[number % len(self.twin.holds)]
            who, _ = self.twin.holds.pop(held)
            self.world.ok(who, retention.LiftHold(held))

    def do_erase(self, code: int, epoch: int) -> None:
        place = w.compartment_of(PETRA, code)
        epoch = min(epoch, self.epoch(place))
        body = erasing(self.label(), compartment=place, epoch=epoch)
        if tombstones.shares_erased(self.world.state, PETRA.id, place, epoch):
            assert self.world.refused(PETRA, body) == "erasure.erased"
            return
        self.world.ok(PETRA, body)
        self.twin.erase_place(place, epoch)

    def do_one(self, number: int) -> None:
        left = [one for one in self.twin.records if one.identifier not in self.twin.erased]
        spared = tombstones.nobody_spared(tombstones.ERASED_PATIENTS.get(self.world.state, PETRA.id))
        if not left or spared:
            return
        chosen = left[number % len(left)]
        leaf = self.world.ok(PETRA, erasing(self.label(), records=[chosen.identifier]))
        verdict = codec.decode(leaf.results[0], ErasureVerdict, 1 << 14)
        assert (verdict.outcome == "refused") == self.twin.is_held(chosen)
        if verdict.outcome != "refused":
            self.twin.erased.add(chosen.identifier)

    def do_everything(self) -> None:
        body = erasing(self.label())
        if tombstones.nobody_spared(tombstones.ERASED_PATIENTS.get(self.world.state, PETRA.id)):
            assert self.world.refused(PETRA, body) == "erasure.erased"
            return
        self.world.ok(PETRA, body)
        self.twin.erase_all()
        self.over = True

    def compare(self) -> None:
        state: MemoryState = self.world.state
        gone = {
            one.identifier
            for one in self.twin.records
            if records.visible_record(state, one.identifier) is None
        }
        assert gone == self.twin.erased


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_the_same_records_are_gone_as_a_twin_says(steps: list[tuple[object, ...]]) -> None:
    play = Play()
    for step in steps:
        play.step(step)
        play.compare()


def test_tombstones_that_differ_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "TOMBSTONES_MAX", 2)
    play = Play()
    place = PLACES[0]
    for author in (NORTH, SOUTH):
        play.do_record(author, (GENERAL,))
    play.world.ok(NORTH, holding("north", compartment=place))
    play.world.ok(PETRA, erasing("a", compartment=place, epoch=0))
    play.world.ok(NORTH, retention.LiftHold(some("hold/north")))
    play.world.ok(SOUTH, holding("south", compartment=place))
    play.world.ok(PETRA, erasing("b", compartment=place, epoch=0))
    # Each spares another, and together they spare nobody.
    for one in play.twin.records:
        assert records.visible_record(play.world.state, one.identifier) is None
    play.do_epoch(GENERAL)
    play.world.ok(NORTH, holding("again", compartment=place))
    assert play.world.refused(PETRA, erasing("c", compartment=place, epoch=1)) == "erasure.too_many"
