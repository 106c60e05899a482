"""What a node counts about itself, in Prometheus' terms. One registry per node: several nodes share a process in tests.

Callers use the typed methods, so that names of series and of labels stand here alone. Labels have few values each
(codes of the catalogue, kinds, lanes): never an id, which would be both a leak and an unbounded memory.

Source: prometheus.io/docs/practices/naming.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from consilium.node.emergency_metrics import EmergencyMetrics
from consilium.p2p.frame import Lane
from consilium.p2p.metrics import MeshMetrics

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_FAST_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_LAG_S: Final = tuple(
    ms / 1e3 for ms in (1, 2.5, 5, 7.5, 10, 12.5, 15, 17.5, 20, 25, 30, 50, 100, 250, 1_000)
)
"""Close together up to what is too late (docs/performance.md): a quantile is no finer than its bucket."""
_SLOW_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_COUNTS: Final = (0, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)


class _Running(Collector):
    """What the mesh and the driver count by themselves, read when somebody asks."""

    def __init__(self, mesh: MeshMetrics, view_changes: Callable[[], int]) -> None:
        self._mesh = mesh
        self._view_changes = view_changes

    def collect(self) -> Iterator[CounterMetricFamily]:
        """For the registry."""
        mesh = self._mesh
        for name, text, value in (
            ("consilium_view_changes", "Times that this node demanded another view", self._view_changes()),
            ("consilium_peer_faults", "What peers sent that no honest peer sends", mesh.faults),
            ("consilium_peer_bans", "Peers that were banned for a time", mesh.bans),
            ("consilium_peer_links", "Connections made, of one lane each", mesh.connects),
            ("consilium_peer_links_lost", "Connections ended, of one lane each", mesh.disconnects),
            ("consilium_peer_dials_failed", "Attempts to reach a peer that failed", mesh.dial_failures),
            (
                "consilium_peer_handshakes_failed",
                "Callers that were turned away, or gave up",
                mesh.handshakes_refused + mesh.handshake_failures,
            ),
            (
                "consilium_peer_handshakes_displaced",
                "Callers not known yet whose places newcomers were given",
                mesh.handshakes_displaced,
            ),
        ):
            yield CounterMetricFamily(name, text, value=value)
        sent = CounterMetricFamily(
            "consilium_peer_bytes", "Bytes of frames, by lane and direction", labels=["lane", "direction"]
        )
        lost = CounterMetricFamily(
            "consilium_peer_messages_dropped", "Messages that an outbox had no room for", labels=["lane"]
        )
        for lane in Lane:
            name, counted = lane.name.lower(), mesh.lane(lane)
            sent.add_metric([name, "in"], counted.bytes_in)
            sent.add_metric([name, "out"], counted.bytes_out)
            lost.add_metric([name], counted.dropped + counted.refused)
        yield sent
        yield lost


class _Syncing(Collector):
    """How far a snapshot is that is fetched, read from the status when somebody asks."""

    def __init__(self, status: Callable[[], dict[str, Any]]) -> None:
        self._status = status

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For the registry."""
        status = self._status()
        fetching = status["fetching"] or {}
        for name, text, value in (
            (
                "consilium_base_height",
                "Height of the snapshot that the chain began with",
                status["base_height"],
            ),
            ("consilium_snapshots", "Snapshots held for other nodes", len(status["snapshots"])),
            ("consilium_sync_keys", "Keys of a snapshot that is being fetched", fetching.get("keys", 0)),
            ("consilium_sync_blocks", "Blocks below that snapshot that are here", fetching.get("blocks", 0)),
            (
                "consilium_sync_refused",
                "Pieces of it that peers sent and that were refused",
                fetching.get("refused", 0),
            ),
        ):
            yield GaugeMetricFamily(name, text, value=value)


class Untold(Protocol):
    """Of a custodian: on how many verdicts the ledger does not know all releases, and when the oldest left (ms)."""

    @property
    def untold(self) -> int: ...

    @property
    def untold_since_ms(self) -> int | None: ...


