"""Who says how far it is, and who is asked next: what a node that catches up knows of its peers.

A claim is a hint and nothing more: it names whom to ask, once. Whoever cannot show what it claims loses the claim, and
is left alone for a while, longer each time. Where as many validators claim a height that one of them must be honest, it
is *corroborated*; what a single peer boasts of is asked for as well (it may be the only honest one here), with less
patience.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from consilium.consensus.context import HeightContext

FAILURE_PAUSE_S: Final = 1.0
FAILURE_PAUSE_MAX_S: Final = 32.0
"""A peer that did not bring us forward is not asked for so long: twice as long each time, up to the maximum."""
FAILURES_MAX: Final = 8
PEERS_MAX: Final = 512
"""So many peers' claims are remembered."""


@dataclass(slots=True)
class Claimant:
    """A peer that says how far it is. `failures` counts what it did not show in a row."""

    tip: int = 0
    failures: int = 0
    again_s: float = 0.0
    """Not asked before this time of the loop."""
    turn: int = 0
    """When it was asked last, in questions."""


class Claims:
    """See the module. `observer` is this node's key where it does not vote: it asks others that do not vote first."""

    def __init__(
        self,
        connected: Callable[[], frozenset[bytes]],
        context: Callable[[], HeightContext],
        observer: bytes | None = None,
    ) -> None:
        self._connected = connected
        self._context = context
        self._observer = observer
        self._questions = 0
        self.peers: dict[bytes, Claimant] = {}

    def hear(self, peer: bytes, height: int) -> None:
        """A peer says that it has decided `height`. A lower claim than before changes nothing."""
        claimant = self.peers.get(peer)
        if claimant is None:
            if len(self.peers) >= PEERS_MAX and not self._forget_one():
                return
            claimant = self.peers[peer] = Claimant()
        claimant.tip = max(height, claimant.tip)

    def _forget_one(self) -> bool:
        """Make room: whoever is not connected may go."""
        connected = self._connected()
        gone = next((peer for peer in self.peers if peer not in connected), None)
        if gone is not None:
            del self.peers[gone]
        return gone is not None

    @property
    def corroborated(self) -> int:
        """The highest tip that an honest validator claims: so many claim it that one of them is."""
        validators = self._context().validators
        tips = sorted((one.tip for key, one in self.peers.items() if key in validators), reverse=True)
        return tips[validators.f] if len(tips) > validators.f else 0

    @property
    def best(self) -> int:
        """The highest tip that anybody claims."""
        return max((one.tip for one in self.peers.values()), default=0)

    def failed(self, peer: bytes, first: int) -> None:
        """It did not show the block at `first`, which it claims to have."""
        claimant = self.peers.get(peer)
        if claimant is None:
            return
        pause_s = min(FAILURE_PAUSE_S * 2**claimant.failures, FAILURE_PAUSE_MAX_S)
        claimant.again_s = asyncio.get_running_loop().time() + pause_s
        claimant.failures = min(claimant.failures + 1, FAILURES_MAX)
        claimant.tip = first - 1  # it claimed what it could not show

    def succeeded(self, peer: bytes) -> None:
        """It brought us forward."""
        if peer in self.peers:
            self.peers[peer].failures = 0

    def next_peer(self, wanted: int, but: Collection[bytes] = ()) -> bytes | None:
        """Who claims to have the block and may be asked: in turn, so that whoever is slow or stingy delays us once. It
        is noted as asked."""
        connected, now_s = self._connected(), asyncio.get_running_loop().time()
        candidates = [
            key
            for key, one in self.peers.items()
            if one.tip >= wanted and key in connected and one.again_s <= now_s and key not in but
        ]
        votes_last = self._observer is not None
        chosen = min(
            candidates,
            key=lambda key: (votes_last and not self._is_observer(key), self.peers[key].turn),
            default=None,
        )
        if chosen is not None:
            self._questions += 1
            self.peers[chosen].turn = self._questions
        return chosen

    def observers_before(self) -> int:
        """How many connected observers come before this one, in the order of keys."""
        own = self._observer or b""
        return sum(1 for key in self._connected() if self._is_observer(key) and key < own)

    def _is_observer(self, key: bytes) -> bool:
        return key not in self._context().validators
