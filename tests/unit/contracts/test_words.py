"""Decisions, receipts and entries in words."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.contracts import access, decision, words
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import ReceiptLeaf
from consilium.ledger.transaction import Operation
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DORA, NORTH, PAUL, PETRA, SOUTH, World

NAMES = {
    PETRA.id: "Petra",
    PAUL.id: "Paul",
    DORA.id: "Dora",
    SOUTH.id: "South",
    w.compartment_of(PETRA): "P/general",
}
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@given(st.integers(0, 253_402_300_799_999))
def test_times_against_the_standard_library(time_ms: int) -> None:
    moment = EPOCH + datetime.timedelta(milliseconds=time_ms)
    expected = moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{time_ms % 1000:03d} UTC"
    assert words.time_in_words(time_ms) == expected


@pytest.mark.parametrize(
    "day", ["2000-02-29", "2024-02-29", "2100-02-28", "2100-03-01", "1970-01-01", "1999-12-31"]
)
def test_days_at_the_seams(day: str) -> None:
    moment = datetime.datetime.fromisoformat(f"{day}T00:00:00+00:00")
    time_ms = (moment - EPOCH) // datetime.timedelta(milliseconds=1)
    assert words.time_in_words(time_ms) == f"{day} 00:00:00.000 UTC"


def test_the_largest_time_is_no_error() -> None:
    assert words.time_in_words(codec.UINT_MAX).endswith(" UTC")


def _world() -> World:
    world = World().populate()
    world.ok(NORTH, *(w.anchoring(f"r{i}", PETRA, position=i, count=2) for i in range(2)))
    world.ok(PETRA, w.granting("c", SOUTH))
    return world


def test_a_decision_in_words() -> None:
    world = _world()
    asked = world.ask(DORA, records_=[w.record_id("r0"), w.record_id("r1"), w.record_id("none")])
    lines = words.describe_decision(asked, NAMES)
    until = words.time_in_words(world.time_ms + access.RELEASE_WINDOW_MS)
    assert lines[0] == (
        f"Reader Dora of institution South asked on {words.time_in_words(world.time_ms)} for purpose TREAT."
    )
    consent = w.some("consent/c").hex()
    assert lines[2:] == [
        "ALLOW 2 records in compartment P/general of patient Petra: on the patient's consent "
        f"({consent}), to be fetched before {until}.",
        "DENY 1 record: it does not exist, or is not visible yet.",
    ]


def test_a_denial_of_a_compartment_in_words() -> None:
    world = _world()
    asked = world.ask(SOUTH, compartments=[w.compartment_of(PAUL)])
    (line,) = words.describe_decision(asked)[2:]
    assert line == (
        f"DENY everything in compartment {w.compartment_of(PAUL).hex()} of patient {PAUL.id.hex()}: "
        "nothing permits it."
    )


def test_every_basis_has_words() -> None:
    assert sorted(words.BASES) == sorted({*(row.basis for row in decision.TABLE.rows), access.UNKNOWN})


def test_a_receipt_in_words() -> None:
    world = _world()
    bodies = [w.granting("d", DORA), w.revoking("c")]
    leaf = world.ok(PETRA, *bodies)
    operations = [world.operation(body) for body in bodies]
    assert words.describe_receipt(leaf, operations) == [
        f"Transaction {leaf.transaction.hex()} took effect.",
        "consent.grant took effect.",
        "consent.revoke took effect.",
    ]
    refused = ReceiptLeaf(leaf.transaction, "consent.unknown", 1, [])
    assert words.describe_receipt(refused, operations) == [
        f"Transaction {leaf.transaction.hex()} was refused at operation 1 and changed nothing.",
        "consent.unknown: No consent has this id.",
    ]
    request = w.asking(compartments=[w.compartment_of(PETRA)])
    leaf = world.ok(DORA, request)
    assert "ALLOW everything" in "\n".join(words.describe_receipt(leaf, [world.operation(request)]))


def test_operations_and_entries_in_words() -> None:
    world = _world()
    body = w.granting("e", DORA, not_before=0, not_after=w.START_MS)
    lines = words.describe_operation(world.operation(body), NAMES)
    assert lines[0] == "consent.grant"
    assert "  - Provision" in lines
    assert "    actors: Dora" in lines
    assert "    purposes: TREAT" in lines
    assert "    compartments: none" in lines
    assert "    not_before: 1970-01-01 00:00:00.000 UTC" in lines
    opening = words.describe_operation(world.operation(w.opening(PETRA)), NAMES)
    assert "  - NewCompartment" in opening
    assert "    general: True" in opening
    for key, value in world.state.values.items():
        assert words.describe_entry(key, value)


def test_what_nobody_would_read_is_refused() -> None:
    for operation in (Operation("records.shred", b""), Operation("consent.revoke", b"\x90")):
        with pytest.raises(Refused):
            words.describe_operation(operation)
    with pytest.raises(Refused):
        words.describe_result("records.shred", b"")
    for key in (b"?", b"", b"i" + bytes(3)):
        with pytest.raises(Refused):
            words.describe_entry(key, b"\x90")
