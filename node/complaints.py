"""Batches that wait too long: shown to the primary first, and held against it only then.

Whoever seals a batch may give it to a weak quorum and not to the primary: its holders would take it for censored, and
depose one honest primary after the other that never saw it. So what waits is passed on to whoever is primary, by each
who holds it, and only a primary that has had it for as long is complained of; whoever would follow is shown it too.

docs/consensus.md, "Primary".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from consilium.consensus.context import HeightContext
from consilium.consensus.limits import CENSORED_HEIGHTS
from consilium.node.mempool import Mempool

PASS_ON_HEIGHTS: Final = 16
"""A batch that waited so long is passed on; a primary that had it for so long without proposing it censors."""
PASS_ON_EVERY_HEIGHTS: Final = 8
"""A primary is shown one batch in so many heights."""
TAKEN_EVERY_HEIGHTS: Final = 2
"""From each validator so many heights apart are batches of others taken: heights here and there differ a little."""
LOOK_EVERY_HEIGHTS: Final = 4
"""At each multiple of it everybody looks for complaints. Heights can be many in a second: demands of those who look by
their own clocks would not meet within CENSORED_HEIGHTS."""
UNDECIDED_HEIGHTS_MAX: Final = (
    2 * PASS_ON_HEIGHTS + PASS_ON_EVERY_HEIGHTS + 2 * LOOK_EVERY_HEIGHTS + CENSORED_HEIGHTS
)
"""So many heights after honest validators got a batch, a primary that withholds it has lost its turn: less than a
primary's term. docs/consensus.md, "Primary", and docs/privacy.md, "Revoking", promise it."""


class Complaints:
    """See the module. `pass_on(peer, raw)` queues a batch for a peer, and says whether it could."""

    def __init__(self, key: bytes, mempool: Mempool, pass_on: Callable[[bytes, bytes], bool]) -> None:
        self._key = key
        self._mempool = mempool
        self._pass_on = pass_on
        self._late: bytes | None = None
        self._shown: dict[bytes, int] = {}
        """To each primary, the height at which it was shown the batch that is late."""
        self._sent: dict[bytes, int] = {}
        """To each validator, the height at which it was passed anything last."""

    def look(self, context: HeightContext, last: int = 0) -> bytes | None:
        """Asked once a second, and when heights have passed: then only where all look, above the height `last`.
        The digest of a batch that the primary of this height censors, if there is one."""
        if last // LOOK_EVERY_HEIGHTS == context.height // LOOK_EVERY_HEIGHTS:
            return None
        late = self._mempool.waiting_since(context.height, PASS_ON_HEIGHTS)
        if late != self._late:
            self._late, self._shown = late, {}
        primary = context.primary(0)
        if late is None or primary == self._key:
            return None
        self._show(late, primary, context)
        since = self._shown.get(primary)
        if since is None or context.height - since < PASS_ON_HEIGHTS:
            return None
        self._show(late, context.primary(1), context)
        return late

    def _show(self, late: bytes, primary: bytes, context: HeightContext) -> None:
        batch = self._mempool.batch(late)
        if batch is None or primary in self._shown or primary == self._key:
            return
        last = self._sent.get(primary)
        if batch.author != primary:  # which has its own
            if last is not None and context.height < last + PASS_ON_EVERY_HEIGHTS:
                return
            if not self._pass_on(primary, batch.raw):
                return
            if len(self._sent) >= 2 * context.validators.n:  # validators of earlier sets
                self._sent.clear()
            self._sent[primary] = context.height
        self._shown[primary] = context.height
