"""All hosts of one schedule, and what they share: the world, the network, the keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from consilium.consensus.limits import ReplicaConfig
from consilium.consensus.messages import Message, VerifiedMessage, verify_message
from consilium.consensus.promise import no_promise
from consilium.ledger.errors import PeerFault
from consilium.ledger.validators import Validator, ValidatorSet
from tests.simulation.chain import CHAIN_ID, Chain, Disk, digest_of
from tests.simulation.checkers import Checkers
from tests.simulation.host import Host
from tests.simulation.keys import Keyring
from tests.simulation.network import Network
from tests.simulation.world import WALL_EPOCH_MS, World

VERIFIED_KEPT = 20_000


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
        self.ring = Keyring(len(cast), real_keys)
        self.keys = self.ring.keys
        self.index_of = {key.public: index for index, key in enumerate(self.keys)}
        self.network = Network(world, len(cast))
        self.checkers = Checkers()
        self._verified: dict[tuple[bytes, bytes], VerifiedMessage | PeerFault] = {}
        self._sets: dict[int, ValidatorSet] = {}
        genesis = self.subset((1 << validators) - 1)
        # Founding a node writes an empty promise: so a validator that starts late is told from one that was wiped.
        self.hosts: list[Host] = [
            kind(
                self, index, self.keys[index], Disk(Chain(genesis, self.subset, WALL_EPOCH_MS), no_promise(0))
            )
            for index, kind in enumerate(cast)
        ]
        self.network.deliver = [host.deliver for host in self.hosts]
        self.checkers.honest = tuple(host.key.public for host in self.hosts if host.honest)

    @property
    def honest(self) -> list[Host]:
        """The hosts that do not lie."""
        return [host for host in self.hosts if host.honest]

    def subset(self, mask: int) -> ValidatorSet:
        """The validator set of the hosts in a bit mask."""
        if mask not in self._sets:
            self._sets[mask] = ValidatorSet(
                [Validator(k.public, bytes(16)) for i, k in enumerate(self.keys) if mask >> i & 1]
            )
        return self._sets[mask]

    def admit(self, host: Host, batch: bytes) -> None:
        """A client's batch arrives at this host."""
        self.checkers.admitted[digest_of(batch)] = None
        host.admit(batch)

    def send(self, source: Host, peer: bytes, packet: object) -> None:
        """Send to the host with this key."""
        target = self.index_of.get(peer)
        if target is not None and target != source.index:
            self.network.send(source.index, target, packet)

    def verify(self, raw: bytes, message: Message, validators: ValidatorSet) -> VerifiedMessage:
        """`verify_message`, once for all hosts: it depends on nothing else. Raises PeerFault."""
        name = (raw, validators.hash)
        known = self._verified.get(name)
        if known is None:
            if len(self._verified) >= VERIFIED_KEPT:
                self._verified.clear()
            try:
                known = verify_message(message, CHAIN_ID, validators, self.ring.verify)
            except PeerFault as fault:
                known = fault
            self._verified[name] = known
        if isinstance(known, PeerFault):
            raise PeerFault(known.reason, known.weight)
        return known

    def starter(self, host: Host) -> Callable[[], None]:
        """An action that starts the host, if it is down."""

        def start() -> None:
            if not host.alive:
                host.start()

        return start
