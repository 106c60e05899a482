"""What was deleted, and whether its bytes have left the disk.

LevelDB keeps deleted bytes until it happens to write their files anew. So whoever deletes what must be gone notes the
keys in the same batch (`schema.DELETED`), and `scrub` writes these places anew: now, or after a crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consilium.storage import schema
from consilium.storage.kv import KeyValue

SCRUB_KEYS_MAX: Final = 256
"""So many places are written anew one by one; for more, everything of their kinds is."""
SCRUB_NOTES_MAX: Final = 100_000


def scrub(store: KeyValue, kinds: Sequence[bytes]) -> bool:
    """See that what was noted as deleted, under prefixes of these kinds, is in none of the store's files. Takes long.

    Returns whether nothing is left to do: False where a reader got between, or more was deleted meanwhile.
    """
    notes = [key for key, _ in store.iterate(schema.DELETED, limit=SCRUB_NOTES_MAX)]
    if not notes:
        return True
    places = [key[len(schema.DELETED) :] for key in notes]
    if not store.purge(places if len(places) <= SCRUB_KEYS_MAX else kinds):
        return False
    store.write([(key, None) for key in notes], sync=True)
    return not unscrubbed(store)


def unscrubbed(store: KeyValue) -> bool:
    """Whether something was deleted that may still be in the files."""
    return any(True for _ in store.iterate(schema.DELETED, limit=1))
