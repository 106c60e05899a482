"""LevelDB behind the key-value port.

LevelDB's defaults forgive too much for a validator: a flipped bit in its log silently drops what follows. So checks
are paranoid, every read verifies its checksum, and a damaged store is never repaired (a repaired one may have
forgotten a vote's ground): it is refused at opening, with what to do, and halts the node when it shows later.
Damage is `Refused` at opening only. Once contracts read through the store, a refusal would be taken for a verdict.

A cut-off tail of the log looks like a crash and cannot be told from one: that is what the restart rule of
consensus and the promise file are for.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import plyvel

from consilium.ledger.errors import InvariantBroken, Refused
from consilium.storage.gate import Gate, GateClosed
from consilium.storage.kv import Write, prefix_end

WRITE_BUFFER_BYTES: Final = 64 * 1024 * 1024
"""Large: with the default of 4 MB, writers stall for a second while tables are written."""
BLOCK_CACHE_BYTES: Final = 32 * 1024 * 1024
TABLE_FILE_BYTES: Final = 16 * 1024 * 1024
OPEN_FILES_MAX: Final = 256
BLOOM_FILTER_BITS: Final = 10
PURGE_PASSES: Final = 2
PURGE_MARK: Final = b"\xff" * 8
"""After a prefix: behind every key under it that one purges."""


def _lock(folder: Path) -> int:
    """Lock the folder itself, until the returned descriptor is closed.

    LevelDB's own lock is not enough: it is of the kind that a process loses when it closes *any* descriptor of the
    file, which LevelDB does when the same process tries to open a store twice.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Refused("store.locked", f"{folder} is in use") from None
    return descriptor


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the store in `folder`, damaged or missing, against everybody who would open it. Raises `store.locked`."""
    if not folder.exists():
        yield
        return
    descriptor = _lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _prepare(folder: Path, *, create: bool) -> None:
    """See that the folder is what the caller takes it for, and make it where it shall be made."""
    if create:
        if folder.exists() and any(folder.iterdir()):
            raise Refused("store.exists", f"{folder} is not empty")
        folder.mkdir(parents=True, exist_ok=True)
    elif not (folder / "CURRENT").exists():
        if folder.exists() and any(folder.glob("*.ldb")):
            raise Refused("store.corrupt", f"{folder} holds tables but no CURRENT file")
        raise Refused("store.missing", f"no store in {folder}")


def _open(folder: Path, *, create: bool, write_buffer_bytes: int, cache_bytes: int) -> Any:
    try:
        return plyvel.DB(
            str(folder),
            create_if_missing=create,
            error_if_exists=create,
            paranoid_checks=True,
            write_buffer_size=write_buffer_bytes,
            max_open_files=OPEN_FILES_MAX,
            lru_cache_size=cache_bytes,
            max_file_size=TABLE_FILE_BYTES,
            bloom_filter_bits=BLOOM_FILTER_BITS,
            compression=None,  # hashes, signatures and ciphertext do not compress
        )
    except plyvel.IOError as error:
        text = _text(error)
        if "lock" in text:
            raise Refused("store.locked", f"{folder}: {text}") from None
        raise Refused("store.corrupt", f"{folder}: {text}") from None
    except plyvel.Error as error:
        raise Refused("store.corrupt", f"{folder}: {_text(error)}") from None


def _text(error: Exception) -> str:
    """plyvel raises with bytes."""
    return " ".join(
        part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in error.args
    )


def _halt(folder: Path, doing: str, error: Exception) -> InvariantBroken:
    return InvariantBroken(
        f"the store in {folder} failed while {doing}: {_text(error)}; "
        "keep a copy, check the disk, then give this node an empty store and let it synchronise again"
    )


def _closed(folder: Path) -> InvariantBroken:
    return InvariantBroken(f"the store in {folder} is closed")


class _Handles(dict[int, Any]):
    """Iterators and snapshots that are open, by identity; `opened` counts all that ever were."""

    __slots__ = ("opened",)

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    def note(self, handle: Any) -> None:
        """One more is open."""
        self.opened += 1
        self[id(handle)] = handle


class _LevelReader:
    """Reads from a database or from a snapshot of one: both have the same methods."""

    __slots__ = ("_gate", "_handles", "_source", "folder")

    def __init__(self, source: Any, folder: Path, gate: Gate, handles: _Handles) -> None:
        self._source = source
        self._gate = gate
        self._handles = handles
        """Iterators and snapshots that are open: LevelDB must not be closed before them."""
        self.folder = folder

    def get(self, key: bytes) -> bytes | None:
        try:
            with self._gate:
                value: bytes | None = self._source.get(key, verify_checksums=True)
        except GateClosed:
            raise _closed(self.folder) from None
        except plyvel.Error as error:
            raise _halt(self.folder, "reading", error) from error
        return value

    def iterate(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        end = prefix_end(prefix)
        low, high, high_included = prefix, end, False
        if start is not None and not reverse:
            low = max(prefix, start)
        if start is not None and reverse and (end is None or start < end):
            high, high_included = start, True
        try:
            with self._gate:
                rows = self._source.iterator(
                    # plyvel 1.5 finds nothing backwards where the first key below the stop equals the start.
                    start=None if reverse else low,
                    stop=high,
                    include_stop=high_included,
                    reverse=reverse,
                    verify_checksums=True,
                    fill_cache=False,
                )
                self._handles.note(rows)
            try:
                count = 0
                while limit is None or count < limit:
                    # The gate is passed for each row: whoever reads slowly does not keep the store open.
                    with self._gate:
                        row = next(rows, None)
                    if row is None or (reverse and row[0] < prefix):
                        return
                    count += 1
                    yield row
            finally:
                self._let_go(rows)
        except GateClosed:
            raise _closed(self.folder) from None
        except plyvel.Error as error:
            raise _halt(self.folder, "reading", error) from error

    def _let_go(self, handle: Any) -> None:
        """Close an iterator or a snapshot, unless the store did so when it was closed."""
        try:
            with self._gate:
                self._handles.pop(id(handle), None)
                handle.close()
        except GateClosed:
            pass


class LevelSnapshot(_LevelReader):
    """A LevelDB snapshot. Close it: it keeps old values alive."""

    __slots__ = ()

    def close(self) -> None:
        self._let_go(self._source)

    def __enter__(self) -> LevelSnapshot:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class LevelKV(_LevelReader):
    """A store in a folder of its own. Writes free the GIL: call them from a thread."""

    __slots__ = ("_failed", "_folder_lock", "_write_lock")

    def __init__(
        self,
        folder: Path,
        *,
        create: bool = False,
        write_buffer_bytes: int = WRITE_BUFFER_BYTES,
        cache_bytes: int = BLOCK_CACHE_BYTES,
    ) -> None:
        """Open the store in `folder`, or with `create` make one there.

        Raises Refused: `store.missing`, `store.exists` (creating), `store.locked`, `store.corrupt`.
        """
        _prepare(folder, create=create)
        self._folder_lock = _lock(folder)
        try:
            source = _open(
                folder, create=create, write_buffer_bytes=write_buffer_bytes, cache_bytes=cache_bytes
            )
        except Refused:
            os.close(self._folder_lock)
            raise
        super().__init__(source, folder, Gate(), _Handles())
        self._write_lock = threading.Lock()
        self._failed = False

    def write(self, writes: Sequence[Write], *, sync: bool) -> None:
        with self._write_lock:
            if self._failed:
                raise InvariantBroken(
                    f"the store in {self.folder} failed before: nothing more is written to it"
                )
            try:
                with self._gate:
                    self._write(writes, sync)
            except GateClosed:
                raise _closed(self.folder) from None
            except plyvel.Error as error:
                self._failed = True
                raise _halt(self.folder, "writing", error) from error

    def _write(self, writes: Sequence[Write], sync: bool) -> None:
        batch = self._source.write_batch(sync=sync)
        put, delete = batch.put, batch.delete
        for key, value in writes:
            if value is None:
                delete(key)
            else:
                put(key, value)
        batch.write()

    def snapshot(self) -> LevelSnapshot:
        try:
            with self._gate:
                source = self._source.snapshot()
                self._handles.note(source)
                return LevelSnapshot(source, self.folder, self._gate, self._handles)
        except GateClosed:
            raise _closed(self.folder) from None

    def size_bytes(self, prefix: bytes) -> int:
        try:
            with self._gate:
                return int(self._source.approximate_size(prefix, prefix_end(prefix) or b"\xff" * 64))
        except GateClosed:
            raise _closed(self.folder) from None

    def compact(self, prefix: bytes) -> None:
        try:
            with self._gate:
                self._source.compact_range(start=prefix, stop=prefix_end(prefix))
        except GateClosed:
            raise _closed(self.folder) from None

    def purge(self, prefixes: Sequence[bytes]) -> bool:
        """Once would not do: a table of the deepest level that has both a row and its deletion is not written anew by
        itself. Fresh deletions lie above it, and take it along on their way down."""
        still = not self._handles
        opened = self._handles.opened
        for _ in range(PURGE_PASSES):
            marks = [(mark, None) for prefix in prefixes for mark in (prefix, prefix + PURGE_MARK)]
            self.write(marks, sync=False)
            for prefix in prefixes:
                self.compact(prefix)
        # Whoever read meanwhile may have kept old files open, or old rows alive.
        return still and not self._handles and opened == self._handles.opened

    def check(self) -> int:
        """Read everything, verifying every checksum. Returns the number of keys. Raises Refused `store.corrupt`."""
        count = 0
        try:
            for _ in self.iterate(b""):
                count += 1
        except InvariantBroken as broken:
            raise Refused("store.corrupt", str(broken)) from broken
        return count

    def close(self) -> None:
        """Wait for those who read or write just now, then close; whoever comes later is told so."""
        self._gate.close()
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()
        self._source.close()
        if self._folder_lock >= 0:
            os.close(self._folder_lock)
            self._folder_lock = -1
