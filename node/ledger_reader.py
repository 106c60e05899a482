"""What the custodian reads of the chain: implements `custodian.Ledger` on the chain's store. Blocks for the disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from consilium.contracts import records
from consilium.ledger import codec
from consilium.ledger.block import Header
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.execution import EVENT_BYTES_MAX
from consilium.ledger.state import StateReader
from consilium.ledger.trie_proof import verify_state
from consilium.storage.anchors import AnchorIndex
from consilium.storage.chain import ChainStore, Place
from consilium.storage.events import EVENT_INDEX_LAST

EVENTS_PAGE: Final = 1_000


class LedgerReader:
    """See the module."""

    def __init__(self, store: ChainStore, index: AnchorIndex | None = None) -> None:
        self._store = store
        self._index = index

    def tip(self) -> Header:
        """The newest committed header."""
        return self._store.header(self._store.tip.height)

    def tip_state(self) -> StateReader:
        """State after the newest block."""
        return self._store.state

    def certified_state(self) -> StateReader:
        """State whose root the newest header certifies."""
        return self._store.state_at(max(0, self._store.tip.height - 1))

    def certified(self, key: bytes) -> bytes | None:
        """The value under a key, or None, as the newest header certifies it: proved against the state root in it.

        Raises InvariantBroken where this node's state is another one: on a fork of its own nothing is obeyed.
        """
        tip = self._store.tip.height
        if tip == 0:
            return None
        value, proof = self._store.prove(key, tip - 1)
        if not verify_state(self._store.header(tip).state_root, key, value, proof):
            raise InvariantBroken("this node's state is not the one that the newest header certifies")
        return value

    def records_in(self, patient: bytes, compartment: bytes) -> Iterator[bytes]:
        """Ids of the records anchored in a compartment, oldest first, a page of events at a time.

        Raises Refused `chain.before_snapshot` on a chain that began with a snapshot whose records are not listed yet.
        """
        after = Place(-1, -1)
        if self._store.base:
            after = Place(self._store.base, EVENT_INDEX_LAST)
            if self._index is None or self._index.followed() < after:
                raise Refused(
                    "chain.before_snapshot", "the records that the snapshot anchors are being listed"
                )
            yield from self._index.in_compartment(compartment)
        while page := self._store.events_of(patient, after, EVENTS_PAGE):
            after = page[-1][0]
            for _, event in page:
                if event.kind != records.ANCHORED.name:
                    continue
                anchored = codec.decode(event.data, records.Anchored, EVENT_BYTES_MAX)
                if anchored.compartment == compartment:
                    yield anchored.record
