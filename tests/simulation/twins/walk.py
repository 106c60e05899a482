"""Every way to divide the hosts in two, view after view, breadth-first, with equal joint states merged.

The two halves of a view do not hear each other, so what a half does depends on its own hosts only: it is run once for
each different tuple of their states, and looked up afterwards. A joint state is one state of each host; each carries
how many scenarios lead to it, so that the sums say what was covered. Nothing is left out but by `states_max`, which
is reported. Hosts are not exchanged for each other: each has its own turn as primary, and twins their own batches.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tests.simulation.twins.half import Council, Cut, Half, Host, Violated, check_agreement
from tests.simulation.twins.portrait import Painter, Portrait, joint_portrait

HEAL_VIEWS_MAX: Final = 8
"""When all hosts hear each other again, each honest one decides something new within so many views."""
CUTS: Final = (Cut.UNSEALED, Cut.ONE_DECIDES, Cut.ONE_PREPARES)

Division: TypeAlias = tuple[tuple[int, ...], ...]
"""Each host in one part."""
View: TypeAlias = tuple[Division, Cut]
Joint: TypeAlias = tuple[bytes, ...]
"""The name of each host's state."""


def two_way(hosts: int) -> list[Division]:
    """All 2^(hosts-1) divisions into two parts, the one with an empty part included (it comes first)."""
    divisions: list[Division] = []
    for mask in range(2 ** (hosts - 1)):
        other = tuple(host for host in range(1, hosts) if mask >> (host - 1) & 1)
        one = tuple(host for host in range(hosts) if host not in other)
        divisions.append((one, other) if other else (one,))
    return divisions


@dataclass(frozen=True, slots=True)
class Failure:
    """A scenario that violates a property."""

    views: tuple[View, ...]
    healed: int
    violation: str


@dataclass
class Depth:
    """What was found after so many views. `scenarios` by how many of the views were cut short."""

    views: int
    scenarios: list[int]
    states: int
    """Joint states that were kept, of `found` different ones."""
    found: int
    merged: int
    """Joint states that were reached once more, by another last step."""
    halves: int
    """Halves that were run; all others were looked up."""
    heights: int
    """The greatest height that was decided."""
    complete: bool


@dataclass
class Reached:
    """A joint state, as the first path led to it. `portrait` names it; `heights`: the most that any path decided."""

    joint: Joint
    portrait: bytes
    cuts: int
    scenarios: int
    path: tuple[View, ...]
    heights: int = 0


