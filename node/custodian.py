"""The custodian: keeps envelopes and shares of compartment secrets, and obeys committed decisions.

It never decides. It releases what a committed *allow* names, and only while the decision still stands: in a state
that the next header has certified, on a tip that is fresh by its own clock, within the window, with the reader's key,
credential, the consent and the compartment's epoch as they were. What was never decided is never released, so the
log comes first by construction.

Shares are stored as they came: sealed to the institution's encryption key, so the disk holds no share in the clear.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
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
from consilium.client.release import (
    RELEASE_PARTIALS_MAX,
    RELEASE_VERSION,
    RecordPartial,
    make_partial,
    seal_release,
)
from consilium.client.release import Release as ReleaseValue
from consilium.client.sharing import PARCEL_BYTES_MAX, CompartmentKey, ShareParcel
from consilium.client.wallet import Wallet
from consilium.contracts import access, records
from consilium.contracts.access import Decision, Verdict
from consilium.contracts.conditions import Conditions
from consilium.ledger import codec
from consilium.ledger.block import Header
from consilium.ledger.crypto import verify
from consilium.ledger.errors import Refused
from consilium.ledger.state import StateReader
from consilium.node.api import Release

RELEASE_BYTES_MAX: Final = 48 * 1024 * 1024
"""Of envelopes in one release: beyond it the reader is told to ask for fewer records."""
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
        staleness_max_ms: int,
        clock_ms: Callable[[], int],
    ) -> None:
        self._wallet = wallet
        self._chain_id = chain_id
        self._ledger = ledger
        self._shares = shares
        self._envelopes = envelopes
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

    def release(self, transaction: bytes, operation: int, signature: bytes) -> Release:
        """Obey the decision of an operation. `signature` is over `release_digest`, by the key that asked.

        Raises Refused: `custodian.stale`, `custodian.no_decision`, `custodian.bad_signature`,
        `custodian.nothing_allowed`, `custodian.release_too_large`, `custodian.no_share`, `vault.unknown`, and the
        codes of `access.still_stands`.
        """
        tip = self._ledger.tip()
        now_ms = self._clock_ms()
        if now_ms - tip.time_ms > self._staleness_max_ms:
            raise Refused("custodian.stale", f"the newest block is {(now_ms - tip.time_ms) // 1000} s old")
        decision = self._decision(transaction, operation)
        if not verify(decision.key, release_digest(self._chain_id, transaction, operation), signature):
            raise Refused("custodian.bad_signature")
        allowed = [verdict for verdict in decision.verdicts if verdict.allow]
        if not allowed:
            raise Refused("custodian.nothing_allowed", ", ".join(v.basis for v in decision.verdicts))
        # What ended since the decision counts, even where the next header has not certified it yet.
        state = self._ledger.tip_state()
        for verdict in allowed:
            problem = access.still_stands(state, decision, verdict, max(now_ms, tip.time_ms))
            if problem is not None:
                raise Refused(problem)
        return self._release(transaction, decision, allowed, state, max(now_ms, tip.time_ms))

    @property
    def compartments(self) -> int:
        """How many shares are kept."""
        return self._shares.share_count()

    def _decision(self, transaction: bytes, operation: int) -> Decision:
        raw = self._ledger.certified_state().get(access.decision_key(transaction, operation))
        if raw is None:
            raise Refused("custodian.no_decision", f"{transaction.hex()} operation {operation}")
        return access.DECISIONS.decode(raw)

    def _release(
        self,
        transaction: bytes,
        decision: Decision,
        allowed: list[Verdict],
        state: StateReader,
        now_ms: int,
    ) -> Release:
        partials: list[RecordPartial] = []
        envelopes: list[bytes] = []
        total = 0
        kept: dict[tuple[bytes, int], bool] = {}
        for verdict in allowed:
            conditions = self._conditions(state, decision, verdict, now_ms)
            for identifier in self._named(verdict):
                record = records.visible_record(state, identifier)
                if record is None or not access.opens(verdict, record, identifier):
                    continue
                if not self._keeps(record, kept):
                    continue
                envelope = self._envelopes.get(record.envelope)
                if envelope is None or envelope_digest(envelope) != record.envelope:
                    raise Refused("vault.unknown", f"the envelope of record {identifier.hex()}")
                total += len(envelope)
                if total > RELEASE_BYTES_MAX or len(partials) == RELEASE_PARTIALS_MAX:
                    raise Refused("custodian.release_too_large", f"{len(partials)} records and more")
                context = Context(self._chain_id, identifier, record.compartment, record.epoch, record.author)
                verify_anchor(envelope, context, record.anchor)
                head = parse(envelope).head
                if conditions is not None:
                    header = open_header_as_custodian(head, context, self._wallet.encryption)
                    facts = facts_of(record.author, header.fields)
                    if not access.permits_record(state, decision, verdict, now_ms, facts, conditions):
                        continue
                share = self._share(record.compartment, record.epoch)
                partial = make_partial(share, head, context)
                partials.append(RecordPartial(identifier, partial))
                envelopes.append(envelope)
        if kept and not any(kept.values()):
            raise Refused("custodian.not_ours", "none of the records is in a compartment kept here")
        answer = ReleaseValue(RELEASE_VERSION, transaction, tuple(partials))
        return Release(seal_release(answer, decision.ephemeral), tuple(envelopes))

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
