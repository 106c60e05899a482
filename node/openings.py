"""The log of openings: what an institution did while no quorum answered, kept until the chain has it, and after.

    data/emergency/log/<sequence>.opening    canonical [entry, the institution's key, its signature]

One file for each entry, synced before anything is handed out, each chained to the one before. A log that does not
hold together is never mended: nothing more is opened, and the alarm says so. One that was lost with its disk goes
on where the chain has it.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import msgspec

from consilium.contracts import summaries
from consilium.contracts.summaries import FIRST, Openings, SummaryOpening
from consilium.ledger import codec
from consilium.ledger.crypto import SigningKey, verify
from consilium.ledger.errors import Refused
from consilium.node import files

LOGGED_BYTES_MAX: Final = 2_048
OPENINGS_MAX: Final = 100_000
UNREPORTED_MAX: Final = 1_024
"""A node that could not report so many would better not go on."""
SUFFIX: Final = ".opening"


class Logged(codec.Wire, frozen=True):
    """An entry as the file has it. `signature` is over the entry's hash."""

    entry: SummaryOpening
    institution_key: codec.Bytes32
    signature: codec.Bytes64


class OpeningLog:
    """See the module. Methods block for disk."""

    def __init__(self, folder: Path, institution: bytes) -> None:
        self._folder = folder
        self._institution = institution
        self._lock = threading.Lock()
        self._offset = 0
        """How many entries came before the first one that is here."""
        self._hashes: list[bytes] = []
        self.damage: str = ""
        """Why the log cannot be used; empty where it can."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._read()
        except Refused as refusal:
            self.damage = refusal.detail or refusal.code

    @property
    def count(self) -> int:
        """The number of the newest entry."""
        return self._offset + len(self._hashes)

    def write(self, entry: SummaryOpening, key: SigningKey, reported: Openings) -> Logged:
        """Append an entry, with its place and signature. Durable on return. `reported` is what the chain has.

        Raises Refused `summary.bad_log`, `summary.too_many`.
        """
        with self._lock:
            if self.damage:
                raise Refused("summary.bad_log", self.damage)
            if self.count - reported.count >= UNREPORTED_MAX or len(self._hashes) >= OPENINGS_MAX:
                raise Refused("summary.too_many", f"{self.count - reported.count} are not reported yet")
            if self.count < reported.count:
                self._offset, self._hashes = reported.count, []
            previous = self._hashes[-1] if self._hashes else reported.last
            placed = msgspec.structs.replace(
                entry,
                institution=self._institution,
                sequence=self.count + 1,
                previous=previous,
            )
            logged = Logged(placed, key.public, key.sign(placed.hash))
            files.write_atomically(self._path(placed.sequence), codec.encode(logged), files.SECRET_MODE)
            self._hashes.append(placed.hash)
            return logged

    def entry(self, sequence: int) -> Logged:
        """An entry by its number, from 1. Raises Refused `summary.bad_log`."""
        try:
            raw = files.read_bounded(self._path(sequence), LOGGED_BYTES_MAX)
            return codec.decode(raw, Logged, LOGGED_BYTES_MAX)
        except Refused as refusal:
            raise Refused("summary.bad_log", f"entry {sequence}: {refusal.code}") from None

    def _read(self) -> None:
        numbers = sorted(int(path.stem) for path in self._folder.glob(f"[0-9]*{SUFFIX}"))
        first = numbers[0] if numbers else 1
        self._offset = first - 1
        previous = FIRST if first == 1 else self.entry(first).entry.previous
        for sequence in range(first, first + len(numbers)):
            logged = self.entry(sequence)
            entry = logged.entry
            if (entry.sequence, entry.previous, entry.institution) != (sequence, previous, self._institution):
                raise Refused("summary.bad_log", f"entry {sequence} does not follow from the one before")
            if entry.version != summaries.OPENING_VERSION or not verify(
                logged.institution_key, entry.hash, logged.signature
            ):
                raise Refused("summary.bad_log", f"entry {sequence} is not signed")
            previous = entry.hash
            self._hashes.append(previous)

    def _path(self, sequence: int) -> Path:
        return self._folder / f"{sequence:08d}{SUFFIX}"
