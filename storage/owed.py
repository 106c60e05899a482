"""Which erasures this institution still has to attest to: noted when they are applied, struck when the ledger has it.

Kept beside the envelopes, so that a crash between the two forgets none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consilium.storage import schema
from consilium.storage.kv import KeyValue

OWED_READ_MAX: Final = 1_000


class OwedErasures:
    """See the module."""

    def __init__(self, store: KeyValue) -> None:
        self._store = store

    def add(self, erasure: bytes) -> None:
        """Note one (16 bytes); durable on return. Noting again is harmless."""
        self._store.write([(schema.ERASURE_OWED + erasure, b"")], sync=True)

    def some(self) -> list[bytes]:
        """Some of them, in order of their ids; all, where there are fewer than OWED_READ_MAX."""
        return [key[1:] for key, _ in self._store.iterate(schema.ERASURE_OWED, limit=OWED_READ_MAX)]

    def strike(self, erasures: Sequence[bytes]) -> None:
        """These are attested."""
        if erasures:
            self._store.write([(schema.ERASURE_OWED + one, None) for one in erasures], sync=False)
