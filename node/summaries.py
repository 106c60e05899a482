"""Sealed emergency summaries of an institution: kept as files, handed out by log-first while no quorum answers.

    data/emergency/summaries/<patient>.summary    the envelope, as it was sealed
    data/emergency/log                            what was handed out (`openings`)

They stand apart from the vault, for they are needed when nothing else works. What the chain does not say is placed here
is not taken, and what it says no more is removed, when the node hears of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from consilium.client.envelope import envelope_digest, parse
from consilium.client.wallet import Wallet
from consilium.contracts import credentials, identity, summaries
from consilium.contracts.emergency import Reason
from consilium.contracts.operation import ID_BYTES
from consilium.ledger.crypto import Digest, verify
from consilium.ledger.errors import Refused
from consilium.ledger.state import StateReader
from consilium.node import files
from consilium.node.emergency_api import HandedOut, Signer
from consilium.node.openings import Logged, OpeningLog
from consilium.storage.height import Tip

SUMMARY_BYTES_MAX: Final = 1024 * 1024
SUMMARIES_MAX: Final = 200_000
CLOCK_MS_MAX: Final = 5 * 60 * 1000
"""The two persons' computer and the node must agree on the time by so much."""
SILENCE_MS: Final = 10_000
"""With no quorum of validators in reach, so long without a block is enough to say that no quorum answers."""
STANDSTILL_MS: Final = 120_000
"""And so long is enough whoever is in reach."""
SUFFIX: Final = ".summary"
ENDED: Final = ("summary.opted_out", "erasure.erased")
"""Why a summary may not be opened and never will: it is removed."""


