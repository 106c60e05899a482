"""Which keys the state may hold: a filter in memory, so that a key that is new costs no look into the store.

What a transaction asks for and the store does not have are mostly ids that were just drawn at random, and for LevelDB
an absent key is the dearest: it searches its newest rows in vain. A bit for each stored key answers instead. Where it
is set the store is asked; where it is not, the key is not there. So every key that is stored must be noted, by whoever
stores it, before a reader may expect it.

Sources: B. H. Bloom, *Space/time trade-offs in hash coding with allowable errors*, 1970; with one probe, since memory
is cheaper here than a second look.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

FILTER_BYTES_MIN: Final = 256 * 1024
FILTER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Beyond it the filter fills: it answers ever less often, and never falsely."""
KEY_BYTES_MIN: Final = 8
"""So many bytes there are for a key, or the filter doubles: one bit in 64 is set, a few more after many doublings."""
EVERYTHING: Final = b"\xff" * 33
"""Above every hash of a key."""

_BITS: Final = tuple(1 << bit for bit in range(8))


class KnownKeys:
    """See the module. Paths are the hashes of keys, 32 bytes. One thread notes; any may ask.

    `upto` says how far the paths that were stored before this began are noted; beyond it every key may be there.
    """

    __slots__ = ("_bytes_max", "_count", "_mask", "_room", "_table", "upto")

    def __init__(self, bytes_min: int = FILTER_BYTES_MIN, bytes_max: int = FILTER_BYTES_MAX) -> None:
        """Both are powers of two."""
        self._bytes_max = bytes_max
        self._table = bytearray(bytes_min)
        self._mask = bytes_min - 1
        self._count = 0
        self._room = bytes_min // KEY_BYTES_MIN
        self.upto = b""

    def lacks(self, path: bytes) -> bool:
        """Whether the state certainly has no such key."""
        number, mask = int.from_bytes(path[24:], "big"), self._mask
        # The mask is taken before the table: another thread may double it in between, and half of it will do.
        return not self._table[number & mask] & _BITS[number >> 61] and path < self.upto

    def note(self, paths: Iterable[bytes]) -> None:
        """These are stored now."""
        table, mask = self._table, self._mask
        for path in paths:
            number = int.from_bytes(path[24:], "big")
            table[number & mask] |= _BITS[number >> 61]
            self._count += 1
        while self._count > self._room and len(self._table) < self._bytes_max:
            # Whatever the further bit of an index is, the key is found: both halves have it.
            self._table = self._table + self._table
            self._mask = len(self._table) - 1
            self._room *= 2
