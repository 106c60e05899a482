"""What disks do to files: tails that were never written, bits that flipped. On a stopped node's folder."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consilium.ledger.errors import Refused
from consilium.storage.leveldb import LevelKV

TAIL_BYTES_MAX: Final = 64 * 1024


def newest_log(store: Path) -> Path | None:
    """The log of a LevelDB folder that holds what came last, if it holds anything."""
    logs = sorted(path for path in store.glob("*.log") if path.stat().st_size)
    return logs[-1] if logs else None


def cut_tail(store: Path, chance: random.Random) -> str | None:
    """Cut some of the newest log away, as a power cut does that comes before the disk's own cache was written."""
    log = newest_log(store)
    if log is None:
        return None
    size = log.stat().st_size
    cut = chance.randint(1, min(size, TAIL_BYTES_MAX))
    with log.open("r+b") as file:
        file.truncate(size - cut)
    return f"{cut} of {size} bytes cut from {log.name}"


@dataclass(frozen=True, slots=True)
class Flip:
    """A bit of a file, flipped; flipping it again undoes it, as long as the file is there."""

    path: Path
    at: int
    mask: int

    def flip(self) -> None:
        """Flip it."""
        with self.path.open("r+b") as file:
            file.seek(self.at)
            (byte,) = file.read(1)
            file.seek(self.at)
            file.write(bytes((byte ^ self.mask,)))

    def __str__(self) -> str:
        return f"byte {self.at} of {self.path.name}"


def flip_bit(path: Path, chance: random.Random) -> Flip:
    """Flip one bit of a file."""
    flip = Flip(path, chance.randrange(path.stat().st_size), 1 << chance.randrange(8))
    flip.flip()
    return flip


def table_files(store: Path) -> list[Path]:
    """The tables of a LevelDB folder."""
    return sorted(path for path in store.glob("*.ldb") if path.stat().st_size)


def is_damaged(store: Path) -> str | None:
    """What a full read of a stopped store says: None where every checksum is good."""
    try:
        level = LevelKV(store)
        try:
            level.check()
        finally:
            level.close()
    except Refused as refusal:
        return refusal.code
    return None


def copy_folder(source: Path, target: Path) -> Path:
    """Keep a copy of a stopped store, to undo the damage with."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def put_back(copy: Path, target: Path) -> None:
    """Undo the damage."""
    shutil.rmtree(target)
    copy.rename(target)
