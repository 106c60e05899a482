"""An older store becomes the very store that the present program would have written, also when it is interrupted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from consilium.ledger import codec
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.storage import migration, schema
from consilium.storage.chain import ChainStore, Place
from consilium.storage.kv import KeyValue, KeyValueReader, MemoryKV, Write
from consilium.storage.leveldb import LevelKV
from consilium.storage.migration import migrate
from tests.unit.storage.test_chain import CHAIN, PROOF_HEIGHTS, Run

HEIGHTS = 40


def present() -> MemoryKV:
    run = Run(MemoryKV())
    for height in range(HEIGHTS):
        run.add([(b"key %d" % height, b"value")], count=1 + height % 40)
    assert isinstance(run.store, MemoryKV)
    return run.store


def rows(store: KeyValue) -> dict[bytes, bytes]:
    return dict(store.iterate(b""))


def as_format_1(store: KeyValue, chain_id: bytes = CHAIN) -> dict[bytes, bytes]:
    """The same chain as format 1 kept it: a row for each event, and one for each subject of each event."""
    chain = ChainStore(store, chain_id, proof_heights=PROOF_HEIGHTS)
    old = {key: row for key, row in rows(store).items() if key[:1] not in (schema.EVENT, schema.SUBJECT)}
    for place, event in chain.events(Place(-1, -1), 10_000):
        tail = place.height.to_bytes(8, "big") + place.index.to_bytes(4, "big")
        old[schema.EVENT + tail] = codec.encode(event)
        for subject in event.subjects:
            old[schema.SUBJECT + subject + tail] = b""
    old[schema.FORMAT] = schema.format_bytes(1)
    return old


def code_of(store: KeyValue) -> str:
    with pytest.raises(Refused) as refused:
        ChainStore(store, CHAIN, proof_heights=PROOF_HEIGHTS)
    return refused.value.code


@pytest.mark.parametrize("kind", ["memory", "leveldb"])
def test_format_1_becomes_the_present_one(kind: str, tmp_path: Path) -> None:
    good = present()
    store: KeyValue = MemoryKV() if kind == "memory" else LevelKV(tmp_path / "chain", create=True)
    old = as_format_1(good)
    assert old != rows(good)
    store.write(list(old.items()), sync=True)
    assert code_of(store) == "store.older_format"
    told: list[tuple[int, int]] = []
    assert migrate(store, lambda done, total: told.append((done, total))) == [1]
    assert rows(store) == rows(good)
    assert told[-1] == (HEIGHTS, HEIGHTS)
    ChainStore(store, CHAIN, proof_heights=PROOF_HEIGHTS)
    assert migrate(store) == []


def test_damage_is_named_and_nothing_of_its_height_is_rewritten() -> None:
    old = as_format_1(present())
    key = schema.event_key(5, 0)
    store = MemoryKV({**old, key: b"\xc1"})
    with pytest.raises(Refused) as refused:
        migrate(store)
    assert refused.value.code == "store.corrupt"
    assert rows(store)[key] == b"\xc1"


class Interrupted(MemoryKV):
    """The process is killed before the write with this number."""

    def __init__(self, values: dict[bytes, bytes], writes_left: int) -> None:
        super().__init__(values)
        self.left = writes_left

    def write(self, writes: Sequence[Write], *, sync: bool) -> None:
        if self.left == 0:
            raise InvariantBroken("killed")
        self.left -= 1
        super().write(writes, sync=sync)


def test_an_interrupted_migration_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "HEIGHTS_PER_BATCH", 7)
    good = present()
    old = as_format_1(good)
    through = 0
    for writes in range(40):
        store = Interrupted(old, writes)
        try:
            migrate(store)
        except InvariantBroken:
            for survived in (store, store.crash(), store.crash(1)):
                again = MemoryKV(rows(survived))
                assert code_of(again) == "store.older_format"
                assert migrate(again) == [1]
                assert rows(again) == rows(good), writes
        else:
            through += 1
            assert rows(store) == rows(good)
    assert 0 < through < 36


def test_between_two_formats_it_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older program finds a newer number, this one an interrupted migration."""
    monkeypatch.setattr(migration, "HEIGHTS_PER_BATCH", 7)
    store = Interrupted(as_format_1(present()), 3)
    with pytest.raises(InvariantBroken):
        migrate(store)
    with pytest.raises(Refused) as refused:
        schema.check_format(store, 1)
    assert refused.value.code == "store.newer_format"
    assert code_of(store) == "store.older_format"


@pytest.mark.parametrize(("number", "code"), [(0, "store.older_format"), (2**31, "store.newer_format")])
def test_other_formats_are_refused_and_left_alone(number: int, code: str) -> None:
    store = present()
    store.write([(schema.FORMAT, schema.format_bytes(number))], sync=True)
    before = rows(store)
    with pytest.raises(Refused) as refused:
        migrate(store)
    assert refused.value.code == code
    assert rows(store) == before


def test_steps_are_taken_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A synthetic format 0, in which every certificate is preceded by a byte."""

    def strip(store: KeyValueReader, first: int) -> Iterator[migration.Batch]:
        for key, row in store.iterate(schema.CERTIFICATE, start=schema.at_height(schema.CERTIFICATE, first)):
            yield migration.Batch([(key, row[1:])], schema.height_in(key))

    monkeypatch.setitem(migration.STEPS, 0, strip)
    good = present()
    older = {
        key: b"\x00" + row if key[:1] == schema.CERTIFICATE else row for key, row in as_format_1(good).items()
    }
    older[schema.FORMAT] = schema.format_bytes(0)
    for writes in (1, 5, 30, 44, 10**6):
        store = Interrupted(older, writes)
        try:
            assert migrate(store) == [0, 1]
        except InvariantBroken:
            store.left = -1
            assert migrate(store)[-1] == 1
        assert rows(store) == rows(good)
