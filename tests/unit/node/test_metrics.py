"""What a node counts: under names that operators know, and nothing that nobody counts."""

from __future__ import annotations

import inspect
import re
from types import SimpleNamespace

import pytest

from consilium.node.metrics import Metrics
from consilium.p2p.metrics import LaneMetrics, MeshMetrics
from tests.architecture.rules import PROJECT, product_files

PAGE = PROJECT / "docs" / "metrics.md"
ANSWERING = {"watch", "value", "exposition"}
"""Methods that record nothing."""


def everything() -> Metrics:
    metrics = Metrics()
    metrics.watch(MeshMetrics(), lambda: 0)
    metrics.syncing(lambda: {"base_height": 0, "snapshots": [], "fetching": None})
    metrics.owing(SimpleNamespace(untold=0, untold_since_ms=None), lambda: 0, lambda: 0)
    return metrics


def test_what_is_counted_shows_under_its_documented_name() -> None:
    metrics = Metrics()
    metrics.committed(7, {"ok": 3, "consent.unknown": 1})
    metrics.committed(8, {})
    metrics.view(2)
    mesh = MeshMetrics(
        votes=LaneMetrics(bytes_out=100),
        bulk=LaneMetrics(dropped=1, refused=2),
        connects=4,
        disconnects=3,
        dial_failures=5,
        handshakes_refused=6,
        handshake_failures=1,
        handshakes_displaced=8,
        faults=1,
        bans=2,
    )
    metrics.watch(mesh, lambda: 9)
    fetching = {"keys": 70, "blocks": 12, "refused": 1}
    metrics.syncing(lambda: {"base_height": 40, "snapshots": [41, 51], "fetching": fetching})
    metrics.owing(SimpleNamespace(untold=3, untold_since_ms=1_000), lambda: 2, lambda: 4_500)
    checker = SimpleNamespace(process_count=1)
    assert metrics.checking(checker) is checker
    checker.process_count = 2
    metrics.executed(0.002)
    metrics.synced("chain", 0.004)
    metrics.commit_latency(0.1)
    metrics.mempool(5, 4_096)
    metrics.refused("mempool.full")
    metrics.peers(3)
    metrics.released("ok")
    metrics.released("access.not_allowed")
    metrics.loop_lag(0.001)
    metrics.rpc_call("node.status", "ok", 0.01)
    metrics.rpc_connections(4)
    metrics.subscriptions(1)
    metrics.slow_subscriber()
    expected: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
        ("consilium_height", ()): 8,
        ("consilium_blocks_total", ()): 2,
        ("consilium_releases_untold", ()): 3,
        ("consilium_releases_untold_age_seconds", ()): 3.5,
        ("consilium_erasures_unattested", ()): 2,
        ("consilium_transactions_total", (("outcome", "ok"),)): 3,
        ("consilium_transactions_total", (("outcome", "consent.unknown"),)): 1,
        ("consilium_block_transactions_sum", ()): 4,
        ("consilium_view", ()): 2,
        ("consilium_view_changes_total", ()): 9,
        ("consilium_block_execute_seconds_count", ()): 1,
        ("consilium_fsync_seconds_sum", (("store", "chain"),)): 0.004,
        ("consilium_commit_seconds_count", ()): 1,
        ("consilium_base_height", ()): 40,
        ("consilium_snapshots", ()): 2,
        ("consilium_sync_keys", ()): 70,
        ("consilium_sync_blocks", ()): 12,
        ("consilium_sync_refused", ()): 1,
        ("consilium_checking_processes", ()): 2,
        ("consilium_mempool_transactions", ()): 5,
        ("consilium_mempool_bytes", ()): 4_096,
        ("consilium_refused_total", (("code", "mempool.full"),)): 1,
        ("consilium_peers_connected", ()): 3,
        ("consilium_peer_bytes_total", (("direction", "out"), ("lane", "votes"))): 100,
        ("consilium_peer_faults_total", ()): 1,
        ("consilium_peer_messages_dropped_total", (("lane", "bulk"),)): 3,
        ("consilium_peer_links_total", ()): 4,
        ("consilium_peer_links_lost_total", ()): 3,
        ("consilium_peer_dials_failed_total", ()): 5,
        ("consilium_peer_handshakes_failed_total", ()): 7,
        ("consilium_peer_handshakes_displaced_total", ()): 8,
        ("consilium_peer_bans_total", ()): 2,
        ("consilium_releases_total", (("outcome", "ok"),)): 1,
        ("consilium_releases_total", (("outcome", "access.not_allowed"),)): 1,
        ("consilium_event_loop_lag_seconds_count", ()): 1,
        ("consilium_rpc_seconds_count", (("method", "node.status"), ("outcome", "ok"))): 1,
        ("consilium_rpc_connections", ()): 4,
        ("consilium_rpc_subscriptions", ()): 1,
        ("consilium_rpc_slow_subscribers_total", ()): 1,
    }
    found = {(name, labels): metrics.value(name, **dict(labels)) for name, labels in expected}
    assert found == expected
    text = metrics.exposition().decode()
    for (name, _), _ in expected.items():
        assert name in text


def test_two_nodes_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.at(5)
    assert (first.value("consilium_height"), second.value("consilium_height")) == (5, 0)
    assert first.value("consilium_refused_total", code="never.seen") == 0


@pytest.mark.parametrize(
    "method", [name for name, _ in inspect.getmembers(Metrics, inspect.isfunction) if name[0] != "_"]
)
def test_what_is_offered_is_recorded(method: str) -> None:
    """A series that nothing feeds says that all is well."""
    if method in ANSWERING:
        return
    called = re.compile(rf"metrics\.{method}\b")
    sources = [path for path in product_files("node") if path.name != "metrics.py"]
    assert any(called.search(path.read_text(encoding="utf-8")) for path in sources)


def test_every_series_has_its_line() -> None:
    series = {family.name for family in everything().registry.collect()}
    documented = set(re.findall(r"^\| `(consilium_[a-z_]+?)(?:_total)?`", PAGE.read_text(), re.MULTILINE))
    assert series == documented
