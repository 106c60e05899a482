"""Fetching a snapshot: from several peers at once, each piece checked when it comes, nothing fetched twice.

First every peer is asked what it has; a manifest is proved from genesis before anything else is asked for. Parts of the
state come from all who have that snapshot; then the blocks below it, and the receipts of the window of repetition, from
whoever answers. Who lies is at fault and not asked again; who is slow, stingy or gone is asked later, and its piece
somebody else at once. When nobody has the snapshot any more, another is chosen, and what both share stays.

docs/snapshots.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from consilium.ledger.errors import InvariantBroken, PeerFault, Refused
from consilium.ledger.genesis import Genesis
from consilium.ledger.merkle import EMPTY_ROOT
from consilium.ledger.snapshot import (
    BLOCKS_MAX,
    BranchPart,
    Certified,
    check_branch,
    check_leaves,
    check_manifest,
    check_rows,
    check_run,
    decode_manifest,
)
from consilium.node.questions import FAULT_WEIGHT, Questions
from consilium.node.snapshot_messages import LEAVES_HEIGHTS_MAX, LeavesRequest, PartRequest, RunRequest
from consilium.node.threads import checked, in_thread
from consilium.storage.staging import Staging, Wanted

OFFER_TIMEOUT_S: Final = 5.0
PIECE_TIMEOUT_S: Final = 10.0
RETRY_S: Final = 2.0
"""Between two rounds of asking, where nobody had what is needed."""
FAILURE_PAUSE_S: Final = 0.5
FAILURES_MAX: Final = 3
"""A peer that fails so often in a row is not asked for more of this snapshot."""
FRUITLESS_MAX: Final = 3
"""Snapshots in a row of which not a piece was to be had: whoever offers them does not give them."""
QUESTIONS_PER_PEER: Final = 2
"""At a time: one is checked while the other travels."""
PEERS_ASKED_MAX: Final = 32
ENOUGH_SOURCES: Final = 2

_log = structlog.get_logger("consilium.state_sync")


class _GoneError(Exception):
    """Nobody who was asked has what is needed, for now."""


@dataclass(slots=True)
class _Target:
    """The snapshot that is fetched, and who offered it."""

    certified: Certified
    sources: list[bytes]


@dataclass(slots=True)
class _Board:
    """The parts that are wanted, and how many are being fetched."""

    wanted: list[tuple[bytes, bytes]]
    busy: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self) -> tuple[bytes, bytes] | None:
        """The next wanted part; None when all are here."""
        async with self.changed:
            while not self.wanted and self.busy:
                await self.changed.wait()
            if not self.wanted:
                return None
            self.busy += 1
            return self.wanted.pop()

    async def done(self, more: list[tuple[bytes, bytes]]) -> None:
        """A part that was taken is through; these are wanted now (itself again, where it failed)."""
        async with self.changed:
            self.busy -= 1
            self.wanted += more
            self.changed.notify_all()


class StateSync:
    """See the module. `trusted` is the hash of a header that the blocks must contain, if the operator knows one."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        staging: Staging,
        questions: Questions,
        connected: Callable[[], frozenset[bytes]],
        fault: Callable[[bytes, PeerFault], None],
        above: Callable[[], int] = lambda: 0,
        needed: Callable[[], bool] = lambda: True,
        chosen: Callable[[], None] = lambda: None,
        lost: Callable[[], None] = lambda: None,
        trusted: bytes | None = None,
    ) -> None:
        self._genesis = genesis
        self._staging = staging
        self._questions = questions
        self._connected = connected
        self._fault = fault
        self._above = above
        """A snapshot of this height or below would lead back."""
        self._needed = needed
        self._chosen = chosen
        self._lost = lost
        """Of what was chosen nothing came; another may be chosen."""
        self._trusted = trusted
        self._writing = asyncio.Lock()
        self._failed: dict[bytes, int] = {}
        self._turn = 0
        self._rounds = 0
        """Of asking for offers: each begins where the one before ended."""
        self._target: _Target | None = None
        self._phase = "asking"
        self._receipts = 0
        self._fruitless = 0
        self.refused = 0
        """Pieces and manifests that were refused."""

    def status(self) -> dict[str, Any]:
        """For `NodeApi.status`."""
        progress, target = self._staging.progress, self._target
        return {
            "phase": self._phase,
            "height": None if target is None else target.certified.height,
            "sources": 0 if target is None else len(target.sources),
            "parts": progress.parts,
            "keys": progress.keys,
            "blocks": progress.blocks,
            "receipts": self._receipts,
            "refused": self.refused,
        }

    @property
    def hopeless(self) -> bool:
        """Whether what was chosen of late brought nothing, again and again."""
        return self._fruitless >= FRUITLESS_MAX

    async def run(self) -> bool:
        """Until the staged store is a chain's store; False where it is not needed any more before one was chosen, or
        after what was chosen brought nothing, again and again.

        Raises InvariantBroken where the disk fails.
        """
        while True:
            target = self._target = await self._choose()
            if target is None:
                return False
            self._chosen()
            before = self._staging.progress
            try:
                self._phase = "state"
                await self._fetch_state(target)
                self._phase = "blocks"
                await self._fetch_blocks(target.certified)
                self._phase = "receipts"
                await self._fetch_leaves(target.certified)
                self._phase = "finishing"
                await in_thread(self._finish, target.certified)
            except _GoneError:
                _log.warning("state_sync.again", height=target.certified.height)
            except Refused as refusal:
                _log.error("state_sync.failed", height=target.certified.height, reason=str(refusal))
            else:
                _log.info("state_sync.finished", height=target.certified.height)
                return True
            self._phase = "asking"
            self._fruitless = self._fruitless + 1 if self._staging.progress == before else 0
            if self._fruitless:
                self._lost()
            self._failed = {peer: count // 2 for peer, count in self._failed.items()}
            await asyncio.sleep(RETRY_S)

    def _finish(self, certified: Certified) -> None:
        if self._trusted is not None and not self._staging.contains(self._trusted, certified):
            raise Refused("snapshot.untrusted", f"it does not contain the header {self._trusted.hex()}")
        self._staging.finish(certified)

    # ---- choosing

    async def _choose(self) -> _Target | None:
        while (self._target is not None and not self.hopeless) or self._needed():
            offered = await self._offers(None)
            if offered:
                best = max(offered, key=lambda height: self._rank(height, offered[height].sources))
                target = offered[best]
                # Others may hold it beside a newer or an older one.
                more = (await self._offers(best, frozenset(target.sources))).get(best)
                target.sources += [] if more is None else more.sources
                _log.info("state_sync.chosen", height=best, sources=len(target.sources))
                return target
            await asyncio.sleep(RETRY_S)
        return None

    def _rank(self, height: int, sources: list[bytes]) -> tuple[int, int]:
        """Several sources that did not fail before, then the newest: no one peer decides what is fetched."""
        good = sum(1 for peer in sources if not self._failed.get(peer))
        return min(good, ENOUGH_SOURCES), height

    async def _offers(self, height: int | None, but: frozenset[bytes] = frozenset()) -> dict[int, _Target]:
        """What peers offer that checks, by height."""
        peers = sorted(self._connected() - but)
        if len(peers) > PEERS_ASKED_MAX:
            first = self._rounds * PEERS_ASKED_MAX % len(peers)
            peers = (peers[first:] + peers[:first])[:PEERS_ASKED_MAX]
        self._rounds += height is None
        found: dict[int, _Target] = {}
        for peer, certified in zip(
            peers, await asyncio.gather(*(self._offer(peer, height) for peer in peers)), strict=True
        ):
            if certified is None or certified.height <= self._above():
                continue
            target = found.setdefault(certified.height, _Target(certified, []))
            target.sources.append(peer)
        return found

    async def _offer(self, peer: bytes, height: int | None) -> Certified | None:
        answer = await self._questions.offer(peer, height, OFFER_TIMEOUT_S)
        if answer is None or answer.manifest is None:
            return None
        try:
            certified = await checked(_proved, answer.manifest, self._genesis)
        except Refused as refusal:
            self._refuse(peer, refusal)
            return None
        if height not in (None, certified.height):
            self._refuse(peer, Refused("snapshot.invalid", "the manifest is of another height"))
            return None
        return certified

    def _refuse(self, peer: bytes, refusal: Refused) -> None:
        """A piece was refused: a fault, unless the peer's program is only another."""
        self.refused += 1
        self._failed[peer] = self._failed.get(peer, 0) + 1
        _log.warning("state_sync.refused", peer=peer.hex(), reason=str(refusal))
        if refusal.code != "snapshot.wrong_version":
            self._fault(peer, PeerFault(str(refusal), FAULT_WEIGHT))

    # ---- the state

    async def _fetch_state(self, target: _Target) -> None:
        board = _Board([(b"", bytes(target.certified.header.state_root))])
        try:
            async with asyncio.TaskGroup() as group:
                for peer in target.sources:
                    for _ in range(QUESTIONS_PER_PEER):
                        group.create_task(self._work(peer, target.certified.height, board))
        except* InvariantBroken as broken:
            raise InvariantBroken(str(broken.exceptions[0])) from broken
        if board.wanted:
            raise _GoneError

    async def _work(self, peer: bytes, height: int, board: _Board) -> None:
        """Fetch parts from one peer, until there are none or it does not give them."""
        failures = 0
        while failures < FAILURES_MAX and (piece := await board.take()) is not None:
            more: list[tuple[bytes, bytes]] | None = None
            try:
                more = await self._part(peer, height, *piece)
            except Refused as refusal:
                self._refuse(peer, refusal)
                failures = FAILURES_MAX
            finally:
                await board.done([piece] if more is None else more)
            if more is not None:
                failures = 0
                continue
            failures += 1
            self._failed[peer] = self._failed.get(peer, 0) + 1
            if failures < FAILURES_MAX:
                await asyncio.sleep(FAILURE_PAUSE_S * failures)

    async def _part(
        self, peer: bytes, height: int, prefix: bytes, expected: bytes
    ) -> list[tuple[bytes, bytes]] | None:
        """What is wanted after this part; None where the peer did not give it. Raises Refused where it lied."""
        async with self._writing:
            if await in_thread(self._staging.has_part, prefix, expected):
                return []
        answer = await self._questions.part(peer, PartRequest(height, prefix), PIECE_TIMEOUT_S)
        if answer is None or answer.part is None:
            return None
        if isinstance(answer.part, BranchPart):
            children = check_branch(answer.part, expected)
            async with self._writing:
                await in_thread(self._staging.put_branch, prefix, [slot for slot, _ in children])
            return [(prefix + bytes((slot,)), below) for slot, below in children]
        rows = await checked(check_rows, answer.part, prefix, expected)
        async with self._writing:
            await in_thread(self._staging.put_rows, prefix, rows)
        return []

    # ---- blocks and receipts

    async def _fetch_blocks(self, certified: Certified) -> None:
        while (wanted := await in_thread(self._staging.wanted_block, certified)) is not None:
            await self._from_anybody(self._run, wanted)

    async def _run(self, peer: bytes, wanted: Wanted) -> bool:
        answer = await self._questions.run(peer, RunRequest(wanted.height, BLOCKS_MAX), PIECE_TIMEOUT_S)
        if answer is None or not answer.blocks:
            return False
        await checked(check_run, answer.blocks, wanted.height, wanted.hash)
        await in_thread(self._staging.put_run, answer.blocks)
        return True

    async def _fetch_leaves(self, certified: Certified) -> None:
        wanted = await in_thread(lambda: list(self._staging.wanted_leaves(certified)))
        empty = [(height, (), ()) for height, root in wanted if root == EMPTY_ROOT]
        await in_thread(self._staging.put_leaves, empty)
        wanted = [item for item in wanted if item[1] != EMPTY_ROOT]
        while wanted:
            self._receipts = len(wanted)
            del wanted[: await self._from_anybody(self._leaves, wanted)]
        self._receipts = 0

    async def _leaves(self, peer: bytes, wanted: list[tuple[int, bytes]]) -> int:
        """How many of the wanted heights, from the first on, are here now."""
        last = wanted[0][0]
        run = next((n for n, (height, _) in enumerate(wanted) if height != last - n), len(wanted))
        run = min(run, LEAVES_HEIGHTS_MAX)
        answer = await self._questions.leaves(peer, LeavesRequest(last, run), PIECE_TIMEOUT_S)
        if answer is None or not answer.heights:
            return 0
        taken = wanted[: min(run, len(answer.heights))]
        ids = await checked(_ids_of, answer.heights, [root for _, root in taken])
        rows = [
            (height, leaves, found)
            for (height, _), leaves, found in zip(taken, answer.heights, ids, strict=False)
        ]
        await in_thread(self._staging.put_leaves, rows)
        return len(rows)

    async def _from_anybody(self, ask: Callable[[bytes, Any], Any], wanted: Any) -> int:
        """Ask one peer after the other, in turn, until one gives something. Raises _GoneError where none does."""
        peers = sorted(self._connected())
        for _ in peers:
            self._turn += 1
            peer = peers[self._turn % len(peers)]
            if self._failed.get(peer, 0) > FAILURES_MAX and len(peers) > 1 and self._turn % 4:
                continue
            try:
                if got := await ask(peer, wanted):
                    return int(got)
                self._failed[peer] = self._failed.get(peer, 0) + 1
            except Refused as refusal:
                self._refuse(peer, refusal)
        raise _GoneError


def _proved(raw: bytes, genesis: Genesis) -> Certified:
    return check_manifest(decode_manifest(raw), genesis)


def _ids_of(heights: list[list[bytes]], roots: list[bytes]) -> list[list[bytes]]:
    return [check_leaves(leaves, root) for leaves, root in zip(heights, roots, strict=False)]
