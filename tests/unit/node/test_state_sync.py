"""Fetching a snapshot: one honest peer is enough; who lies, stalls or goes costs a moment, and nothing half-checked is
kept.

Peers are shelves over a chain in memory; between them and the newcomer stands a table of what each does to its answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from consilium.contracts.registry import default_registry, operation
from consilium.ledger import codec
from consilium.ledger.batch import verify_batch
from consilium.ledger.errors import InvariantBroken, PeerFault
from consilium.ledger.execution import execute_genesis
from consilium.ledger.genesis import genesis_block
from consilium.ledger.merkle import EMPTY_ROOT
from consilium.ledger.snapshot import BranchPart, RowsPart, StateRow, decode_manifest
from consilium.ledger.state import MemoryState
from consilium.node import questions, shelf, state_sync
from consilium.node.executor import Commit, Executor
from consilium.node.peer_messages import LIMITS, Kind
from consilium.node.questions import Questions
from consilium.node.serving import Serving
from consilium.node.shelf import Shelf
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
from consilium.node.state_sync import StateSync
from consilium.node.sync import Send
from consilium.storage.kv import MemoryKV
from consilium.storage.staging import Staging
from consilium.storage.verify import check_chain
from tests.unit.node.harness import Harness, enrolment, until, wallet_of

Treatment = Callable[[int, bytes], list[bytes]]
"""What a peer makes of an answer (kind, body) before it is sent: nothing, itself, another, or several."""

BLOCKS = 12
EVERY_MS = 4_000
"""Blocks are a second apart."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_sync, "OFFER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(state_sync, "PIECE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(state_sync, "RETRY_S", 0.01)
    monkeypatch.setattr(state_sync, "FAILURE_PAUSE_S", 0.001)


def honest(kind: int, body: bytes) -> list[bytes]:
    return [body]


class World:
    """A network with a history, peers with snapshots of it, and a newcomer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, peers: int = 3) -> None:
        # Small parts: a branch at the root, as a large state has.
        monkeypatch.setattr("consilium.storage.snapshot.PART_ROWS_MAX", 25)
        self.harness = Harness(4, more=20)
        self.enrolled = 0
        self.source = self.harness.executor()
        self.faults: list[tuple[bytes, PeerFault]] = []
        self.asked: list[tuple[bytes, int]] = []
        self.treatments: dict[bytes, Treatment] = {}
        self.shelves: dict[bytes, Shelf] = {}
        for index in range(peers):
            key = self.harness.keys[index].public
            self.treatments[key] = honest
            self.shelves[key] = Shelf(
                self.source.store, self._back(key), EVERY_MS, self._broken, Serving(rest_share=0.0)
            )
        for _ in range(BLOCKS):
            self.commit()
        self.kv = MemoryKV()
        self.questions = Questions(self._send)
        self.sync = self.newcomer()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def peers(self) -> list[bytes]:
        return list(self.shelves)

    def _broken(self, broken: InvariantBroken) -> None:
        raise broken

    def commit(self) -> Commit:
        self.enrolled += 1
        sponsor, newcomer = self.harness.wallets[0], wallet_of(f"application {self.enrolled}")
        body = enrolment(self.harness, sponsor, "application", newcomer)
        enrol = self.harness.transaction(sponsor, operation("identity.enrol", body))
        batch = self.harness.batch([enrol, self.harness.transaction(sponsor)])
        done = self.harness.commit(self.source, [batch])
        for one in self.shelves.values():
            one.committed(done)
        return done

    def staging(self) -> Staging:
        genesis = self.harness.genesis
        return Staging(
            self.kv, genesis_block(genesis), execute_genesis(genesis, MemoryState(), default_registry())
        )

    def newcomer(
        self,
        trusted: bytes | None = None,
        *,
        needed: Callable[[], bool] = lambda: True,
        chosen: Callable[[], None] = lambda: None,
        lost: Callable[[], None] = lambda: None,
    ) -> StateSync:
        return StateSync(
            genesis=self.harness.genesis,
            staging=self.staging(),
            questions=self.questions,
            connected=lambda: frozenset(self.treatments),
            fault=lambda peer, fault: self.faults.append((peer, fault)),
            needed=needed,
            chosen=chosen,
            lost=lost,
            trusted=trusted,
        )

    def _send(self, peer: bytes, kind: int, body: bytes) -> bool:
        if peer not in self.treatments:
            return False
        self.asked.append((peer, kind))
        task = asyncio.get_running_loop().create_task(self.shelves[peer].handle(peer, kind, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def _back(self, sender: bytes) -> Send:
        def send(peer: bytes, kind: int, body: bytes) -> bool:
            for made in self.treatments.get(sender, lambda kind, body: [])(kind, body):
                if len(made) > LIMITS[kind]:
                    continue  # the mesh cuts such a message off
                task = asyncio.get_running_loop().create_task(self._arrive(sender, kind, made))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            return True

        return send

    async def _arrive(self, peer: bytes, kind: int, body: bytes) -> None:
        try:
            await self.questions.take(peer, kind, body)
        except PeerFault as fault:
            self.faults.append((peer, fault))

    def made(self) -> Executor:
        """A node on what was fetched; everything in it is checked."""
        executor = self.harness.executor(self.kv)
        check_chain(executor.store, self.source.store.header(0))
        return executor

    def follow(self, executor: Executor) -> None:
        """Execute what the source has beyond."""
        store = self.source.store
        for height in range(executor.store.tip.height + 1, store.tip.height + 1):
            certificate = store.certificate(height)
            assert certificate is not None
            batches = [verify_batch(raw, self.harness.chain_id) for raw in store.batches(height)]
            executor.commit(store.block(height), certificate, batches)

    def faulty(self) -> set[bytes]:
        return {peer for peer, fault in self.faults if fault.weight > questions.UNASKED_WEIGHT}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


async def fetched(world: World, sync: StateSync | None = None) -> Executor:
    async with asyncio.timeout(30):
        await (sync or world.sync).run()
    return world.made()


def same(world: World, executor: Executor) -> None:
    """The newcomer says what its peers say."""
    world.follow(executor)
    mine, theirs = executor.store, world.source.store
    assert mine.tip.height == theirs.tip.height
    assert (mine.tip.state_root, mine.tip.history) == (theirs.tip.state_root, theirs.tip.history)
    assert list(mine.state_rows()) == list(theirs.state_rows())
    assert list(executor.seen._ids) == list(world.source.seen._ids)
    assert executor.context == world.source.context


# --- honest peers ---------------------------------------------------------------------------------------------------


async def test_a_newcomer_becomes_what_its_peers_are(world: World) -> None:
    executor = await fetched(world)
    assert executor.store.base >= BLOCKS - 6
    assert {peer for peer, kind in world.asked if kind == Kind.PART_REQUEST} == set(world.peers)
    status = world.sync.status()
    assert (status["phase"], status["refused"], status["sources"]) == ("finishing", 0, 3)
    assert status["keys"] == len(list(executor.store.state_rows()))
    same(world, executor)
    assert world.faults == []
    world.commit()
    same(world, executor)


async def test_a_repeated_transaction_is_still_a_repetition(world: World) -> None:
    """Its id is known from the receipts of the window alone."""
    old = world.source.store.transactions(2).ids[0]
    executor = await fetched(world)
    assert old in executor.seen
    place = executor.store.place_of(old)
    assert place is not None
    assert executor.store.leaves(place.height) == world.source.store.leaves(place.height)


async def test_heights_without_transactions_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    for _ in range(6):
        time_ms = world.source.context.parent.time_ms + 60_000
        done = world.harness.commit(world.source, [], time_ms=time_ms)
        for one in world.shelves.values():
            one.committed(done)
    executor = await fetched(world)
    base = executor.store.base
    assert base > BLOCKS
    assert executor.store.header(base).receipts_root == EMPTY_ROOT
    assert executor.store.leaves(base) == []
    same(world, executor)


async def test_what_was_fetched_before_a_crash_is_not_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = world.peers[0]
    gone = asyncio.Event()
    parts = 0

    def three_parts(kind: int, body: bytes) -> list[bytes]:
        nonlocal parts
        if kind == Kind.PART:
            parts += 1
            if parts > 4:
                gone.set()
                return []
        return [body]

    for peer in world.peers[1:]:
        del world.treatments[peer]
    world.treatments[stop] = three_parts
    task = asyncio.create_task(world.sync.run())
    await gone.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    kept = world.staging().progress.parts
    assert kept >= 1
    # Questions are counted: none may be repeated because the machine was slow.
    monkeypatch.setattr(state_sync, "PIECE_TIMEOUT_S", 60.0)
    monkeypatch.setattr(state_sync, "OFFER_TIMEOUT_S", 60.0)
    world.treatments = dict.fromkeys(world.peers, honest)
    world.asked.clear()
    whole = World.staging(world).progress
    assert whole.parts == kept
    executor = await fetched(world, world.newcomer())
    asked = sum(1 for _, kind in world.asked if kind == Kind.PART_REQUEST)
    fresh = MemoryKV()
    world.kv, world.asked = fresh, []
    await fetched(world, world.newcomer())
    assert asked == sum(1 for _, kind in world.asked if kind == Kind.PART_REQUEST) - kept
    same(world, executor)


async def test_a_snapshot_that_is_gone_gives_way_to_the_next(world: World) -> None:
    """Every peer takes newer snapshots while the newcomer fetches."""
    height = world.shelves[world.peers[0]].heights[-1]
    seen = 0

    def moving(kind: int, body: bytes) -> list[bytes]:
        nonlocal seen
        if kind == Kind.PART and (seen := seen + 1) == 3:
            for _ in range(12):
                world.commit()
        return [body]

    world.treatments[world.peers[0]] = moving
    executor = await fetched(world)
    assert executor.store.base > height
    assert world.faulty() == set()
    same(world, executor)


async def test_the_trusted_header_must_be_in_the_chain(world: World) -> None:
    good = world.source.store.header(3).hash
    executor = await fetched(world, world.newcomer(good))
    same(world, executor)
    world.kv = MemoryKV()
    stranger = world.newcomer(bytes(32))
    task = asyncio.create_task(stranger.run())
    await until(lambda: sum(1 for _, kind in world.asked if kind == Kind.SNAPSHOT_REQUEST) > 12)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert world.kv.get(b"T") is None


# --- peers that lie, stall or vanish --------------------------------------------------------------------------------


def part_of(kind: int, body: bytes) -> PartAnswer | None:
    return codec.decode(body, PartAnswer, LIMITS[kind]) if kind == Kind.PART else None


def with_rows(change: Callable[[list[StateRow]], list[StateRow]]) -> Treatment:
    def treat(kind: int, body: bytes) -> list[bytes]:
        answer = part_of(kind, body)
        if answer is None or not isinstance(answer.part, RowsPart):
            return [body]
        part = RowsPart(change(list(answer.part.rows)))
        return [codec.encode(msgspec.structs.replace(answer, part=part))]

    return treat


def with_manifest(**changes: object) -> Treatment:
    def treat(kind: int, body: bytes) -> list[bytes]:
        if kind != Kind.SNAPSHOT_OFFER:
            return [body]
        offer = codec.decode(body, SnapshotOffer, LIMITS[kind])
        assert offer.manifest is not None
        manifest = msgspec.structs.replace(decode_manifest(offer.manifest), **changes)
        return [codec.encode(SnapshotOffer(offer.asked, codec.encode(manifest)))]

    return treat


def branch_bent(kind: int, body: bytes) -> list[bytes]:
    answer = part_of(kind, body)
    if answer is None or not isinstance(answer.part, BranchPart):
        return [body]
    part = BranchPart(answer.part.bitmap, bytes(32) + answer.part.hashes[32:])
    return [codec.encode(msgspec.structs.replace(answer, part=part))]


def run_bent(kind: int, body: bytes) -> list[bytes]:
    if kind != Kind.RUN:
        return [body]
    answer = codec.decode(body, RunAnswer, LIMITS[kind])
    return [codec.encode(RunAnswer(answer.last, answer.blocks[::-1]))]


def leaves_bent(kind: int, body: bytes) -> list[bytes]:
    if kind != Kind.LEAVES:
        return [body]
    answer = codec.decode(body, LeavesAnswer, LIMITS[kind])
    return [codec.encode(LeavesAnswer(answer.last, [one[1:] for one in answer.heights]))]


def foreign(kind: int, body: bytes) -> list[bytes]:
    if kind != Kind.SNAPSHOT_OFFER:
        return [body]
    other = Harness(4, network="another")
    executor = other.executor()
    for _ in range(3):
        other.commit(executor, [other.batch([other.transaction(other.wallets[0])])])
    offer = codec.decode(body, SnapshotOffer, LIMITS[kind])
    return [codec.encode(SnapshotOffer(offer.asked, codec.encode(shelf.make_manifest(executor.store, 2))))]


LIES: dict[str, Treatment] = {
    "wrong bytes": with_rows(lambda rows: [*rows[:-1], StateRow(rows[-1].key, b"another")]),
    "a row missing": with_rows(lambda rows: rows[1:]),
    "a row twice": with_rows(lambda rows: [rows[0], *rows]),
    "wrong order": with_rows(lambda rows: rows[::-1]),
    "a row more": with_rows(lambda rows: [*rows, StateRow(b"more", b"")]),
    "a branch that is none": branch_bent,
    "blocks in another order": run_bent,
    "receipts missing": leaves_bent,
    "another chain": foreign,
    "a height that is not certified": with_manifest(height=3),
    "a change that never was": with_manifest(height=2**40),
    "bytes that are nothing": lambda kind, body: [b"\xc1" * 40],
    "not the shortest encoding": lambda kind, body: [body[:1] + b"\xcd\x00\x05" + body[2:]],
}


@pytest.mark.parametrize("lie", list(LIES))
async def test_a_liar_is_at_fault_and_others_are_asked(world: World, lie: str) -> None:
    liar = world.peers[1]
    world.treatments[liar] = LIES[lie]
    for peer in world.peers:
        if peer != liar:  # silent until then, so that the liar is asked
            world.treatments[peer] = lambda kind, body: [body] if world.faulty() else []
    same(world, await fetched(world))
    assert world.faulty() == {liar}


@pytest.mark.parametrize("lie", list(LIES))
async def test_one_honest_peer_is_enough(world: World, lie: str) -> None:
    for peer in world.peers[1:]:
        world.treatments[peer] = LIES[lie]
    same(world, await fetched(world))
    assert world.peers[0] not in world.faulty()


def of_part(change: Callable[[PartAnswer], list[PartAnswer]]) -> Treatment:
    def treat(kind: int, body: bytes) -> list[bytes]:
        answer = part_of(kind, body)
        return [body] if answer is None else [codec.encode(one) for one in change(answer)]

    return treat


async def test_answers_that_nobody_asked_for_are_dropped(world: World) -> None:
    first, second, _ = world.peers
    world.treatments[first] = of_part(lambda answer: [answer, answer])
    world.treatments[second] = of_part(
        lambda answer: [msgspec.structs.replace(answer, height=answer.height + 1), answer]
    )
    same(world, await fetched(world))
    assert world.faulty() == set()
    assert {peer for peer, _ in world.faults} == {first, second}


async def test_an_answer_of_another_prefix_is_none(world: World) -> None:
    liar = world.peers[0]
    world.treatments[liar] = of_part(lambda answer: [msgspec.structs.replace(answer, prefix=b"\x01\x02\x03")])
    same(world, await fetched(world))
    assert {peer for peer, _ in world.faults} == {liar}


async def test_a_bomb_is_cut_off_by_its_length(world: World) -> None:
    """Nothing is compressed: what is longer than its kind's limit never arrives whole."""
    world.treatments[world.peers[0]] = lambda kind, body: [body + bytes(LIMITS[kind])]
    same(world, await fetched(world))


async def test_a_peer_of_a_later_version_is_not_at_fault(world: World) -> None:
    world.treatments[world.peers[0]] = with_manifest(version=2)
    same(world, await fetched(world))
    assert world.faults == []
    assert all(kind != Kind.PART_REQUEST for peer, kind in world.asked if peer == world.peers[0])


async def test_a_snapshot_that_is_offered_and_not_there(world: World) -> None:
    world.treatments[world.peers[0]] = of_part(lambda answer: [msgspec.structs.replace(answer, part=None)])
    same(world, await fetched(world))
    asked = sum(1 for peer, kind in world.asked if peer == world.peers[0] and kind == Kind.PART_REQUEST)
    assert asked <= state_sync.FAILURES_MAX * state_sync.QUESTIONS_PER_PEER


async def test_who_offers_and_never_gives_does_not_hold_a_node_for_ever(world: World) -> None:
    """Blocks wait while a snapshot is fetched, so what is not to be had is given up."""
    for peer in world.peers[1:]:
        del world.treatments[peer]
    world.treatments[world.peers[0]] = of_part(lambda answer: [msgspec.structs.replace(answer, part=None)])
    paused: list[bool] = []
    sync = world.newcomer(
        needed=lambda: not paused,
        chosen=lambda: paused.append(True),
        lost=lambda: paused.append(False),
    )
    async with asyncio.timeout(30):
        assert not await sync.run()
    assert sync.hopeless
    assert paused == [True, False] * state_sync.FRUITLESS_MAX


async def test_a_snapshot_of_which_something_came_is_gone_on_with_though_nothing_is_needed(
    world: World,
) -> None:
    for peer in world.peers[1:]:
        del world.treatments[peer]
    given = 0

    def one_each_time(answer: PartAnswer) -> list[PartAnswer]:
        nonlocal given
        given += 1
        return [answer if given % 7 < 3 else msgspec.structs.replace(answer, part=None)]

    world.treatments[world.peers[0]] = of_part(one_each_time)
    chosen: list[bool] = []
    sync = world.newcomer(needed=lambda: not chosen, chosen=lambda: chosen.append(True))
    same(world, await fetched(world, sync))


async def test_those_asked_first_cannot_keep_the_others_from_being_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More peers than are asked at a time: others come next."""
    monkeypatch.setattr(state_sync, "PEERS_ASKED_MAX", 1)
    for peer in sorted(world.peers)[:2]:
        world.treatments[peer] = lambda kind, body: []
    same(world, await fetched(world))


async def test_a_peer_that_says_nothing(world: World) -> None:
    world.treatments[world.peers[0]] = lambda kind, body: []
    same(world, await fetched(world))
    assert world.faults == []


async def test_a_slow_peer_delays_by_its_time_once_and_is_not_at_fault(world: World) -> None:
    """What comes too late is dropped: somebody else gave it meanwhile."""
    slow = world.peers[0]
    late: list[tuple[int, bytes]] = []

    def treat(kind: int, body: bytes) -> list[bytes]:
        if kind != Kind.PART:
            return [body]
        late.append((kind, body))
        return []

    world.treatments[slow] = treat
    executor = await fetched(world)
    assert late
    for kind, body in late:
        await world._arrive(slow, kind, body)
    assert world.faults == []
    same(world, executor)


async def test_a_peer_that_vanishes(world: World) -> None:
    gone = world.peers[0]

    def treat(kind: int, body: bytes) -> list[bytes]:
        if kind == Kind.PART:
            world.treatments.pop(gone, None)
            return []
        return [body]

    world.treatments[gone] = treat
    same(world, await fetched(world))
    assert world.faults == []


async def test_nobody_has_a_snapshot_for_a_while(world: World) -> None:
    for peer in world.peers:
        world.treatments[peer] = lambda kind, body: []
    task = asyncio.create_task(world.sync.run())
    await until(lambda: len(world.asked) > 6)
    assert world.sync.status()["phase"] == "asking"
    for peer in world.peers:
        world.treatments[peer] = honest
    async with asyncio.timeout(30):
        await task
    same(world, world.made())


async def test_a_failed_disk_ends_it(world: World) -> None:
    world.kv.fail_next_write = True
    with pytest.raises(InvariantBroken):
        await fetched(world)


def remember(sent: list[tuple[int, bytes]]) -> Send:
    def send(peer: bytes, kind: int, body: bytes) -> bool:
        sent.append((kind, body))
        return True

    return send


# --- the shelf ------------------------------------------------------------------------------------------------------


async def test_snapshots_are_of_the_first_block_of_a_period(world: World) -> None:
    store = world.source.store
    for one in world.shelves.values():
        assert one.heights == world.shelves[world.peers[0]].heights
        assert len(one.heights) == shelf.SNAPSHOTS_KEPT
        for height in one.heights:
            period = store.header(height).time_ms // EVERY_MS
            assert store.header(height - 1).time_ms // EVERY_MS < period


async def test_a_snapshot_is_offered_once_the_next_header_certifies_it(world: World) -> None:
    store = world.source.store
    sent: list[tuple[int, bytes]] = []
    fresh = Shelf(store, remember(sent), EVERY_MS, world._broken)
    done = world.commit()
    fresh.committed(done)
    assert fresh.heights == [done.block.height]
    request = codec.encode(SnapshotRequest(None))
    await fresh.handle(bytes(32), Kind.SNAPSHOT_REQUEST, request)
    world.commit()
    await fresh.handle(bytes(32), Kind.SNAPSHOT_REQUEST, request)
    first, second = (codec.decode(raw, SnapshotOffer, LIMITS[Kind.SNAPSHOT_OFFER]) for _, raw in sent)
    assert first.manifest is None
    assert second.manifest is not None
    fresh.close()


async def test_questions_without_an_answer_are_answered_so(world: World) -> None:
    sent: list[tuple[int, bytes]] = []
    store = world.source.store
    none = Shelf(store, remember(sent), 0, world._broken)
    none.committed(world.commit())
    assert none.heights == []
    for kind, request in (
        (Kind.PART_REQUEST, PartRequest(3, b"")),
        (Kind.PART_REQUEST, PartRequest(3, b"\xff")),
        (Kind.SNAPSHOT_REQUEST, SnapshotRequest(3)),
        (Kind.RUN_REQUEST, RunRequest(2**40, 5)),
        (Kind.LEAVES_REQUEST, LeavesRequest(2**40, 5)),
    ):
        await none.handle(bytes(32), kind, codec.encode(request))
    parts = [codec.decode(raw, PartAnswer, LIMITS[kind]).part for kind, raw in sent if kind == Kind.PART]
    assert parts == [None, None]
    assert [codec.decode(raw, RunAnswer, 1000).blocks for kind, raw in sent if kind == Kind.RUN] == [[]]
    assert [codec.decode(raw, LeavesAnswer, 1000).heights for kind, raw in sent if kind == Kind.LEAVES] == [
        []
    ]


async def test_a_manifest_that_nobody_could_read_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more changes of the validator set than a manifest may carry: else whoever offers it honestly would be at
    fault, with every newcomer."""
    world = World(monkeypatch)
    monkeypatch.setattr(world.source.store, "set_changes", lambda after, before: [1, 2, 3])
    monkeypatch.setattr("consilium.node.shelf.SET_CHANGES_MAX", 2)
    running = asyncio.create_task(world.sync.run())
    await until(lambda: len(world.asked) >= 2 * len(world.peers))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert world.faults == []
    assert world.sync.refused == 0
    assert {kind for _, kind in world.asked} == {Kind.SNAPSHOT_REQUEST}