class _Owing(Collector):
    """What a custodian has released or erased and the ledger has not been told of, read when somebody asks."""

    def __init__(self, releases: Untold, unattested: Callable[[], int], clock_ms: Callable[[], int]) -> None:
        self._releases = releases
        self._unattested = unattested
        self._clock_ms = clock_ms

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For the registry."""
        waiting, since_ms = self._releases.untold, self._releases.untold_since_ms
        age_s = 0.0 if since_ms is None else max(0, self._clock_ms() - since_ms) / 1000
        for name, text, value in (
            ("consilium_releases_untold", "Verdicts whose releases must still be attested", waiting),
            ("consilium_releases_untold_age_seconds", "Age of the oldest release among them", age_s),
            (
                "consilium_erasures_unattested",
                "Erasures applied and still to be attested",
                self._unattested(),
            ),
        ):
            yield GaugeMetricFamily(name, text, value=value)


class Checking(Protocol):
    """How many processes check signatures at the moment."""

    @property
    def process_count(self) -> int: ...


AnyChecking = TypeVar("AnyChecking", bound=Checking)


class Metrics:
    """All collectors of one node."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._children: dict[tuple[Any, ...], Any] = {}
        self._chain()
        self._network()
        self._service()
        self.emergencies = EmergencyMetrics(self.registry)

    def _chain(self) -> None:
        registry = self.registry
        self._height = Gauge("consilium_height", "Height of the newest committed block", registry=registry)
        self._view = Gauge("consilium_view", "View of the height being agreed on", registry=registry)
        self._blocks = Counter("consilium_blocks", "Blocks committed since the start", registry=registry)
        self._transactions = Counter(
            "consilium_transactions",
            "Transactions executed, by outcome",
            ["outcome"],
            registry=registry,
        )
        self._block_transactions = Histogram(
            "consilium_block_transactions", "Transactions per block", buckets=_COUNTS, registry=registry
        )
        self._execute = Histogram(
            "consilium_block_execute_seconds", "Time to execute a block", buckets=_FAST_S, registry=registry
        )
        self._fsync = Histogram(
            "consilium_fsync_seconds",
            "Time of a synced write, by store",
            ["store"],
            buckets=_FAST_S,
            registry=registry,
        )
        self._commit = Histogram(
            "consilium_commit_seconds",
            "Time from admission of a transaction here to its commit",
            buckets=_SLOW_S,
            registry=registry,
        )

    def _network(self) -> None:
        registry = self.registry
        self._peers = Gauge("consilium_peers_connected", "Peers connected now", registry=registry)

    def _service(self) -> None:
        registry = self.registry
        self._checking = Gauge(
            "consilium_checking_processes", "Processes that check signatures now", registry=registry
        )
        self._mempool = Gauge("consilium_mempool_transactions", "Transactions waiting", registry=registry)
        self._mempool_bytes = Gauge(
            "consilium_mempool_bytes", "Bytes of waiting transactions", registry=registry
        )
        self._refused = Counter(
            "consilium_refused", "Transactions refused at admission, by code", ["code"], registry=registry
        )
        self._releases = Counter(
            "consilium_releases", "Requests to release keys, by outcome", ["outcome"], registry=registry
        )
        self._attestations = Counter(
            "consilium_release_attestations",
            "Verdicts whose releases the ledger was told of, by outcome",
            ["outcome"],
            registry=registry,
        )
        self._lag = Histogram(
            "consilium_event_loop_lag_seconds", "Delay of the event loop", buckets=_LAG_S, registry=registry
        )
        self._rpc = Histogram(
            "consilium_rpc_seconds",
            "Time to answer an RPC call, by method and outcome",
            ["method", "outcome"],
            buckets=_SLOW_S,
            registry=registry,
        )
        self._rpc_connections = Gauge(
            "consilium_rpc_connections", "RPC connections open now", registry=registry
        )
        self._subscriptions = Gauge(
            "consilium_rpc_subscriptions", "Event subscriptions open now", registry=registry
        )
        self._slow_subscribers = Counter(
            "consilium_rpc_slow_subscribers", "Subscribers dropped for being too slow", registry=registry
        )

    def committed(self, height: int, outcomes: dict[str, int]) -> None:
        """A block is durable; `outcomes` counts its transactions: executed, or skipped without a receipt."""
        self._height.set(height)
        self._blocks.inc()
        self._block_transactions.observe(sum(outcomes.values()))
        for outcome, count in outcomes.items():
            self._child(self._transactions, outcome).inc(count)

    def at(self, height: int) -> None:
        """The height after a start or a catch-up by snapshot."""
        self._height.set(height)

    def view(self, view: int) -> None:
        """The view now."""
        self._view.set(view)

    def watch(self, mesh: MeshMetrics, view_changes: Callable[[], int]) -> None:
        """Show from now on what these count, since their beginning. Once."""
        self.registry.register(_Running(mesh, view_changes))

    def syncing(self, status: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        """Show from now on what this status says of snapshots. Once. Returns it."""
        self.registry.register(_Syncing(status))
        return status

    def owing(self, releases: Untold, unattested: Callable[[], int], clock_ms: Callable[[], int]) -> None:
        """Show from now on which releases are untold, and how many erasures are unattested. Once."""
        self.registry.register(_Owing(releases, unattested, clock_ms))

    def checking(self, checker: AnyChecking) -> AnyChecking:
        """Show from now on how many processes this has. Returns it."""
        self._checking.set_function(lambda: checker.process_count)
        return checker

    def executed(self, seconds: float) -> None:
        """A block was executed."""
        self._execute.observe(seconds)

    def synced(self, store: str, seconds: float) -> None:
        """A synced write; `store` is `chain` or `promise`."""
        self._child(self._fsync, store).observe(seconds)

    def commit_latency(self, seconds: float) -> None:
        """A transaction that this node admitted is committed."""
        self._commit.observe(seconds)

    def mempool(self, transactions: int, bytes_held: int) -> None:
        """What waits now."""
        self._mempool.set(transactions)
        self._mempool_bytes.set(bytes_held)

    def refused(self, code: str) -> None:
        """A refusal with a code of the catalogue."""
        self._child(self._refused, code).inc()

    def peers(self, connected: int) -> None:
        """Peers connected now."""
        self._peers.set(connected)

    def released(self, outcome: str) -> None:
        """A custodian was asked to release: "ok", or the code of the refusal."""
        self._releases.labels(outcome).inc()

    def attested(self, outcome: str, count: int) -> None:
        """The ledger was told of the releases on `count` verdicts: "ok", or the code of the refusal."""
        self._attestations.labels(outcome).inc(count)

    def loop_lag(self, seconds: float) -> None:
        """The event loop came late by so much."""
        self._lag.observe(seconds)

    def rpc_call(self, method: str, outcome: str, seconds: float) -> None:
        """An answered call; `method` is a name of the table, or `-`."""
        self._child(self._rpc, method, outcome).observe(seconds)

    def rpc_connections(self, count: int) -> None:
        """RPC connections open now."""
        self._rpc_connections.set(count)

    def subscriptions(self, change: int) -> None:
        """A subscription opened (+1) or ended (-1)."""
        self._subscriptions.inc(change)

    def slow_subscriber(self) -> None:
        """A subscriber was dropped."""
        self._slow_subscribers.inc()

    def _child(self, parent: Any, *labels: str) -> Any:
        """The series with these labels. The client checks every name on each look-up, which takes longer than to count;
        labels have few values each (see the module), so what was looked up is kept."""
        key = parent, *labels
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = parent.labels(*labels)
        return found

    def value(self, name: str, **labels: str) -> float:
        """One sample's value now, 0 where there is none yet: for status, tests and people."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def exposition(self) -> bytes:
        """All series in Prometheus' text format."""
        return generate_latest(self.registry)
