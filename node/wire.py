"""Builds every object of a node, once, and runs them together: the only place that knows everybody.

A node is a handful of tasks. When one of them dies the node dies, with the reason: a validator that goes on after it
contradicted itself is worse than one that is gone.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from functools import partial
from typing import Final

import structlog

from consilium.consensus.io import Now
from consilium.consensus.limits import ReplicaConfig
from consilium.consensus.replica import Replica
from consilium.consensus.restart import NEVER
from consilium.ledger import codec
from consilium.ledger.errors import InvariantBroken, PeerFault, sole_error
from consilium.node.attesting import Attesting
from consilium.node.backup import backup
from consilium.node.checking import Checker
from consilium.node.clerk import Clerk
from consilium.node.config import Config, with_ports, write_ports
from consilium.node.custodian import Custodian
from consilium.node.driver import Driver
from consilium.node.duties import KINDS, Duties
from consilium.node.executor import Commit
from consilium.node.housekeeping import Housekeeper
from consilium.node.keeping import KINDS as ENVELOPE_KINDS
from consilium.node.keeping import Keeping
from consilium.node.latency import Latency
from consilium.node.ledger_reader import LedgerReader
from consilium.node.membership import MEMBERS_MAX, members
from consilium.node.mempool import Mempool, MempoolLimits
from consilium.node.metrics import Metrics
from consilium.node.opening import Parts, open_parts, refill
from consilium.node.oversight import oversee
from consilium.node.peer_messages import LIMITS, Kind, Tip
from consilium.node.promises import PromiseKeeper
from consilium.node.router import Router
from consilium.node.rpc import RpcServer
from consilium.node.service import Service
from consilium.node.serving import Serving
from consilium.node.snapshots import KINDS as SNAPSHOT_KINDS
from consilium.node.snapshots import Snapshots
from consilium.node.stores import OpenStores, open_stores
from consilium.node.streams import BackupStream, VaultStreams
from consilium.node.sync import Synchroniser
from consilium.node.voices import Voices
from consilium.p2p.mesh import Address, Lane, Mesh, MeshPolicy
from consilium.storage.anchors import AnchorIndex

TICK_S: Final = 1.0
LAG_SAMPLE_S: Final = 0.02
RECONNECT_MAX_S: Final = 1.0
"""Peers that come back are dialled again soon: commits resume as fast as the quorum does. A dial that meets silence
sends its last packet 3 s after the first (RFC 6298) and ends after 5; the next one follows within 3 s in all."""

_log = structlog.get_logger("consilium.node")


def wall_ms() -> int:
    """This machine's clock: milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


async def run_node(
    config: Config, stop: asyncio.Event, stores: OpenStores = open_stores, mesh: type[Mesh] = Mesh
) -> None:
    """Run a node until `stop` is set, on the stores that `stores` opens, speaking through `mesh`. Once it has fetched a
    snapshot it starts again on that, in the same process and at the same ports.

    Raises Refused where it cannot start, InvariantBroken where it must not go on.
    """
    while True:
        with ExitStack() as stack:
            parts = await asyncio.to_thread(open_parts, config, stores, stack)
            config = await _Node(config, parts, mesh).run(stop)
        if stop.is_set():
            return


