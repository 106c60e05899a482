"""The housekeeper forgets in the background and measures; what it forgot is said to be gone, to peers too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consilium.contracts.registry import default_registry
from consilium.ledger import codec
from consilium.ledger.errors import InvariantBroken
from consilium.node import housekeeping
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


async def test_rows_that_nobody_reads_are_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "SCRUB_ROWS", 7)
    keeper = Housekeeper(run.chain, run.store, tmp_path, 0)
    rows = [key for key, _ in run.store.iterate(b"")]
    seen: list[bytes] = []
    iterate = run.store.iterate

    def noting(*given: Any, **more: Any) -> Iterator[tuple[bytes, bytes]]:
        for key, value in iterate(*given, **more):
            seen.append(key)
            yield key, value

    monkeypatch.setattr(type(run.store), "iterate", lambda _, *given, **more: noting(*given, **more))
    for _ in range(len(rows) // 7 + 2):
        keeper._scrub()
    assert seen == rows
    keeper._scrub()
    assert seen[len(rows) :] == rows[:7]  # over and over


async def test_damage_that_nobody_read_is_found_and_ends_the_node(tmp_path: Path) -> None:
    made = Run(LevelKV(tmp_path / CHAIN_FOLDER, create=True))
    made.add_many(30)
    assert isinstance(made.store, LevelKV)
    made.store.compact(b"")
    made.store.close()
    table = max((tmp_path / CHAIN_FOLDER).glob("*.ldb"), key=lambda path: path.stat().st_size)
    raw = bytearray(table.read_bytes())
    raw[100] ^= 1
    table.write_bytes(raw)
    store = LevelKV(tmp_path / CHAIN_FOLDER)
    keeper = Housekeeper(made.chain, store, tmp_path, 0)
    with pytest.raises(InvariantBroken, match="Corruption"):
        keeper._scrub()
    store.close()
