"""A fake disk under the real stores: it loses what was not synced, can be set back to an older copy, wiped, or be slow.

Each write, of the chain's store as of the promise, is an effect: the node may die before it. Copies are made now and
then, as an institution's backup would make them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from consilium.consensus.promise import Votes, decode_votes, no_promise
from consilium.ledger import codec
from consilium.storage.kv import MemoryKV, Write
from consilium.storage.promise import MemoryPromises

COPIES_MAX = 6
SYNC_MS = (0, 2)
"""A sync takes so long, where the disk is not slow."""


class DiskKV(MemoryKV):
    """The chain's store. `effect` is called before each write."""

    __slots__ = ("effect",)

    def __init__(self, values: dict[bytes, bytes], effect: Callable[[], None]) -> None:
        super().__init__(values)
        self.effect = effect

    def write(self, writes: Sequence[Write], *, sync: bool) -> None:
        self.effect()
        super().write(writes, sync=sync)

    def after_crash(self, rng: Random) -> DiskKV:
        """What is found at the next start: all that was synced, and some of what was not."""
        unsynced = self.unsynced_writes
        if not unsynced:
            return DiskKV(self._durable, self.effect)
        return DiskKV(self.crash(rng.randint(0, unsynced))._values, self.effect)

    def is_durable(self, key: bytes) -> bool:
        """Whether a crash now would leave this row."""
        return key in self._durable

    def values(self) -> dict[bytes, bytes]:
        """A copy of what is durable."""
        return dict(self._durable)


class DiskPromises(MemoryPromises):
    """The promise's folder. `effect` is called before each write."""

    __slots__ = ("_decoded", "_of", "effect")

    def __init__(self, effect: Callable[[], None]) -> None:
        super().__init__()
        self.effect = effect
        self._of: bytes | None = None
        self._decoded: Votes | None = None

    def keep(self, name: bytes, proposal: bytes) -> None:
        self.effect()
        super().keep(name, proposal)

    def save(self, votes: bytes, named: Sequence[bytes] = ()) -> None:
        self.effect()
        super().save(votes, named)

    def durable(self) -> Votes | None:
        """The votes that a crash now would leave, decoded."""
        if self._of is not self.votes:
            self._of = self.votes
            self._decoded = None if self.votes is None else decode_votes(self.votes)
        return self._decoded


@dataclass(frozen=True, slots=True)
class Copy:
    """A backup: all of one moment."""

    tip: int
    chain: dict[bytes, bytes]
    votes: bytes | None
    proposals: dict[bytes, bytes]


class Disk:
    """What a host finds again after a crash. `genesis` is a freshly founded chain's store."""

    def __init__(self, genesis: dict[bytes, bytes], effect: Callable[[], None]) -> None:
        self._genesis = genesis
        self._effect = effect
        self.chain = DiskKV(genesis, effect)
        self.promises = DiskPromises(effect)
        self.copies: list[Copy] = []
        self.writes_max: int | None = None
        """So many more writes reach the disk of a process that was killed while it wrote."""

    def remember(self) -> None:
        """It was started once before anything was decided: its first verdict, that nothing was said, is kept."""
        self.promises.votes = codec.encode(no_promise(1).votes)

    def crash(self, rng: Random) -> None:
        """The machine's memory is gone."""
        self.chain = self.chain.after_crash(rng)

    def copy(self, tip: int) -> None:
        """Make a backup, and let the oldest go."""
        kept = self.promises
        self.copies.append(Copy(tip, self.chain.values(), kept.votes, dict(kept.kept)))
        del self.copies[:-COPIES_MAX]

    def wipe(self) -> None:
        """A new, empty disk: the node is founded anew."""
        self.chain = DiskKV(self._genesis, self._effect)
        self.promises = DiskPromises(self._effect)

    def restore(self, copy: Copy) -> None:
        """An old backup."""
        self.chain = DiskKV(copy.chain, self._effect)
        self.promises = DiskPromises(self._effect)
        self.promises.votes = copy.votes
        self.promises.kept = dict(copy.proposals)

    def truncate(self, copy: Copy) -> None:
        """The chain's store alone is an old one; the promise is not."""
        self.chain = DiskKV(copy.chain, self._effect)
