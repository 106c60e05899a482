"""What must survive a crash before a vote leaves: the votes cast, and the proposals that they name.

A folder of its own beside the chain's store, so that a vote never queues behind block writes. Its files are made once,
at full size, and overwritten in place: a sync then carries a few pages of data and no metadata of the file system.

`votes` is a ring of `RING_SLOTS` slots, each twice, in two halves of the file. Save number s goes to slot s modulo
`RING_SLOTS`, both copies, then one sync. A crash while saving can only damage the slot of the save that never
returned, which is the oldest one: its vote was never sent. So *both* copies of that one slot may be damaged, and
nothing else: where another slot has no good copy, the disk has lost what it had synced, and the folder is refused. The
second copy is what tells a bit flipped in the last save (one copy stays good) from a save cut off (none is complete).

`proposal-0` to `proposal-3` hold one proposal each, with its batches: megabytes, written once and synced *before* any
save that names it. A proposal that the last save names must be whole; others may be anything.

What a proposal and a vote are is consensus's affair: here they are bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from consilium.ledger.errors import InvariantBroken, Refused

RING_SLOTS: Final = 8
SLOT_BYTES: Final = 16 * 1024
NAMED_MAX: Final = 2
"""How many proposals the votes of one height can name: the last one voted for, and the last one prepared."""
PROPOSAL_SLOTS: Final = NAMED_MAX + 2
PROPOSAL_BYTES_MAX: Final = 80 * 1024 * 1024

_VOTES_MAGIC: Final = b"cnslvot1"
_PROPOSAL_MAGIC: Final = b"cnslprp1"
_CHECKSUM_BYTES: Final = 32
_VOTES_HEAD: Final = struct.Struct(">8s32sQIB")  # magic, owner, sequence, length of the votes, how many names
_PROPOSAL_HEAD: Final = struct.Struct(">8s32sQI32s")  # magic, owner, sequence, length of the proposal, name
VOTES_BYTES_MAX: Final = SLOT_BYTES - _VOTES_HEAD.size - NAMED_MAX * 32 - _CHECKSUM_BYTES


@dataclass(frozen=True, slots=True)
class Kept:
    """What was promised last: the votes (None: nothing yet), and the proposals they name, by name (32 bytes)."""

    votes: bytes | None
    proposals: dict[bytes, bytes]


class Promises(Protocol):
    """Where a validator keeps its word. Every method that writes returns only when the bytes are durable."""

    def load(self) -> Kept:
        """What was promised last. Raises Refused `promise.corrupt`."""
        ...

    def holds(self, name: bytes) -> bool:
        """Whether the proposal with this name is kept, so that it need not be written again."""
        ...

    def keep(self, name: bytes, proposal: bytes) -> None:
        """Make a proposal durable under its name (32 bytes), ahead of the votes that will name it."""
        ...

    def save(self, votes: bytes, named: Sequence[bytes] = ()) -> None:
        """Make the votes durable, in place of those before. Every proposal in `named` is held by now."""
        ...


class MemoryPromises:
    """Promises in memory, for the simulator: what a call has returned from survives any crash."""

    __slots__ = ("kept", "votes")

    def __init__(self) -> None:
        self.votes: bytes | None = None
        self.kept: dict[bytes, bytes] = {}

    def load(self) -> Kept:
        return Kept(self.votes, dict(self.kept))

    def holds(self, name: bytes) -> bool:
        return name in self.kept

    def keep(self, name: bytes, proposal: bytes) -> None:
        self.kept[name] = proposal

    def save(self, votes: bytes, named: Sequence[bytes] = ()) -> None:
        _check_named(named, self.kept)
        self.votes = votes
        self.kept = {name: self.kept[name] for name in named}


@dataclass(frozen=True, slots=True)
class _Saved:
    sequence: int
    votes: bytes
    named: tuple[bytes, ...]


class PromiseStore:
    """Promises in a folder. Calls block for a sync: make them from a thread.

    `owner` (32 bytes) says whose word it is, for instance a digest of chain and validator key: a folder of another
    owner is refused.
    """

    def __init__(self, folder: Path, owner: bytes, *, create: bool = False) -> None:
        """Open the folder, or with `create` make it.

        Raises Refused: `promise.missing`, `promise.corrupt`, `store.exists` (creating), `store.locked`.
        """
        if len(owner) != 32:
            raise ValueError("an owner has 32 bytes")
        self.folder = folder
        self._owner = owner
        self._lock = threading.Lock()
        self._failed = False
        if create:
            _create(folder)
        self._descriptors = _open_files(folder)
        try:
            self._sync_all()
            self._proposals = [self._read_proposal(slot) for slot in range(PROPOSAL_SLOTS)]
            self._last = self._read_votes()
        except BaseException:
            self.close()
            raise
        self._proposal_sequence = max((kept[0] for kept in self._proposals if kept is not None), default=0)

    def load(self) -> Kept:
        if self._last is None:
            return Kept(None, {})
        proposals = {}
        for name in self._last.named:
            slot = self._slot_of(name)
            raw = None if slot is None else self._read_proposal(slot, with_bytes=True)
            if raw is None:
                raise self._corrupt(f"the votes name the proposal {name.hex()[:16]}, which is not whole")
            proposals[name] = raw[2]
        return Kept(self._last.votes, proposals)

    def holds(self, name: bytes) -> bool:
        return self._slot_of(name) is not None

    def keep(self, name: bytes, proposal: bytes) -> None:
        """Raises Refused `promise.oversized`, and InvariantBroken when the disk fails."""
        if len(proposal) > PROPOSAL_BYTES_MAX or len(name) != 32:
            raise Refused("promise.oversized", f"a proposal of {len(proposal)} bytes")
        with self._lock:
            if self.holds(name):
                return
            named = self._last.named if self._last is not None else ()
            free = [slot for slot, kept in enumerate(self._proposals) if kept is None or kept[1] not in named]
            slot = min(free, key=lambda free_slot: (self._proposals[free_slot] or (0,))[0])
            self._proposal_sequence += 1
            self._proposals[slot] = None
            head = _PROPOSAL_HEAD.pack(
                _PROPOSAL_MAGIC, self._owner, self._proposal_sequence, len(proposal), name
            )
            checksum = hashlib.sha256(head)
            checksum.update(proposal)
            self._write(slot + 1, [(head + checksum.digest() + proposal, 0)])
            self._proposals[slot] = (self._proposal_sequence, name, b"")

    def save(self, votes: bytes, named: Sequence[bytes] = ()) -> None:
        """Raises Refused `promise.oversized`, and InvariantBroken when the disk fails or a proposal is not held."""
        if len(votes) > VOTES_BYTES_MAX:
            raise Refused("promise.oversized", f"votes of {len(votes)} bytes; the limit is {VOTES_BYTES_MAX}")
        with self._lock:
            _check_named(named, [kept[1] for kept in self._proposals if kept is not None])
            sequence = 1 if self._last is None else self._last.sequence + 1
            record = _VOTES_HEAD.pack(_VOTES_MAGIC, self._owner, sequence, len(votes), len(named))
            record += b"".join(named) + votes
            record += hashlib.sha256(record).digest()
            at = sequence % RING_SLOTS * SLOT_BYTES
            self._write(0, [(record, at), (record, at + RING_SLOTS * SLOT_BYTES)])
            self._last = _Saved(sequence, votes, tuple(named))

    def close(self) -> None:
        """Close the files. Closing twice is allowed."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def _write(self, file: int, pieces: Sequence[tuple[bytes, int]]) -> None:
        """Write pieces at offsets, then sync. A failure is final: what is on the disk is unknown from then on."""
        if self._failed:
            raise InvariantBroken(f"the promise in {self.folder} failed before: nothing is promised on it")
        descriptor = self._descriptors[file]
        try:
            for piece, offset in pieces:
                view = memoryview(piece)
                while view:
                    written = os.pwrite(descriptor, view, offset)
                    view, offset = view[written:], offset + written
            os.fdatasync(descriptor)
        except OSError as error:
            self._failed = True
            raise InvariantBroken(
                f"the promise in {self.folder} could not be synced: {error}; no vote may leave on it"
            ) from error

    def _sync_all(self) -> None:
        """What a killed process left unsynced is read back below, and said again: so it is synced first."""
        try:
            for descriptor in self._descriptors:
                os.fsync(descriptor)
        except OSError as error:
            raise InvariantBroken(f"the promise in {self.folder} could not be synced: {error}") from error

    def _slot_of(self, name: bytes) -> int | None:
        for slot, kept in enumerate(self._proposals):
            if kept is not None and kept[1] == name:
                return slot
        return None

    def _read_votes(self) -> _Saved | None:
        raw = self._read(0, 2 * RING_SLOTS * SLOT_BYTES + 1, 0)
        if len(raw) != 2 * RING_SLOTS * SLOT_BYTES:
            raise self._corrupt(f"the file of votes has {len(raw)} bytes")
        copies = [raw[at : at + SLOT_BYTES] for at in range(0, len(raw), SLOT_BYTES)]
        best: list[_Saved | None] = []
        for slot in range(RING_SLOTS):
            readings = [self._parse_votes(copies[slot + half * RING_SLOTS], slot) for half in (0, 1)]
            whole = [reading for reading in readings if reading is not None]
            best.append(max(whole, key=lambda saved: saved.sequence, default=None))
        last = max((saved for saved in best if saved is not None), key=lambda s: s.sequence, default=None)
        newest = last.sequence if last is not None else 0
        torn = (newest + 1) % RING_SLOTS
        for slot, saved in enumerate(best):
            # The sequence that this slot held last, as of save `newest`.
            expected = newest - (newest - slot) % RING_SLOTS
            if slot == torn or (saved is not None and saved.sequence == expected):
                continue
            both = copies[slot] + copies[slot + RING_SLOTS]
            if expected > 0 or any(both):
                raise self._corrupt(f"slot {slot} of the votes has no whole copy")
        return last

    def _parse_votes(self, raw: bytes, slot: int) -> _Saved | None:
        magic, owner, sequence, length, names = _VOTES_HEAD.unpack_from(raw)
        end = _VOTES_HEAD.size + names * 32 + length
        if (
            magic != _VOTES_MAGIC
            or names > NAMED_MAX
            or length > VOTES_BYTES_MAX
            or sequence % RING_SLOTS != slot
        ):
            return None
        if hashlib.sha256(raw[:end]).digest() != raw[end : end + _CHECKSUM_BYTES]:
            return None
        if owner != self._owner:
            raise self._corrupt("it is the word of another validator, or for another chain")
        at = _VOTES_HEAD.size
        named = tuple(raw[at + 32 * i : at + 32 * i + 32] for i in range(names))
        return _Saved(sequence, raw[at + 32 * names : end], named)

    def _read_proposal(self, slot: int, *, with_bytes: bool = False) -> tuple[int, bytes, bytes] | None:
        """Sequence, name and, where asked for, bytes of the proposal in a slot. None where it is not whole."""
        head = self._read(slot + 1, _PROPOSAL_HEAD.size + _CHECKSUM_BYTES, 0)
        if len(head) < _PROPOSAL_HEAD.size + _CHECKSUM_BYTES:
            return None
        magic, owner, sequence, length, name = _PROPOSAL_HEAD.unpack_from(head)
        if magic != _PROPOSAL_MAGIC or owner != self._owner or length > PROPOSAL_BYTES_MAX:
            return None
        raw = self._read(slot + 1, length, len(head))
        checksum = hashlib.sha256(head[: _PROPOSAL_HEAD.size])
        checksum.update(raw)
        if len(raw) != length or checksum.digest() != head[_PROPOSAL_HEAD.size :]:
            return None
        return sequence, name, raw if with_bytes else b""

    def _read(self, file: int, length: int, offset: int) -> bytes:
        try:
            return os.pread(self._descriptors[file], length, offset)
        except OSError as error:
            raise self._corrupt(f"it cannot be read: {error}") from error

    def _corrupt(self, detail: str) -> Refused:
        return Refused("promise.corrupt", f"{self.folder}: {detail}")


