"""One schedule: a cast, faults, work; then everything heals, and the honest must progress.

A schedule is named by its seed and the number of validators alone. It goes on under faults, always with one of them in
effect, until HEIGHTS_MIN heights were decided under them and FAULTS_MIN of at least KINDS_MIN kinds have begun. Then
everything heals, and what every honest host admits must be committed by all honest hosts within `progress_bound_ms`.

In one schedule of FRESH_IN the hosts are started for the first time, liars among them, and faults begin when all
speak. Who then is outrun by the others is silent for a few heights, as if it had lost its disk: it counts as faulty.
Where those and the liars are more than f, the network may have *stalled at its founding*: it is put under faults and
healed like any other and must stay safe, but nobody demands progress of it. In the other schedules every host was
started once before, which it remembers.
"""

from __future__ import annotations

import gc
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from consilium.consensus.limits import VIEW_TIMEOUT_MAX_MS, ReplicaConfig
from consilium.contracts import ballot
from tests.simulation.attackers import CAST
from tests.simulation.checkers import Violated
from tests.simulation.cluster import Cluster
from tests.simulation.faults import KINDS, Fault, mild
from tests.simulation.founding import found
from tests.simulation.host import Host
from tests.simulation.keys import standing_in
from tests.simulation.world import World

HEIGHTS_MIN = 10
FAULTS_MIN = 3
KINDS_MIN = 2
FAULTS_MAX = 7
BEGIN_MS = 300
DRAWN_MS = 4_500
"""Faults of the schedule's draw begin before."""
HARSH_MS = 12_000
"""From then on, only such faults are left under which a quorum can talk."""
UNDER_FAULTS_MS_MAX = 240_000
ROLL_EVERY_MS = 200
AGAIN_IN = 3
"""One transaction in so many is submitted to two hosts."""
SETTLE_MS = 300
FRESH_IN = 6
FOUNDED_MS_MAX = 20_000
REAL_KEYS_EVERY = 100
"""One schedule in so many signs with Ed25519."""
EXECUTED_AGAIN_IN = 4
"""In one schedule of so many, a chain is executed again from genesis; with real keys, every one."""
SILENT_LEVEL = 50


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
    heights_under_faults: int = 0
    view_changes: int = 0
    recovery_ms: int = 0
    simulated_ms: int = 0
    events: int = 0
    equivocations: int = 0
    older_copies: int = 0
    """Contradictions of restored hosts that docs/consensus.md, "Restart", names as not found out."""
    transactions: int = 0
    executed_again: int = 0
    stalled_at_founding: bool = False
    """More than f lied or were silent when the network was founded: safety was checked, progress not demanded."""
    faults: Counter[str] = field(default_factory=Counter)
    """By kind: how many began."""
    bites: Counter[str] = field(default_factory=Counter)
    """By kind: how many packets or hosts they met."""
    attackers: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    """By attacker: how often it lied."""
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
        self.changes_set = rng.randrange(6) == 0 and nodes > 4
        liars_max = (nodes - 2) // 3 if self.changes_set else (nodes - 1) // 3
        self.fresh = rng.randrange(FRESH_IN) == 0
        liars = rng.randint(0, liars_max) if rng.randrange(4) else liars_max
        cast: list[type[Host]] = [hosts] * (nodes + (1 if self.changes_set else 0))
        self.real_keys = seed % REAL_KEYS_EVERY == 0
        places = rng.sample(range(nodes), liars)
        first = found(nodes, len(cast), self.real_keys).first
        if places and first not in places and rng.randrange(2):
            places[0] = first  # who lies as a primary only must be one now and then
        for place in places:
            cast[place] = rng.choice(CAST)
            self.outcome.attackers[cast[place].__name__] += 1
        self.liars = liars
        self.cluster = Cluster(self.world, cast, nodes, ReplicaConfig(), self.real_keys)
        self.cluster.forgetful = liars_max - liars
        self.active: dict[int, Fault] = {}
        self.begun: list[Fault] = []
        self.harsh: list[int] = []
        self.began_ms = 0
        self.healed = False
        self.top: int | None = None
        """Where the heights under faults were counted last."""
        for host in self.cluster.hosts:
            if not self.fresh:
                host.disk.remember()
            host.clock_ms = rng.randint(-800, 800)
        self.world.note("cast", [kind.__name__ for kind in cast])

    def run(self, story: bool = False) -> Outcome:
        """Run it to its end. Never raises for a violation: the outcome has it. `story`: what happened, for people."""
        outcome, cluster = self.outcome, self.cluster
        with alone(), standing_in(cluster.ring):
            try:
                self._run()
            except Violated as violated:
                outcome.violation = str(violated)
            except Exception as error:  # noqa: BLE001 - a bug of product or simulator: it has a seed, too
                outcome.violation = "bug: " + "".join(traceback.format_exception(error))
        if story or outcome.violation is not None:
            outcome.story = self.world.lines
        outcome.trace = self.world.trace
        outcome.events = self.world.events
        outcome.simulated_ms = self.world.now
        outcome.heights = min(host.tip for host in cluster.honest)
        outcome.view_changes = cluster.checkers.view_changes
        outcome.equivocations = cluster.checkers.equivocations
        outcome.older_copies = cluster.checkers.older_copies
        outcome.transactions = len(cluster.checkers.executed)
        outcome.bites = cluster.bites + cluster.network.bites
        for host in cluster.hosts:
            if not host.honest:
                outcome.acts[type(host).__name__] += host.acts
        return outcome

    def _run(self) -> None:
        world, rng, cluster = self.world, self.world.rng, self.cluster
        for host in cluster.hosts:
            world.at(rng.randint(0, 250), host.start)
        world.after(rng.randint(300, 600), self._work)
        if self.fresh:
            self._found()
        self.began_ms = world.now
        self._draw_faults()
        world.at(self.began_ms + BEGIN_MS, self._roll)
        if self.changes_set:
            world.at(self.began_ms + rng.randint(1_500, DRAWN_MS), self._change_set)
        stalled = self.outcome.stalled_at_founding
        under_faults_ms = HARSH_MS if stalled else UNDER_FAULTS_MS_MAX
        if not world.run_until(self.began_ms + under_faults_ms, self._enough) and not stalled:
            raise Violated("progress", f"{self.outcome.heights_under_faults} heights under mild faults")
        self._heal()
        if stalled:
            world.run_until(world.now + progress_bound_ms(0))
        else:
            self._must_progress()
        world.run_until(world.now + SETTLE_MS)
        self._compare()

    def _found(self) -> None:
        """Wait until all speak; whoever does not by then counts as faulty, as a liar does."""
        cluster = self.cluster
        if self.world.run_until(FOUNDED_MS_MAX, lambda: all(host.speaks for host in cluster.honest)):
            return
        silent = sum(not host.speaks for host in cluster.honest)
        if silent + self.liars <= (cluster.validators - 1) // 3:
            raise Violated("progress", "the network is founded, and somebody does not speak")
        self.world.note("-- stalled at the founding:", silent, "silent")
        self.outcome.stalled_at_founding = True
        cluster.forgetful = 0

    # Faults ---------------------------------------------------------------------------------------------------------

    def _draw_faults(self) -> None:
        rng = self.world.rng
        drawn: list[Fault] = []
        wanted = rng.randint(FAULTS_MIN, FAULTS_MAX)
        while len(drawn) < wanted or len({fault.kind for fault in drawn}) < KINDS_MIN:
            drawn.append(rng.choice(KINDS)(self.cluster))
        for fault in drawn:
            begin = self.began_ms + rng.randint(BEGIN_MS, DRAWN_MS)
            self.harsh.append(id(fault))
            self.world.at(begin, self._begin, fault, begin + rng.choice((300, 1_000, 3_000, 6_000)))

    def _begin(self, fault: Fault, end_ms: int) -> None:
        if self.healed:
            return
        self.world.note("--", fault.text, "until", end_ms)
        self.outcome.faults[fault.kind] += 1
        self.begun.append(fault)
        self.active[id(fault)] = fault
        fault.begin()
        self.world.at(end_ms, self._end, fault)

    def _end(self, fault: Fault) -> None:
        if self.active.pop(id(fault), None) is not None:
            self.world.note("-- no longer:", fault.text)
            fault.end()

    def _roll(self) -> None:
        """See that a fault is in effect, and that a quorum can talk in the end; count what is decided meanwhile."""
        if self.healed:
            return
        self._count()
        now, rng = self.world.now, self.world.rng
        if now >= self.began_ms + HARSH_MS:
            for name in self.harsh:
                if name in self.active:
                    self._end(self.active[name])
            self.harsh = []
        if not self.active:
            self._begin(mild(self.cluster), now + rng.choice((1_000, 3_000)))
        self.world.after(ROLL_EVERY_MS, self._roll)

    def _count(self) -> None:
        """Heights that were decided since the last count: a fault was in effect all the time."""
        top = max(host.tip for host in self.cluster.honest)
        if self.active and self.top is not None:
            self.outcome.heights_under_faults += top - self.top
        self.top = top

    def _enough(self) -> bool:
        if self.world.now < self.began_ms + DRAWN_MS or self.outcome.heights_under_faults < HEIGHTS_MIN:
            return False
        return len(self.begun) >= FAULTS_MIN and len({fault.kind for fault in self.begun}) >= KINDS_MIN

    def _heal(self) -> None:
        self.world.note("-- everything heals")
        self.healed = True
        for fault in list(self.active.values()):
            self._end(fault)
        for host in self.cluster.hosts:
            host.crash_in, host.crash_after = None, None
            host.resume()
            host.start()

    # Work -----------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Clients submit, until it heals."""
        if self.healed:
            return
        rng = self.world.rng
        host = rng.choice(self.cluster.hosts)
        if host.alive and not host.paused:
            transaction = self.cluster.submit(host)
            again = rng.choice(self.cluster.hosts)
            if not rng.randrange(AGAIN_IN) and again is not host:
                # An impatient client: the same transaction, somewhere else, soon or after it was decided.
                self.world.after(rng.choice((5, 50, 300, 1_500)), again.submit, transaction)
        self.world.after(rng.choice((100, 400, 900, 1_600)), self._work)

    def _change_set(self) -> None:
        """The institutions vote an observer in, or the current primary out."""
        rng, cluster = self.world.rng, self.cluster
        up = [host for host in cluster.hosts[: cluster.validators] if host.alive and not host.paused]
        if not up or self.healed:
            return
        newcomer = cluster.hosts[-1]
        change: ballot.Change = ballot.AddValidator(
            newcomer.key.public, cluster.clients.institutions[newcomer.index]
        )
        if rng.randrange(2):
            change = ballot.RemoveValidator(up[0].executor.context.parent.primary)
        name = rng.randbytes(16)
        self.world.note("-- the institutions change the validators:", type(change).__name__)
        for place, host in enumerate(up):
            tip_ms = host.executor.store.tip.time_ms
            if place == 0:
                host.submit(cluster.clients.propose(host.index, change, name, tip_ms))
            else:
                vote = cluster.clients.vote(host.index, name, tip_ms)
                self.world.after(1_500 + 50 * place, host.submit, vote)

    def _must_progress(self) -> None:
        """What each honest host admits now is committed by all honest hosts within the bound, and so is whatever an
        honest host admitted before and did not lose with its memory."""
        cluster, world = self.cluster, self.world
        started, chains = world.now, cluster.honest
        for host in cluster.honest:
            transaction = cluster.submit(host)
            if host.admitted.get(transaction.id, (0, 0))[0] != host.life:
                raise Violated("progress", f"host {host.index} does not admit a client's transaction")
        # Where the clocks of a quorum ran an hour ahead, block time did too, and what was good until before is expired.
        top_ms = max(host.executor.store.tip.time_ms for host in chains)
        expected = [
            identifier
            for host in chains
            for identifier, (life, valid_until) in host.admitted.items()
            if life == host.life and valid_until > top_ms + progress_bound_ms(self.liars)
        ]

        def done() -> bool:
            return all(
                host.executor.store.place_of(identifier) is not None
                for identifier in expected
                for host in chains
            )

        if not world.run_until(started + progress_bound_ms(self.liars), done):
            tips = [host.tip for host in cluster.hosts]
            raise Violated("progress", f"after healing: not all is committed in time; tips {tips}")
        self.outcome.recovery_ms = world.now - started

    def _compare(self) -> None:
        cluster = self.cluster
        for host in cluster.honest:
            cluster.checkers.compare(host)
            cluster.checkers.nothing_lost(host)
        if self.real_keys:
            for host in cluster.honest:
                cluster.checkers.same_again(host)
                self.outcome.executed_again += 1
        elif self.outcome.seed % EXECUTED_AGAIN_IN == 0:
            cluster.checkers.same_again(self.world.rng.choice(cluster.honest))
            self.outcome.executed_again += 1


@contextmanager
def alone() -> Iterator[None]:
    """No garbage is collected and nothing is logged while a schedule runs."""
    logged = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(SILENT_LEVEL))
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        structlog.configure(**logged)
        if collected:
            gc.enable()


def run_schedule(seed: int, nodes: int, story: bool = False) -> Outcome:
    """Run one schedule."""
    return Schedule(seed, nodes).run(story)
