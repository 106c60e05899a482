"""Counts what a node does to its disk, and strikes at the n-th time: kills the process, or lets the disk fail.

The wrappers stand where the product has ports (`KeyValue`, `Promises`); the product knows nothing of them. A strike
waits in a file and is armed by a signal, so that one process serves any cycle.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from consilium.ledger.errors import InvariantBroken
from consilium.node.stores import Stores
from consilium.storage.kv import KeyValue, Snapshot, Write
from consilium.storage.promise import Kept, Promises
from scripts.crash_matrix import system_faults

STRIKE_FILE: Final = "strike.json"
EFFECTS: Final = ("chain.write", "promise.keep", "promise.save", "vault.write", "shares.write")
Action = Literal["kill-before", "kill-after", "no-space", "no-sync"]
LATE_TEXT: Final = "written after a failed write"
"""What the log says of a disk that was written to again after it had failed. It must never say so."""


class Strike(msgspec.Struct, frozen=True):
    """Strike at the `nth` effect of this name ("any": of any name) after the arming."""

    effect: str
    nth: int
    action: Action


class Begun(NamedTuple):
    """An effect under way: the strike that it gets, and whether its store had failed before it began."""

    strike: Strike | None
    late: bool


class Striker:
    """Shared by all wrappers of a process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / STRIKE_FILE
        self._lock = threading.Lock()
        self._strike: Strike | None = None
        self._left = 0
        self._failed: set[str] = set()
        """Stores whose write or sync has failed. One that writes without a sync may go on until it wants one."""

    def arm(self) -> None:
        """Read what to do from the folder; count from here on."""
        strike = msgspec.json.decode(self._path.read_bytes(), type=Strike)
        with self._lock:
            self._strike, self._left = strike, strike.nth

    def before(self, effect: str) -> Begun:
        """An effect begins. Says whether this is the one to strike."""
        with self._lock:
            begun = Begun(None, _store_of(effect) in self._failed)
            strike = self._strike
            if strike is None or strike.effect not in ("any", effect):
                return begun
            self._left -= 1
            if self._left != 0:
                return begun
            self._strike = None
        match strike.action:
            case "kill-before":
                os.kill(os.getpid(), signal.SIGKILL)
            case "no-space":
                system_faults.fill_disk()
            case "no-sync":
                system_faults.fail_syncs()
        return Begun(strike, begun.late)

    @contextmanager
    def watching(self, effect: str) -> Iterator[None]:
        """Around an effect: strike where it is the one, note where it fails, tell where it should not have worked."""
        begun = self.before(effect)
        try:
            yield
        except InvariantBroken:
            with self._lock:
                self._failed.add(_store_of(effect))
            raise
        self.after(effect, begun)

    def after(self, effect: str, begun: Begun) -> None:
        """The effect is done: its call has returned, and did not raise."""
        if begun.strike is not None and begun.strike.action == "kill-after":
            os.kill(os.getpid(), signal.SIGKILL)
        if begun.late:
            os.write(2, f"crash: {effect} {LATE_TEXT}\n".encode())


class StruckStore:
    """A key-value store under a striker."""

    def __init__(self, inner: KeyValue, effect: str, striker: Striker) -> None:
        self._inner = inner
        self._effect = effect
        self._striker = striker

    def get(self, key: bytes) -> bytes | None:
        return self._inner.get(key)

    def iterate(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._inner.iterate(prefix, start=start, reverse=reverse, limit=limit)

    def write(self, writes: Sequence[Write], *, sync: bool) -> None:
        with self._striker.watching(self._effect):
            self._inner.write(writes, sync=sync)

    def snapshot(self) -> Snapshot:
        return self._inner.snapshot()

    def size_bytes(self, prefix: bytes) -> int:
        return self._inner.size_bytes(prefix)

    def compact(self, prefix: bytes) -> None:
        self._inner.compact(prefix)

    def purge(self, prefixes: Sequence[bytes]) -> bool:
        return self._inner.purge(prefixes)

    def close(self) -> None:
        self._inner.close()


class StruckPromises:
    """Promises under a striker."""

    def __init__(self, inner: Promises, striker: Striker) -> None:
        self._inner = inner
        self._striker = striker

    def load(self) -> Kept:
        return self._inner.load()

    def holds(self, name: bytes) -> bool:
        return self._inner.holds(name)

    def keep(self, name: bytes, proposal: bytes) -> None:
        with self._striker.watching("promise.keep"):
            self._inner.keep(name, proposal)

    def save(self, votes: bytes, named: Sequence[bytes] = ()) -> None:
        with self._striker.watching("promise.save"):
            self._inner.save(votes, named)


def _store_of(effect: str) -> str:
    return effect.partition(".")[0]


def struck(stores: Stores, striker: Striker) -> Stores:
    """A node's stores, all under one striker."""
    return Stores(
        chain=StruckStore(stores.chain, "chain.write", striker),
        promises=StruckPromises(stores.promises, striker),
        vault=StruckStore(stores.vault, "vault.write", striker),
        shares=StruckStore(stores.shares, "shares.write", striker),
    )
