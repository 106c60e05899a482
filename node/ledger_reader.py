"""What the custodian reads of the chain: implements `custodian.Ledger` on the chain's store. Blocks for the disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from consilium.contracts import records
from consilium.ledger import codec
from consilium.ledger.block import Header
from consilium.ledger.execution import EVENT_BYTES_MAX
from consilium.ledger.state import StateReader
from consilium.storage.chain import ChainStore, Place

EVENTS_PAGE: Final = 1_000


class LedgerReader:
    """See the module."""

    def __init__(self, store: ChainStore) -> None:
        self._store = store

    def tip(self) -> Header:
        """The newest committed header."""
        return self._store.header(self._store.tip.height)

    def tip_state(self) -> StateReader:
        """State after the newest block."""
        return self._store.state

    def certified_state(self) -> StateReader:
        """State whose root the newest header certifies."""
        return self._store.state_at(max(0, self._store.tip.height - 1))

    def records_in(self, patient: bytes, compartment: bytes) -> Iterator[bytes]:
        """Ids of the records anchored in a compartment, oldest first, a page of events at a time."""
        after = Place(-1, -1)
        while page := self._store.events_of(patient, after, EVENTS_PAGE):
            after = page[-1][0]
            for _, event in page:
                if event.kind != records.ANCHORED.name:
                    continue
                anchored = codec.decode(event.data, records.Anchored, EVENT_BYTES_MAX)
                if anchored.compartment == compartment:
                    yield anchored.record
