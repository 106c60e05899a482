"""Which erasures this institution still has to attest to: noted when they are applied, struck when the ledger has it.

Kept beside the envelopes, so that a crash between the two forgets none.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from consilium.storage import schema
from consilium.storage.kv import KeyValue

OWED_READ_MAX: Final = 1_000


class OwedErasures:
    """See the module. One object for a store: it knows how many they are."""

    def __init__(self, store: KeyValue) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._count = sum(1 for _ in store.iterate(schema.ERASURE_OWED))

    @property
    def waiting(self) -> int:
        """How many they are; from memory."""
        return self._count

    def add(self, erasure: bytes) -> None:
        """Note one (16 bytes); durable on return. Noting again is harmless."""
        with self._lock:
            known = self._noted(erasure)
            self._store.write([(schema.ERASURE_OWED + erasure, b"")], sync=True)
            self._count += 0 if known else 1

    def some(self) -> list[bytes]:
        """Some of them, in order of their ids; all, where there are fewer than OWED_READ_MAX."""
        return [key[1:] for key, _ in self._store.iterate(schema.ERASURE_OWED, limit=OWED_READ_MAX)]

    def strike(self, erasures: Sequence[bytes]) -> None:
        """These are attested."""
        with self._lock:
            struck = [one for one in dict.fromkeys(erasures) if self._noted(one)]
            if struck:
                self._store.write([(schema.ERASURE_OWED + one, None) for one in struck], sync=False)
                self._count -= len(struck)

    def _noted(self, erasure: bytes) -> bool:
        return self._store.get(schema.ERASURE_OWED + erasure) is not None
