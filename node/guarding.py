"""The stores of a custodian as everybody but the curator sees them: what is erased is not there, whatever the disk has.

A vault or a share may come back from an old backup, or with a node that was away when the ledger decided. So nothing
that the chain anchors is given before this node is *current*: it has followed the chain to where a quorum of validators
says that it is. And what the state says is erased is neither given nor taken, be it destroyed here already or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from consilium.contracts import records, tombstones
from consilium.ledger.errors import Refused
from consilium.ledger.state import StateReader
from consilium.storage.anchors import AnchorIndex
from consilium.storage.envelopes import LIST_DIGESTS_MAX, EnvelopeStore, Incoming, Totals


@dataclass(frozen=True, slots=True)
class Guard:
    """`current`: whether this node has followed the chain to its tip, and that is the network's."""

    index: AnchorIndex
    state: Callable[[], StateReader]
    current: Callable[[], bool]

    def is_erased(self, digest: bytes) -> bool:
        """Whether the state says that the record of this envelope is erased."""
        identifier = self.index.record_of(digest)
        record = records.RECORDS.get(self.state(), identifier) if identifier is not None else None
        return record is not None and records.is_erased(self.state(), record)

    def require_given(self, digest: bytes) -> None:
        """Whether an envelope may be given. Raises Refused `vault.behind`, `vault.deleted`."""
        if self.index.record_of(digest) is None:
            return
        self.require_current()
        self.require_taken(digest)

    def require_taken(self, digest: bytes) -> None:
        """Whether an envelope may be taken. Raises Refused `vault.deleted`."""
        if self.is_erased(digest):
            raise Refused("vault.deleted", digest.hex())

    def require_current(self) -> None:
        """Raises Refused `vault.behind`."""
        if not self.current():
            raise Refused("vault.behind")

    def require_share(self, compartment: bytes, epoch: int) -> None:
        """Whether a share may be taken or used. Raises Refused `erasure.erased`."""
        known = records.COMPARTMENTS.get(self.state(), compartment)
        if known is None:
            return
        if tombstones.shares_erased(self.state(), known.patient, compartment, epoch):
            raise Refused("erasure.erased", f"compartment {compartment.hex()} epoch {epoch}")


class GuardedVault:
    """Implements `EnvelopeStore` on another one."""

    def __init__(self, vault: EnvelopeStore, guard: Guard) -> None:
        self._vault = vault
        self._guard = guard

    @property
    def remote(self) -> bool:
        return self._vault.remote

    def put_many(self, envelopes: Sequence[tuple[bytes, bytes]]) -> None:
        for digest, _ in envelopes:
            self._guard.require_taken(digest)
        self._vault.put_many(envelopes)

    def receive(self, digest: bytes) -> Incoming:
        self._guard.require_taken(digest)
        return self._vault.receive(digest)

    def get(self, digest: bytes) -> bytes | None:
        self._guard.require_given(digest)
        envelope = self._vault.get(digest)
        if envelope is None:
            self._require_not_erased(digest)
        return envelope

    def read(self, digest: bytes) -> Iterator[bytes] | None:
        self._guard.require_given(digest)
        pieces = self._vault.read(digest)
        if pieces is None:
            self._require_not_erased(digest)
        return pieces

    def piece(self, digest: bytes, number: int) -> bytes | None:
        self._guard.require_given(digest)
        return self._vault.piece(digest, number)

    def size(self, digest: bytes) -> int | None:
        return self._vault.size(digest)

    def has(self, digest: bytes) -> bool:
        return self._vault.has(digest)

    def erase(self, digests: Sequence[bytes]) -> int:
        return self._vault.erase(digests)

    def forget(self, digests: Sequence[bytes]) -> int:
        return self._vault.forget(digests)

    def erased(self, digest: bytes) -> bool:
        return self._vault.erased(digest) or self._guard.is_erased(digest)

    def scrub(self) -> bool:
        return self._vault.scrub()

    def digests(self, after: bytes = b"", limit: int = LIST_DIGESTS_MAX) -> list[tuple[bytes, int]]:
        return self._vault.digests(after, limit)

    def came_ms(self, digest: bytes) -> int | None:
        return self._vault.came_ms(digest)

    def totals(self) -> Totals:
        return self._vault.totals()

    def _require_not_erased(self, digest: bytes) -> None:
        if self._vault.erased(digest):
            raise Refused("vault.deleted", digest.hex())


class ShareStore(Protocol):
    """Sealed parcels by compartment and epoch."""

    def put_share(self, compartment: bytes, epoch: int, parcel: bytes) -> None: ...

    def share(self, compartment: bytes, epoch: int) -> bytes | None: ...

    def share_count(self) -> int: ...


class GuardedShares:
    """Implements `ShareStore` on another one."""

    def __init__(self, shares: ShareStore, guard: Guard) -> None:
        self._shares = shares
        self._guard = guard

    def put_share(self, compartment: bytes, epoch: int, parcel: bytes) -> None:
        self._guard.require_share(compartment, epoch)
        self._shares.put_share(compartment, epoch, parcel)

    def share(self, compartment: bytes, epoch: int) -> bytes | None:
        self._guard.require_current()
        self._guard.require_share(compartment, epoch)
        return self._shares.share(compartment, epoch)

    def share_count(self) -> int:
        return self._shares.share_count()
