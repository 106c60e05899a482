"""Messages of other heights: peers that lag are answered, peers that are ahead are noted, the near future is kept.

Nothing here is trusted: a peer's height is a hint that costs at most one answer, or one question, in a while. All of
it is bounded by peer and by number of peers. docs/consensus.md, "Other heights".
"""

from __future__ import annotations

from consilium.consensus.io import CatchUp, Effect, Now, SendDecided, SendTo
from consilium.consensus.limits import (
    ANSWER_EVERY_MS,
    CATCH_UP_EVERY_MS,
    FUTURE_PER_VALIDATOR_MAX,
    PEERS_MAX,
)
from consilium.consensus.messages import Decided, Message, Signed, VerifiedMessage


class Neighbours:
    """What is known of the heights at which peers work."""

    __slots__ = ("_ahead", "_answered", "_asked", "_future")

    def __init__(self) -> None:
        self._ahead: dict[bytes, int] = {}
        self._answered: dict[bytes, int] = {}
        self._asked: int | None = None
        self._future: dict[bytes, dict[tuple[str, int], VerifiedMessage]] = {}

    def behind(self, peer: bytes, height: int, now: Now) -> list[Effect]:
        """A peer works at a height that is committed here: send it that block, not too often."""
        return [SendDecided(peer, height)] if self._may_answer(peer, now) else []

    def undecided(self, peer: bytes, decided: Decided, now: Now) -> list[Effect]:
        """A peer still votes on what is decided here but not yet committed."""
        return [SendTo(peer, decided)] if self._may_answer(peer, now) else []

    def ahead(self, peer: bytes, height: int) -> None:
        """A peer works at a greater height."""
        if peer in self._ahead or len(self._ahead) < PEERS_MAX:
            self._ahead[peer] = max(height, self._ahead.get(peer, 0))

    def catch_up(self, height: int, beyond: int, now: Now) -> list[Effect]:
        """Ask the host to fetch blocks from `height` on, if a peer works above `beyond`; not too often."""
        if self._asked is not None and now.monotonic_ms < self._asked + CATCH_UP_EVERY_MS:
            return []
        hint = next((peer for peer, at in self._ahead.items() if at > beyond), None)
        if hint is None:
            return []
        self._asked = now.monotonic_ms
        # Peers are asked in turn, whatever they claim: one that boasts of great heights must not be asked each time.
        del self._ahead[hint]
        return [CatchUp(height, hint)]

    def any_ahead(self) -> bool:
        """Whether some peer claims to work at a greater height."""
        return bool(self._ahead)

    def keep(self, sender: bytes, verified: VerifiedMessage) -> None:
        """Keep a message of the next height, one of each kind and view, so many of each sender."""
        message = verified.message
        if isinstance(message, Decided):
            return
        kept = self._future.setdefault(sender, {})
        name = (type(message).__name__, message.view)
        if name in kept or len(kept) < FUTURE_PER_VALIDATOR_MAX:
            kept[name] = verified

    def kept_of(self, sender: bytes) -> list[Signed]:
        """The kept messages of one sender."""
        kept = [verified.message for verified in self._future.get(sender, {}).values()]
        return [message for message in kept if not isinstance(message, Decided)]

    def advance(self, height: int, validators_hash: bytes) -> list[Message]:
        """Forget all but what is above `height`; returns the kept messages of that height, by sender's key."""
        self._ahead = {peer: at for peer, at in self._ahead.items() if at > height}
        kept, self._future = self._future, {}
        return [
            verified.message
            for sender in sorted(kept)
            for verified in kept[sender].values()
            if verified.message.height == height and verified.validators_hash == validators_hash
        ]

    def _may_answer(self, peer: bytes, now: Now) -> bool:
        last = self._answered.get(peer)
        if last is not None and now.monotonic_ms < last + ANSWER_EVERY_MS:
            return False
        if last is None and len(self._answered) >= PEERS_MAX:
            del self._answered[next(iter(self._answered))]
        self._answered[peer] = now.monotonic_ms
        return True
