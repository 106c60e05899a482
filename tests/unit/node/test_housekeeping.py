"""The housekeeper forgets in the background and measures; what it forgot is said to be gone, to peers too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from consilium.contracts.registry import default_registry
from consilium.ledger import codec
from consilium.ledger.errors import InvariantBroken
from consilium.node.executor import Executor
from consilium.node.housekeeping import Housekeeper, folder_bytes, measure
from consilium.node.peer_messages import BLOCKS_BYTES_MAX, Blocks
from consilium.node.stores import CHAIN_FOLDER, PROMISE_FOLDER, SHARES_FOLDER, VAULT_FOLDER
from consilium.storage.leveldb import LevelKV
from tests.unit.storage.test_chain import Run
from tests.unit.storage.test_pruning import STEP_MS


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(LevelKV(tmp_path / CHAIN_FOLDER, create=True))
    for name in (PROMISE_FOLDER, VAULT_FOLDER, SHARES_FOLDER):
        (tmp_path / name).mkdir()
    made.step_ms = STEP_MS
    made.add_many(30)
    return made


def heights_in(raw: bytes | None) -> list[int]:
    assert raw is not None
    return [decided.block.height for decided in codec.decode(raw, Blocks, BLOCKS_BYTES_MAX).blocks]


async def test_it_prunes_and_measures_until_it_is_cancelled(run: Run, tmp_path: Path) -> None:
    keeper = Housekeeper(run.chain, run.store, tmp_path, 10)
    task = asyncio.create_task(keeper.run())
    async with asyncio.timeout(10):
        while not keeper.usage:  # noqa: ASYNC110  # it is measured after it was pruned
            await asyncio.sleep(0.001)
    assert keeper.usage["lowest_height"] == 21
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_disk_that_fails_ends_it(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise InvariantBroken("the disk failed")

    monkeypatch.setattr(run.chain, "prune", broken)
    with pytest.raises(InvariantBroken):
        await asyncio.wait_for(Housekeeper(run.chain, run.store, tmp_path, 10).run(), 10)


def test_what_is_pruned_is_not_served_and_said_to_be_so(run: Run) -> None:
    executor = Executor(run.chain, default_registry())
    assert heights_in(executor.encoded_blocks(1, 3)) == [1, 2, 3]
    run.chain.prune(10)
    for first in (0, 1, 20):
        assert heights_in(executor.encoded_blocks(first, 64)) == []
    assert heights_in(executor.encoded_blocks(21, 3)) == [21, 22, 23]
    assert executor.encoded_blocks(31, 1) is None


def test_the_disk_is_told_by_kind(run: Run, tmp_path: Path) -> None:
    (tmp_path / VAULT_FOLDER / "some").write_bytes(bytes(1_000))
    assert isinstance(run.store, LevelKV)
    run.store.compact(b"")  # out of the log, into tables
    usage = measure(run.chain, run.store, tmp_path, 7)
    assert usage["folders"][VAULT_FOLDER] == 1_000
    assert usage["folders"][CHAIN_FOLDER] == folder_bytes(tmp_path / CHAIN_FOLDER) > 0
    assert set(usage["chain"]) == {
        "blocks", "batches", "certificates", "receipts", "state", "trie", "history", "events"
    }  # fmt: skip
    assert sum(usage["chain"].values()) > 0
    assert (usage["keep_blocks"], usage["lowest_height"]) == (7, 1)
    assert usage["free"] > 0
