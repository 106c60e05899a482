"""Destroys what the ledger says is erased: envelopes, shares, sealed conditions; then attests to it.

`apply` runs as the curator follows the chain, before anything that follows is looked at: tombstones and deletions are
one synced write. `settle` sees that the deleted bytes have left the files of the stores; only then does the institution
attest, under its own key, that it has destroyed what it had. All of it can be done twice, and is, after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

import structlog

from consilium.contracts import consent, keys, records, tombstones
from consilium.contracts.forgetting import ERASURES, AttestErasure, Erased
from consilium.contracts.registry import operation
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import EVENT_BYTES_MAX, Event
from consilium.node.clerk import Clerk
from consilium.storage.anchors import BEFORE_ALL, AnchorIndex
from consilium.storage.chain import ChainStore
from consilium.storage.envelopes import EnvelopeStore
from consilium.storage.events import EVENT_INDEX_LAST, Place
from consilium.storage.owed import OwedErasures

EVENTS_PAGE: Final = 1_000
INDEX_PAGE: Final = 1_000
ERASED_AT_ONCE: Final = 1_000
PAUSE_S: Final = 2.0
SHARES_ROUNDS: Final = 1_800
"""All shares are looked at in the first of so many rounds: about hourly, and at the start."""
IDLE_ROUNDS: Final = 300
"""What nobody ordered to be erased leaves the disk in every so many rounds."""
SETTLED: Final = ("ok", "erasure.attested_already")

_log = structlog.get_logger("consilium.eraser")


class Shares(Protocol):
    """A custodian's shares, as far as they are erased."""

    def places(self, compartment: bytes) -> list[int]: ...

    def kept(self) -> Iterator[tuple[bytes, int]]: ...

    def erase(self, compartment: bytes, epoch: int) -> bool: ...

    def scrub(self) -> bool: ...


