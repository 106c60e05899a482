"""Opening compartments, ending epochs, anchoring records in bundles."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.contracts import identity, records, settings
from consilium.contracts.classes import CLASSES, HIV, PSYCHIATRY, SENSITIVE, VIOLENCE
from consilium.ledger import codec
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DORA, NOBODY, NORTH, PAUL, PETRA, SOUTH, WEST, World


@pytest.fixture
def world() -> World:
    return World().populate()


@pytest.fixture
def fresh() -> World:
    """Petra is enrolled, and has no compartments yet."""
    world = World()
    world.ok(NORTH, world.enrolment(PETRA, NORTH, "patient"))
    return world


def sharing(
    body: records.OpenCompartments, *, general: bool = True, **changes: object
) -> records.OpenCompartments:
    """The opening with its general compartment (or else the first of the sensitive ones) changed."""
    chosen = next(one for one in body.compartments if one.general == general)
    changed = [msgspec.structs.replace(one, **changes) if one is chosen else one for one in body.compartments]
    return msgspec.structs.replace(body, compartments=sorted(changed, key=lambda one: one.compartment))


def test_the_manager_or_the_patient_opens(fresh: World) -> None:
    fresh.ok(PETRA, w.opening(PETRA))
    compartment = records.COMPARTMENTS.get(fresh.state, w.compartment_of(PETRA))
    assert compartment is not None
    assert (compartment.patient, compartment.general, compartment.epoch) == (PETRA.id, True, 0)
    epoch = records.EPOCHS.get(fresh.state, w.compartment_of(PETRA), records.epoch_bytes(0))
    assert epoch is not None
    assert (epoch.point, epoch.threshold, epoch.custodians) == (w.some_point("C/petra"), 1, [NORTH.id])
    opened = records.PATIENTS.get(fresh.state, PETRA.id)
    assert opened == records.PatientCompartments(sorted(w.compartment_of(PETRA, code) for code in CLASSES))
    (event,) = fresh.events
    assert (event.kind, event.subjects) == ("records.compartments_opened", [PETRA.id, PETRA.id])
    assert fresh.refused(NORTH, w.opening(PETRA)) == "records.already_open"


def test_nobody_else_opens(fresh: World) -> None:
    assert fresh.refused(SOUTH, w.opening(PETRA)) == "records.not_yours"
    fresh.ok(SOUTH, fresh.enrolment(DORA, SOUTH, "practitioner"))
    assert fresh.refused(DORA, w.opening(PETRA)) == "records.not_yours"


def test_compartments_are_a_patients(fresh: World) -> None:
    assert fresh.refused(NORTH, w.opening(NORTH)) == "records.not_a_patient"
    assert fresh.refused(NORTH, w.opening(NOBODY)) == "identity.unknown"


def test_every_class_at_once(fresh: World) -> None:
    body = w.opening(PETRA)
    twice = msgspec.structs.replace(body, compartments=body.compartments * 2)
    assert fresh.refused(NORTH, twice) == "records.classes_incomplete"
    fewer = msgspec.structs.replace(body, compartments=body.compartments[1:])
    assert fresh.refused(NORTH, fewer) == "records.classes_incomplete"
    commitment = body.compartments[0].class_commitment
    one_class_twice = msgspec.structs.replace(
        body,
        compartments=[
            body.compartments[0],
            msgspec.structs.replace(body.compartments[1], class_commitment=commitment),
            *body.compartments[2:],
        ],
    )
    assert fresh.refused(NORTH, one_class_twice) == "records.classes_incomplete"


@pytest.mark.parametrize("generals", [0, 2])
def test_exactly_one_compartment_is_general(fresh: World, generals: int) -> None:
    body = w.opening(PETRA)
    made = [
        msgspec.structs.replace(one, general=place < generals, commitments=[w.some_point("C")])
        for place, one in enumerate(body.compartments)
    ]
    assert (
        fresh.refused(NORTH, msgspec.structs.replace(body, compartments=made)) == "records.classes_incomplete"
    )


def test_the_order_of_compartments_says_nothing(fresh: World) -> None:
    body = w.opening(PETRA)
    turned = msgspec.structs.replace(body, compartments=body.compartments[::-1])
    assert fresh.refused(NORTH, turned) == "records.order_says_something"
    twice = msgspec.structs.replace(
        body,
        compartments=[
            msgspec.structs.replace(one, compartment=body.compartments[0].compartment)
            for one in body.compartments
        ],
    )
    assert fresh.refused(NORTH, twice) == "records.order_says_something"


def test_nothing_in_state_tells_one_sensitive_class_from_another(fresh: World) -> None:
    fresh.ok(PETRA, w.opening(PETRA))
    for code in SENSITIVE:
        known = records.COMPARTMENTS.get(fresh.state, w.compartment_of(PETRA, code))
        assert known is not None
        assert (known.general, known.epoch, known.patient) == (False, 0, PETRA.id)


def test_nobody_opens_a_sensitive_class_alone(fresh: World) -> None:
    alone = sharing(w.opening(PETRA), general=False, commitments=[w.some_point("C")], custodians=[NORTH.id])
    assert fresh.refused(NORTH, alone) == "records.too_few_custodians"
    one_of_two = sharing(w.opening(PETRA), general=False, commitments=[w.some_point("C")])
    assert fresh.refused(NORTH, one_of_two) == "records.too_few_custodians"
    fresh.ok(NORTH, w.opening(PETRA))
    ending = records.BeginEpoch(w.compartment_of(PETRA, HIV), [w.some_point("new")], [NORTH.id])
    assert fresh.refused(PETRA, ending) == "records.too_few_custodians"


def test_a_network_may_let_one_custodian_read_alone(fresh: World) -> None:
    lax = msgspec.structs.replace(settings.DEFAULTS, sensitive_threshold_min=1)
    fresh.state.values[settings.SETTINGS.key()] = codec.encode(lax)
    fresh.ok(
        NORTH,
        sharing(w.opening(PETRA), general=False, commitments=[w.some_point("C")], custodians=[NORTH.id]),
    )


def test_a_record_of_several_classes_names_them_all(world: World) -> None:
    world.ok(NORTH, w.anchoring("r", PETRA, classes=(PSYCHIATRY, HIV, VIOLENCE)))
    record = records.RECORDS.get(world.state, w.record_id("r"))
    assert record is not None
    assert record.compartment == w.compartment_of(PETRA, PSYCHIATRY)
    assert record.also == sorted(w.compartment_of(PETRA, code) for code in (HIV, VIOLENCE))


@pytest.mark.parametrize(
    "also",
    [
        [w.compartment_of(PETRA)],
        [w.compartment_of(PETRA, HIV)] * 2,
        [w.compartment_of(PAUL, HIV)],
        [w.some("none")],
        sorted((w.compartment_of(PETRA, HIV), w.compartment_of(PETRA, VIOLENCE)), reverse=True),
    ],
    ids=["itself", "twice", "another's", "unknown", "out of order"],
)
def test_further_classes_are_the_patients_others_in_order(world: World, also: list[bytes]) -> None:
    body = msgspec.structs.replace(w.anchoring("r", PETRA), also=also)
    assert world.refused(NORTH, body) == "records.bad_classes"


def test_compartment_ids_are_fresh(world: World) -> None:
    new = w.actor("new patient")
    world.ok(NORTH, world.enrolment(new, NORTH, "patient"))
    taken = sharing(w.opening(new), compartment=w.compartment_of(PETRA))
    assert world.refused(NORTH, taken) == "records.id_taken"


@pytest.mark.parametrize(
    ("points", "custodians", "code"),
    [
        (2, [NORTH], "records.bad_sharing"),
        (1, [NORTH, NORTH], "records.bad_sharing"),
        (1, [WEST], "identity.role_missing"),
        (1, [PETRA], "identity.role_missing"),
        (1, [NOBODY], "identity.unknown"),
    ],
)
def test_custodians_are_different_institutions_with_the_role(
    fresh: World, points: int, custodians: list[w.Actor], code: str
) -> None:
    body = sharing(
        w.opening(PETRA),
        commitments=[w.some_point(f"C{i}") for i in range(points)],
        custodians=[c.id for c in custodians],
    )
    assert fresh.refused(NORTH, body) == code


def test_two_of_two(fresh: World) -> None:
    points = [w.some_point("C0"), w.some_point("C1")]
    fresh.ok(NORTH, sharing(w.opening(PETRA), commitments=points, custodians=[SOUTH.id, NORTH.id]))
    epoch = records.EPOCHS.get(fresh.state, w.compartment_of(PETRA), records.epoch_bytes(0))
    assert epoch is not None
    assert (epoch.threshold, epoch.custodians) == (2, [SOUTH.id, NORTH.id])


def beginning(patient: w.Actor, label: str = "new point") -> records.BeginEpoch:
    return records.BeginEpoch(w.compartment_of(patient), [w.some_point(label)], [SOUTH.id])


def test_an_ended_epoch_takes_no_records_and_is_remembered(world: World) -> None:
    leaf = world.ok(PETRA, beginning(PETRA))
    begun = records.EpochBegun(w.compartment_of(PETRA), 1)
    assert codec.decode(leaf.results[0], records.EpochBegun, 64) == begun
    assert [event.kind for event in world.events] == ["records.epoch_begun"]
    assert world.refused(NORTH, w.anchoring("r", PETRA, epoch=0)) == "records.epoch_ended"
    assert world.refused(NORTH, w.anchoring("r", PETRA, epoch=2)) == "records.epoch_ended"
    world.ok(NORTH, w.anchoring("r", PETRA, epoch=1))
    old = records.EPOCHS.get(world.state, w.compartment_of(PETRA), records.epoch_bytes(0))
    new = records.EPOCHS.get(world.state, w.compartment_of(PETRA), records.epoch_bytes(1))
    assert old is not None
    assert new is not None
    assert (old.custodians, new.custodians) == ([NORTH.id], [SOUTH.id])


def test_who_may_not_begin_an_epoch(world: World) -> None:
    assert world.refused(SOUTH, beginning(PETRA)) == "records.not_yours"
    assert world.refused(PAUL, beginning(PETRA)) == "records.not_yours"
    assert world.refused(NORTH, beginning(NOBODY)) == "records.unknown_compartment"
    assert world.refused(NORTH, beginning(PETRA, "C/petra")) == "records.key_unchanged"


def test_epochs_can_be_counted(world: World) -> None:
    key = records.COMPARTMENTS.key(w.compartment_of(PETRA))
    known = records.COMPARTMENTS.decode(world.state.values[key])
    world.state.values[key] = codec.encode(msgspec.structs.replace(known, epoch=records.EPOCH_MAX))
    assert world.refused(NORTH, beginning(PETRA)) == "records.last_epoch"


def test_an_anchored_record_is_a_commitment(world: World) -> None:
    world.ok(SOUTH, w.anchoring("r", PETRA))
    record = records.RECORDS.get(world.state, w.record_id("r"))
    assert record == records.Record(
        compartment=w.compartment_of(PETRA),
        also=[],
        epoch=0,
        author=SOUTH.id,
        bundle=w.some("bundle/b"),
        position=0,
        anchor=w.some("anchor/r", 32),
        envelope=w.some("envelope/r", 32),
        anchored_ms=world.time_ms,
    )
    assert [(e.kind, e.subjects) for e in world.events] == [
        ("records.anchored", [PETRA.id, SOUTH.id]),
        ("records.completed", [PETRA.id, SOUTH.id]),
    ]


def test_only_authors_anchor(world: World) -> None:
    for who in (WEST, DORA, PETRA):
        assert world.refused(who, w.anchoring("r", PETRA)) == "identity.role_missing"


def test_a_record_is_visible_with_the_last_of_its_bundle(world: World) -> None:
    first = [w.anchoring(f"r{i}", PETRA, position=i, count=3) for i in (2, 0)]
    world.ok(NORTH, *first)
    assert [event.kind for event in world.events] == ["records.anchored"] * 2
    assert records.visible_record(world.state, w.record_id("r0")) is None
    world.ok(NORTH, w.anchoring("r1", PETRA, position=1, count=3))
    assert [event.kind for event in world.events] == ["records.anchored", "records.completed"]
    for i in range(3):
        assert records.visible_record(world.state, w.record_id(f"r{i}")) is not None
    bundle = records.BUNDLES.get(world.state, NORTH.id, w.some("bundle/b"))
    assert bundle is not None
    assert (bundle.complete, bundle.positions) == (True, b"")


def test_a_bundle_of_an_atomic_transaction_is_anchored_whole_or_not(world: World) -> None:
    bodies = [w.anchoring(f"r{i}", PETRA, position=i, count=3) for i in range(2)]
    bad = w.anchoring("r2", PETRA, position=1, count=3)
    assert world.refused(NORTH, *bodies, bad) == "records.position_taken"
    world.ok(NORTH, *bodies)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"position": 0}, "records.position_taken"),
        ({"position": 2}, "records.position_taken"),
        ({"count": 3}, "records.bundle_mismatch"),
        ({"compartment": w.compartment_of(PAUL)}, "records.bundle_mismatch"),
        ({"compartment": w.some("none")}, "records.unknown_compartment"),
        ({"record": w.record_id("r0")}, "records.id_taken"),
    ],
)
def test_what_does_not_fit_the_bundle(world: World, changes: dict[str, object], code: str) -> None:
    world.ok(NORTH, w.anchoring("r0", PETRA, position=0, count=2))
    second = w.anchoring("r1", PETRA, position=1, count=2)
    assert world.refused(NORTH, msgspec.structs.replace(second, **changes)) == code
    world.ok(NORTH, second)
    again = msgspec.structs.replace(second, record=w.record_id("r2"))
    assert world.refused(NORTH, again) == "records.position_taken"


def test_two_authors_may_use_one_bundle_id(world: World) -> None:
    world.ok(NORTH, w.anchoring("r0", PETRA, count=2))
    world.ok(SOUTH, w.anchoring("r1", PAUL, count=1))
    assert records.visible_record(world.state, w.record_id("r1")) is not None
    assert records.visible_record(world.state, w.record_id("r0")) is None


def test_the_largest_bundle_fits_its_slot(world: World) -> None:
    count = records.BUNDLE_RECORDS_MAX
    world.ok(NORTH, w.anchoring("last", PETRA, position=count - 1, count=count))
    bundle = records.BUNDLES.get(world.state, NORTH.id, w.some("bundle/b"))
    assert bundle is not None
    assert len(bundle.positions) == count // 8
    world.ok(NORTH, w.anchoring("first", PETRA, position=0, count=count))
    beyond = msgspec.structs.replace(w.anchoring("x", PETRA), position=count, count=count)
    assert world.refused(NORTH, beyond) == "codec.malformed"


@given(
    count=st.integers(1, 12),
    attempts=st.lists(st.integers(0, 13), max_size=24),
    seed=st.integers(0, 3),
)
def test_positions_against_a_twin_that_keeps_a_list(count: int, attempts: list[int], seed: int) -> None:
    world = _SHARED.copy()
    random.Random(seed).shuffle(attempts)
    taken: list[int] = []
    for number, position in enumerate(attempts):
        body = w.anchoring(f"t{number}", PETRA, bundle="twin", position=position, count=count)
        code = world.leaf(NORTH, body).code
        if position < count and position not in taken:
            taken.append(position)
            assert code == "ok"
        else:
            assert code == "records.position_taken"
        complete = len(taken) == count
        for index in range(number + 1):
            visible = records.visible_record(world.state, w.record_id(f"t{index}")) is not None
            anchored = records.RECORDS.get(world.state, w.record_id(f"t{index}")) is not None
            assert visible == (complete and anchored)


class _Shared:
    """One populated world, copied for each example."""

    def __init__(self) -> None:
        self.world = World().populate()

    def copy(self) -> World:
        world = World()
        world.state.values = dict(self.world.state.values)
        world.time_ms, world.height = self.world.time_ms, self.world.height
        return world


_SHARED = _Shared()


def test_a_suspended_custodian_takes_no_new_compartment(fresh: World) -> None:
    known = identity.IDENTITIES.get(fresh.state, SOUTH.id)
    assert known is not None
    fresh.state.values[identity.IDENTITIES.key(SOUTH.id)] = codec.encode(
        msgspec.structs.replace(known, status="suspended")
    )
    assert fresh.refused(NORTH, w.opening(PETRA, custodian=SOUTH)) == "identity.suspended"


@pytest.mark.parametrize(
    "commitment",
    [
        bytes(32),
        b"\x01" + bytes(31),
        b"\xff" * 32,
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    ],
    ids=["zero", "neutral", "not canonical", "of order eight"],
)
def test_a_commitment_is_a_point_of_the_prime_order_group(fresh: World, commitment: bytes) -> None:
    assert fresh.refused(NORTH, sharing(w.opening(PETRA), commitments=[commitment])) == "records.bad_sharing"
