"""The fake network: packets are delayed, lost, duplicated and reordered; links can be cut in one direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.world import World


@dataclass
class Weather:
    """Chances are per packet, in thousandths."""

    delay_min_ms: int = 1
    delay_max_ms: int = 20
    loss: int = 0
    duplication: int = 0


CALM = Weather()


class Network:
    """`deliver[i](source, packet)` hands a packet to host i."""

    def __init__(self, world: World, count: int) -> None:
        self._world = world
        self.count = count
        self.weather = CALM
        self.cut: dict[tuple[int, int], int] = {}
        """(source, target) -> by how many faults the link is cut."""
        self.filters: list[Callable[[int, int, object], bool]] = []
        """A packet that any of them names is lost."""
        self.deliver: list[Callable[[int, object], None]] = []

    def send(self, source: int, target: int, packet: object) -> None:
        """Send one packet; it arrives later, once, twice or never."""
        rng, weather = self._world.rng, self.weather
        if self.cut.get((source, target), 0):
            return
        if self.filters and any(lost(source, target, packet) for lost in self.filters):
            return
        if weather.loss and rng.randrange(1000) < weather.loss:
            return
        copies = 2 if weather.duplication and rng.randrange(1000) < weather.duplication else 1
        for _ in range(copies):
            delay = rng.randint(weather.delay_min_ms, weather.delay_max_ms)
            self._world.after(delay, lambda: self.deliver[target](source, packet))

    def change_link(self, source: int, target: int, by: int) -> None:
        """Cut (+1) or mend (-1) one direction of a link."""
        self.cut[source, target] = self.cut.get((source, target), 0) + by