@dataclass
class Walk:
    """A walk over all scenarios of one council."""

    council: Council
    cuts_max: int = 1
    states_max: int = 1_000_000
    depths: list[Depth] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    layer: list[Reached] = field(default_factory=list)
    _hosts: dict[bytes, Host] = field(default_factory=dict)
    _blocks: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    _portraits: dict[bytes, Portrait] = field(default_factory=dict)
    _portrayed: dict[Joint, bytes] = field(default_factory=dict)
    _next_hosts: dict[bytes, Host] = field(default_factory=dict)
    _looked_up: dict[tuple[Cut, Joint], Joint | str] = field(default_factory=dict)
    _trace: bytes = b""

    def __post_init__(self) -> None:
        self._painter = Painter(self.council.validators)
        begun = [self.council.begin(index) for index in range(len(self.council.keys))]
        joint = tuple(self._keep(host) for host in begun)
        self._turn()
        self.layer = [Reached(joint, self._portray(joint), 0, 1, ())]

    @property
    def trace(self) -> str:
        """A hash over every state of every depth: equal for equal walks."""
        return self._trace.hex()

    def deepen(self) -> Depth:
        """One view more, in every way."""
        hosts = len(self.council.keys)
        divisions = two_way(hosts)
        reached: dict[tuple[int, bytes], Reached] = {}
        merged, complete = 0, True
        for state in self.layer:
            for view in self._views(divisions, state.cuts):
                joint = self._after(state, view)
                if joint is None:
                    continue
                cuts = state.cuts + (view[1] is not Cut.WHOLE)
                portrait = self._portray(joint)
                decided = max(len(self._blocks[name]) for name in joint)
                heights = state.heights + decided - max(len(self._blocks[name]) for name in state.joint)
                known = reached.get((cuts, portrait))
                if known is not None:
                    known.scenarios += state.scenarios
                    known.heights = max(known.heights, heights)
                    merged += 1
                else:
                    path = (*state.path, view)
                    reached[cuts, portrait] = Reached(joint, portrait, cuts, state.scenarios, path, heights)
        found = len(reached)
        if found > self.states_max:
            # Portraits are hashes: the first of them are no special ones.
            complete = False
            first = sorted(reached, key=lambda one: one[1])[: self.states_max]
            reached = {key: reached[key] for key in first}
        complete = complete and (not self.depths or self.depths[-1].complete)
        self.layer = list(reached.values())
        scenarios = [
            sum(s.scenarios for s in self.layer if s.cuts == cuts) for cuts in range(self.cuts_max + 1)
        ]
        halves = len(self._looked_up)
        self._turn()
        heights = max((state.heights for state in self.layer), default=0)
        depth = Depth(
            len(self.depths) + 1, scenarios, len(self.layer), found, merged, halves, heights, complete
        )
        self.depths.append(depth)
        for state in self.layer:
            self._trace = hashlib.sha256(
                b"".join((self._trace, state.portrait, b"%d %d" % (state.cuts, state.scenarios)))
            ).digest()
        return depth

    def heal(self, states_max: int) -> tuple[int, int, int]:
        """All hosts hear each other from now on: from up to `states_max` states, spread evenly, all must progress.

        Returns how many states were tried, the most views that it took, and the halves that were run.
        """
        step = max(1, -(-len(self.layer) // max(1, states_max)))
        chosen = self.layer[::step]
        together = tuple(range(len(self.council.keys)))
        # Equal joint states with equal goals go the same way: each is followed once.
        waiting: dict[tuple[bytes, int], tuple[Joint, int, Reached]] = {}
        for state in chosen:
            goal = max(len(self._blocks[name]) for name in state.joint) + 1
            waiting.setdefault(self._going(state.joint, goal), (state.joint, goal, state))
        views, halves = 0, 0
        while waiting and views < HEAL_VIEWS_MAX:
            views += 1
            following: dict[tuple[bytes, int], tuple[Joint, int, Reached]] = {}
            for joint, goal, state in waiting.values():
                healed = self._after(state, ((together,), Cut.WHOLE), joint)
                if healed is None:
                    continue
                blocks = [self._blocks[name] for name in healed]
                if any(
                    len(b) < goal for b, honest in zip(blocks, self.council.honest, strict=True) if honest
                ):
                    following.setdefault(self._going(healed, goal), (healed, goal, state))
            halves += len(self._looked_up)
            self._turn()
            waiting = following
        for _, _, state in waiting.values():
            self._fail(
                state.path, HEAL_VIEWS_MAX, "progress: not everybody decides after all hear each other"
            )
        return len(chosen), views, halves

    def _going(self, joint: Joint, goal: int) -> tuple[bytes, int]:
        """What decides how it goes on: the state, and how many heights are still to come."""
        return self._portray(joint), goal - min(len(self._blocks[name]) for name in joint)

    def _views(self, divisions: list[Division], cuts: int) -> Iterator[View]:
        kinds = (Cut.WHOLE, *CUTS) if cuts < self.cuts_max else (Cut.WHOLE,)
        return itertools.product(divisions, kinds)

    def _after(self, state: Reached, view: View, joint: Joint | None = None) -> Joint | None:
        """The joint state after one view more; None where a property is violated."""
        before = state.joint if joint is None else joint
        after = list(before)
        division, cut = view
        for part in division:
            names = tuple(before[index] for index in part)
            known = self._looked_up.get((cut, names))
            if known is None:
                known = self._looked_up[cut, names] = self._run(names, cut)
            if isinstance(known, str):
                self._fail(
                    (*state.path, view) if joint is None else state.path, int(joint is not None), known
                )
                return None
            for index, name in zip(part, known, strict=True):
                after[index] = name
        reached = tuple(after)
        try:
            check_agreement(self.council, [self._blocks[name] for name in reached])
        except Violated as violated:
            self._fail(
                (*state.path, view) if joint is None else state.path, int(joint is not None), str(violated)
            )
            return None
        return reached

    def _run(self, names: Joint, cut: Cut) -> Joint | str:
        half = Half(self.council, [self._hosts[name].copy() for name in names], cut)
        try:
            half.run()
        except Violated as violated:
            return str(violated)
        half.rest()
        return tuple(self._keep(host) for host in half.hosts)

    def _keep(self, host: Host) -> bytes:
        portrait = host.portrait(self._painter)
        name = portrait.name
        if name not in self._next_hosts:
            self._next_hosts[name] = host
            self._blocks[name] = host.blocks()
            self._portraits[name] = portrait
        return name

    def _portray(self, joint: Joint) -> bytes:
        known = self._portrayed.get(joint)
        if known is None:
            known = self._portrayed[joint] = joint_portrait([self._portraits[name] for name in joint])
        return known

    def _turn(self) -> None:
        """What was reached is where the next view begins."""
        self._hosts, self._next_hosts, self._looked_up = self._next_hosts, {}, {}
        self._blocks = {name: self._blocks[name] for name in self._hosts}
        self._portraits = {name: self._portraits[name] for name in self._hosts}
        self._portrayed.clear()
        self._painter.forget()

    def _fail(self, path: tuple[View, ...], healed: int, violation: str) -> None:
        self.failures.append(Failure(path, healed, violation))