class _Node:
    """All tasks of one node."""

    def __init__(self, config: Config, parts: Parts, mesh: type[Mesh]) -> None:
        self._config = config
        self._parts = parts
        self._metrics = Metrics()
        self._loop = asyncio.get_running_loop()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        executor, key = parts.executor, parts.key
        chain_id = parts.genesis.chain_id
        self._mempool = self._pool()
        self._replica = self._machine()
        self._mesh = mesh(
            key=key,
            chain_id=chain_id,
            members=members(executor, config.p2p.peers),
            listen=Address(config.p2p.host, config.p2p.port),
            limits=LIMITS,
            handler=self._handle,
            policy=MeshPolicy(backoff_max_s=RECONNECT_MAX_S, peers_max=MEMBERS_MAX),
        )
        self._keeper = PromiseKeeper(parts.stores.promises, partial(self._metrics.synced, "promise"))
        self._voices, self._serving = Voices(self._mesh, executor), Serving()
        self._driver = Driver(
            replica=self._replica,
            executor=executor,
            mempool=self._mempool,
            keeper=self._keeper,
            outlet=self._voices,
            clock=self._now,
            on_commit=self._committed,
            seal_delay_s=config.mempool.batch_delay_ms / 1000,
        )
        self._synchroniser = self._driver.synchroniser = self._follower()
        self._metrics.watch(self._mesh.metrics, lambda: self._driver.view_changes)
        self._metrics.at(executor.store.tip.height)
        self._checker = self._metrics.checking(Checker(config.node.checking_processes))
        self._router = Router(
            chain_id=chain_id,
            driver=self._driver,
            executor=executor,
            mempool=self._mempool,
            synchroniser=self._synchroniser,
            send=self._send_bulk,
            serving=self._serving,
            checker=self._checker,
        )
        self._keeping = Keeping(
            parts,
            connected=self._mesh.connected,
            send=self._send_bulk,
            fault=self._fault,
            clock_ms=wall_ms,
            grace_ms=config.storage.unanchored_grace_s * 1_000,
        )
        self._service = self._face()
        self._duties = self._charged()
        self._snapshots = self._newcomer()
        self._housekeeper = Housekeeper(
            executor.store, parts.stores.chain, config.data_dir, config.storage.keep_blocks
        )
        backups = BackupStream(lambda: backup(parts.stores, parts.genesis, parts.key, wall_ms()), self._break)
        self._rpc = RpcServer(
            self._service,
            config.rpc,
            parts.token,
            metrics=self._metrics,
            on_broken=self._break,
            streams=(*backups.routes, *VaultStreams(self._keeping.vault, self._break).routes),
        )

    def _follower(self) -> Synchroniser:
        return Synchroniser(
            send=self._send_bulk,
            connected=self._mesh.connected,
            context=lambda: self._parts.executor.context,
            deliver=self._driver.deliver,
            fault=self._fault,
            held=self._mempool.batch,
            observer=self._parts.key.public if self._config.node.role == "observer" else None,
        )

    def _newcomer(self) -> Snapshots:
        snapshots = Snapshots(
            config=self._config,
            genesis=self._parts.genesis,
            executor=self._parts.executor,
            synchroniser=self._synchroniser,
            connected=self._mesh.connected,
            send=self._send_bulk,
            fault=self._fault,
            broken=self._break,
            serving=self._serving,
        )
        self._service.syncing = self._metrics.syncing(snapshots.status)
        return snapshots

    def _pool(self) -> Mempool:
        """The mempool, with the batches of promised proposals at hand: whoever missed them will ask this node."""
        parts, section = self._parts, self._config.mempool
        limits = MempoolLimits(section.transactions_max, section.bytes_max)
        # Unique per start: equal contents sealed again must make another batch.
        first = time.time_ns() // 1_000
        pool = Mempool(parts.key, parts.genesis.chain_id, limits, first, parts.executor.weigh)
        refill(pool, parts.executor, parts.promise, parts.promised)
        return pool

    def _machine(self) -> Replica:
        parts, section = self._parts, self._config.consensus
        return Replica(
            parts.key if self._config.node.role == "validator" else None,
            parts.executor.context,
            parts.promise,
            ReplicaConfig(
                view_timeout_ms=section.view_timeout_ms,
                view_timeout_max_ms=section.view_timeout_max_ms,
                clock_bound_ms=section.clock_skew_max_ms,
                proposal_age_max_ms=section.clock_skew_max_ms + section.view_timeout_max_ms,
            ),
            # Until the other validators have shown what they heard (restart.py).
            abstain_below=NEVER,
        )

    def _face(self) -> Service:
        config, parts = self._config, self._parts
        return Service(
            name=config.node.name,
            role=config.node.role,
            key=parts.key.public,
            genesis=parts.genesis,
            executor=parts.executor,
            driver=self._driver,
            replica=self._replica,
            mempool=self._mempool,
            mesh=self._mesh,
            vault=self._keeping.vault,
            custodian=self._custodian(),
            retry_after_ms=MempoolLimits().retry_after_ms,
            refused=self._metrics.refused,
            released=self._released,
            latency=Latency(self._metrics.commit_latency),
            checker=self._checker,
            clock_ms=wall_ms,
            storage=lambda: self._housekeeper.usage,
            unattested=lambda: self._keeping.unattested,
        )

    def _charged(self) -> Duties:
        parts = self._parts
        chain_id, store = parts.genesis.chain_id, parts.executor.store
        clerk, attesting = None, None
        if parts.wallet is not None:
            clerk = Clerk(parts.wallet, chain_id, self._service, lambda: store.tip.time_ms, wall_ms)
            self._keeping.clerk = clerk
            attesting = Attesting(parts.releases, clerk, wall_ms, told=self._metrics.attested)
        duties = Duties(
            key=parts.key,
            validates=self._config.node.role == "validator",
            chain_id=chain_id,
            promise=parts.promise,
            executor=parts.executor,
            replica=self._replica,
            driver=self._driver,
            mesh=self._mesh,
            synchroniser=self._synchroniser,
            clerk=clerk,
            members_changed=self._update_members,
            remember=lambda promise: self._keeper.keep(promise, self._mempool.batch),
            attesting=attesting,
        )
        self._service.voting = duties.status
        reached, metrics = self._mesh.connected, self._metrics.emergencies
        self._oversight = oversee(parts, self._config, self._service, reached, metrics, wall_ms)
        self._keeping.clear_with(self._oversight.forget)
        return duties

    async def run(self, stop: asyncio.Event) -> Config:
        """Start everything; run until `stop`, or until a new start is due. Returns the configuration with its ports."""
        await self._mesh.start()
        try:
            rpc_port = await self._rpc.start()
            await asyncio.to_thread(write_ports, self._config, {"p2p": self._mesh.port, "rpc": rpc_port})
            _log.info(
                "node.started",
                node=self._parts.key.public.hex(),
                height=self._parts.executor.store.tip.height,
                p2p=self._mesh.port,
                rpc=rpc_port,
            )
            await self._run_tasks(stop)
            return with_ports(self._config, self._mesh.port, rpc_port)
        finally:
            self._snapshots.close()
            self._service.close()
            await self._rpc.stop()
            await self._mesh.stop()

    async def _run_tasks(self, stop: asyncio.Event) -> None:
        restart = asyncio.create_task(self._snapshots.run(), name="snapshots")
        tasks = [restart] + [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("driver", self._driver.run()),
                ("sync", self._synchroniser.run()),
                ("checking", self._checker.run()),
                ("mesh", self._mesh.run()),
                ("duties", self._duties.run()),
                ("tick", self._tick()),
                ("lag", self._sample_lag()),
                ("housekeeping", self._housekeeper.run()),
                ("keeping", self._keeping.run()),
                ("oversight", self._oversight.run()),
                ("broken", self._until_broken()),
                ("stop", stop.wait()),
            )
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # In the order of the list: whoever waits for the driver learns only that it has ended, not why.
        for task in tasks:
            if not task.cancelled() and (failed := task.exception()) is not None:
                error = sole_error(failed)
                _log.critical("node.halted", reason=str(error), height=self._parts.executor.store.tip.height)
                raise error
        if not stop.is_set() and (restart.cancelled() or not restart.done()):
            raise InvariantBroken("a task of the node ended by itself")

    # Glue between the objects

    async def _handle(self, peer: bytes, kind: int, body: bytes) -> None:
        if kind in KINDS:
            await self._duties.handle(peer, kind, body)
        elif kind in ENVELOPE_KINDS:
            await self._keeping.handle(peer, kind, body)
        elif kind in SNAPSHOT_KINDS:
            await self._snapshots.handle(peer, kind, body)
        else:
            if kind == Kind.TIP:
                self._keeping.heard(peer, codec.decode(body, Tip, LIMITS[Kind.TIP]).height)
            await self._router.handle(peer, kind, body)

    def _send_bulk(self, peer: bytes, kind: int, body: bytes) -> bool:
        return self._mesh.send(peer, kind, body, Lane.BULK)

    def _fault(self, peer: bytes, fault: PeerFault) -> None:
        self._mesh.fault(peer, fault)

    def _break(self, broken: InvariantBroken) -> None:
        if not self._broken.done():
            self._broken.set_exception(broken)

    async def _until_broken(self) -> None:
        await self._broken

    def _now(self) -> Now:
        return Now(int(self._loop.time() * 1000), wall_ms())

    def _committed(self, commit: Commit) -> None:
        self._service.committed(commit)
        self._duties.committed(commit)
        self._snapshots.committed(commit)
        self._voices.committed()
        metrics = self._metrics
        executed = len(commit.outcome.transactions)
        metrics.committed(commit.block.height, {"executed": executed, "skipped": len(commit.outcome.skipped)})
        metrics.executed(commit.execute_s)
        metrics.emergencies.committed(commit.outcome.events)
        metrics.synced("chain", commit.store_s)
        metrics.view(0)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._driver.tick()
            self._voices.say_tip()
            self._metrics.peers(len(self._mesh.connected()))
            self._metrics.mempool(self._mempool.transaction_count, self._mempool.bytes_held)
            self._metrics.view(self._replica.view)

    async def _sample_lag(self) -> None:
        while True:
            start_s = self._loop.time()
            await asyncio.sleep(LAG_SAMPLE_S)
            self._metrics.loop_lag(max(0.0, self._loop.time() - start_s - LAG_SAMPLE_S))

    def _released(self, outcome: str) -> None:
        self._metrics.released(outcome)
        self._duties.released()

    def _update_members(self) -> None:
        self._mesh.set_members(members(self._parts.executor, self._config.p2p.peers))

    def _custodian(self) -> Custodian | None:
        parts = self._parts
        if parts.wallet is None:
            return None
        custodian = Custodian(
            wallet=parts.wallet,
            chain_id=parts.genesis.chain_id,
            ledger=LedgerReader(parts.executor.store, AnchorIndex(parts.stores.vault)),
            shares=self._keeping.shares,
            envelopes=self._keeping.vault,
            journal=parts.releases,
            staleness_max_ms=self._config.custodian.release_staleness_max_ms,
            clock_ms=wall_ms,
        )
        self._keeping.forget_with(custodian.forget)
        self._metrics.owing(custodian, lambda: self._keeping.unattested, wall_ms)
        return custodian
