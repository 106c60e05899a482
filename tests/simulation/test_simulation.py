"""A short run of the simulator, and every schedule that once failed, by name. Long runs: `scripts/simulate`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from consilium.consensus.io import BatchesHeld
from consilium.ledger.block import Block
from tests.conftest import PROJECT
from tests.simulation.chain import digest_of
from tests.simulation.checkers import Violated
from tests.simulation.host import Host
from tests.simulation.schedule import FAULTS_MIN, HEIGHTS_MIN, REAL_KEYS_EVERY, Schedule, run_schedule

REGRESSIONS = {
    # A peer that boasted of the greatest height was asked first each time: a node 20 heights behind crept.
    "a lying peer is asked each time": (77, 5),
    # The simulated driver committed synced blocks between a sync and the vote behind it: drivers must not.
    "a block is committed between two effects": (67, 4),
    "a block is decided twice": (190, 10),
    # Without a promise from its founding, a validator that started late was taken for a wiped one, and kept silent; two
    # liars then halted the chain by deciding height 1 and falling silent.
    "who starts late is taken for wiped": (20098, 7),
    "a stale proposal is persisted without its batches": (2, 6),
}


@pytest.mark.parametrize("name", REGRESSIONS)
def test_what_once_failed_holds(name: str) -> None:
    outcome = run_schedule(*REGRESSIONS[name])
    assert outcome.violation is None, f"{outcome.command}\n" + "\n".join(outcome.story[-60:])


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5, 6, 7, 10])
@pytest.mark.parametrize("seed", [1_000_001, 1_000_002])
def test_fresh_schedules_hold(seed: int, nodes: int) -> None:
    outcome = run_schedule(seed, nodes)
    assert outcome.violation is None, f"{outcome.command}\n" + "\n".join(outcome.story[-60:])
    assert outcome.heights >= HEIGHTS_MIN
    assert sum(outcome.faults.values()) >= FAULTS_MIN
    assert len(outcome.faults) >= 2


def test_a_schedule_with_real_signatures_holds() -> None:
    outcome = run_schedule(REAL_KEYS_EVERY, 4)
    assert outcome.violation is None, outcome.command


def test_a_schedule_is_the_same_in_another_process_with_another_hash_seed() -> None:
    command = [sys.executable, str(PROJECT / "scripts" / "_simulate.py"), "--seeds", "5..5", "--nodes", "4"]
    traces = [
        subprocess.run(
            [*command, "--traces"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert traces[0] == traces[1] == run_schedule(5, 4).trace


def test_different_seeds_are_different_schedules() -> None:
    assert run_schedule(1, 4).trace != run_schedule(2, 4).trace


class Forgetful(Host):
    """Honest, but its disk keeps no promise: the checkers must notice."""

    def write_promise(self) -> None:
        self.disk.writing = None


class Credulous(Host):
    """Honest, but says that it holds what it does not."""

    def try_held(self, block: Block) -> bool:
        self.feed(BatchesHeld(block.hash))
        return True


@pytest.mark.parametrize("broken", [Forgetful, Credulous])
def test_a_planted_fault_is_found(broken: type[Host]) -> None:
    """A simulator that finds nothing is to be doubted."""
    outcome = Schedule(3, 4, hosts=broken).run()
    assert outcome.violation is not None
    assert outcome.violation.startswith("durable") or outcome.violation.startswith("bug")


def test_a_stall_is_found() -> None:
    class Deaf(Host):
        def receive(self, source: int, raw: bytes) -> None:
            return

    outcome = Schedule(3, 4, hosts=Deaf).run()
    assert outcome.violation is not None
    assert outcome.violation.startswith("progress")


def test_a_fork_is_found() -> None:
    schedule = Schedule(3, 4)
    checkers, host = schedule.cluster.checkers, schedule.cluster.honest[0]
    checkers.agreed[1] = digest_of(b"another block")
    violation = schedule.run().violation
    assert violation is not None
    assert violation.startswith("agreement")
    assert host.honest
    with pytest.raises(Violated):
        checkers.fail("anything", "at all")
