"""A store made from a snapshot is the one that following the chain would have made: it goes on, and proves the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from consilium.ledger.genesis import genesis_block
from consilium.ledger.snapshot import (
    BranchPart,
    Certified,
    RowsPart,
    check_branch,
    check_leaves,
    check_manifest,
    check_rows,
    check_run,
)
from consilium.ledger.trie_parts import build, starts_with
from consilium.ledger.trie_proof import key_hash, value_hash
from consilium.node.shelf import make_manifest
from consilium.storage import schema
from consilium.storage.chain import ChainStore, Place
from consilium.storage.kv import KeyValue, MemoryKV
from consilium.storage.leveldb import LevelKV
from consilium.storage.snapshot import StateSnapshot
from consilium.storage.staging import Staging
from consilium.storage.verify import check_chain
from tests.unit.storage.test_chain import CHAIN, GENESIS, PROOF_HEIGHTS, Run, outcome_of, refusal

FIRST = genesis_block(GENESIS)
GENESIS_OUTCOME = outcome_of(0, [(b"genesis", b"yes"), (b"key 1", b"one")])


@dataclass
class Source:
    """A chain with a snapshot of its state at a height."""

    run: Run
    snapshot: StateSnapshot
    certified: Certified


def source(run: Run) -> Source:
    """A snapshot at the tip, with what certifies it; a block is added."""
    snapshot = run.chain.snapshot()
    run.add([(b"later", b"%d" % snapshot.height)])
    certified = check_manifest(make_manifest(run.chain, snapshot.height), GENESIS)
    return Source(run, snapshot, certified)


def staging(store: KeyValue) -> Staging:
    return Staging(store, FIRST, GENESIS_OUTCOME)


def fetch_state(given: Source, into: Staging, parts_max: int = 10**6, *, split: bool = False) -> int:
    """Fetch parts until there are so many; with `split`, none larger than a sixteenth. How many were fetched."""
    fetched = 0
    open_parts = [(b"", bytes(given.certified.header.state_root))]
    while open_parts:
        prefix, expected = open_parts.pop()
        if into.has_part(prefix, expected):
            continue
        part = given.snapshot.part(prefix)
        assert part is not None
        if isinstance(part, RowsPart) and split and not prefix:
            part = branch_at_root(part)
        if isinstance(part, BranchPart):
            children = check_branch(part, expected)
            into.put_branch(prefix, [slot for slot, _ in children])
            open_parts += [(prefix + bytes((slot,)), below) for slot, below in children]
            continue
        into.put_rows(prefix, check_rows(part, prefix, expected))
        fetched += 1
        if fetched == parts_max:
            break
    return fetched


def branch_at_root(part: RowsPart) -> BranchPart:
    """What a node with smaller parts would send in place of all rows."""
    pairs = [(key_hash(row.key), value_hash(row.value)) for row in part.rows]
    hashes, bitmap = b"", 0
    for slot in range(16):
        below = [pair for pair in pairs if starts_with(pair[0], bytes((slot,)))]
        if below:
            hashes += build(below, bytes((slot,)))[0].hash
            bitmap |= 1 << slot
    return BranchPart(bitmap, hashes)


def fetch_blocks(given: Source, into: Staging, runs_max: int = 10**6, length: int = 3) -> None:
    chain = given.run.chain
    while runs_max and (wanted := into.wanted_block(given.certified)) is not None:
        blocks = [
            chain.block(height) for height in range(max(1, wanted.height - length + 1), wanted.height + 1)
        ]
        check_run(blocks, wanted.height, wanted.hash)
        into.put_run(blocks)
        runs_max -= 1


def fetch_leaves(given: Source, into: Staging) -> int:
    count = 0
    for height, root in list(into.wanted_leaves(given.certified)):
        leaves = given.run.chain.leaves(height)
        into.put_leaves([(height, leaves, check_leaves(leaves, root))])
        count += 1
    return count


def made(given: Source, store: KeyValue, *, split: bool = False) -> ChainStore:
    into = staging(store)
    fetch_state(given, into, split=split)
    fetch_blocks(given, into)
    fetch_leaves(given, into)
    into.finish(given.certified)
    return ChainStore(store, CHAIN, proof_heights=PROOF_HEIGHTS)


def follow(run: Run, chain: ChainStore) -> None:
    """Let a chain's store execute what the run has beyond it."""
    for height in range(chain.tip.height + 1, run.chain.tip.height + 1):
        before, after = run.states[height - 1], run.states[height]
        changes = [(key, value) for key, value in after.items() if before.get(key) != value]
        batch = run.batches[height]
        certificate = run.chain.certificate(height)
        assert batch is not None
        assert certificate is not None
        outcome = outcome_of(
            height, [*changes, *((key, None) for key in before if key not in after)], batch.transactions
        )
        chain.commit(run.chain.block(height), certificate, [batch.raw], outcome)


