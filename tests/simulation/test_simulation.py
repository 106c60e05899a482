"""A short run of the simulator, and every schedule that once failed. Long runs: `scripts/simulate`."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from consilium.consensus.io import HoldBatches
from consilium.consensus.promise import Promise
from consilium.consensus.restart import Memory, Verdict
from consilium.ledger.batch import VerifiedBatch
from consilium.ledger.execution import OperationContext
from consilium.ledger.transaction import Operation
from consilium.node.executor import SeenWindow
from consilium.node.promises import PromiseKeeper
from consilium.storage.chain import Tip
from scripts._simulate import regressions
from tests.conftest import PROJECT
from tests.simulation.attackers import CAST, StaleSealer
from tests.simulation.checkers import Violated
from tests.simulation.faults import crash, crash_at_effect, delay
from tests.simulation.founding import contracts
from tests.simulation.host import Host, Packet
from tests.simulation.schedule import (
    FAULTS_MIN,
    HEIGHTS_MIN,
    KINDS_MIN,
    REAL_KEYS_EVERY,
    Outcome,
    Schedule,
    run_schedule,
)


def holds(outcome: Outcome) -> bool:
    """Whether a schedule held; says what happened where it did not."""
    assert outcome.violation is None, f"{outcome.command}\n" + "\n".join(outcome.story[-60:])
    return True


@pytest.mark.parametrize(("seed", "nodes"), regressions())
def test_what_once_failed_holds(seed: int, nodes: int) -> None:
    assert holds(run_schedule(seed, nodes))


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5, 6, 7, 10])
@pytest.mark.parametrize("seed", [1_000_001, 1_000_002])
def test_fresh_schedules_hold(seed: int, nodes: int) -> None:
    outcome = run_schedule(seed, nodes)
    assert holds(outcome)
    assert outcome.heights_under_faults >= HEIGHTS_MIN
    assert sum(outcome.faults.values()) >= FAULTS_MIN
    assert len(outcome.faults) >= KINDS_MIN


def test_a_schedule_with_real_signatures_holds() -> None:
    outcome = run_schedule(REAL_KEYS_EVERY, 4)
    assert holds(outcome)
    assert outcome.executed_again > 1


OBSERVED = 11003530
"""With six validators: one is removed, and then two follow without a vote."""


def test_a_schedule_does_not_depend_on_how_fast_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run_schedule(OBSERVED, 6).trace
    jumping = itertools.accumulate(itertools.cycle((0.001, 0.7, 0.03, 5.0, 0.2)))
    for clock in ("time", "monotonic", "perf_counter", "process_time"):
        monkeypatch.setattr(time, clock, lambda: next(jumping))
    found = run_schedule(OBSERVED, 6).trace
    monkeypatch.undo()
    assert found == expected


def test_a_schedule_is_the_same_in_another_process_with_another_hash_seed() -> None:
    places = ["6 4", "5 7", f"{OBSERVED} 6"]
    traces = [
        subprocess.run(
            [sys.executable, str(PROJECT / "scripts" / "_simulate.py"), "--traces"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            input="\n".join(places if seed == "1" else places[::-1]),
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    here = [run_schedule(6, 4).trace, run_schedule(5, 7).trace, run_schedule(OBSERVED, 6).trace]
    assert traces[0] == traces[1][::-1] == here


def test_liars_are_there_when_a_network_is_founded() -> None:
    schedule = Schedule(291, 4)
    assert schedule.fresh
    assert schedule.liars == 1
    outcome = schedule.run()
    assert holds(outcome)
    assert not outcome.stalled_at_founding


def test_a_network_that_stalls_at_its_founding_must_stay_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a founding with more than f that lie or are silent no progress is demanded, and nothing else is given up."""
    monkeypatch.setattr("tests.simulation.schedule.FOUNDED_MS_MAX", 100)  # nobody speaks as early as that
    outcome = run_schedule(291, 4)
    assert holds(outcome)
    assert outcome.stalled_at_founding
    assert outcome.attackers
    schedule = Schedule(291, 4, hosts=Forgetful)
    violation = schedule.run().violation
    assert violation is not None
    assert violation.startswith("durable")