class SummaryDesk:
    """See the module. Methods block for disk: they run in a thread."""

    def __init__(
        self,
        *,
        folder: Path,
        wallet: Wallet,
        chain_id: bytes,
        tip: Callable[[], Tip],
        state: Callable[[], StateReader],
        clock_ms: Callable[[], int],
    ) -> None:
        self._folder = folder / "summaries"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._wallet = wallet
        self._chain_id = chain_id
        self._tip = tip
        self._state = state
        self._clock_ms = clock_ms
        self._count = sum(1 for _ in self._kept())
        self.log = OpeningLog(folder / "log", wallet.identity)

    @property
    def institution(self) -> bytes:
        """Whose summaries these are (16 bytes)."""
        return self._wallet.identity

    def deposit(self, patient: bytes, envelope: bytes) -> None:
        """Keep a summary, if the chain says that this very envelope is placed here. As `EmergencyDesk`."""
        if len(envelope) > SUMMARY_BYTES_MAX:
            raise Refused("codec.oversized", f"a summary has at most {SUMMARY_BYTES_MAX} bytes")
        placed = summaries.SUMMARIES.get(self._state(), patient, self.institution)
        if placed is None or placed.envelope != envelope_digest(envelope):
            raise Refused("summary.unknown", patient.hex())
        parse(envelope)
        path = self._path(patient)
        fresh = not path.exists()
        if not fresh and path.read_bytes() == envelope:
            return  # anybody may deposit: what is kept already costs no write
        if fresh and self._count >= SUMMARIES_MAX:
            raise Refused("summary.too_many", f"{self._count} summaries are kept")
        files.write_atomically(path, envelope, files.SECRET_MODE)
        self._count += fresh

    def open(
        self, patient: bytes, reason: Reason, opened_ms: int, signers: Sequence[Signer], *, in_reach: bool
    ) -> HandedOut:
        """Log first, then hand out. As `EmergencyDesk`; `in_reach`: the node reaches a quorum of validators."""
        state, now_ms = self._state(), self._clock_ms()
        tip = self._tip()
        self._require_silence(tip, now_ms, in_reach)
        if abs(now_ms - opened_ms) > CLOCK_MS_MAX:
            raise Refused("summary.bad_times", f"opened at {opened_ms} ms; this node's clock says {now_ms}")
        problem = summaries.refusal_to_open(state, patient) or identity.standing(state, patient)
        if problem is not None:
            raise Refused(problem, patient.hex())
        placed = summaries.SUMMARIES.get(state, patient, self.institution)
        if placed is None:
            raise Refused("summary.unknown", patient.hex())
        opener, second = self._two(signers)
        digest = summaries.request_digest(
            chain_id=self._chain_id,
            institution=self.institution,
            summary=placed.summary,
            reason=reason,
            opener=opener.identity,
            second=second.identity,
            opened_ms=opened_ms,
        )
        for one in (opener, second):
            self._require_holder(one, placed.key, digest, state, now_ms)
        envelope = self._envelope(patient, placed.envelope)
        entry = summaries.SummaryOpening(
            version=summaries.OPENING_VERSION,
            institution=self.institution,
            sequence=0,
            previous=summaries.FIRST,
            summary=placed.summary,
            patient=patient,
            key=placed.key,
            reason=reason,
            opened_ms=opened_ms,
            height=tip.height,
            opener=opener.identity,
            opener_credential=opener.credential,
            opener_key=opener.key,
            opener_signature=opener.signature,
            second=second.identity,
            second_credential=second.credential,
            second_key=second.key,
            second_signature=second.signature,
        )
        reported = summaries.openings_of(state, self.institution)
        logged = self.log.write(entry, self._wallet.signing, reported)
        return HandedOut(envelope, logged.entry, logged.institution_key, logged.signature)

    def unreported(self, state: StateReader) -> int:
        """How many entries of the log the chain does not know."""
        return max(0, self.log.count - summaries.openings_of(state, self.institution).count)

    def next_report(self, state: StateReader) -> Logged | None:
        """The next entry that the chain should hear of, if there is one. Raises Refused `summary.bad_log`."""
        reported = summaries.openings_of(state, self.institution).count
        return self.log.entry(reported + 1) if reported < self.log.count else None

    def forget(self, state: StateReader) -> int:
        """Remove what the chain says is placed here no more, or must not be opened. Returns how many."""
        gone = 0
        for patient, path in list(self._kept()):
            placed = summaries.SUMMARIES.get(state, patient, self.institution)
            if placed is None or summaries.refusal_to_open(state, patient) in ENDED:
                gone += path.exists()
                path.unlink(missing_ok=True)
        self._count -= gone
        return gone

    def _require_silence(self, tip: Tip, now_ms: int, in_reach: bool) -> None:
        age_ms = now_ms - tip.time_ms
        silent = age_ms >= SILENCE_MS and not in_reach
        if not silent and age_ms < STANDSTILL_MS:
            raise Refused("summary.quorum_present", f"the newest block is {age_ms // 1000} s old")

    def _two(self, signers: Sequence[Signer]) -> tuple[Signer, Signer]:
        if len(signers) != summaries.PERSONS_MIN or signers[0].identity == signers[1].identity:
            raise Refused("summary.not_a_holder", "two different persons open a summary")
        return signers[0], signers[1]

    def _require_holder(
        self, signer: Signer, key: bytes, digest: Digest, state: StateReader, now_ms: int
    ) -> None:
        known = summaries.SUMMARY_KEYS.get(state, key)
        if known is None or signer.identity not in known.holders:
            raise Refused("summary.not_a_holder", signer.identity.hex())
        problem = identity.key_standing(state, signer.identity, signer.key, now_ms)
        if problem is not None:
            raise Refused(problem, signer.identity.hex())
        credentials.require_held(
            state, signer.credential, signer.identity, signer.key, (self.institution,), now_ms
        )
        if not verify(signer.key, digest, signer.signature):
            raise Refused("attestation.bad_signature", signer.identity.hex())

    def _envelope(self, patient: bytes, digest: bytes) -> bytes:
        try:
            envelope = files.read_bounded(self._path(patient), SUMMARY_BYTES_MAX)
        except Refused as refusal:
            raise Refused("vault.unknown", f"the summary is not kept here: {refusal.code}") from None
        if envelope_digest(envelope) != digest:
            raise Refused("vault.unknown", "the summary that is kept here is another one")
        return envelope

    def _kept(self) -> Sequence[tuple[bytes, Path]]:
        found = []
        for path in sorted(self._folder.iterdir()):
            if path.suffix == SUFFIX and len(path.stem) == 2 * ID_BYTES:
                found.append((bytes.fromhex(path.stem), path))
        return found

    def _path(self, patient: bytes) -> Path:
        return self._folder / f"{patient.hex()}{SUFFIX}"
