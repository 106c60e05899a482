"""The custodian: keeps envelopes and shares of compartment secrets, and obeys committed decisions.

It never decides. It releases what a committed *allow* names, and only while the decision still stands: in a state
that the next header has certified, on a tip that is fresh by its own clock, within the window, with the reader's key,
credential, the consent and the compartment's epoch as they were. What was never decided is never released, so the
log comes first by construction. What it releases it writes to its journal first, and attests on the ledger
(`attesting`): so the accounting shows what was released beside what was decided.

Shares are stored as they came: sealed to the institution's encryption key, so the disk holds no share in the clear.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, Protocol

from consilium.client import boxes, sharing
from consilium.client.envelope import (
    Context,
    envelope_digest,
    open_header_as_custodian,
    parse,
    verify_anchor,
)
from consilium.client.obligations import facts_of, open_conditions
from consilium.client.reading import release_digest
from consilium.client.release import RELEASE_VERSION, RecordPartial, Release, make_partial, seal_release
from consilium.client.rpc_answers import Released
from consilium.client.sharing import PARCEL_BYTES_MAX, CompartmentKey, ShareParcel
from consilium.client.wallet import Wallet
from consilium.contracts import access, identity, records
from consilium.contracts.access import Decision, Verdict
from consilium.contracts.accounting import RELEASED_RECORDS_MAX
from consilium.contracts.conditions import Conditions
from consilium.ledger import codec
from consilium.ledger.block import Header
from consilium.ledger.crypto import verify
from consilium.ledger.errors import Refused
from consilium.ledger.state import StateReader
from consilium.node.releasing import Page, from_place, place_of
from consilium.storage.releases import ReleaseJournal

SHARES_CACHED_MAX: Final = 4_096


class Ledger(Protocol):
    """What the custodian reads of the chain. Methods block: they run in a thread."""

    def tip(self) -> Header:
        """The newest committed header."""
        ...

    def tip_state(self) -> StateReader:
        """State after the newest block."""
        ...

    def certified_state(self) -> StateReader:
        """State whose root the newest header certifies."""
        ...

    def certified(self, key: bytes) -> bytes | None:
        """The value under a key, or None, proved against the state root that the newest header certifies."""
        ...

    def records_in(self, patient: bytes, compartment: bytes) -> Iterable[bytes]:
        """Ids of the records anchored in a compartment, oldest first."""
        ...


class ShareStore(Protocol):
    """Sealed parcels by compartment and epoch, durable when `put_share` returns."""

    def put_share(self, compartment: bytes, epoch: int, parcel: bytes) -> None: ...

    def share(self, compartment: bytes, epoch: int) -> bytes | None: ...

    def share_count(self) -> int: ...


class Envelopes(Protocol):
    """The vault, as the custodian reads it."""

    def get(self, digest: bytes) -> bytes | None: ...


class Custodian:
    """See the module. Methods block for disk and curve arithmetic (0.5 ms a record): call them from a thread."""

    def __init__(
        self,
        *,
        wallet: Wallet,
        chain_id: bytes,
        ledger: Ledger,
        shares: ShareStore,
        envelopes: Envelopes,
        journal: ReleaseJournal,
        staleness_max_ms: int,
        clock_ms: Callable[[], int],
    ) -> None:
        self._wallet = wallet
        self._chain_id = chain_id
        self._ledger = ledger
        self._shares = shares
        self._envelopes = envelopes
        self._journal = journal
        self._staleness_max_ms = staleness_max_ms
        self._clock_ms = clock_ms
        self._opened: dict[tuple[bytes, int], ShareParcel] = {}
        self._lock = threading.Lock()

    def deposit(self, parcel: bytes) -> None:
        """Take a share, if the chain says it is this institution's and it lies on the committed polynomial.

        Durable on return. Raises Refused `custodian.not_ours` and as `sharing.open_parcel`.
        """
        if len(parcel) > PARCEL_BYTES_MAX + boxes.BOX_OVERHEAD_BYTES:
            raise Refused("codec.oversized", f"a parcel has at most {PARCEL_BYTES_MAX} bytes")
        claimed = codec.decode(
            boxes.open_sealed(self._wallet.encryption, parcel), ShareParcel, PARCEL_BYTES_MAX
        ).key
        opened = self._open(parcel, claimed.compartment, claimed.epoch)
        place = (claimed.compartment, claimed.epoch)
        if self._opened.get(place) == opened and self._shares.share(*place) is not None:
            return  # anybody may deposit: what is kept already costs no write
        self._shares.put_share(claimed.compartment, claimed.epoch, parcel)
        self._remember(claimed.compartment, claimed.epoch, opened)

    def release(self, transaction: bytes, operation: int, signature: bytes, start: int = 0) -> Released:
        """Obey the decision of an operation, from the place `start` on: a page of it. `signature` is over
        `release_digest`, by the key that asked.

        What goes out is in the journal, durable, on return. Raises Refused: `custodian.stale`, `custodian.no_decision`,
        `custodian.bad_signature`, `custodian.nothing_allowed`, `custodian.untold`, and where nothing at all can be
        released for one reason, that: `custodian.not_ours`, `custodian.no_share`, `custodian.no_conditions`, `vault.*`,
        and the codes of `access.still_stands`.
        """
        tip = self._ledger.tip()
        now_ms = self._clock_ms()
        if abs(now_ms - tip.time_ms) > self._staleness_max_ms:
            # A clock that lags behind the chain so far could not tell an old tip from a fresh one.
            raise Refused("custodian.stale", f"the newest block is {(now_ms - tip.time_ms) // 1000} s old")
        decision = self._decision(transaction, operation)
        if not verify(decision.key, release_digest(self._chain_id, transaction, operation), signature):
            raise Refused("custodian.bad_signature")
        if not any(verdict.allow for verdict in decision.verdicts):
            raise Refused("custodian.nothing_allowed", ", ".join(v.basis for v in decision.verdicts))
        # What ended since the decision counts, even where the next header has not certified it yet.
        now_ms, state = max(now_ms, tip.time_ms), self._ledger.tip_state()
        problem = identity.standing(state, self._wallet.identity)
        if problem is not None:
            raise Refused(problem, "this custodian could not attest what it releases")
        page = self._page(decision, state, now_ms, start)
        page.refuse_empty(start)
        self._journal.note(list(page.notes(transaction, operation, decision, now_ms)))
        answer = Release(RELEASE_VERSION, transaction, tuple(page.partials))
        sealed = seal_release(answer, decision.ephemeral)
        return Released(sealed, tuple(page.envelopes), tuple(page.withheld), page.next)

    def forget(self, compartment: bytes, epoch: int) -> None:
        """Drop from memory what a share was opened to: it is erased."""
        with self._lock:
            self._opened.pop((compartment, epoch), None)

    @property
    def compartments(self) -> int:
        """How many shares are kept."""
        return self._shares.share_count()

    @property
    def untold(self) -> int:
        """On how many verdicts the ledger has not been told of everything that was released here."""
        return self._journal.waiting

    @property
    def untold_since_ms(self) -> int | None:
        """When the oldest of these left this node, by its clock; None where the ledger has been told of all."""
        return self._journal.waiting_since_ms

    def _decision(self, transaction: bytes, operation: int) -> Decision:
        raw = self._ledger.certified(access.decision_key(transaction, operation))
        if raw is None:
            raise Refused("custodian.no_decision", f"{transaction.hex()} operation {operation}")
        return access.DECISIONS.decode(raw)

    def _page(self, decision: Decision, state: StateReader, now_ms: int, start: int) -> Page:
        page = Page()
        first, offset = from_place(start)
        for index, verdict in enumerate(decision.verdicts[first:], first):
            begin, offset = offset, 0
            if not verdict.allow:
                continue
            problem = access.still_stands(state, decision, verdict, now_ms)
            if problem is not None:
                page.withhold(index, None, Refused(problem))
                continue
            try:
                if not self._fill(page, index, begin, decision, state, now_ms):
                    break
            except Refused as refusal:
                page.withhold(index, None, refusal)
        return page

    def _fill(
        self, page: Page, index: int, begin: int, decision: Decision, state: StateReader, now_ms: int
    ) -> bool:
        """Put a verdict's records into the page, from the place `begin` on; False where it is full.

        Raises Refused with the reason where the verdict as a whole cannot be obeyed here.
        """
        verdict = decision.verdicts[index]
        conditions = self._conditions(state, decision, verdict, now_ms)
        named = islice(self._named(verdict), begin, RELEASED_RECORDS_MAX)
        for place, identifier in enumerate(named, begin):
            fits = not page.is_full()
            if fits:
                page.looked += 1
                try:
                    fits = self._add(page, index, place, identifier, decision, state, now_ms, conditions)
                except Refused as refusal:
                    page.withhold(index, identifier, refusal)
            if not fits:
                page.next = place_of(index, place)
                return False
        return True

    def _add(
        self,
        page: Page,
        index: int,
        place: int,
        identifier: bytes,
        decision: Decision,
        state: StateReader,
        now_ms: int,
        conditions: dict[bytes, Conditions] | None,
    ) -> bool:
        """Put a record into the page, if it is this custodian's to release; False where it has no room left.

        Raises Refused with the reason where the record cannot be released.
        """
        verdict = decision.verdicts[index]
        record, erased = records.known_record(state, identifier)
        if record is None or not access.opens(verdict, record, identifier):
            return True
        if not self._keeps(record, page.kept):
            return True
        if erased and verdict.records is None:
            return True  # a compartment is what is visible in it
        if erased:
            raise Refused("erasure.erased", f"record {identifier.hex()}")
        envelope = self._envelopes.get(record.envelope)
        if envelope is None or envelope_digest(envelope) != record.envelope:
            raise Refused("vault.unknown", f"the envelope of record {identifier.hex()}")
        if not page.has_room(len(envelope)):
            return False
        context = Context(self._chain_id, identifier, record.compartment, record.epoch, record.author)
        verify_anchor(envelope, context, record.anchor)
        head = parse(envelope).head
        if conditions is not None:
            header = open_header_as_custodian(head, context, self._wallet.encryption)
            facts = facts_of(record.author, header.fields)
            if not access.permits_record(state, decision, verdict, now_ms, facts, conditions):
                return True
        partial = make_partial(self._share(record.compartment, record.epoch), head, context)
        page.add(index, place, record.epoch, RecordPartial(identifier, partial), envelope)
        return True

    def _conditions(
        self, state: StateReader, decision: Decision, verdict: Verdict, now_ms: int
    ) -> dict[bytes, Conditions] | None:
        """The patient's conditions that the verdict depends on now, opened; None where it depends on none.

        Raises Refused `custodian.no_conditions` where they are not kept here: nothing is released on a guess.
        """
        owed = access.owed_conditions(state, decision, verdict, now_ms)
        if not owed:
            return None
        opened: dict[bytes, Conditions] = {}
        for digest, consents in owed.items():
            raw = self._envelopes.get(digest)
            if raw is None:
                raise Refused("custodian.no_conditions", digest.hex())
            opened[digest] = open_conditions(raw, digest, self._chain_id, consents, self._wallet.encryption)
        return opened

    def _keeps(self, record: records.Record, known: dict[tuple[bytes, int], bool]) -> bool:
        """Whether this institution is a custodian of the record's compartment in its epoch; others release the rest."""
        place = (record.compartment, record.epoch)
        if place not in known:
            number = records.epoch_bytes(record.epoch)
            epoch = records.EPOCHS.get(self._ledger.certified_state(), record.compartment, number)
            known[place] = epoch is not None and self._wallet.identity in epoch.custodians
        return known[place]

    def _named(self, verdict: Verdict) -> Iterable[bytes]:
        if verdict.records is not None:
            return verdict.records
        if verdict.patient is None or verdict.compartment is None:
            return ()
        return self._ledger.records_in(verdict.patient, verdict.compartment)

    def _share(self, compartment: bytes, epoch: int) -> ShareParcel:
        cached = self._opened.get((compartment, epoch))
        if cached is not None:
            return cached
        parcel = self._shares.share(compartment, epoch)
        if parcel is None:
            raise Refused("custodian.no_share", f"compartment {compartment.hex()} epoch {epoch}")
        opened = self._open(parcel, compartment, epoch)
        self._remember(compartment, epoch, opened)
        return opened

    def _open(self, parcel: bytes, compartment: bytes, number: int) -> ShareParcel:
        """Key and index come from committed state, never from whoever brought the parcel."""
        epoch = None
        if number <= records.EPOCH_MAX:
            epoch = records.EPOCHS.get(
                self._ledger.certified_state(), compartment, records.epoch_bytes(number)
            )
        if epoch is None or self._wallet.identity not in epoch.custodians:
            raise Refused("custodian.not_ours", f"compartment {compartment.hex()} epoch {number}")
        index = epoch.custodians.index(self._wallet.identity) + 1
        key = CompartmentKey(self._chain_id, compartment, number, tuple(epoch.commitments))
        return sharing.open_parcel(parcel, self._wallet.encryption, key, index)

    def _remember(self, compartment: bytes, epoch: int, parcel: ShareParcel) -> None:
        with self._lock:
            if len(self._opened) >= SHARES_CACHED_MAX:
                self._opened.pop(next(iter(self._opened)))
            self._opened[(compartment, epoch)] = parcel
