"""`scripts/bench rpc`: readers. Queries per second and their latency at one node of an idle cluster of four, and
receipts checked offline, which need no node at all.

Each kind of query is asked over WebSockets, a few connections with one question outstanding each; all of them read what
the cluster committed just before. The node has one core's worth of Python to answer with, and shares the machine with
three others and with whoever asks.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiohttp

from consilium.client.session import Session
from consilium.contracts import records
from consilium.ledger.receipt import verify_receipt
from consilium.node.testing import LocalCluster
from scripts.benchmark import ceiling
from scripts.benchmark.report import given
from scripts.benchmark.rounds import at
from scripts.benchmark.workload import ID_BYTES, bundle_of, settle_in

RECORDS: Final = 256
TRANSACTIONS: Final = 16
RECEIPTS_CHECKED: Final = 500


async def run(options: argparse.Namespace, progress: Callable[[str], None]) -> dict[str, Any]:
    """The whole command."""
    async with LocalCluster(4) as cluster:
        progress("committing what is asked for")
        asked = await _prepared(cluster)
        await cluster.wait_height(await cluster.height(0))
        found: dict[str, Any] = {"verifies_per_s": ceiling.measure().verifies_per_s}
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            for name, calls in asked.queries.items():
                progress(name)
                found[name] = await _asked(session, f"{cluster.nodes[0].url()}/rpc", calls, options)
        progress("receipts offline")
        rpc = cluster.clients[0]
        receipts = {
            "receipt_of_a_decision": await rpc.verdict_receipt(asked.transactions[0]),
            "receipt_of_state": await rpc.state_receipt(records.RECORDS.key(asked.records[0])),
        }
        for name, raw in receipts.items():
            found[f"{name}_checked_offline"] = _checked(raw, cluster)
        return {
            "options": given(options),
            "median": found,
        }


class _Asked:
    """What is asked: for each kind of query, its calls (method and parameters), taken in turn."""

    def __init__(self, transactions: Sequence[bytes], found: Sequence[bytes]) -> None:
        self.transactions = transactions
        self.records = found
        keys = [records.RECORDS.key(record).hex() for record in found]
        self.queries: dict[str, list[tuple[str, dict[str, Any]]]] = {
            "status": [("node.status", {})],
            "decision": [("transaction.get", {"id": one.hex()}) for one in transactions],
            "state": [("state.get", {"key": key}) for key in keys],
            "state_with_proof": [("receipt.get", {"kind": "state", "key": key}) for key in keys],
            "receipt": [("receipt.get", {"kind": "verdict", "transaction": t.hex()}) for t in transactions],
        }


async def _prepared(cluster: LocalCluster) -> _Asked:
    institutions = await settle_in(cluster, patients=1)
    session: Session = cluster.session(0)
    transactions: list[bytes] = []
    found: list[bytes] = []
    each = RECORDS // TRANSACTIONS
    for _ in range(TRANSACTIONS):
        ids = [os.urandom(ID_BYTES) for _ in range(each)]
        operations = bundle_of(ids, institutions[0].compartments[0])
        transactions.append((await session.submit(operations, certified=True)).id)
        found += ids
    return _Asked(transactions, found)


async def _asked(
    session: aiohttp.ClientSession,
    url: str,
    calls: Sequence[tuple[str, dict[str, Any]]],
    options: argparse.Namespace,
) -> dict[str, float | None]:
    """Queries per second, and latency in ms."""
    frames = [
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        for method, params in calls
    ]
    took: list[float] = []
    end = time.perf_counter() + options.seconds

    async def ask(first: int) -> None:
        async with session.ws_connect(url, compress=0, decode_text=False) as socket:
            for frame in itertools.islice(itertools.cycle(frames), first, None):
                started = time.perf_counter()
                await socket.send_str(frame)
                answer = (await socket.receive()).data
                took.append((time.perf_counter() - started) * 1e3)
                if b'"result"' not in answer:
                    raise RuntimeError(f"refused: {answer[:300]!r}")
                if time.perf_counter() >= end:
                    return

    started = time.perf_counter()
    await asyncio.gather(*(ask(place * len(frames) // options.clients) for place in range(options.clients)))
    seconds = time.perf_counter() - started
    took.sort()
    return {"per_s": len(took) / seconds, "p50_ms": at(took, 0.5), "p99_ms": at(took, 0.99)}


def _checked(raw: bytes, cluster: LocalCluster) -> dict[str, float]:
    """Receipts checked per second on one core, with the genesis document alone."""
    started = time.thread_time()
    for _ in range(RECEIPTS_CHECKED):
        verify_receipt(raw, cluster.genesis)
    spent = time.thread_time() - started
    return {"per_s_and_core": RECEIPTS_CHECKED / spent, "bytes": len(raw)}
