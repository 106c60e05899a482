"""The ledger is told of every release: in batches, after a crash too, and no bad item holds up the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from consilium.client import consenting, reading
from consilium.contracts import accounting, disclosures
from consilium.contracts.disclosures import ATTESTATIONS_MAX, AttestReleases
from consilium.ledger import codec
from consilium.ledger.transaction import OPERATION_BODY_BYTES_MAX, Operation
from consilium.node.attesting import FORGET_EVERY_S, GATHER_S, PAUSE_S, Attesting
from consilium.node.clerk import Clerk
from consilium.node.standing import UNTOLD_LONG_MS
from consilium.storage.kv import MemoryKV
from consilium.storage.releases import ReleaseJournal, ReleaseKey, ReleaseNote
from tests.unit.node.care import Ward, ward


class Ear:
    """A ledger that answers as it is told to, and remembers what it heard."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.heard: list[list[tuple[int, int]]] = []
        self.refuses: dict[int, str] = {}
        """By the index of a verdict: why a batch with it is refused."""

    async def say(self, operation: Operation) -> str:
        body = codec.decode(operation.body, AttestReleases, OPERATION_BODY_BYTES_MAX)
        self.heard.append([(one.verdict, one.records) for one in body.releases])
        for one in body.releases:
            if one.verdict in self.refuses:
                return self.refuses[one.verdict]
        return self.answers.pop(0) if self.answers else "ok"


def journal_of(*counts: int) -> ReleaseJournal:
    journal = ReleaseJournal(MemoryKV())
    for verdict, count in enumerate(counts):
        key = ReleaseKey(bytes(32), 0, verdict)
        journal.note([ReleaseNote(key, 0, tuple(range(count)), 5, 100)])
    return journal


def attesting(journal: ReleaseJournal, ear: Ear) -> Attesting:
    return Attesting(journal, ear, lambda: 0)


async def test_what_waits_is_told_in_one_transaction() -> None:
    journal, ear = journal_of(1, 2, 3), Ear()
    assert await attesting(journal, ear).tell()
    assert ear.heard == [[(0, 1), (1, 2), (2, 3)]]
    assert journal.waiting == 0
    assert await attesting(journal, ear).tell()
    assert len(ear.heard) == 1


async def test_more_than_fits_into_one_takes_several() -> None:
    journal, ear = ReleaseJournal(MemoryKV()), Ear()
    for number in range(ATTESTATIONS_MAX + 1):
        key = ReleaseKey(number.to_bytes(32, "big"), 0, 0)
        journal.note([ReleaseNote(key, 0, (0,), 5, 100)])
    told = attesting(journal, ear)
    await told.tell()
    await told.tell()
    assert list(map(len, ear.heard)) == [ATTESTATIONS_MAX, 1]


@pytest.mark.parametrize("code", ["rpc.timeout", "mempool.full", "identity.suspended"])
async def test_what_may_pass_is_said_again(code: str) -> None:
    journal, ear = journal_of(1), Ear(code)
    told = attesting(journal, ear)
    assert not await told.tell()
    assert journal.waiting == 1
    assert await told.tell()
    assert journal.waiting == 0


async def test_one_bad_item_holds_up_no_other() -> None:
    journal, ear = journal_of(1, 2, 3), Ear()
    ear.refuses = {1: "disclosure.outside_window"}
    assert await attesting(journal, ear).tell()
    assert ear.heard == [[(0, 1), (1, 2), (2, 3)], [(0, 1)], [(1, 2)], [(2, 3)]]
    assert journal.waiting == 0


async def test_it_runs_by_itself_waits_for_more_and_backs_off() -> None:
    journal, ear = journal_of(), Ear("mempool.full", "mempool.full")
    naps: list[float] = []
    heard = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds == FORGET_EVERY_S:
            await asyncio.Event().wait()
        naps.append(seconds)
        await asyncio.sleep(0)

    def outcome(code: str, count: int) -> None:
        assert count == 1
        if code == "ok":
            heard.set()

    told = Attesting(journal, ear, lambda: 0, told=outcome, sleep=sleep)
    task = asyncio.create_task(told.run())
    journal.note([ReleaseNote(ReleaseKey(bytes(32), 0, 0), 0, (0,), 5, 100)])
    told.look()
    async with asyncio.timeout(60):
        await heard.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert naps == [GATHER_S, PAUSE_S, 2 * PAUSE_S]
    assert journal.waiting == 0
    assert len(ear.heard) == 3


async def test_what_waited_before_a_start_is_told_without_being_asked() -> None:
    journal, ear, heard = journal_of(4), Ear(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    told = Attesting(journal, ear, lambda: 0, told=lambda code, count: heard.set(), sleep=sleep)
    task = asyncio.create_task(told.run())
    async with asyncio.timeout(60):
        await heard.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ear.heard == [[(0, 4)]]


# --- on a ledger ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def care() -> AsyncIterator[Ward]:
    async with ward() as made:
        await made.admit_petra()
        yield made


async def read(care: Ward) -> reading.Asked:
    imported = await care.import_notes(2)
    now_ms = care.node.clock.wall_ms
    await consenting.grant(
        care.patient,
        care.south.identity,
        ["TREAT"],
        not_before_ms=now_ms - 1,
        not_after_ms=now_ms + 86_400_000,
    )
    asked = await reading.request(care.south, "TREAT", record_ids=imported.records)
    await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    return asked


def clerk_of(care: Ward) -> Clerk:
    store = care.node.executor.store
    return Clerk(
        care.harness.wallets[0],
        care.harness.chain_id,
        care.service,
        lambda: store.tip.time_ms,
        care.node.clock.now_ms,
    )


async def test_a_release_reaches_the_ledger_and_says_it_twice_without_harm(care: Ward) -> None:
    asked = await read(care)
    lost = ReleaseJournal(care.journal._store.crash())  # type: ignore[attr-defined]
    owed = care.service.status()["custodian"]
    assert (owed["untold"], owed["note"]) == (1, "")
    left_ms = care.journal.waiting_since_ms
    assert left_ms is not None
    now_ms, care.node.clock.wall_ms = care.node.clock.wall_ms, left_ms + UNTOLD_LONG_MS
    owed = care.service.status()["custodian"]
    assert (owed["untold_age_ms"], owed["note"]) == (UNTOLD_LONG_MS, "releases wait to be attested")
    care.node.clock.wall_ms = now_ms
    assert await Attesting(care.journal, clerk_of(care), lambda: 0).tell()
    owed = care.service.status()["custodian"]
    assert (owed["untold"], owed["untold_age_ms"], owed["note"]) == (0, None, "")
    place = disclosures.release_place(asked.transaction, 0, 0, care.harness.wallets[0].identity)
    entry = disclosures.RELEASES.get(care.node.executor.store.state, *place)
    assert entry is not None
    assert entry.records == 2
    head = accounting.head_of(care.node.executor.store.state, care.petra.identity)
    assert head.lines == 2
    # The node died before it knew that the ledger had heard.
    assert lost.waiting == 1
    assert await Attesting(lost, clerk_of(care), lambda: 0).tell()
    assert lost.waiting == 0
    assert accounting.head_of(care.node.executor.store.state, care.petra.identity) == head