@pytest.fixture(params=["memory", "leveldb"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], KeyValue]:
    numbers = iter(range(100))
    if request.param == "memory":
        return MemoryKV
    return lambda: LevelKV(tmp_path / f"store-{next(numbers)}", create=True)


@pytest.mark.parametrize("split", [False, True])
def test_a_store_from_a_snapshot_goes_on_as_its_peers(new_store: Callable[[], KeyValue], split: bool) -> None:
    run = Run(new_store())
    run.add_many(20)
    given = source(run)
    run.add_many(15, seed=5)
    chain = made(given, new_store(), split=split)
    base = given.snapshot.height
    assert chain.base == base == chain.tip.height == 20
    assert chain.lowest_whole == base + 1
    for key in run.states[base]:
        assert chain.state.get(key) == run.states[base][key]
    check_chain(chain, FIRST.header)
    follow(run, chain)
    tip = run.chain.tip
    assert (chain.tip.height, chain.tip.state_root, chain.tip.history) == (
        tip.height,
        tip.state_root,
        tip.history,
    )
    check_chain(chain, FIRST.header)
    for height in range(tip.height - PROOF_HEIGHTS, tip.height):
        for key in (*run.states[height], b"absent"):
            assert chain.prove(key, height) == run.chain.prove(key, height)
    for height in range(tip.height):
        assert chain.header(height) == run.chain.header(height)
        assert chain.history_proof(height, tip.height) == run.chain.history_proof(height, tip.height)
    assert list(chain.seen_since(0)) == list(run.chain.seen_since(0))


def test_what_came_before_is_refused_by_name() -> None:
    run = Run(MemoryKV())
    run.add_many(20)
    given = source(run)
    chain = made(given, MemoryKV())
    follow(run, chain)
    old = Place(3, -1)
    assert refusal(lambda: chain.events(old, 10)) == "chain.before_snapshot"
    assert refusal(lambda: chain.events_of(bytes(16), old, 10)) == "chain.before_snapshot"
    assert refusal(lambda: chain.events(Place(-1, -1), 10)) == "chain.before_snapshot"
    assert chain.events(Place(20, 2**31 - 1), 100) == run.chain.events(Place(20, 2**31 - 1), 100) != []
    assert refusal(lambda: chain.batches(20)) == "chain.height_pruned"
    assert refusal(lambda: chain.certificate(19)) == "chain.height_pruned"
    assert refusal(lambda: chain.state_at(19)) == "chain.height_pruned"
    assert chain.certificate(20) == run.chain.certificate(20)
    assert run.open(run.store).base == 0


def test_only_the_window_of_repetition_is_fetched() -> None:
    run = Run(MemoryKV())
    run.step_ms = 120_000  # five blocks in ten minutes
    run.add_many(12)
    given = source(run)
    into = staging(MemoryKV())
    fetch_blocks(given, into)
    assert [height for height, _ in into.wanted_leaves(given.certified)] == [12, 11, 10, 9, 8]
    assert fetch_leaves(given, into) == 5
    assert fetch_leaves(given, into) == 0


