"""The parts of the benchmark that need no cluster: what is counted, how figures follow from it, and the load."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given as for_any
from hypothesis import strategies as st

from consilium.client.wallet import Wallet
from consilium.contracts import records
from consilium.ledger import codec
from consilium.ledger.transaction import TRANSACTION_BYTES_MAX, VALIDITY_MAX_MS, verify_transaction
from consilium.node.metrics import Metrics
from consilium.p2p.metrics import LaneMetrics, MeshMetrics
from scripts.benchmark import load, probe
from scripts.benchmark.ceiling import Ceiling
from scripts.benchmark.load import Answered, Client, Tally
from scripts.benchmark.report import flat, given, shown
from scripts.benchmark.rounds import Window, at, by_cpu, failover, figures, median, summary
from scripts.benchmark.workload import VALIDITY_MARGIN_MS, Institution, Request, Signer

CHAIN = bytes(range(32))
TIMEOUT_S = 30.0
BOUNDS = (0.001, 0.01, 0.1, math.inf)


# ---- what nodes say of themselves


def metrics_of(*, synced_s: float, commits: int = 1) -> probe.Series:
    metrics = Metrics()
    metrics.watch(
        MeshMetrics(votes=LaneMetrics(bytes_in=1_000), bulk=LaneMetrics(bytes_out=5_000)), lambda: 0
    )
    for _ in range(commits):
        metrics.synced("chain", synced_s)
        metrics.synced("promise", 1.0)
        metrics.executed(0.03)
        metrics.loop_lag(0.002)
    return probe._parsed(metrics.exposition().decode())


def test_a_series_has_the_name_and_the_labels_that_the_node_writes() -> None:
    series = metrics_of(synced_s=0.004)
    assert series['consilium_fsync_seconds_count{store="chain"}'] == 1
    assert series['consilium_peer_bytes_total{direction="out",lane="bulk"}'] == 5_000
    assert probe._parsed('# HELP x_total Some\nx_total 1e+06\ny{a="b"} NaN\n')["x_total"] == 1_000_000


@for_any(st.lists(st.sampled_from([0.0005, 0.005, 0.05, 0.5]), min_size=1), st.integers(1, 100))
def test_a_quantile_lies_in_the_bucket_of_the_value_that_it_estimates(
    values: list[float], percent: int
) -> None:
    histogram = [(bound, float(sum(value <= bound for value in values))) for bound in BOUNDS]
    found = probe.quantile(histogram, percent / 100)
    exact = sorted(values)[math.ceil(percent / 100 * len(values)) - 1]
    place = next(place for place, bound in enumerate(BOUNDS) if exact <= bound)
    high = BOUNDS[place] if BOUNDS[place] < math.inf else BOUNDS[place - 1]
    assert found is not None
    assert (0.0, *BOUNDS)[place] <= found <= high * (1 + 1e-9)  # interpolating rounds


def test_there_is_no_quantile_of_nothing() -> None:
    assert probe.quantile([], 0.5) is None
    assert probe.quantile([(0.1, 0.0), (math.inf, 0.0)], 0.5) is None
    assert at([], 0.5) is None


def test_a_quantile_of_values() -> None:
    assert [at([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 0.75, 0.99, 1.0)] == [1, 3, 4, 4, 4]


def test_what_a_process_uses_counts_for_who_started_it() -> None:
    program = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in [one.pid for one in probe.family(os.getpid())]
        all_of_us, alone = probe.usage(os.getpid()), probe.usage(child.pid)
        assert all_of_us.rss_bytes > alone.rss_bytes > 0
        assert all_of_us.cpu_s > alone.cpu_s
        if sys.platform == "linux":
            assert 0 < alone.private_bytes < alone.rss_bytes
        child.communicate(b"\n")
    assert probe._private_bytes(child.pid) == 0


# ---- figures of a round


def glance(
    at_s: float, cpu_s: dict[int, float], series: probe.Series, own_cpu_s: float = 0.0
) -> probe.Glance:
    return probe.Glance(
        at_s,
        cpu_s,
        dict.fromkeys(cpu_s, 3 * 2**20),
        dict.fromkeys(cpu_s, 2**20),
        dict.fromkeys(cpu_s, series),
        own_cpu_s,
    )


def window(**given: Any) -> Window:
    """Ten seconds; node 1 dies in them, and each of the others has 1 s of CPU for 1,000 transactions."""
    tally = Tally(
        [
            Answered(99.0, 99.5, 500, 0),
            Answered(100.0, 100.1, 600, 0),
            Answered(104.0, 104.3, 400, 10),
            Answered(109.9, 110.2, 9, 0),
        ]
    )
    begun = glance(100.0, {0: 5.0, 1: 7.0, 2: 6.0}, metrics_of(synced_s=0.2), 1.0)
    ended = glance(110.0, {0: 6.0, 2: 7.0}, metrics_of(synced_s=0.2, commits=3), 1.5)
    return Window(begun, ended, (3, 5), tally, **given)


def test_a_round_counts_the_ledgers_transactions_in_the_window_of_nodes_that_live() -> None:
    ceilings = Ceiling(2, 9_000.0, 50.0, 1.0), Ceiling(2, 11_000.0, 70.0, 1.0)
    found = figures(2, window(), [700, 300], *ceilings)
    assert found["committed_tps"] == 100.0
    assert found["committed_ops"] == 200.0
    assert found["verify_ceiling_tps"] == 5_000.0
    assert found["ratio_to_ceiling"] == 100.0 / 5_000.0
    assert found["cpu_us_per_transaction"]["nodes"] == {"node-0": 1_000.0, "node-2": 1_000.0}
    assert found["cpu_us_per_transaction"]["load_generator"] == 500.0
    assert found["ratio_by_cpu"] == pytest.approx(2 * 60.0 / 2_500.0)
    assert found["latency_ms"] == {
        "p50": pytest.approx(100.0),
        "p95": pytest.approx(300.0),
        "p99": pytest.approx(300.0),
    }
    assert found["transactions_per_block"] == 500.0
    assert found["rss_mib"] == {"node-0": 3.0, "node-2": 3.0}
    assert "next_commit_ms" not in found


def test_a_round_takes_from_metrics_what_grew() -> None:
    """Under the names of the product: a metric that is called otherwise would be zero, and nobody would know."""
    ceilings = Ceiling(2, 9_000.0, 50.0, 1.0)
    found = figures(1, window(), [1_000], ceilings, ceilings)
    assert 100.0 <= found["chain_write_ms"]["p50"] <= 250.0
    assert 25.0 <= found["execute_ms"]["p99"] <= 50.0
    assert 1.0 <= found["event_loop_lag_ms_p99"] <= 2.5
    begun = glance(0.0, {0: 0.0}, {})
    ended = glance(1.0, {0: 0.0}, metrics_of(synced_s=0.2))
    wire = figures(1, Window(begun, ended, (0, 1), Tally()), [10], ceilings, ceilings)
    assert wire["wire_bytes_per_transaction"] == {
        "votes_in": 100.0,
        "votes_out": 0.0,
        "bulk_in": 0.0,
        "bulk_out": 500.0,
    }


def test_a_round_without_transactions_has_figures_too() -> None:
    ceilings = Ceiling(2, 9_000.0, 50.0, 1.0)
    found = figures(1, window(), [], ceilings, ceilings)
    assert (found["committed_tps"], found["transactions_per_block"], found["ratio_by_cpu"]) == (
        0.0,
        0.0,
        None,
    )
    assert by_cpu(60.0, []) is None


def test_after_a_kill_only_calls_made_later_say_that_blocks_go_on() -> None:
    found = failover(window(killed_s=103.9))
    assert found == {"next_answer_ms": pytest.approx(400.0), "next_commit_ms": pytest.approx(400.0)}
    found = failover(window(killed_s=104.1))
    assert found == {"next_answer_ms": pytest.approx(200.0), "next_commit_ms": pytest.approx(6_100.0)}
    assert failover(window(killed_s=111.0)) == {"next_answer_ms": None, "next_commit_ms": None}


def test_a_median_is_taken_number_by_number() -> None:
    rounds = [
        {"tps": 1, "nodes": {"a": 1.0}, "delayed": False, "list": [1], "ms": None},
        {"tps": 9, "nodes": {"a": 5.0}, "delayed": True, "list": [2], "ms": 4.0},
        {"tps": 2, "nodes": {"b": 7.0}, "delayed": True, "list": [3], "ms": 2.0},
    ]
    assert median(rounds) == {"tps": 2, "nodes": {"a": 3.0}, "ms": 3.0}
    assert median([]) == {}


def test_rounds_with_delay_have_a_median_of_their_own() -> None:
    rounds = [
        {"ratio_to_ceiling": 0.4, "delayed": False},
        {"ratio_to_ceiling": 0.2, "delayed": True},
        {"ratio_to_ceiling": 0.6, "delayed": False},
    ]
    options = argparse.Namespace(delay_ms=25.0, plot=None, relay=True)
    found = summary(options, rounds, 327)
    assert found["median_without_delay"] == {"ratio_to_ceiling": 0.5}
    assert found["median_with_delay"] == {"ratio_to_ceiling": 0.2}
    assert found["delayed_to_plain"] == pytest.approx(0.4)
    assert found["options"] == given(options) == {"delay_ms": 25.0, "relay": True}
    assert "median_with_delay" not in summary(argparse.Namespace(delay_ms=0.0), rounds, 327)


def test_figures_for_people() -> None:
    assert flat({"a": {"b": 1, "c": {"d": 2.0}}, "yes": True, "text": "x"}) == {"a.b": 1, "a.c.d": 2.0}
    assert [shown(value) for value in (None, 1_234.5, 99.94, 0.01234)] == ["", "1,234", "99.9", "0.0123"]


# ---- the load


def answer(*codes: str | None, number: int = 1) -> bytes:
    """As a node writes it: of each transaction its code in the ledger, or that it was not taken (None)."""
    results = [
        {"error": {"code": "mempool.full"}} if code is None else {"committed": {"code": code, "height": 5}}
        for code in codes
    ]
    whole = {"jsonrpc": "2.0", "result": {"results": results}, "id": number}
    return json.dumps(whole, separators=(",", ":")).encode()


def test_an_answer_is_counted_by_what_the_ledger_says() -> None:
    tally = Tally()
    assert tally.take(1.0, answer("ok", "ok"), 2) == 0
    assert tally.take(2.0, answer("ok", "consent.unknown", None), 3) == 1
    refused = {"jsonrpc": "2.0", "error": {"code": -32_000, "data": {"code": "rpc.busy"}}, "id": 1}
    assert tally.take(3.0, json.dumps(refused).encode(), 4) == 4
    assert [(one.due_s, one.committed, one.refused) for one in tally.answers] == [
        (1.0, 2, 0),
        (2.0, 2, 1),
        (3.0, 0, 4),
    ]
    assert tally.failed == 1
    assert tally.codes == {"mempool.full": 1, "rpc.busy": 4}


@asynccontextmanager
async def served(reply: Callable[[int], bytes | None]) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A node that answers the calls of one connection by their number, or hangs up."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            raw = reply(json.loads(message.data)["id"])
            if raw is None:
                break
            await socket.send_str(raw.decode())
        await socket.close()
        return socket

    app = web.Application()
    app.router.add_get("/rpc", handle)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield session, str(server.make_url("/rpc"))


REQUEST = Request('{"jsonrpc":"2.0","method":"transaction.commit","params":{"transactions":["AA=="]', 1, 1)


async def test_a_closed_loop_rests_after_every_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "REFUSAL_PAUSE_S", 0.05)
    tally = Tally()
    async with served(lambda number: answer(None, number=number)) as (session, url):
        began_s = time.perf_counter()
        async with asyncio.timeout(TIMEOUT_S):
            await Client(session, url, [REQUEST] * 3, tally).closed(asyncio.Event())
    assert time.perf_counter() - began_s >= 3 * 0.05
    assert tally.codes == {"mempool.full": 3}


async def test_a_closed_loop_goes_on_where_a_connection_breaks() -> None:
    tally = Tally()
    async with served(lambda number: None if number == 2 else answer("ok", number=number)) as (session, url):
        async with asyncio.timeout(TIMEOUT_S):
            await Client(session, url, [REQUEST] * 4, tally).closed(asyncio.Event())
    assert (len(tally.answers), tally.lost) == (3, 1)


async def test_a_call_that_could_not_leave_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, slept, tally = asyncio.Event(), asyncio.sleep, Tally()

    async def rest(delay_s: float) -> None:
        if delay_s == load.RECONNECT_S:
            stop.set()
        await slept(0)

    monkeypatch.setattr(asyncio, "sleep", rest)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/rpc"
    async with aiohttp.ClientSession() as session, asyncio.timeout(TIMEOUT_S):
        await Client(session, url, [REQUEST], tally).closed(stop)
    assert stop.is_set()
    assert (tally.answers, tally.lost) == ([], 0)


async def test_an_open_loop_counts_from_when_a_call_was_due() -> None:
    tally = Tally()
    async with served(lambda number: answer("ok", number=number)) as (session, url):
        due_s = time.perf_counter() - 5.0
        async with asyncio.timeout(TIMEOUT_S):
            await Client(session, url, [REQUEST] * 3, tally).open(asyncio.Event(), 1.0, due_s)
    assert [one.due_s - due_s for one in tally.answers] == pytest.approx([0.0, 1.0, 2.0])
    assert all(one.done_s - one.due_s >= 3.0 for one in tally.answers)


async def test_an_open_loop_says_what_was_never_answered() -> None:
    tally = Tally()
    async with served(lambda number: answer("ok", number=number) if number == 1 else None) as (session, url):
        async with asyncio.timeout(TIMEOUT_S):
            begin_s = time.perf_counter()
            await Client(session, url, [REQUEST] * 2, tally).open(asyncio.Event(), 0.01, begin_s)
    assert (len(tally.answers), tally.lost) == (1, 1)


def test_the_load_is_transactions_that_a_node_takes_each_once() -> None:
    wallet = Wallet.create("institution", "institution")
    compartments = (b"c" * 16, b"d" * 16)
    session = SimpleNamespace(chain_id=CHAIN)
    signer = Signer(cast(Any, session), [Institution(wallet, b"e" * 32, compartments)], operations=3)
    signer.begin(1_000)
    made = signer.requests(0, 5, 2)
    assert [(one.count, one.operations) for one in made] == [(2, 6), (2, 6), (1, 3)]
    client = Client(cast(Any, None), "", made, Tally())
    calls = [json.loads(client._frame(one)) for one in made]
    assert [call["id"] for call in calls] == [1, 2, 3]
    raws = [base64.b64decode(text) for call in calls for text in call["params"]["transactions"]]
    found = [verify_transaction(raw, CHAIN) for raw in raws]
    assert len({one.id for one in found}) == 5
    assert {one.value.sender for one in found} == {wallet.identity}
    assert {one.value.valid_until for one in found} == {1_000 + VALIDITY_MAX_MS - VALIDITY_MARGIN_MS}
    for place, one in enumerate(found):
        bundle = [
            codec.decode(each.body, records.AnchorRecord, TRANSACTION_BYTES_MAX)
            for each in one.value.operations
        ]
        assert [(each.position, each.count) for each in bundle] == [(0, 3), (1, 3), (2, 3)]
        assert {(each.compartment, each.envelope) for each in bundle} == {
            (compartments[place % 2], b"e" * 32)
        }
        assert len({each.record for each in bundle}) == 3
        assert len({each.bundle for each in bundle}) == 1
    assert signer.transaction_bytes == len(raws[-1])
