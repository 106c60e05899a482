"""What a custodian reads of a chain that began with a snapshot: the records of the state, and of what follows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from consilium.contracts import keys, records
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import Event
from consilium.ledger.state import MemoryState
from consilium.ledger.trie_proof import key_hash
from consilium.node.curator import follow_state
from consilium.node.ledger_reader import LedgerReader
from consilium.storage.anchors import AnchorIndex
from consilium.storage.chain import Place
from consilium.storage.events import EVENT_INDEX_LAST
from consilium.storage.kv import MemoryKV
from tests.unit.node.harness import some

BASE = 7
PATIENT = some("patient")
COMPARTMENT, OTHER = some("compartment"), some("other")


def record(name: str, compartment: bytes, anchored_ms: int) -> tuple[bytes, records.Record]:
    return some(name), records.Record(
        compartment=compartment,
        also=[],
        epoch=0,
        author=some("author"),
        bundle=some("bundle"),
        position=0,
        anchor=some("anchor", 32),
        envelope=some(f"envelope of {name}", 32),
        anchored_ms=anchored_ms,
    )


class Chain:
    """A chain that began with a snapshot, and one event since."""

    base = BASE

    def __init__(self) -> None:
        self.state = MemoryState()
        for name, compartment, at_ms in (
            ("late", COMPARTMENT, 30),
            ("early", COMPARTMENT, 10),
            ("elsewhere", OTHER, 20),
        ):
            identifier, value = record(name, compartment, at_ms)
            self.state.values[keys.RECORD + identifier] = codec.encode(value)
        self.state.values[keys.SETTINGS] = b"settings"

    def state_rows(self, after: bytes, limit: int) -> list[tuple[bytes, bytes, bytes]]:
        rows = sorted((bytes(key_hash(key)), key, value) for key, value in self.state.values.items())
        return [row for row in rows if row[0] > after][:2]

    def events_of(self, subject: bytes, after: Place, limit: int) -> list[tuple[Place, Event]]:
        assert after >= Place(BASE, EVENT_INDEX_LAST)
        if after > Place(BASE + 1, -1):
            return []
        anchored = records.Anchored(some("newest"), COMPARTMENT, [], some("bundle"), 0, 1)
        event = Event(records.ANCHORED.name, [subject], bytes(32), 0, 40, codec.encode(anchored))
        return [(Place(BASE + 1, 0), event)]


def test_records_of_the_state_come_before_those_of_events() -> None:
    chain: Any = Chain()
    index = AnchorIndex(MemoryKV())
    reader = LedgerReader(chain, index)
    with pytest.raises(Refused) as refused:
        list(reader.records_in(PATIENT, COMPARTMENT))
    assert refused.value.code == "chain.before_snapshot"
    follow_state(chain, index)
    index.follow([], Place(BASE, EVENT_INDEX_LAST))
    found = list(reader.records_in(PATIENT, COMPARTMENT))
    assert found == [some("early"), some("late"), some("newest")]
    assert list(reader.records_in(PATIENT, OTHER)) == [some("elsewhere")]
    assert index.record_of(some("envelope of late", 32)) == some("late")


def test_without_an_index_it_says_so() -> None:
    chain: Any = SimpleNamespace(base=BASE)
    with pytest.raises(Refused):
        list(LedgerReader(chain).records_in(PATIENT, COMPARTMENT))