def test_nothing_is_fetched_twice_after_a_crash(new_store: Callable[[], KeyValue]) -> None:
    run = Run(new_store())
    run.add_many(20)
    given = source(run)
    store = new_store()
    whole = fetch_state(given, staging(new_store()), split=True)
    first = fetch_state(given, staging(store), 3, split=True)
    into = staging(store)
    assert into.progress.parts == first == 3
    assert fetch_state(given, into, split=True) == whole - 3
    assert into.progress.keys == len(run.states[20])
    fetch_blocks(given, into, runs_max=2)
    into = staging(store)
    assert into.progress.blocks == 6
    wanted = into.wanted_block(given.certified)
    assert wanted is not None
    assert wanted.height == 14
    assert refusal(lambda: into.finish(given.certified)) == "snapshot.invalid"
    fetch_blocks(given, into)
    fetch_leaves(given, into)
    into.finish(given.certified)
    check_chain(ChainStore(store, CHAIN), FIRST.header)


@pytest.mark.parametrize(
    ("first_split", "then_split"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_a_later_snapshot_takes_over_what_it_shares(first_split: bool, then_split: bool) -> None:
    """The first one is gone when half of it is here: what did not change stays, and nothing of the rest is left."""
    run = Run(MemoryKV())
    run.add_many(20)
    early = source(run)
    store = MemoryKV()
    into = staging(store)
    fetch_state(early, into, 9, split=first_split)
    fetch_blocks(early, into, runs_max=2)
    run.add([(b"key 1", None), (b"one more", b"1")])
    late = source(run)
    fetched = fetch_state(late, into, split=then_split)
    if first_split and then_split:
        assert fetched < 16
    fetch_blocks(late, into)
    fetch_leaves(late, into)
    into.finish(late.certified)
    chain = ChainStore(store, CHAIN)
    check_chain(chain, FIRST.header)
    height = late.snapshot.height
    assert {key: value for _, key, value in chain.state_rows()} == run.states[height]
    clean = made(late, MemoryKV(), split=then_split)
    # No branch of the trie is left that nobody refers to.
    assert len(list(store.iterate(schema.BRANCH))) == len(list(clean._store.iterate(schema.BRANCH)))
    assert [
        key
        for key, _ in store.iterate(b"")
        if key[:1] in (schema.SYNC_FORMAT, schema.SYNC_PART, schema.SYNC_RUNS)
    ] == []


def test_a_store_in_the_making_is_no_chain() -> None:
    run = Run(MemoryKV())
    run.add_many(6)
    given = source(run)
    store = MemoryKV()
    into = staging(store)
    fetch_state(given, into)
    fetch_blocks(given, into)
    assert refusal(lambda: ChainStore(store, CHAIN)) == "store.corrupt"
    store.write([(schema.SYNC_FORMAT, schema.format_bytes(schema.STORE_FORMAT + 1))], sync=True)
    assert refusal(lambda: staging(store)) == "store.newer_format"


def test_parts_that_are_not_all_there_make_no_chain() -> None:
    run = Run(MemoryKV())
    run.add_many(20)
    given = source(run)
    into = staging(MemoryKV())
    fetch_state(given, into, 5, split=True)
    fetch_blocks(given, into)
    fetch_leaves(given, into)
    assert refusal(lambda: into.finish(given.certified)) == "snapshot.invalid"


def test_blocks_of_another_genesis_are_refused() -> None:
    run = Run(MemoryKV())
    run.add_many(4)
    given = source(run)
    other = Staging(MemoryKV(), given.run.chain.block(1), GENESIS_OUTCOME)
    assert refusal(lambda: fetch_blocks(given, other)) == "snapshot.wrong_chain"


def test_a_snapshot_answers_until_its_last_reader_is_through() -> None:
    run = Run(MemoryKV())
    run.add_many(20)
    given = source(run)
    before = given.snapshot.part(b"")
    run.add_many(20, seed=2)
    assert given.snapshot.part(b"") == before
    assert given.snapshot.part(bytes(60)) is None
    given.snapshot.close()
    assert refusal(lambda: given.snapshot.part(b"")) == "snapshot.unknown"
