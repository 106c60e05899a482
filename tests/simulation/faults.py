"""What goes wrong by itself: each fault begins, lasts, and ends without trace. Drawn from the schedule's generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from consilium.consensus.messages import Commit, Prepare, PrePrepare, ViewChange
from tests.simulation.cluster import Cluster
from tests.simulation.host import Host
from tests.simulation.network import CALM


@dataclass(frozen=True, slots=True)
class Fault:
    """`begin` is called once, `end` once later; the text says what it does."""

    kind: str
    text: str
    begin: Callable[[], None]
    end: Callable[[], None]


def _nothing() -> None:
    return None


def _pick(cluster: Cluster) -> Host:
    return cluster.world.rng.choice(cluster.hosts)


def delay(cluster: Cluster) -> Fault:
    """Packets take up to some hundred milliseconds, and so overtake each other."""
    longest = cluster.world.rng.choice((60, 200, 500, 900))
    network = cluster.network

    def begin() -> None:
        network.weather = replace(network.weather, delay_max_ms=longest)

    def end() -> None:
        network.weather = replace(network.weather, delay_max_ms=CALM.delay_max_ms)

    return Fault("delay", f"delays up to {longest} ms", begin, end)


def loss(cluster: Cluster) -> Fault:
    """Some of all packets vanish."""
    rate = cluster.world.rng.choice((20, 100, 300, 600))
    network = cluster.network

    def begin() -> None:
        network.weather = replace(network.weather, loss=rate)

    def end() -> None:
        network.weather = replace(network.weather, loss=0)

    return Fault("loss", f"{rate} of 1000 packets lost", begin, end)


def duplication(cluster: Cluster) -> Fault:
    """Some packets come twice."""
    network = cluster.network

    def begin() -> None:
        network.weather = replace(network.weather, duplication=300)

    def end() -> None:
        network.weather = replace(network.weather, duplication=0)

    return Fault("duplication", "300 of 1000 packets doubled", begin, end)


def one_way(cluster: Cluster) -> Fault:
    """One host's packets do not reach some others, while theirs reach it."""
    rng, count = cluster.world.rng, len(cluster.hosts)
    source = rng.randrange(count)
    targets = [t for t in range(count) if t != source and rng.randrange(2)]

    def change(by: int) -> None:
        for target in targets:
            cluster.network.change_link(source, target, by)

    return Fault("one-way", f"{source} is not heard by {targets}", lambda: change(1), lambda: change(-1))


def partition(cluster: Cluster) -> Fault:
    """Two groups do not hear each other."""
    count = len(cluster.hosts)
    side = [cluster.world.rng.randrange(2) for _ in range(count)]

    def change(by: int) -> None:
        for source in range(count):
            for target in range(count):
                if side[source] != side[target]:
                    cluster.network.change_link(source, target, by)

    return Fault("partition", f"sides {side}", lambda: change(1), lambda: change(-1))


def deafness(cluster: Cluster) -> Fault:
    """Votes of one kind reach few: what is prepared is not decided, what is decided is known to one host only."""
    rng, count = cluster.world.rng, len(cluster.hosts)
    kind = rng.choice((Commit, Commit, Prepare, PrePrepare, ViewChange))
    hearing = rng.sample(range(count), rng.choice((0, 1, 1, 2)))
    tag = encode_tag(kind)

    def lost(source: int, target: int, packet: object) -> bool:
        match packet:
            case ("message", bytes(raw)):
                return raw[2] == tag and target not in hearing
        return False

    return Fault(
        "deafness",
        f"only {hearing} hear {kind.__name__}",
        lambda: cluster.network.filters.append(lost),
        lambda: cluster.network.filters.remove(lost),
    )


def encode_tag(kind: type[Commit | Prepare | PrePrepare | ViewChange]) -> int:
    """The byte by which a message's kind is known: after the two array headers."""
    return {PrePrepare: 1, Prepare: 2, Commit: 3, ViewChange: 4}[kind]


def pause(cluster: Cluster) -> Fault:
    """SIGSTOP and SIGCONT."""
    host = _pick(cluster)
    return Fault("pause", f"{host.index} is paused", host.pause, host.resume)


def crash(cluster: Cluster) -> Fault:
    """SIGKILL, and a restart from the disk."""
    host = _pick(cluster)
    return Fault("crash", f"{host.index} is down", host.crash, cluster.starter(host))


def amnesia(cluster: Cluster) -> Fault:
    """The disk is wiped, or restored from an older copy, while the host is down. A host that forgets counts as faulty:
    where no more may be, it is a crash like any other."""
    rng = cluster.world.rng
    host = rng.choice(cluster.honest)
    heights = rng.choice((None, 0, 0, 1, 3))
    allowed = cluster.forgetful > 0
    cluster.forgetful -= allowed

    def begin() -> None:
        host.crash()
        if allowed:
            host.lose_memory(heights)

    return Fault("amnesia" if allowed else "crash", f"{host.index} forgets", begin, cluster.starter(host))


def crash_at_effect(cluster: Cluster) -> Fault:
    """SIGKILL between two effects; back soon."""
    host, count = _pick(cluster), cluster.world.rng.randrange(1, 60)

    def begin() -> None:
        host.crash_in = count
        host.restart_in_ms = cluster.world.rng.choice((1, 50, 800))

    def end() -> None:
        host.crash_in = None

    return Fault("crash-at-effect", f"{host.index} dies before its effect {count}", begin, end)


def skew(cluster: Cluster) -> Fault:
    """A wall clock jumps, and is put right later."""
    host = _pick(cluster)
    by = cluster.world.rng.choice((-3_600_000, -30_000, -1_500, 1_500, 30_000, 3_600_000))

    def change(amount: int) -> None:
        host.clock_ms += amount

    return Fault("skew", f"the clock of {host.index} is {by} ms off", lambda: change(by), lambda: change(-by))


def slow_disk(cluster: Cluster) -> Fault:
    """Syncs take long."""
    host, longest = _pick(cluster), cluster.world.rng.choice((50, 300, 1_000))

    def change(most: int) -> None:
        host.sync_ms = (0, most)

    return Fault(
        "slow-disk", f"{host.index} syncs in {longest} ms", lambda: change(longest), lambda: change(2)
    )


def demand(cluster: Cluster) -> Fault:
    """A host finds itself censored, rightly or not."""
    host = _pick(cluster)

    def begin() -> None:
        waiting = host.uncommitted() if host.alive else []
        if waiting:
            host.complain(host.pool[waiting[0]])

    return Fault("complaint", f"{host.index} complains of censorship", begin, _nothing)


KINDS = (
    delay,
    loss,
    duplication,
    one_way,
    partition,
    deafness,
    deafness,
    pause,
    crash,
    amnesia,
    crash_at_effect,
    skew,
    slow_disk,
    demand,
)
