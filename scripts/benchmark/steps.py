"""`scripts/bench steps`: what each step of a transaction's life costs a node, in CPU time.

One process, one thread, a real store, no network: CPU time is hardly moved by what else the machine does, so that steps
can be compared between runs. What is measured is the product's own code, step by step in the order of a transaction's
life; the floor beside each step is what no implementation of it can avoid.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from nacl import bindings

from consilium.ledger.batch import verify_batch
from consilium.ledger.execution import Outcome
from consilium.ledger.transaction import verify_transaction
from consilium.ledger.trie import TrieUpdate
from consilium.storage.chain import ChainStore, Tip
from consilium.storage.kv import KeyValue, Write
from scripts.benchmark.chains import LoneChain
from scripts.benchmark.report import given

BATCH: Final = 256
WARM_BLOCKS: Final = 3
EXECUTE: Final = "execute"
TRIE: Final = "trie"
ROWS: Final = "rows of the height"
WRITE: Final = "LevelDB write"


class Metered:
    """A key-value store that counts the CPU time and the bytes of its writes; everything else goes through."""

    def __init__(self, inner: KeyValue) -> None:
        self._inner = inner
        self.cpu_s = 0.0
        self.bytes = 0
        self.rows = 0
        self.last: Sequence[Write] = ()

    def write(self, writes: Sequence[Write], *, sync: bool) -> None:
        started = time.thread_time()
        self._inner.write(writes, sync=sync)
        self.cpu_s += time.thread_time() - started
        self.last = writes

    def count(self) -> None:
        """Count the rows of the last write."""
        self.rows += len(self.last)
        self.bytes += sum(len(key) + (len(value) if value is not None else 0) for key, value in self.last)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class MeteredStore:
    """A chain's store whose two dear methods count as steps; everything else goes through."""

    def __init__(self, inner: ChainStore, meter: Meter) -> None:
        self._inner = inner
        self._meter = meter

    def prepare(self, outcome: Outcome) -> TrieUpdate:
        with self._meter.step(TRIE):
            return self._inner.prepare(outcome)

    def commit(self, *parts: Any) -> Tip:
        with self._meter.step(ROWS):
            return self._inner.commit(*parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Meter:
    """CPU seconds by step, of one block after the other."""

    def __init__(self) -> None:
        self.blocks: list[dict[str, float]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """What runs inside counts for this step of the current block."""
        started = time.thread_time()
        try:
            yield
        finally:
            now = self.blocks[-1]
            now[name] = now.get(name, 0.0) + time.thread_time() - started


def run(options: argparse.Namespace, progress: Callable[[str], None]) -> dict[str, Any]:
    """The whole command."""
    with tempfile.TemporaryDirectory(prefix="consilium-") as folder:
        chain = LoneChain(Path(folder) / "chain", Metered)
        progress("filling the chain")
        chain.settle_in()
        for _ in range(options.fill // options.transactions):
            chain.decide(
                [chain.anchoring(place, options.operations) for place in range(options.transactions)]
            )
        return _measured(chain, options, progress)


def _measured(
    chain: LoneChain, options: argparse.Namespace, progress: Callable[[str], None]
) -> dict[str, Any]:
    meter = Meter()
    kv: Metered = chain.store._store  # type: ignore[assignment]
    count, process_s = options.transactions, 0.0
    for number in range(WARM_BLOCKS + options.blocks):
        if number == WARM_BLOCKS:
            meter, process_s = Meter(), time.process_time()
            kv.bytes = kv.rows = 0
        meter.blocks.append({})
        kv.cpu_s = 0.0
        with meter.step("sign (client)"):
            signed = [chain.anchoring(place, options.operations) for place in range(count)]
        raws = [one.raw for one in signed]
        _life(chain, meter, raws)
        meter.blocks[-1][WRITE] = kv.cpu_s
        meter.blocks[-1][ROWS] -= kv.cpu_s
        kv.count()
    process_s = time.process_time() - process_s
    steps = {name: statistics.median(b[name] for b in meter.blocks) / count * 1e6 for name in meter.blocks[0]}
    least = {name: min(b[name] for b in meter.blocks) / count * 1e6 for name in meter.blocks[0]}
    total = count * options.blocks
    return {
        "options": given(options),
        "median": {
            "steps_us": steps,
            "node_us": sum(v for name, v in steps.items() if name not in NOT_AT_EVERY_NODE),
            "least_us": least,
            "node_least_us": sum(v for name, v in least.items() if name not in NOT_AT_EVERY_NODE),
            "process_us": process_s / total * 1e6,
            "floors_us": _floors(raws[0]),
            "store_bytes": kv.bytes / total,
            "store_rows": kv.rows / total,
            "transaction_bytes": len(raws[0]),
        },
    }


NOT_AT_EVERY_NODE: Final = ("sign (client)", "seal the batch (author)")


def _life(chain: LoneChain, meter: Meter, raws: list[bytes]) -> None:
    """One block's transactions, from the client's bytes to the disk."""
    with meter.step("verify"):
        verified = [verify_transaction(raw, chain.chain_id) for raw in raws]
    with meter.step("seal the batch (author)"):
        batches = [chain.seal(verified[at : at + BATCH]) for at in range(0, len(verified), BATCH)]
    with meter.step("open the batch"):
        known = {one.raw: one for one in verified}
        batches = [verify_batch(batch.raw, chain.chain_id, known) for batch in batches]
    block, certificate = chain.block(batches)
    store = MeteredStore(chain.store, meter)
    executor = chain.executor
    executor.store = store  # type: ignore[assignment]
    with meter.step(EXECUTE):
        executor.commit(block, certificate, batches)
    executor.store = chain.store
    meter.blocks[-1][EXECUTE] -= meter.blocks[-1][TRIE] + meter.blocks[-1][ROWS]


def _floors(raw: bytes) -> dict[str, float]:
    """What a step cannot go below on this machine, in this run."""
    key, secret = bindings.crypto_sign_seed_keypair(bytes(32))
    signed = bindings.crypto_sign(bytes(32), secret)
    return {
        "one check of a signature": _each(lambda: bindings.crypto_sign_open(signed, key), 2_000),
        "SHA-256 of the transaction": _each(lambda: hashlib.sha256(raw).digest(), 20_000),
        "SHA-256 of 64 bytes": _each(lambda: hashlib.sha256(raw[:64]).digest(), 20_000),
    }


def _each(action: Callable[[], object], count: int) -> float:
    started = time.thread_time()
    for _ in range(count):
        action()
    return (time.thread_time() - started) / count * 1e6
