"""Single scenarios, run plainly: new replicas, no copies, nothing looked up. Drawn from a seed, or named by a walk.

The plain run is what the walk is measured by: after the same views both must have the same portrait.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.simulation.twins.half import START_MS, VIEW_MS, Council, Cut, Half, Host, Violated, check_agreement
from tests.simulation.twins.portrait import Painter, joint_portrait
from tests.simulation.twins.walk import CUTS, HEAL_VIEWS_MAX, Division, View

WHOLE_OF: Final = 3
"""One view of so many is cut short, on the average."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a scenario came to. `healed_views`: how many it took all to decide again; `decided` before that."""

    violation: str | None
    decided: int
    healed_views: int
    portrait: bytes
    story: tuple[str, ...]


def run_plainly(council: Council, views: Sequence[View], heal: bool = True) -> Ran:
    """Run a scenario from its beginning. Time passes in it as it does for a node."""
    hosts = [council.begin(index) for index in range(len(council.keys))]
    story: list[str] = []
    now_ms, healed, decided = START_MS, 0, 0
    portrait = b""
    together = (tuple(range(len(hosts))),)
    try:
        for division, cut in views:
            _view(council, hosts, division, cut, now_ms)
            now_ms += VIEW_MS
            story.append(_tell(council, hosts, division, cut))
        portrait = _portrait_at_rest(council, hosts, now_ms)
        decided = max(len(host.blocks()) for host in hosts)
        while heal and not _all_decided(council, hosts, decided + 1):
            if healed == HEAL_VIEWS_MAX:
                raise Violated("progress", "not everybody decides after all hear each other")
            _view(council, hosts, together, Cut.WHOLE, now_ms)
            now_ms, healed = now_ms + VIEW_MS, healed + 1
            story.append(_tell(council, hosts, together, Cut.WHOLE))
    except Violated as violated:
        story.append(str(violated))
        return Ran(str(violated), decided, healed, portrait, tuple(story))
    return Ran(None, decided, healed, portrait, tuple(story))


def _view(council: Council, hosts: list[Host], division: Division, cut: Cut, now_ms: int) -> None:
    for part in division:
        Half(council, [hosts[index] for index in part], cut, now_ms).run()
    check_agreement(council, [host.blocks() for host in hosts])


def _all_decided(council: Council, hosts: list[Host], height: int) -> bool:
    return all(len(host.blocks()) >= height for host in hosts if council.honest[host.index])


def _portrait_at_rest(council: Council, hosts: list[Host], now_ms: int) -> bytes:
    """As the walk tells states: every host dated back to the beginning."""
    copies = [host.copy() for host in hosts]
    Half(council, copies, Cut.WHOLE).rest(now_ms - START_MS)
    painter = Painter(council.validators)
    return joint_portrait([host.portrait(painter) for host in copies])


def _tell(council: Council, hosts: list[Host], division: Division, cut: Cut) -> str:
    parts = " | ".join(" ".join(council.labels[index] for index in part) for part in division)
    stand = ", ".join(
        f"{council.labels[host.index]}: {'halted' if host.halted else _stand(host)}" for host in hosts
    )
    return f"[{parts}] {cut.value} -> {stand}"


def _stand(host: Host) -> str:
    blocks = host.blocks()
    last = blocks[-1].hex()[:4] if blocks else "nothing"
    return f"{len(blocks)} decided ({last}), view {host.replica.view} {host.replica.phase.value}"


def draw(hosts: int, views: int, ways: int, chance: random.Random) -> list[View]:
    """A scenario: each view divides the hosts into at most `ways` parts, and may be cut short."""
    drawn: list[View] = []
    for _ in range(views):
        places = [chance.randrange(ways) for _ in range(hosts)]
        division = tuple(
            part
            for part in (tuple(h for h in range(hosts) if places[h] == way) for way in range(ways))
            if part
        )
        cut = chance.choice(CUTS) if chance.randrange(WHOLE_OF) == 0 else Cut.WHOLE
        drawn.append((division, cut))
    return drawn


def write(views: Sequence[View]) -> str:
    """One word that names the scenario: `013/24:whole,01234:unsealed`."""
    return ",".join(
        "/".join("".join(str(host) for host in part) for part in division) + ":" + cut.value
        for division, cut in views
    )


def read(text: str) -> list[View]:
    """The scenario that `write` named. Raises ValueError."""
    views: list[View] = []
    for word in text.split(","):
        division, _, cut = word.partition(":")
        parts = tuple(tuple(int(host) for host in part) for part in division.split("/"))
        views.append((parts, Cut(cut or "whole")))
    return views
