"""The cycles: how a node goes down, what happens to its disk meanwhile, and what must hold when it comes back.

One cycle takes down one node of four (`power`: all of them) while clients work, and ends when that node has reached the
head that the others had when it was back. So the chain never stops for long, and a cycle costs about a start.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Final

from consilium.ledger.errors import Refused
from consilium.node.stores import CHAIN_FOLDER, PROMISE_FOLDER, VAULT_FOLDER, renew_stores
from scripts.crash_matrix import damage, system_faults
from scripts.crash_matrix.fleet import Fleet
from scripts.crash_matrix.load import Load
from scripts.crash_matrix.report import Report
from scripts.crash_matrix.strike import EFFECTS, LATE_TEXT, Action, Strike
from scripts.crash_matrix.wiretap import Wiretap

KINDS: Final = {
    "kill": 30,
    "strike": 40,
    "early": 8,
    "power": 2,
    "tail": 8,
    "flip-chain": 5,
    "flip-vault": 1,
    "flip-promise": 1,
    "no-space": 3,
    "no-sync": 4,
}
"""Kinds of cycles with their weights."""
HEAD_TIMEOUT_S: Final = 300.0
STRIKE_TIMEOUT_S: Final = 15.0
HALT_TIMEOUT_S: Final = 20.0
STRIKE_NTH_MAX: Final = 12
EARLY_NTH_MAX: Final = 40
RUN_MIN_S, RUN_MAX_S = 0.05, 0.8
RUNNER_SHARE: Final = 0.8
RESYNC_SHARE: Final = 0.15
SIGKILLED: Final = -9
STATUS_REFUSED: Final = 1
STATUS_BROKEN: Final = 4
NAMED: Final = ("store.corrupt", "promise.corrupt", "the store in", "the promise in")
"""A node that stops because of its disk says so in one of these words."""


class Matrix:
    """Runs cycles on a fleet under load, and reports."""

    def __init__(
        self, fleet: Fleet, load: Load, tap: Wiretap, report: Report, seed: int, kinds: list[str]
    ) -> None:
        self._fleet = fleet
        self._load = load
        self._tap = tap
        self.report = report
        self._chance = random.Random(seed)
        self._kinds = [
            kind for kind in kinds if system_faults.available or kind not in ("no-space", "no-sync")
        ]
        self._plans: list[tuple[str, Action]] = []

    async def cycle(self) -> None:
        """One cycle; raises only where the run cannot go on."""
        self._load.died()
        kind = self._chance.choices(self._kinds, [KINDS[kind] for kind in self._kinds])[0]
        victim = self._chance.randrange(self._fleet.cluster.size)
        if kind in ("strike", "no-space", "no-sync") and not self._fleet.strikable(victim):
            kind = "kill"
        self.report.cycles += 1
        self.report.count(self.report.by_kind, kind)
        match kind:
            case "kill":
                await self._kill(victim)
            case "strike":
                await self._strike(victim)
            case "early":
                await self._early(victim)
            case "power":
                await self._power()
                return
            case "tail":
                await self._kill(victim)
                damage.cut_tail(self._store(victim, CHAIN_FOLDER), self._chance)
            case "no-space" | "no-sync":
                await self._disk_fails(victim, kind)
            case _:
                await self._flip(victim, kind)
        await self._back(victim)

    # --- ways to go down --------------------------------------------------------------------------------------------

    async def _kill(self, victim: int) -> None:
        await asyncio.sleep(self._chance.uniform(RUN_MIN_S, RUN_MAX_S))
        await self._fleet.kill(victim)
        self.report.kills += 1

    async def _strike(self, victim: int) -> None:
        """Let it kill itself just before or just after an effect on its disk; every pair of the two in turn."""
        if not self._plans:
            self._plans = [(effect, action) for effect in EFFECTS for action in ("kill-before", "kill-after")]
            self._chance.shuffle(self._plans)
        effect, action = self._plans.pop()
        nth = self._chance.randint(1, STRIKE_NTH_MAX if effect.startswith(("chain", "promise")) else 2)
        await self._fleet.arm(victim, Strike(effect, nth, action))
        await self._await_strike(victim, f"{action} {effect}")

    async def _early(self, victim: int) -> None:
        """Kill it, and once more while it catches up."""
        await self._kill(victim)
        nth = self._chance.randint(1, EARLY_NTH_MAX)
        action: Action = self._chance.choice(("kill-before", "kill-after"))
        self._fleet.launch(victim, Strike("any", nth, action))
        await self._await_strike(victim, f"{action} while catching up")

    async def _await_strike(self, victim: int, name: str) -> None:
        status = await self._fleet.wait_death(victim, STRIKE_TIMEOUT_S)
        if status is None:
            await self._fleet.kill(
                victim
            )  # nothing did that effect so often in the time: a kill like any other
        else:
            self.report.count(self.report.strikes, name)
            if status != SIGKILLED:
                self._violated(victim, f"status {status} instead of a kill ({name})")
        self.report.kills += 1

    async def _power(self) -> None:
        """A power cut for everybody."""
        await asyncio.sleep(self._chance.uniform(RUN_MIN_S, RUN_MAX_S))
        nodes = list(range(self._fleet.cluster.size))
        await asyncio.gather(*(self._fleet.kill(index) for index in nodes))
        self.report.kills += len(nodes)
        for index in nodes:
            self._fleet.launch(index)
        began_s = time.monotonic()
        await asyncio.gather(*(self._fleet.healthy(index) for index in nodes))
        head = await self._fleet.head()
        for index in nodes:
            await self._reach(index, head, began_s)

    async def _disk_fails(self, victim: int, kind: str) -> None:
        """Syncs or writes fail from an effect on: the node halts, says why, and writes nothing more."""
        effect = self._chance.choice(EFFECTS[:4])
        action: Action = "no-space" if kind == "no-space" else "no-sync"
        offset = self._fleet.log_size(victim)
        await self._fleet.arm(victim, Strike(effect, self._chance.randint(1, 3), action))
        status = await self._fleet.wait_death(victim, HALT_TIMEOUT_S)
        if status is None:
            await self._fleet.kill(victim)
            if LATE_TEXT in self._fleet.log_since(victim, offset):
                self._violated(victim, f"went on after {action} at {effect}")
            return
        self.report.count(self.report.strikes, f"{action} {effect}")
        log = self._fleet.log_since(victim, offset)
        if status != STATUS_BROKEN or not any(name in log for name in NAMED):
            self._violated(victim, f"status {status} after {action} at {effect}, and not named: {log[-500:]}")
        if LATE_TEXT in log:
            self._violated(victim, f"wrote to its disk after {action} at {effect}")

    # --- damage -----------------------------------------------------------------------------------------------------

    async def _flip(self, victim: int, kind: str) -> None:
        """Flip a bit while it is down: it is refused, or halts when it reads it, or never reads it."""
        await self._kill(victim)
        name = {"flip-chain": CHAIN_FOLDER, "flip-vault": VAULT_FOLDER, "flip-promise": PROMISE_FOLDER}[kind]
        store = self._store(victim, name)
        copy = damage.copy_folder(store, store.with_name("copy-" + name))
        target = self._target(store, kind)
        where = damage.flip_bit(target, self._chance)
        offset, votes = self._fleet.log_size(victim), self._votes_of(victim)
        self._fleet.launch(victim)
        try:
            await self._fleet.healthy(victim)
            await self._fleet.cluster.wait_height(await self._fleet.head(), [victim], HALT_TIMEOUT_S)
        except (Refused, TimeoutError):
            status = await self._fleet.wait_death(victim, HALT_TIMEOUT_S)
            await self._detected(victim, kind, f"{where}: status {status}", status, offset, votes)
            if kind == "flip-chain" and self._chance.random() < RESYNC_SHARE:
                await asyncio.to_thread(renew_stores, self._fleet.cluster.nodes[victim].config())
                self.report.resynced += 1
                shutil.rmtree(copy)
            else:
                damage.put_back(copy, store)
            return
        await self._fleet.stop(victim)
        shutil.rmtree(copy)
        latent = await asyncio.to_thread(damage.is_damaged, store) if kind != "flip-promise" else None
        self.report.count(
            self.report.corruption, f"{kind}: {'not read, found by a full check' if latent else 'harmless'}"
        )
        if latent and kind == "flip-chain":
            await asyncio.to_thread(renew_stores, self._fleet.cluster.nodes[victim].config())
            self.report.resynced += 1
        elif latent:
            where.flip()  # nobody else has these envelopes
            if damage.is_damaged(store) is not None:
                self._violated(victim, f"the vault stays damaged without {where}")

    async def _detected(
        self, victim: int, kind: str, text: str, status: int | None, offset: int, votes: int
    ) -> None:
        log = self._fleet.log_since(victim, offset)
        if status is None:
            await self._fleet.kill(victim)
            self._violated(victim, f"{text}: neither served nor ended: {log[-500:]}")
        elif status not in (STATUS_REFUSED, STATUS_BROKEN) or not any(name in log for name in NAMED):
            self._violated(victim, f"{text}, and the damage is not named: {log[-500:]}")
        elif status == STATUS_REFUSED and self._votes_of(victim) != votes:
            self._violated(victim, f"{text}: voted on a store that it refused")
        else:
            outcome = "refused at the start" if status == STATUS_REFUSED else "halted when read"
            self.report.count(self.report.corruption, f"{kind}: {outcome}")

    def _target(self, store: Path, kind: str) -> Path:
        if kind == "flip-promise":
            return store / "votes"
        log = damage.newest_log(store)
        files = damage.table_files(store) + sorted(store.glob("MANIFEST-*"))
        if log is not None and self._chance.random() < 0.5:
            return log
        return self._chance.choice(files)

    # --- coming back ------------------------------------------------------------------------------------------------

    async def _back(self, victim: int) -> None:
        began_s = time.monotonic()
        try:
            if self._chance.random() < RUNNER_SHARE:
                self._fleet.launch(victim)
                await self._fleet.healthy(victim)
            else:
                await self._fleet.start_product(victim)
        except (Refused, TimeoutError) as error:
            self.report.restarts += 1
            self._violated(victim, f"did not come back: {error}")
            raise
        await self._reach(victim, await self._fleet.head(), began_s)

    async def _reach(self, victim: int, head: int, began_s: float) -> None:
        self.report.restarts += 1
        try:
            await self._fleet.cluster.wait_height(head, [victim], HEAD_TIMEOUT_S)
        except TimeoutError as error:
            self._violated(victim, f"did not reach the head: {error}")
            raise
        self.report.restarts_at_head += 1
        self.report.catch_up_s.append(time.monotonic() - began_s)

    def _store(self, index: int, name: str) -> Path:
        return self._fleet.cluster.nodes[index].config().data_dir / name

    def _votes_of(self, index: int) -> int:
        key = self._fleet.cluster.nodes[index].card().node_key
        return self._tap.ballots.said_by.get(bytes(key), 0)

    def _violated(self, victim: int, text: str) -> None:
        self.report.violated(f"cycle {self.report.cycles}, node-{victim}: {text}")
        print(self.report.violations[-1], file=sys.stderr, flush=True)
