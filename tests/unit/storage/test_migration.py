"""An older store becomes the very store that the present program would have written, also when it is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from consilium.ledger import codec
from consilium.ledger.crypto import Tag
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.trie_nodes import BRANCH_HEAD, node_key
from consilium.ledger.trie_parts import build
from consilium.ledger.trie_proof import value_hash, verify_state
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


def migrated(store: KeyValue) -> dict[bytes, bytes]:
    """What a migration makes of such a chain: all branches of the trie are written, and nothing leads back."""
    tip = schema.at_height(schema.ROOT, HEIGHTS)
    kept = {
        key: row
        for key, row in rows(store).items()
        if key[:1] not in (schema.BRANCH, schema.UNDO, schema.MOVES, schema.ROOT) or key == tip
    }
    _, branches = build(pairs_in(store), b"")
    return kept | {schema.BRANCH + key: node[len(BRANCH_HEAD) :] for key, node in branches}


def pairs_in(store: KeyValue) -> list[tuple[bytes, bytes]]:
    return [(key[1:], value_hash(schema.state_of(row)[1])) for key, row in store.iterate(schema.STATE)]


def old_nodes(
    pairs: list[tuple[bytes, bytes]], depth: int, nodes: dict[bytes, bytes]
) -> tuple[bytes, int, int]:
    """The trie as format 2 kept it, each node under a version: its hash, its version, and the keys of a bucket."""
    version = len(pairs) % 7 + depth
    key = version.to_bytes(8, "big") + node_key(depth, pairs[0][0])
    if len(pairs) <= 24:
        flat = b"".join(path + value for path, value in pairs)
        nodes[key] = b"\x00" + flat
        return Tag("consilium/state-bucket/1").digest(flat), version, len(pairs)
    slots = [[pair for pair in pairs if pair[0].hex()[depth] == nibble] for nibble in "0123456789abcdef"]
    bitmap = sum(1 << slot for slot, below in enumerate(slots) if below).to_bytes(2, "big")
    below = [old_nodes(inside, depth + 1, nodes) for inside in slots if inside]
    hashed = bitmap + b"".join(child for child, _, _ in below)
    versions = b"".join(version.to_bytes(8, "big") for _, version, _ in below)
    nodes[key] = b"\x01" + hashed + versions + bytes(size for _, _, size in below)
    return Tag("consilium/state-branch/1").digest(hashed), version, 0


def as_format_2(store: KeyValue, chain_id: bytes = CHAIN) -> dict[bytes, bytes]:
    """The same chain as format 2 kept it: all nodes of the trie, and what each height replaced."""
    tip = ChainStore(store, chain_id, proof_heights=PROOF_HEIGHTS).tip
    gone = (schema.BRANCH, schema.MOVES, schema.ROOT)
    old = {key: row for key, row in rows(store).items() if key[:1] not in gone}
    nodes: dict[bytes, bytes] = {b"of an earlier root": b"\x00"}
    digest, version, _ = old_nodes(pairs_in(store), 0, nodes)
    assert digest == tip.state_root
    old |= {schema.OLD_NODE + key: node for key, node in nodes.items()}
    for height in range(max(0, tip.height - 3), tip.height + 1):
        old[schema.at_height(schema.OLD_STALE, height)] = b"\x90"
        old[schema.at_height(schema.ROOT, height)] = version.to_bytes(8, "big") + digest
    fields = {name: getattr(tip, name) for name in tip.__struct_fields__}
    old[schema.TIP] = codec.encode(migration.OldTip(**fields, state_version=version))
    old[schema.FORMAT] = schema.format_bytes(2)
    return old


def as_format_1(store: KeyValue, chain_id: bytes = CHAIN) -> dict[bytes, bytes]:
    """The same chain as format 1 kept it: a row for each event, and one for each subject of each event."""
    chain = ChainStore(store, chain_id, proof_heights=PROOF_HEIGHTS)
    second = as_format_2(store, chain_id)
    old = {key: row for key, row in second.items() if key[:1] not in (schema.EVENT, schema.SUBJECT)}
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


@pytest.mark.parametrize("form", [as_format_1, as_format_2])
@pytest.mark.parametrize("kind", ["memory", "leveldb"])
def test_an_old_format_becomes_the_present_one(
    kind: str, form: Callable[[KeyValue], dict[bytes, bytes]], tmp_path: Path
) -> None:
    good = present()
    store: KeyValue = MemoryKV() if kind == "memory" else LevelKV(tmp_path / "chain", create=True)
    old = form(good)
    assert old != rows(good)
    store.write(list(old.items()), sync=True)
    assert code_of(store) == "store.older_format"
    told: list[tuple[int, int]] = []
    assert migrate(store, lambda done, total: told.append((done, total))) == [1, 2][form is as_format_2 :]
    assert rows(store) == migrated(good)
    assert told[-1] == (HEIGHTS, HEIGHTS)
    chain = ChainStore(store, CHAIN, proof_heights=PROOF_HEIGHTS)
    for number in range(HEIGHTS):
        key = b"key %d" % number
        value, proof = chain.prove(key, HEIGHTS)
        assert value == b"value"
        assert verify_state(chain.tip.state_root, key, value, proof)
    with pytest.raises(Refused) as refused:
        chain.prove(b"key 1", HEIGHTS - 1)
    assert refused.value.code == "chain.height_pruned"
    assert migrate(store) == []


@pytest.mark.parametrize("damage", [None, b"", b"\x01\xff\xff"])
def test_a_damaged_trie_is_named_and_left_alone(damage: bytes | None) -> None:
    old = as_format_2(present())
    root = next(key for key in old if key[:1] == schema.OLD_NODE and key[9:] == b"\x00")
    if damage is None:
        del old[root]
    else:
        old[root] = damage
    store = MemoryKV(old)
    with pytest.raises(Refused) as refused:
        migrate(store)
    assert refused.value.code == "store.corrupt"
    assert rows(store)[schema.TIP] == old[schema.TIP]


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
    monkeypatch.setattr(migration, "DELETED_PER_BATCH", 7)
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
                assert migrate(again)[-1] == 2
                assert rows(again) == migrated(good), writes
        else:
            through += 1
            assert rows(store) == migrated(good)
    assert 0 < through < 30


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
            assert migrate(store) == [0, 1, 2]
        except InvariantBroken:
            store.left = -1
            assert migrate(store)[-1] == 2
        assert rows(store) == migrated(good)
