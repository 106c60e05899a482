"""Pruning: what goes, what stays, and that what went is refused by name and not taken for something else."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from consilium.ledger import merkle
from consilium.ledger.transaction import VALIDITY_MAX_MS
from consilium.storage import schema
from consilium.storage.chain import Place
from consilium.storage.kv import MemoryKV
from consilium.storage.leveldb import LevelKV
from tests.unit.storage.test_chain import Run, refusal

STEP_MS = VALIDITY_MAX_MS // 4
"""Five heights are within the window of repetition."""


@pytest.fixture(params=["memory", "leveldb"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    made = Run(MemoryKV() if request.param == "memory" else LevelKV(tmp_path / "chain", create=True))
    made.step_ms = STEP_MS
    made.add_many(30)
    return made


def test_old_payload_goes_and_headers_history_and_indexes_stay(run: Run) -> None:
    kept = {height: run.chain.block(height) for height in range(31)}
    places = {
        t.id: run.chain.place_of(t.id) for batch in run.batches[1:] if batch for t in batch.transactions
    }
    events = run.chain.events(Place(-1, -1), 1_000)
    assert run.chain.lowest_whole == 1
    assert run.chain.prune(10) == 20
    assert run.chain.prune(10) == 0
    for chain in (run.chain, run.open()):
        assert chain.lowest_whole == 21
        for height, block in kept.items():
            assert chain.block(height) == block
            assert chain.height_of(block.hash) == height
        for identifier, place in places.items():
            assert chain.place_of(identifier) == place
        assert chain.events(Place(-1, -1), 1_000) == events
        root = chain.tip.history.root()
        for height in range(30):
            proof = chain.history_proof(height, 31)
            leaf = merkle.leaf_hash(kept[height].hash)
            assert merkle.verify_inclusion(leaf, proof.index, proof.size, proof.path, root)
        for height in range(1, 21):
            for read in (chain.batches, chain.leaves, chain.transactions, chain.certificate):
                assert refusal(partial(read, height)) == "chain.height_pruned"
            assert chain.batch(kept[height].batches[0]) is None
        for height in range(21, 31):
            batch = run.batches[height]
            assert batch is not None
            assert chain.batches(height) == [batch.raw]
            assert chain.batch(batch.digest) == batch.raw
            assert len(chain.leaves(height)) == len(batch.transactions)
            assert chain.certificate(height) is not None
        assert refusal(partial(chain.leaves, 31)) == "chain.unknown_height"
        assert chain.batches(0) == []


def test_the_bytes_leave_the_store(run: Run) -> None:
    run.chain.prune(10)
    for kind in (schema.BATCH, schema.LEAVES, schema.SEEN, schema.CERTIFICATE):
        heights = [schema.height_in(key) for key, _ in run.store.iterate(kind)]
        assert [height for height in heights if height > 0] == list(range(21, 31))
    assert len(list(run.store.iterate(schema.BATCH_PLACE))) == 10


def test_a_certificate_that_receipts_show_stays(run: Run) -> None:
    run.store.write([(schema.at_height(schema.SET_CHANGE, 7), b"")], sync=True)
    run.chain.prune(10)
    certificate = run.chain.certificate(7)
    assert certificate is not None
    assert certificate.block_hash == run.chain.block(7).hash
    assert refusal(lambda: run.chain.certificate(8)) == "chain.height_pruned"


def test_what_could_still_be_repeated_stays_however_little_is_asked_for(run: Run) -> None:
    assert run.chain.prune(0) == 25
    window = run.open().seen_since(run.chain.tip.time_ms - VALIDITY_MAX_MS)
    assert [seen.height for seen in window] == [30, 29, 28, 27]
    run.step_ms = 1
    run.add([])
    assert run.chain.prune(0) == 1  # one millisecond later, one more is out of the window


def test_pruning_goes_in_pieces_and_goes_on_after_more_blocks(run: Run) -> None:
    assert [run.chain.prune(10, 8) for _ in range(4)] == [8, 8, 4, 0]
    run.add_many(3)
    assert run.chain.prune(10) == 3
    assert run.chain.lowest_whole == 24
    run.add_many(5)
    assert run.chain.prune(100) == 0


def test_proofs_of_state_do_not_depend_on_it(run: Run) -> None:
    before = run.chain.prove(b"key 1", 28)
    run.chain.prune(0)
    assert run.chain.prove(b"key 1", 28) == before