class Eraser:
    """See the module. `institution` is this node's, None where it attests nothing (an observer). Methods that are no
    coroutines block for the disk: call them from a thread. `forget_share` drops what memory has of a share."""

    def __init__(
        self,
        *,
        institution: bytes | None,
        chain: ChainStore,
        vault: EnvelopeStore,
        shares: Shares,
        index: AnchorIndex,
        owed: OwedErasures,
        forget_share: Callable[[bytes, int], None] = lambda compartment, epoch: None,
    ) -> None:
        self._institution = institution
        self._chain = chain
        self._vault = vault
        self._shares = shares
        self._index = index
        self._owed = owed
        self.forget_share = forget_share
        self.clear_beside: Callable[[], None] = lambda: None
        """Removes what is kept of erased patients elsewhere, such as emergency summaries."""
        self._erased, self._scrubbed = 1, 0
        """How often something was erased, and what of it has left the files; at the start a crash may lie between."""
        self._rounds = 0

    # ---- destroying

    def apply(self, told: Erased) -> None:
        """Destroy what a carried-out erasure names, and what it covers. Raises Refused `vault.unavailable`."""
        digests = list(told.envelopes)
        if told.records is None:
            digests += self._covered(told.patient)
            if told.compartment is None:
                digests += self._beside(told.patient)
        count = self.destroy(digests)
        shares = self._erase_shares(told)
        erasure = ERASURES.get(self._chain.state, told.erasure)
        if erasure is not None and self._institution in erasure.missing:
            self._owed.add(told.erasure)
        _log.info("vault.erased", erasure=told.erasure.hex(), envelopes=count, shares=shares)

    def destroy(self, digests: Sequence[bytes]) -> int:
        """Delete envelopes for good. Returns how many were here. Raises Refused `vault.unavailable`."""
        count = 0
        for start in range(0, len(digests), ERASED_AT_ONCE):
            count += self._vault.erase(digests[start : start + ERASED_AT_ONCE])
            self._erased += 1
        return count

    def sweep(self) -> None:
        """Destroy whatever the index knows and the state says is erased. Raises Refused `vault.unavailable`."""
        state, after = self._chain.state, b""
        while page := self._index.anchored(after, INDEX_PAGE):
            after = page[-1][0]
            found = [(digest, records.RECORDS.get(state, identifier)) for digest, identifier in page]
            self.destroy([one for one, record in found if record and records.is_erased(state, record)])

    def _covered(self, patient: bytes) -> Iterator[bytes]:
        """Digests of the patient's records that are erased now and that this node may have."""
        state = self._chain.state
        for identifier in self._recorded(patient):
            record = records.RECORDS.get(state, identifier)
            if record is None or record.envelope == tombstones.BLANK or not records.is_erased(state, record):
                continue
            if records.patient_of(state, record) == patient:
                yield record.envelope

    def _recorded(self, patient: bytes) -> Iterator[bytes]:
        """Ids of the patient's records."""
        if self._chain.base:
            opened = records.PATIENTS.get(self._chain.state, patient)
            for compartment in opened.compartments if opened is not None else []:
                yield from self._index.in_compartment(compartment)
        for event in self._events(patient):
            if event.kind == records.ANCHORED.name:
                yield codec.decode(event.data, records.Anchored, EVENT_BYTES_MAX).record

    def _beside(self, patient: bytes) -> Iterator[bytes]:
        """What the vault has beside an erased patient's records: sealed conditions of consents."""
        if self._chain.base:
            for _, key, value in self._chain.state_rows():
                known = consent.CONSENTS.decode(value) if key[:1] == keys.CONSENT else None
                if known is not None and known.patient == patient and known.obligations is not None:
                    yield known.obligations
        for event in self._events(patient):
            if event.kind == consent.GRANTED.name:
                granted = codec.decode(event.data, consent.GrantConsent, EVENT_BYTES_MAX)
                if granted.patient == patient and granted.obligations is not None:
                    yield granted.obligations

    def _events(self, patient: bytes) -> Iterator[Event]:
        """Events about the patient; those of before the snapshot that the chain began with are not here."""
        base = self._chain.base
        place = Place(base, EVENT_INDEX_LAST) if base else BEFORE_ALL
        while found := self._chain.events_of(patient, place, EVENTS_PAGE):
            place = found[-1][0]
            yield from (event for _, event in found)

    def _erase_shares(self, told: Erased) -> int:
        if told.records is not None:
            return 0
        state = self._chain.state
        if told.compartment is not None:
            compartments = [told.compartment]
        else:
            opened = records.PATIENTS.get(state, told.patient)
            compartments = opened.compartments if opened is not None else []
        places = [(one, epoch) for one in compartments for epoch in self._shares.places(one)]
        return self._destroy_shares(places)

    def _sweep_shares(self) -> None:
        """Destroy every share that the state says is erased: the store of shares may be older than the vault, which
        knows how far the chain was followed."""
        self._destroy_shares(self._shares.kept())

    def _destroy_shares(self, places: Iterable[tuple[bytes, int]]) -> int:
        state, count = self._chain.state, 0
        for compartment, epoch in places:
            known = records.COMPARTMENTS.get(state, compartment)
            if known is None or not tombstones.shares_erased(state, known.patient, compartment, epoch):
                continue
            count += self._shares.erase(compartment, epoch)
            self._erased += 1
            self.forget_share(compartment, epoch)
        return count

    # ---- attesting

    @property
    def unattested(self) -> int:
        """How many erasures this institution has applied and the ledger has not heard from it about; from memory."""
        return self._owed.waiting

    def settle(self) -> list[bytes]:
        """See that what was deleted has left the disk. Returns the erasures to attest to; none while it has not.

        Raises Refused `vault.unavailable`.
        """
        if self._rounds % SHARES_ROUNDS == 0:
            self._sweep_shares()
        owed = self._owed.some()
        self._rounds += 1
        erased = self._erased
        if not owed and erased == self._scrubbed and self._rounds % IDLE_ROUNDS:
            return []  # what was merely replaced or collected can wait
        self.clear_beside()
        clean = self._vault.scrub()
        if not self._shares.scrub() or not clean:
            return []
        self._scrubbed = erased
        done = [one for one in owed if not self._is_missing(one)]
        self._owed.strike(done)
        return [one for one in owed if one not in done]

    def _is_missing(self, erasure: bytes) -> bool:
        known = ERASURES.get(self._chain.state, erasure)
        return known is not None and self._institution in known.missing

    async def run(self, clerk: Clerk | None) -> None:
        """For ever. Dies only of faults of this node."""
        while True:
            await self.round(clerk)
            await asyncio.sleep(PAUSE_S)

    async def round(self, clerk: Clerk | None) -> None:
        """Settle, and attest to what is settled."""
        try:
            ready = await asyncio.to_thread(self.settle)
        except Refused as refusal:
            if refusal.code != "vault.unavailable":
                raise
            _log.warning("vault.unavailable", reason=refusal.detail)
            return
        if clerk is None:
            return
        for erasure in ready:
            code = await clerk.say(operation("erasure.attest", AttestErasure(erasure)))
            if code in SETTLED:
                await asyncio.to_thread(self._owed.strike, [erasure])
                _log.info("erasure.attested", erasure=erasure.hex())
            else:
                _log.warning("erasure.not_attested", erasure=erasure.hex(), code=code)
                return


def recall_erasures(chain: ChainStore, eraser: Eraser) -> None:
    """Apply every erasure that the state holds: for a chain that began with a snapshot, and has no events of before it.

    Reads all of the state; in a thread. Raises Refused `vault.unavailable`.
    """
    found: list[Erased] = []
    for _, key, value in chain.state_rows():
        if key[:1] == keys.ERASURE:
            known = ERASURES.decode(value)
            if known.carried_out_ms is not None:
                found.append(
                    Erased(key[1:], known.patient, known.records, [], known.compartment, known.epoch)
                )
    eraser.sweep()
    for told in found:
        eraser.apply(told)