def _check_named(named: Sequence[bytes], held: object) -> None:
    if len(named) > NAMED_MAX or any(name not in held for name in named):  # type: ignore[operator]
        raise InvariantBroken("votes were to be saved that name a proposal which is not kept")


def _file_names() -> list[str]:
    return ["votes", *(f"proposal-{slot}" for slot in range(PROPOSAL_SLOTS))]


def _create(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise Refused("store.exists", f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    sizes = [2 * RING_SLOTS * SLOT_BYTES, *([0] * PROPOSAL_SLOTS)]
    for name, size in zip(_file_names(), sizes, strict=True):
        with (folder / name).open("xb") as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    for path in (folder, folder.parent):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _open_files(folder: Path) -> list[int]:
    """Descriptors of the files, votes first, and of the locked folder last."""
    descriptors: list[int] = []
    try:
        for name in _file_names():
            descriptors.append(os.open(folder / name, os.O_RDWR))
        descriptors.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
        fcntl.flock(descriptors[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise Refused("store.locked", f"{folder} is in use") from None
        if isinstance(error, FileNotFoundError):
            code = "promise.corrupt" if descriptors else "promise.missing"
            raise Refused(code, f"{error.filename} is not there") from None
        raise Refused("promise.corrupt", f"{folder}: {error}") from None
    return descriptors
