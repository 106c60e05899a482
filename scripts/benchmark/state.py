"""What a changed key costs: the trie, LevelDB's writes, bytes written, at growing sizes of the state.

`scripts/bench state --json`. Blocks of so many changed keys are applied to a state of so many keys in LevelDB, as the
node does it: `prepare`, `writes`, one synced write, `committed`. Times are this thread's CPU (what the machine's other
work does not touch) and the wall's; SHA-256 of 300 bytes is measured in the same run, since a trie is mostly hashing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from consilium.ledger.state import Change
from consilium.storage.leveldb import LevelKV
from consilium.storage.state import StateStore

KEYS: Final = (10_000, 100_000, 1_000_000)
CHANGES: Final = 2_000
BLOCKS: Final = 60
BUILD_CHANGES: Final = 20_000
KEY_BYTES: Final = 33
VALUE_BYTES: Final = 120
NEW_SHARE: Final = 0.25
"""Of the changes of a block: keys that the state had not."""
HASHED_BYTES: Final = 300
PROOFS: Final = 200


@dataclass
class Costs:
    """Per block: seconds of CPU, seconds of wall, bytes handed to LevelDB."""

    trie_s: list[float]
    rows_s: list[float]
    write_s: list[float]
    wall_s: list[float]
    bytes: list[int]


def sha256_us(rounds: int = 20_000) -> float:
    """This machine's SHA-256 of HASHED_BYTES, in µs."""
    piece = bytes(HASHED_BYTES)
    began_s = time.thread_time()
    for _ in range(rounds):
        hashlib.sha256(piece).digest()
    return (time.thread_time() - began_s) / rounds * 1e6


class Bench:
    """A state in a folder, that grows."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._kv = LevelKV(folder, create=True)
        self._state = StateStore(self._kv)
        self._chance = random.Random(seed)
        self._height = 0
        self.keys = 0

    def close(self) -> None:
        """Close the store."""
        self._kv.close()

    def grow(self, keys: int) -> None:
        """Fill up with new keys."""
        while self.keys < keys:
            self._apply([self._fresh() for _ in range(min(BUILD_CHANGES, keys - self.keys))], None)

    def measure(self, blocks: int, changes: int) -> Costs:
        """Apply blocks as a busy network makes them: some new keys, mostly old ones."""
        costs = Costs([], [], [], [], [])
        for _ in range(blocks):
            fresh = int(changes * NEW_SHARE)
            old = self._chance.sample(range(self.keys), changes - fresh)
            block = [(_key(number), self._chance.randbytes(VALUE_BYTES)) for number in old]
            self._apply([*block, *(self._fresh() for _ in range(fresh))], costs)
        return costs

    def proof_us(self) -> float:
        """A proof of a random key, in µs of wall."""
        began_s = time.perf_counter()
        for _ in range(PROOFS):
            self._state.prove(_key(self._chance.randrange(self.keys)), self._height)
        return (time.perf_counter() - began_s) / PROOFS * 1e6

    def _fresh(self) -> tuple[bytes, bytes]:
        self.keys += 1
        return _key(self.keys - 1), self._chance.randbytes(VALUE_BYTES)

    def _apply(self, block: Sequence[Change], costs: Costs | None) -> None:
        self._height += 1
        for key, value in block:
            if value is not None:
                self._state.get(key)  # contracts have read what they change
        wall = time.perf_counter()
        start = time.thread_time()
        update = self._state.prepare(block)
        prepared = time.thread_time()
        writes = self._state.writes(self._height, block, update)
        rows = time.thread_time()
        self._kv.write(writes, sync=True)
        written = time.thread_time()
        self._state.committed(block, update)
        done = time.thread_time()
        if costs is not None:
            costs.trie_s.append(prepared - start)
            costs.rows_s.append(rows - prepared + done - written)
            costs.write_s.append(written - rows)
            costs.wall_s.append(time.perf_counter() - wall)
            costs.bytes.append(sum(len(key) + len(value or b"") for key, value in writes))


def _key(number: int) -> bytes:
    return b"k" + hashlib.sha256(number.to_bytes(8, "big")).digest()


def run(sizes: Sequence[int], blocks: int, changes: int, folder: Path | None = None) -> dict[str, Any]:
    """All sizes, one after the other, in one store."""
    found = []
    with tempfile.TemporaryDirectory(dir=folder) as made:
        bench = Bench(Path(made) / "state", seed=1)
        try:
            for size in sizes:
                bench.grow(size)
                bench.measure(blocks // 4, changes)  # caches as in the middle of a day
                found.append(_figures(size, changes, bench.measure(blocks, changes), bench.proof_us()))
        finally:
            bench.close()
    return {
        "changes_per_block": changes,
        "blocks": blocks,
        "value_bytes": VALUE_BYTES,
        "new_share": NEW_SHARE,
        "sizes": found,
    }


def _figures(size: int, changes: int, costs: Costs, proof_us: float) -> dict[str, Any]:
    def per_key(values: Sequence[float]) -> float:
        return round(statistics.median(values) / changes * 1e6, 2)

    sha = sha256_us()
    cpu = [sum(parts) for parts in zip(costs.trie_s, costs.rows_s, costs.write_s, strict=True)]
    return {
        "keys": size,
        "trie_us_per_key": per_key(costs.trie_s),
        "rows_us_per_key": per_key(costs.rows_s),
        "write_us_per_key": per_key(costs.write_s),
        "total_us_per_key": per_key(cpu),
        "wall_us_per_key": per_key(costs.wall_s),
        "bytes_per_key": round(statistics.median(costs.bytes) / changes),
        "proof_us": round(proof_us, 1),
        "sha256_us": round(sha, 3),
        "total_in_sha256": round(per_key(cpu) / sha, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="scripts/bench state", description=(__doc__ or "").splitlines()[0])
    sizes = " ".join(f"{size:,}" for size in KEYS)
    parser.add_argument(
        "--keys",
        type=int,
        nargs="+",
        default=list(KEYS),
        help=f"sizes of the state, growing (default {sizes})",
    )
    parser.add_argument(
        "--changes", type=int, default=CHANGES, help=f"keys that a block changes (default {CHANGES:,})"
    )
    parser.add_argument(
        "--blocks", type=int, default=BLOCKS, help=f"blocks measured at each size (default {BLOCKS})"
    )
    parser.add_argument(
        "--folder", type=Path, help="where to put the store (default: the system's temporary folder)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    if min(given.blocks, given.changes) < 1:
        parser.error("--blocks and --changes: at least 1")
    if given.changes > min(given.keys):
        parser.error(f"--changes: a state of {min(given.keys):,} keys has no {given.changes:,} to change")
    found = run(given.keys, given.blocks, given.changes, given.folder)
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        for figures in found["sizes"]:
            print(", ".join(f"{name} {value}" for name, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
