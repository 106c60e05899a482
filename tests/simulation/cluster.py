"""All hosts of one schedule, and what they share: the world, the network, the keys, the clients."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter

from consilium.consensus.limits import ReplicaConfig
from consilium.consensus.messages import Message, decode_message
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import Transaction, Verified
from tests.simulation.checkers import Checkers
from tests.simulation.founding import Clients, found
from tests.simulation.host import Host
from tests.simulation.keys import Keyring
from tests.simulation.network import Network
from tests.simulation.world import World

DECODED_KEPT = 2_000


class Cluster:
    """`validators` of the `len(cast)` hosts are validators from genesis on; the others observe."""

    def __init__(
        self,
        world: World,
        cast: Sequence[type[Host]],
        validators: int,
        config: ReplicaConfig,
        real_keys: bool = False,
    ) -> None:
        self.forgetful = 0
        """So many more hosts may lose their memory: together with the liars at most f."""
        self.world = world
        self.config = config
        self.validators = validators
        self.ring = Keyring(len(cast), real_keys, points=True)
        self.keys = self.ring.keys
        self.index_of = {key.public: index for index, key in enumerate(self.keys)}
        self.founding = found(validators, len(cast), real_keys)
        self.clients = Clients(self.ring, len(cast), self.founding, world.rng)
        self.network = Network(world, len(cast), lambda index: self.hosts[index].life)
        self.checkers = Checkers(world, self.founding, self.clients.made)
        self.bites: Counter[str] = Counter()
        """How often each fault that is no packet's happened to somebody."""
        self._decoded: dict[bytes, Message] = {}
        self.hosts: list[Host] = [kind(self, index, self.keys[index]) for index, kind in enumerate(cast)]
        self.honest = [host for host in self.hosts if host.honest]
        self.network.deliver = list(map(attrgetter("deliver"), self.hosts))
        self.checkers.honest = tuple(host.key.public for host in self.honest)

    def decoded(self, body: bytes) -> Message:
        """A message that a host sends, for those who look at what is sent. Each is decoded once."""
        known = self._decoded.get(body)
        if known is None:
            if len(self._decoded) >= DECODED_KEPT:
                self._decoded.clear()
            known = self._decoded[body] = decode_message(body)
        return known

    def reachable(self, index: int) -> frozenset[bytes]:
        """The keys of the hosts that run, and to which both directions work."""
        cut = self.network.cut
        return frozenset(
            host.key.public
            for host in self.hosts
            if host.index != index
            and host.alive
            and not cut.get((index, host.index))
            and not cut.get((host.index, index))
        )

    def submit(self, host: Host) -> Verified[Transaction]:
        """A client submits some work to a host that runs."""
        transaction = self.clients.enrolment(host.index, host.executor.store.tip.time_ms)
        host.submit(transaction)
        return transaction

    def submit_heavy(self, host: Host) -> Verified[Transaction]:
        """What weighs nearly as much as a transaction may, and does nothing; submitted from within."""
        transaction = self.clients.heavy(host.index, host.executor.store.tip.time_ms)
        with contextlib.suppress(Refused):
            host.admit(transaction)
        return transaction

    def submit_secret(self, host: Host) -> None:
        """Work of a host's own, submitted from within."""
        try:
            host.admit(self.clients.enrolment(host.index, host.executor.store.tip.time_ms))
        except Refused:
            return