def test_a_founder_that_is_silent_without_cause_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = Schedule(291, 4)
    schedule.liars = 0
    one = schedule.cluster.honest[0]
    monkeypatch.setattr(type(one), "speaks", property(lambda host: host is not one))
    violation = schedule.run().violation
    assert violation is not None
    assert violation.startswith("progress: the network is founded")


def voter(memory: Memory | None) -> Any:
    """A host, as far as a checker of its votes looks at it."""
    verdict = None if memory is None else Verdict(memory, 3, 2)
    return SimpleNamespace(index=2, duties=SimpleNamespace(restart=SimpleNamespace(verdict=verdict)))


def test_an_older_copy_that_nobody_finds_out_is_counted() -> None:
    """docs/consensus.md, "Restart": what it said before its disk was set back it may contradict; it is one of the f."""
    schedule = Schedule(1, 4)
    checkers, host = schedule.cluster.checkers, voter(Memory.INTACT)
    schedule.world.run_until(100, lambda: False)
    checkers.on_restored(host)
    checkers._contradicts(host, 99, "two commits at 3/0")
    assert checkers.older_copies == 1


@pytest.mark.parametrize(
    ("memory", "restored", "said_ms"),
    [
        (Memory.INTACT, False, 99),
        (Memory.INTACT, True, 101),
        (Memory.STALE, True, 99),
        (Memory.LOST, True, 99),
        (None, True, 99),
    ],
    ids=["never restored", "said since", "found out", "knows that it forgot", "does not know yet"],
)
def test_nobody_else_may_contradict(memory: Memory | None, restored: bool, said_ms: int) -> None:
    schedule = Schedule(1, 4)
    checkers, host = schedule.cluster.checkers, voter(memory)
    schedule.world.run_until(100, lambda: False)
    if restored:
        checkers.on_restored(host)
    with pytest.raises(Violated, match="contradiction"):
        checkers._contradicts(host, said_ms, "two commits at 3/0")
    assert checkers.older_copies == 0


def test_different_seeds_are_different_schedules() -> None:
    assert run_schedule(1, 4).trace != run_schedule(2, 4).trace


