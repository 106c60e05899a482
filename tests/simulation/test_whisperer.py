"""An author that shows its batches to a weak quorum, and to no primary, deposes no honest one."""

from __future__ import annotations

import pytest

from consilium.consensus.limits import ReplicaConfig
from consilium.node import complaints
from consilium.node.peer_messages import Kind
from consilium.p2p.frame import Lane
from tests.simulation.attackers import Attacker
from tests.simulation.cluster import Cluster
from tests.simulation.host import Host
from tests.simulation.keys import standing_in
from tests.simulation.schedule import alone
from tests.simulation.world import World

NODES = 4
LIAR = 3
RUN_MS = 30_000
WORK_EVERY_MS = 200


class Whisperer(Attacker):
    """Gives its batches to f + 1 hosts, whoever is primary not among them: they wait there, undecided."""

    def mischief(self) -> None:
        if self.mempool.batch_count < NODES:
            self.cluster.submit_secret(self)

    def broadcast(self, kind: int, body: bytes, lane: Lane) -> int:
        if kind != Kind.BATCH:
            return super().broadcast(kind, body, lane)
        primary = self.executor.context.primary(0)
        others = [index for index in self.everyone if self.cluster.keys[index].public != primary]
        for index in others[: self.executor.context.validators.weak_quorum]:
            self.post(index, kind, body, lane)
        self.acts += 1
        return 0


def deposed() -> int:
    """How many views the honest left, in a network without any fault but the whisperer."""
    world = World("whisperer")
    cast: list[type[Host]] = [Host] * NODES
    cast[LIAR] = Whisperer
    cluster = Cluster(world, cast, NODES, ReplicaConfig())

    def work() -> None:
        cluster.submit(world.rng.choice(cluster.honest))
        world.after(WORK_EVERY_MS, work)

    with alone(), standing_in(cluster.ring):
        for host in cluster.hosts:
            host.disk.remember()
            world.at(0, host.start)
        world.after(1_000, work)
        world.run_until(RUN_MS)
    assert min(host.tip for host in cluster.honest) > 4 * complaints.PASS_ON_HEIGHTS
    assert cluster.hosts[LIAR].acts > 0
    return cluster.checkers.view_changes


def test_a_whisperer_deposes_nobody() -> None:
    assert deposed() <= NODES  # itself, at most


def test_without_passing_on_it_deposes_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the rule is there for."""

    def blame(here: complaints.Complaints, context: object, last: int = 0) -> bytes | None:
        return here._mempool.waiting_since(context.height, 2 * complaints.PASS_ON_HEIGHTS)  # type: ignore[attr-defined]

    monkeypatch.setattr(complaints.Complaints, "look", blame)
    assert deposed() > NODES
