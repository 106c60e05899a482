"""The fake network: packets are delayed, lost, duplicated and reordered; links can be cut in one direction.

It is harsher than the product's (TLS over TCP loses a connection, not a packet in the middle of it), and bounded alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.world import World


@dataclass
class Weather:
    """Chances are per packet, in thousandths. A packet that is reordered stays behind for up to `behind_max_ms`."""

    delay_min_ms: int = 1
    delay_max_ms: int = 20
    loss: int = 0
    duplication: int = 0
    reordering: int = 0
    behind_max_ms: int = 400


CALM = Weather()


class Network:
    """`deliver[i](source, from_life, life, packet)` hands a packet to host i; `life(i)` is which life it is in now:
    connections end with the process at either end."""

    def __init__(self, world: World, count: int, life: Callable[[int], int]) -> None:
        self._world = world
        self._life = life
        self.count = count
        self.weather = CALM
        self.cut: dict[tuple[int, int], int] = {}
        """(source, target) -> by how many faults the link is cut."""
        self.filters: list[Callable[[int, int, object], bool]] = []
        """A packet that any of them names is lost."""
        self.deliver: list[Callable[[int, int, object], None]] = []
        self.bites: Counter[str] = Counter()
        """How many packets each fault met."""

    def send(self, source: int, target: int, packet: object) -> None:
        """Send one packet; it arrives later, once, twice or never."""
        world, weather = self._world, self.weather
        if self.cut and self.cut.get((source, target), 0):
            self.bites["cut"] += 1
            return
        if self.filters and any(lost(source, target, packet) for lost in self.filters):
            self.bites["deafness"] += 1
            return
        random = world.rng.random
        if weather is CALM:
            lives = self._life(source), self._life(target)
            world.after(1 + int(random() * 20), self.deliver[target], source, *lives, packet)
            return
        rng = world.rng
        if weather.loss and rng.randrange(1000) < weather.loss:
            self.bites["loss"] += 1
            return
        copies = 1
        if weather.duplication and rng.randrange(1000) < weather.duplication:
            self.bites["duplication"] += 1
            copies = 2
        for _ in range(copies):
            delay = rng.randint(weather.delay_min_ms, weather.delay_max_ms)
            if weather.reordering and rng.randrange(1000) < weather.reordering:
                self.bites["reordering"] += 1
                delay += rng.randint(1, weather.behind_max_ms)
            if delay > CALM.delay_max_ms:
                self.bites["delay"] += 1
            lives = self._life(source), self._life(target)
            world.after(delay, self.deliver[target], source, *lives, packet)

    def change_link(self, source: int, target: int, by: int) -> None:
        """Cut (+1) or mend (-1) one direction of a link."""
        count = self.cut.pop((source, target), 0) + by
        if count:
            self.cut[source, target] = count
