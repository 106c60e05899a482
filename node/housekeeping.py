"""What a node does for its disk beside the chain's work: forgets old blocks, measures, and reads what nobody reads.

A task of its own, in threads, in small pieces: a commit never waits long behind it. A flipped bit shows when its row
is read, and an old row may never be: so all of the chain's store is read, a little at a time, over and over. Damage
halts the node as it does anywhere else.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from consilium.node.stores import CHAIN_FOLDER, PROMISE_FOLDER, SHARES_FOLDER, VAULT_FOLDER
from consilium.storage import schema
from consilium.storage.chain import ChainStore
from consilium.storage.kv import KeyValue

PAUSE_S: Final = 5.0
SCRUB_BYTES: Final = 8 * 1024 * 1024
"""Read in one round: a hundred gigabytes take about a day."""
SCRUB_ROWS: Final = 20_000

_log = structlog.get_logger("consilium.housekeeping")


class Housekeeper:
    """`usage` is what `status` shows: bytes by kind, as of the last measurement."""

    def __init__(self, chain: ChainStore, store: KeyValue, data_dir: Path, keep_blocks: int) -> None:
        self._chain = chain
        self._store = store
        self._data_dir = data_dir
        self._keep_blocks = keep_blocks
        self._scrubbed = b""
        self.usage: Mapping[str, Any] = {}

    async def run(self) -> None:
        """For ever. Raises InvariantBroken where the disk fails."""
        while True:
            if self._keep_blocks:
                await self._prune()
            self.usage = await asyncio.to_thread(
                measure, self._chain, self._store, self._data_dir, self._keep_blocks
            )
            await asyncio.to_thread(self._scrub)
            await asyncio.sleep(PAUSE_S)

    def _scrub(self) -> None:
        """Read some rows, in order, from where the last round ended; every read verifies its checksum."""
        size = 0
        for key, value in self._store.iterate(b"", start=self._scrubbed or None, limit=SCRUB_ROWS):
            size += len(key) + len(value)
            self._scrubbed = key + b"\x00"
            if size > SCRUB_BYTES:
                return
        if size == 0:
            self._scrubbed = b""

    async def _prune(self) -> None:
        forgotten = 0
        while count := await asyncio.to_thread(self._chain.prune, self._keep_blocks):
            forgotten += count
        if forgotten:
            _log.info("chain.pruned", heights=forgotten, lowest=self._chain.lowest_whole)


def measure(chain: ChainStore, store: KeyValue, data_dir: Path, keep_blocks: int) -> dict[str, Any]:
    """Bytes on disk. `chain` is by kind and approximate: what was written last is in LevelDB's log, by no kind yet."""
    system = os.statvfs(data_dir)
    return {
        "chain": {
            kind: sum(store.size_bytes(prefix) for prefix in prefixes)
            for kind, prefixes in schema.CHAIN_KINDS.items()
        },
        "folders": {
            name: folder_bytes(data_dir / name)
            for name in (CHAIN_FOLDER, PROMISE_FOLDER, VAULT_FOLDER, SHARES_FOLDER)
        },
        "free": system.f_bavail * system.f_frsize,
        "keep_blocks": keep_blocks,
        "lowest_height": chain.lowest_whole,
    }


def folder_bytes(folder: Path) -> int:
    """What the files of a folder take. A file that goes while they are counted counts nothing."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                total += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
    return total