@pytest.mark.parametrize("attacker", CAST)
def test_every_attacker_bites(attacker: type[Host], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is drawn to lie lies, and the honest hold against it."""
    monkeypatch.setattr("tests.simulation.schedule.CAST", (attacker,))
    acts = 0
    for seed in range(40):
        outcome = run_schedule(seed, 4)
        assert holds(outcome)
        acts += outcome.acts[attacker.__name__]
        if acts:
            break
    assert acts > 0


# Doubting it: faults that are planted into honest hosts, and must be found -------------------------------------------


def first_violation(broken: type[Host], seeds: range, nodes: int = 4) -> str | None:
    """What is found first in these schedules."""
    for seed in seeds:
        violation = Schedule(seed, nodes, hosts=broken).run().violation
        if violation is not None:
            return violation
    return None


class _Forgetting(PromiseKeeper):
    def keep(self, promise: Promise, batches: Callable[[bytes], VerifiedBatch | None]) -> None:
        """Nothing."""


class Forgetful(Host):
    """Honest, but its disk keeps no promise."""

    def new_keeper(self) -> PromiseKeeper:
        return _Forgetting(self.disk.promises)


class Hasty(Host):
    """Honest, but votes as soon as it starts: it asks nobody what it said before."""

    speaks = True

    def _boot(self) -> None:
        super()._boot()

        async def nothing(clerk: object) -> None:
            """Asks nobody."""

        self.duties.restart.run = nothing  # type: ignore[method-assign]
        self.driver.release(0)


class Credulous(Host):
    """Honest, but says that it holds what it does not."""

    def _boot(self) -> None:
        super()._boot()
        held = self.driver._batches_held

        def start(wanted: HoldBatches) -> None:
            held(wanted.block.hash)

        self.driver._holding.start = start  # type: ignore[method-assign]


class _Moody:
    """The contracts, but for a host whose execution depends on more than the block."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def __getattr__(self, name: str) -> object:
        return getattr(contracts(), name)

    def run(self, said: Operation, context: OperationContext) -> bytes:
        if self._host.index == 0:
            context.state.put(b"z" * 33, bytes(32))
        return contracts().run(said, context)


class Deviating(Host):
    """Honest, but host 0 writes another state."""

    def _boot(self) -> None:
        super()._boot()
        self.executor._contracts = _Moody(self)  # type: ignore[assignment]


class Repeating(Host):
    """Honest, but forgets at each start which transactions are in blocks already."""

    def _boot(self) -> None:
        super()._boot()
        self.executor.seen = SeenWindow()


class Deaf(Host):
    """Honest, but hears nothing."""

    async def receive(self, source: int, packet: Packet) -> None:
        return


class AskingOnce(Host):
    """Honest, but asks for the batches of a proposal once, and then waits."""

    def _boot(self) -> None:
        super()._boot()
        holding = self.driver._holding
        ask = holding._ask

        def once() -> None:
            ask()
            if holding._retry is not None:
                holding._retry.cancel()

        holding._ask = once  # type: ignore[method-assign]


class Unsynced(Host):
    """Honest, but commits without a sync."""

    def _boot(self) -> None:
        super()._boot()
        store = self.executor.store
        commit = store.commit

        def unsynced(block: Any, certificate: Any, raws: Any, outcome: Any, update: Any, sync: bool) -> Tip:
            return commit(block, certificate, raws, outcome, update, False)

        store.commit = unsynced  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (AskingOnce, "asking"),
        (Unsynced, "durable"),
        (Forgetful, "durable"),
        (Credulous, "invariant"),
        (Deviating, ("state", "invariant", "execution")),
        (Deaf, "progress"),
        (Hasty, ("contradiction", "evidence")),
    ],
)
def test_a_planted_fault_is_found(broken: type[Host], found: str | tuple[str, ...]) -> None:
    """A simulator that finds nothing is to be doubted."""
    violation = first_violation(broken, range(200))
    assert violation is not None
    assert violation.startswith(found), violation


def test_who_forgets_at_a_start_what_is_in_blocks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a crash, and then a transaction that comes again: here all are, and hosts crash all the time."""
    monkeypatch.setattr("tests.simulation.schedule.AGAIN_IN", 1)
    monkeypatch.setattr("tests.simulation.schedule.KINDS", (crash, crash_at_effect, delay))
    violation = first_violation(Repeating, range(200))
    assert violation is not None
    assert violation.startswith(("state", "invariant", "validity", "execution")), violation


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("consilium.ledger.state.Overlay.drop", lambda overlay: None),
        ("consilium.ledger.execution.check_time", lambda transaction, time_ms: None),
    ],
    ids=["what is refused leaves traces", "what is expired is executed"],
)
def test_a_fault_that_all_hosts_have_alike_is_found(
    place: str, fault: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comparing hosts cannot find it: the model does."""
    monkeypatch.setattr(place, fault)
    monkeypatch.setattr("tests.simulation.schedule.CAST", (StaleSealer,))
    violation = first_violation(Host, range(200))
    assert violation is not None
    assert violation.startswith("execution"), violation


def test_a_fork_is_found() -> None:
    schedule = Schedule(3, 4)
    checkers = schedule.cluster.checkers
    checkers.agreed[1] = bytes(32)
    violation = schedule.run().violation
    assert violation is not None
    assert violation.startswith("agreement")
    with pytest.raises(Violated):
        checkers.fail("anything", "at all")


def test_what_is_lost_or_differs_in_the_end_is_found() -> None:
    schedule = Schedule(4, 4)
    assert holds(schedule.run())
    host, checkers = schedule.cluster.honest[0], schedule.cluster.checkers
    schedule.world.failure = None
    checkers.nothing_lost(host)
    checkers.executed[bytes(32)] = 1
    with pytest.raises(Violated, match="loss"):
        checkers.nothing_lost(host)
