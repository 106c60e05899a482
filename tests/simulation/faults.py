"""What goes wrong by itself: each fault begins, lasts, and ends without trace. Drawn from the schedule's generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from consilium.consensus.messages import Commit, Prepare, PrePrepare, ViewChange
from consilium.node.peer_messages import Kind
from tests.simulation.cluster import Cluster
from tests.simulation.disk import SYNC_MS
from tests.simulation.host import Host, Packet
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


def _weather(cluster: Cluster, kind: str, text: str, **changed: int) -> Fault:
    """The weather changes, and is calm again in these fields."""
    network = cluster.network
    calm = {name: getattr(CALM, name) for name in changed}

    def change(values: dict[str, int]) -> None:
        weather = replace(network.weather, **values)
        network.weather = CALM if weather == CALM else weather

    return Fault(kind, text, lambda: change(changed), lambda: change(calm))


def delay(cluster: Cluster) -> Fault:
    """Packets take up to some hundred milliseconds."""
    longest = cluster.world.rng.choice((60, 200, 500, 900))
    return _weather(cluster, "delay", f"delays up to {longest} ms", delay_max_ms=longest)


def reordering(cluster: Cluster) -> Fault:
    """Some packets stay behind, and others overtake them."""
    rate, behind = cluster.world.rng.choice(((100, 800), (300, 200), (600, 60)))
    return _weather(
        cluster, "reordering", f"{rate} of 1000 packets overtaken", reordering=rate, behind_max_ms=behind
    )


def loss(cluster: Cluster) -> Fault:
    """Some of all packets vanish."""
    rate = cluster.world.rng.choice((20, 100, 300, 600))
    return _weather(cluster, "loss", f"{rate} of 1000 packets lost", loss=rate)


def duplication(cluster: Cluster) -> Fault:
    """Some packets come twice."""
    return _weather(cluster, "duplication", "300 of 1000 packets doubled", duplication=300)


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
    tag = TAGS[kind]

    def lost(source: int, target: int, packet: object) -> bool:
        return (
            isinstance(packet, Packet)
            and packet.kind == Kind.CONSENSUS
            and packet.body[2] == tag
            and target not in hearing
        )

    return Fault(
        "deafness",
        f"only {hearing} hear {kind.__name__}",
        lambda: cluster.network.filters.append(lost),
        lambda: cluster.network.filters.remove(lost),
    )


TAGS = {PrePrepare: 1, Prepare: 2, Commit: 3, ViewChange: 4}
"""The byte by which a message's kind is known: after the two array headers."""


def pause(cluster: Cluster) -> Fault:
    """SIGSTOP and SIGCONT."""
    host = _pick(cluster)

    def begin() -> None:
        if host.alive and not host.paused:
            cluster.bites["pause"] += 1
            host.pause()

    return Fault("pause", f"{host.index} is paused", begin, host.resume)


def crash(cluster: Cluster) -> Fault:
    """SIGKILL, and a restart from the disk."""
    host = _pick(cluster)

    def begin() -> None:
        cluster.bites["crash"] += host.alive
        host.crash()

    return Fault("crash", f"{host.index} is down", begin, host.start)


def amnesia(cluster: Cluster) -> Fault:
    """The disk is wiped, restored from an older copy, or its chain alone is truncated, while the host is down. A host
    that forgets counts as faulty: where no more may be, it is a crash like any other."""
    rng = cluster.world.rng
    host = rng.choice(cluster.honest)
    how = rng.choice(("wiped", "restored", "restored", "truncated"))
    allowed = cluster.forgetful > 0
    cluster.forgetful -= allowed

    def forget() -> None:
        # Whoever is silent since its own start is not up: then nobody else may forget.
        if allowed and all(other is host or other.speaks for other in cluster.honest):
            cluster.bites["amnesia"] += 1
            host.lose_memory(how)
        else:
            cluster.bites["crash"] += 1

    def at_once() -> None:
        host.crash()
        forget()

    def at_effect() -> None:
        host.crash_in, host.restart_in_ms = count, 1
        host.forget = forget

    def at_vote() -> None:
        host.crash_after, host.restart_in_ms = vote, 1
        host.forget = forget

    def end() -> None:
        host.crash_in, host.crash_after, host.forget = None, None, None
        host.start()

    count = rng.randrange(1, 60)
    vote = rng.choice((ViewChange, ViewChange, Commit, Prepare))
    when, begin = rng.choice(
        (("at once", at_once), (f"before effect {count}", at_effect), (f"after a {vote.__name__}", at_vote))
    )
    return Fault("amnesia" if allowed else "crash", f"{host.index} forgets {when}: {how}", begin, end)


def crash_at_effect(cluster: Cluster) -> Fault:
    """SIGKILL before a packet leaves, a timer is set, or a write; back soon."""
    host, count = _pick(cluster), cluster.world.rng.randrange(1, 60)

    def begin() -> None:
        host.crash_in = count
        host.restart_in_ms = cluster.world.rng.choice((1, 50, 800))

    def end() -> None:
        host.crash_in = None

    return Fault("crash-at-effect", f"{host.index} dies before its effect {count}", begin, end)


def jump(cluster: Cluster) -> Fault:
    """A wall clock jumps, and is put right later."""
    host = _pick(cluster)
    by = cluster.world.rng.choice((-3_600_000, -30_000, -1_500, 1_500, 30_000, 3_600_000))

    def change(amount: int) -> None:
        cluster.bites["jump"] += 1
        host.clock_ms += amount

    return Fault(
        "jump", f"the clock of {host.index} jumps by {by} ms", lambda: change(by), lambda: change(-by)
    )


def skew(cluster: Cluster) -> Fault:
    """A wall clock runs too fast or too slow."""
    host = _pick(cluster)
    by = cluster.world.rng.choice((-200, -50, -5, 5, 50, 200))

    def change(amount: int) -> None:
        cluster.bites["skew"] += 1
        host.clock_drift += amount

    text = f"the clock of {host.index} runs {by} thousandths too fast"
    return Fault("skew", text, lambda: change(by), lambda: change(-by))


def slow_disk(cluster: Cluster) -> Fault:
    """Syncs take long."""
    host, longest = _pick(cluster), cluster.world.rng.choice((50, 300, 1_000))

    def begin() -> None:
        cluster.bites["slow-disk"] += 1
        host.sync_ms = (0, longest)

    def end() -> None:
        host.sync_ms = SYNC_MS

    return Fault("slow-disk", f"{host.index} syncs in {longest} ms", begin, end)


def complaint(cluster: Cluster) -> Fault:
    """A host finds itself censored, rightly or not."""
    host = _pick(cluster)

    def begin() -> None:
        cluster.bites["complaint"] += host.complain()

    return Fault("complaint", f"{host.index} complains of censorship", begin, _nothing)


KINDS = (
    delay,
    reordering,
    loss,
    duplication,
    one_way,
    partition,
    deafness,
    deafness,
    pause,
    crash,
    amnesia,
    amnesia,
    crash_at_effect,
    crash_at_effect,
    jump,
    skew,
    slow_disk,
    complaint,
)


def mild(cluster: Cluster) -> Fault:
    """A fault under which a quorum can talk."""
    rng = cluster.world.rng
    match rng.randrange(4):
        case 0:
            return _weather(cluster, "delay", "delays up to 60 ms", delay_max_ms=60)
        case 1:
            return _weather(cluster, "loss", "20 of 1000 packets lost", loss=20)
        case 2:
            return _weather(
                cluster, "reordering", "200 of 1000 packets overtaken", reordering=200, behind_max_ms=100
            )
        case _:
            return duplication(cluster)
