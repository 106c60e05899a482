"""One schedule: a cast, faults, work; then everything heals, and the honest must progress.

A schedule is named by its seed and the number of validators alone. It decides HEIGHTS_MIN heights under at least three
faults (attackers count) of two kinds, heals at HEAL_MS, and then what every honest host admitted must be committed by
all honest hosts within `progress_bound_ms`.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from consilium.consensus.limits import VIEW_TIMEOUT_MAX_MS, ReplicaConfig
from tests.simulation.attackers import CAST
from tests.simulation.chain import digest_of
from tests.simulation.checkers import Violated
from tests.simulation.cluster import Cluster
from tests.simulation.faults import KINDS, Fault
from tests.simulation.host import Host
from tests.simulation.world import World

HEIGHTS_MIN = 10
HEAL_MS = 14_000
FAULTS_MIN = 3
REAL_KEYS_EVERY = 100
"""One schedule in so many signs with Ed25519."""


def progress_bound_ms(faulty: int) -> int:
    """After healing: each liar may be primary once and cost a full timeout, and one more view may be under way."""
    return VIEW_TIMEOUT_MAX_MS * (faulty + 2) + 5_000


@dataclass
class Outcome:
    """What happened in one schedule."""

    seed: int
    nodes: int
    trace: str = ""
    violation: str | None = None
    heights: int = 0
    view_changes: int = 0
    recovery_ms: int = 0
    events: int = 0
    equivocations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)

    @property
    def command(self) -> str:
        """What replays it."""
        return f"scripts/simulate --seeds {self.seed}..{self.seed} --nodes {self.nodes} --verbose"


class Schedule:
    """Draws everything from (seed, nodes)."""

    def __init__(self, seed: int, nodes: int, hosts: type[Host] = Host) -> None:
        self.outcome = Outcome(seed, nodes)
        self.world = World(f"consilium/{nodes}/{seed}")
        rng = self.world.rng
        self.changes_set = rng.randrange(4) == 0 and nodes > 4
        liars_max = (nodes - 2) // 3 if self.changes_set else (nodes - 1) // 3
        liars = rng.randint(0, liars_max) if rng.randrange(4) else liars_max
        cast: list[type[Host]] = [hosts] * (nodes + (1 if self.changes_set else 0))
        for place in rng.sample(range(nodes), liars):
            cast[place] = rng.choice(CAST)
            self.outcome.faults[cast[place].__name__] += 1
        self.liars = liars
        self.cluster = Cluster(
            self.world, cast, nodes, ReplicaConfig(), real_keys=seed % REAL_KEYS_EVERY == 0
        )
        self.cluster.forgetful = liars_max - liars
        self.batches = 0
        for host in self.cluster.hosts:
            host.clock_ms = rng.randint(-800, 800)
        self.world.note(f"cast {[kind.__name__ for kind in cast]}")

    def run(self) -> Outcome:
        """Run it to its end. Never raises for a violation: the outcome has it."""
        outcome = self.outcome
        try:
            self._run()
        except Violated as violated:
            outcome.violation = str(violated)
            outcome.story = list(self.world.lines)
        except Exception:  # noqa: BLE001 - whatever else is raised is a bug of product or simulator: it has a seed, too
            outcome.violation = "bug: " + traceback.format_exc()
            outcome.story = list(self.world.lines)
        outcome.trace = self.world.trace
        outcome.events = self.world.events
        outcome.heights = min(host.disk.chain.tip for host in self.cluster.honest)
        outcome.view_changes = self.cluster.checkers.view_changes
        outcome.equivocations = self.cluster.checkers.equivocations
        return outcome

    def _run(self) -> None:
        world, rng, cluster = self.world, self.world.rng, self.cluster
        for host in cluster.hosts:
            world.at(rng.randint(0, 300), cluster.starter(host))
        self._draw_faults()
        world.after(rng.randint(50, 500), self._work)
        if self.changes_set:
            world.at(rng.randint(2_000, HEAL_MS), self._change_set)
        world.run_until(HEAL_MS)
        self._heal()
        self._must_progress("after healing")
        while min(host.disk.chain.tip for host in cluster.honest) < HEIGHTS_MIN:
            self._must_progress("to ten heights")
        world.run_until(world.now + 3_000)

    def _draw_faults(self) -> None:
        rng = self.world.rng
        drawn: list[Fault] = []
        wanted = rng.randint(FAULTS_MIN, 8)
        while len(drawn) < wanted or len({fault.kind for fault in drawn}) < 2:
            drawn.append(rng.choice(KINDS)(self.cluster))
        for fault in drawn:
            begin = rng.randint(300, HEAL_MS - 2_000)
            end = min(HEAL_MS, begin + rng.choice((300, 1_000, 3_000, 8_000)))
            self.outcome.faults[fault.kind] += 1
            self.world.at(begin, self._noted(f"-- {fault.text}, until {end}", fault.begin))
            self.world.at(end, self._noted(f"-- no longer: {fault.text}", fault.end))

    def _noted(self, text: str, action: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            self.world.note(text)
            action()

        return run

    def _work(self) -> None:
        """Clients submit, until it heals."""
        if self.world.now >= HEAL_MS:
            return
        rng = self.world.rng
        host = rng.choice(self.cluster.hosts)
        if host.alive and not host.paused:
            self.batches += 1
            self.cluster.admit(host, b"work %d" % self.batches)
        self.world.after(rng.choice((40, 300, 800, 2_000)), self._work)

    def _change_set(self) -> None:
        """The observer joins; or the current primary is removed."""
        rng, cluster, nodes = self.world.rng, self.cluster, self.outcome.nodes
        everyone = (1 << nodes + 1) - 1
        if rng.randrange(2):
            mask = everyone
        else:
            primary = cluster.index_of[cluster.hosts[0].disk.chain.entries[-1].header.primary]
            mask = everyone & ~(1 << primary)
        for host in cluster.hosts:
            if host.alive and not host.paused and host.honest:
                self.cluster.admit(host, b"set:%d:" % mask)
                return

    def _heal(self) -> None:
        self.world.note("-- everything heals")
        for host in self.cluster.hosts:
            host.crash_in = None
            if host.paused:
                host.resume()
            if not host.alive:
                host.start()

    def _must_progress(self, when: str) -> None:
        """What each honest host admits now is committed by all honest hosts within the bound."""
        cluster, world = self.cluster, self.world
        started = world.now
        expected: list[bytes] = []
        for host in cluster.honest:
            self.batches += 1
            batch = b"work %d" % self.batches
            self.cluster.admit(host, batch)
            expected.append(digest_of(batch))

        def done() -> bool:
            return all(digest in host.disk.chain.committed for digest in expected for host in cluster.honest)

        if not world.run_until(started + progress_bound_ms(self.liars), done):
            tips = [host.disk.chain.tip for host in cluster.hosts]
            raise Violated("progress", f"{when}: not all is committed in time; tips {tips}")
        self.outcome.recovery_ms = max(self.outcome.recovery_ms, world.now - started)


def run_schedule(seed: int, nodes: int) -> Outcome:
    """Run one schedule."""
    return Schedule(seed, nodes).run()
