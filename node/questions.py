"""Questions to peers and their answers, each of which names its question.

An answer to nothing that was asked is a fault, small, and so is a second one; one that comes after its time is dropped
without blame. Answers are decoded in a thread: they may be megabytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from consilium.ledger import codec
from consilium.ledger.errors import PeerFault, Refused
from consilium.node.peer_messages import LIMITS, Kind
from consilium.node.snapshot_messages import (
    LeavesAnswer,
    LeavesRequest,
    PartAnswer,
    PartRequest,
    RunAnswer,
    RunRequest,
    SnapshotOffer,
    SnapshotRequest,
)
from consilium.node.sync import Send
from consilium.node.threads import checked

FAULT_WEIGHT: Final = 50
UNASKED_WEIGHT: Final = 5
LATE_MAX: Final = 1_024

Key = tuple[bytes, int, object]


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a kind of answer is read, and which question it names."""

    type: Any
    question: Callable[[Any], object]


SHAPES: Final[dict[int, _Shape]] = {
    Kind.SNAPSHOT_OFFER: _Shape(SnapshotOffer, lambda answer: answer.asked),
    Kind.PART: _Shape(PartAnswer, lambda answer: (answer.height, answer.prefix)),
    Kind.RUN: _Shape(RunAnswer, lambda answer: answer.last),
    Kind.LEAVES: _Shape(LeavesAnswer, lambda answer: answer.last),
}
"""Every kind that answers."""


class Questions:
    """See the module. Lives on one event loop; what is open is bounded by who asks."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._open: dict[Key, asyncio.Future[Any]] = {}
        self._late: dict[Key, int] = {}
        """How many answers may still come of what nobody waits for any more."""

    async def offer(self, peer: bytes, height: int | None, timeout_s: float) -> SnapshotOffer | None:
        """Which snapshot a peer has; None where it does not say."""
        answer: SnapshotOffer | None = await self._ask(
            (peer, Kind.SNAPSHOT_OFFER, height), Kind.SNAPSHOT_REQUEST, SnapshotRequest(height), timeout_s
        )
        return answer

    async def part(self, peer: bytes, request: PartRequest, timeout_s: float) -> PartAnswer | None:
        """A part of the state; None where the peer does not answer."""
        key = (peer, Kind.PART, (request.height, request.prefix))
        answer: PartAnswer | None = await self._ask(key, Kind.PART_REQUEST, request, timeout_s)
        return answer

    async def run(self, peer: bytes, request: RunRequest, timeout_s: float) -> RunAnswer | None:
        """A run of blocks; None where the peer does not answer."""
        key = (peer, Kind.RUN, request.last)
        answer: RunAnswer | None = await self._ask(key, Kind.RUN_REQUEST, request, timeout_s)
        return answer

    async def leaves(self, peer: bytes, request: LeavesRequest, timeout_s: float) -> LeavesAnswer | None:
        """Receipt leaves of some heights; None where the peer does not answer."""
        key = (peer, Kind.LEAVES, request.last)
        answer: LeavesAnswer | None = await self._ask(key, Kind.LEAVES_REQUEST, request, timeout_s)
        return answer

    async def _ask(self, key: Key, kind: Kind, request: codec.Wire, timeout_s: float) -> Any:
        if key in self._open:
            return None
        answer = self._open[key] = asyncio.get_running_loop().create_future()
        try:
            if not self._send(key[0], kind, codec.encode(request)):
                return None
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            self._expect_late(key)
            return None
        except asyncio.CancelledError:
            self._expect_late(key)  # who asked has gone: no fault of who answers
            raise
        finally:
            del self._open[key]

    def _expect_late(self, key: Key) -> None:
        if len(self._late) >= LATE_MAX:
            self._late.clear()
        self._late[key] = self._late.get(key, 0) + 1

    async def take(self, peer: bytes, kind: int, body: bytes) -> None:
        """An answer of one of SHAPES' kinds. Raises PeerFault where it is none, or nobody asked for it."""
        shape = SHAPES[kind]
        try:
            answer = await checked(codec.decode, body, shape.type, LIMITS[kind])
        except Refused as refusal:
            raise PeerFault(str(refusal), FAULT_WEIGHT) from None
        key = (peer, kind, shape.question(answer))
        waiting = self._open.get(key)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
        elif waiting is not None and waiting.cancelled():
            pass  # its time ended this very moment
        elif self._late.get(key):
            self._late[key] -= 1
        else:
            raise PeerFault("an answer to what was not asked", UNASKED_WEIGHT)
